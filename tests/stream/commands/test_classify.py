"""`earlybird classify`: lines in, answers out, in order, whatever the lines hold."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from earlybird.stream import cli
from earlybird.stream.commands import classify
from earlybird.stream.monitor.answer import answer_line
from project import ROOT

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from earlybird.stream.cli import main; sys.exit(main(sys.argv[1:]))",
    "classify",
]

Run = Callable[..., tuple[int, list[Any], str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(content, *arguments): exit status, output lines and stderr for a file that holds this."""

    def classified(content: bytes, *arguments: str) -> tuple[int, list[Any], str]:
        path = tmp_path / "texts.jsonl"
        path.write_bytes(content)
        status = cli.main(["classify", str(path), *arguments])
        told = capsys.readouterr()
        return status, [json.loads(line) for line in told.out.splitlines()], told.err

    return classified


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def test_more_lines_than_the_window_come_back_in_order(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts exit out of order; lines do not. Memory holds a window, the file may be longer."""
    texts = ["Acme rises", "Sundial Media buys back shares worth $500 million", "Acme cuts its dividend"]
    monkeypatch.setattr(classify, "WINDOW", 7)
    count = 100
    status, said, stderr = run(lines(*({"id": number, "text": texts[number % 3]} for number in range(count))))
    assert (status, stderr) == (0, "")
    assert [line["id"] for line in said] == list(range(count))
    assert all(said[number] == {**said[number % 3], "id": number} for number in range(count))
    assert len({line["exit"]["layer"] for line in said}) > 1


def test_line_holds_the_whole_answer(run: Run) -> None:
    """The line's own fields, then label, probs, score, confidence, exit."""
    status, (line,), _ = run(lines({"id": "a", "meta": {"x": [1]}, "text": "Acme shares soar after record profit"}))
    assert status == 0
    assert list(line) == ["id", "meta", "text", "label", "probs", "score", "confidence", "exit"]
    assert line["label"] == "positive" and line["confidence"] == line["probs"]["positive"]
    assert line["score"] == pytest.approx(line["probs"]["positive"] - line["probs"]["negative"], abs=2e-6)
    assert sum(line["probs"].values()) == pytest.approx(1, abs=2e-6)
    assert line["exit"] == {"layer": 1, "reason": "confidence"}


def test_bad_lines_are_answered_in_their_place(run: Run) -> None:
    """Each has an error with its line number, the good ones their answer, and the status is 1."""
    good = {"text": "Acme rises"}
    content = lines(good) + b"{garbage\n\xff\xfe\xfa\n\n" + lines([1], {"id": 7}, {"text": 3}, {"text": " \0 "})
    content += b'{"text": "a", "x": NaN}\n' + b'{"a":' * 100_000 + b"\n" + lines(good).rstrip()
    status, said, stderr = run(content)
    assert (status, stderr) == (1, "")
    assert said[0] == said[-1] and "error" not in said[0]
    assert [line["error"].split(",")[0] for line in said[1:-1]] == [
        "line 2: not JSON",
        "line 3: not UTF-8",
        "line 5: a JSON object required",
        "line 6: text: a string required",
        "line 7: text: a string required",
        "line 8: text: nothing in it to read",
        "line 9: not JSON",
        "line 10: not JSON",
    ]
    assert said[4]["id"] == 7


def test_plain_lines_are_texts(run: Run) -> None:
    """What a person pastes: headlines, in quotes or after a bracket, too."""
    texts = ["Acme rises", '"We rise", says Acme', "[Update] Acme rises", "42", "Acme rises"]
    content = b"\xef\xbb\xbf" + "\n".join(texts[:-1]).encode() + b"\n" + lines(texts[-1])
    status, said, _ = run(content)
    assert status == 0 and [line["text"] for line in said] == texts
    assert {**said[0], **said[-1]} == said[0]


def test_model_and_policy_are_the_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the stage would answer; an option wins."""
    monkeypatch.setenv("EARLYBIRD_POLICY", "full")
    assert run(lines("Acme rises"))[1][0]["exit"]["layer"] == 3
    monkeypatch.setenv("EARLYBIRD_MODEL", "no-such-model")
    assert run(lines("Acme rises"), "--model", "bundled", "--policy", "fixed:1")[1][0]["exit"]["layer"] == 1
    assert run(lines("Acme rises"))[::2] == (2, "earlybird: model: a folder required, was no-such-model\n")


def test_hostile_texts_are_answered(run: Run) -> None:
    """Ten megabytes, NULs, lone surrogates, special tokens: one answer each."""
    texts = [
        "Acme rises " * 900_000,
        "Acme \0rises\0",
        "Acme \ud800 rises",
        "[SEP] Acme [PAD] rises",
        "\U0001f680 Acme",
    ]
    status, said, _ = run(lines(*({"id": "\ud800", "text": text} for text in texts)))
    assert status == 0 and len(said) == len(texts) and all("label" in line for line in said)


def test_answers_come_while_the_input_is_still_open() -> None:
    """A pipe that says one line at a time is answered one line at a time."""
    with subprocess.Popen(COMMAND, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for number in range(3):
            process.stdin.write(lines({"id": number, "text": "Acme rises"}))
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == number
        process.stdin.close()
        assert process.wait() == 0


def test_no_input_is_no_output(run: Run) -> None:
    """Nothing in, nothing out, no error."""
    assert run(b"") == (0, [], "")


def test_runners_and_policies_can_be_chosen(run: Run) -> None:
    """The slow runner says the same; full depth uses all three layers."""
    content = lines({"text": "Acme rises"}, {"text": "Orrin Foods recalls 40,000 packs of soup"})
    packed, reference = run(content, "--slots", "1"), run(content, "--runner", "reference")
    assert packed == reference
    full = run(content, "--policy", "full", "--dtype", "float64")[1]
    assert [line["exit"] for line in full] == [{"layer": 3, "reason": "last_layer"}] * 2


@pytest.mark.parametrize("texts", [["Acme rises"], ["Acme rises", "Profit/loss account of Acme: a loss", "Two\nlines"]])
def test_arguments_with_a_space_are_texts(capsys: pytest.CaptureFixture[str], texts: list[str]) -> None:
    """One answer for each, as JSON where stdout is no terminal."""
    assert cli.main(["classify", *texts]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in said] == texts
    assert said[0]["label"] == "positive"


def test_a_file_whose_name_has_a_space_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What exists is a file, whatever its name."""
    path = tmp_path / "my headlines"
    path.write_bytes(lines("Acme rises"))
    assert cli.main(["classify", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "Acme rises"


def on_a_terminal(*arguments: str, typed: bytes | None = None) -> tuple[int, str]:
    """Exit status and what a terminal of 80 columns gets; stdin and stderr, too, where something is typed."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    stdin, stderr = (subprocess.DEVNULL, None) if typed is None else (theirs, theirs)
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, stdin=stdin, stdout=theirs, stderr=stderr, env=environment | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        os.write(ours, typed or b"")
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # EIO: the command has closed the terminal
                break
            shown += part
    os.close(ours)
    return process.returncode, shown.decode()


def test_a_terminal_gets_one_readable_line_for_each_text() -> None:
    """Label, confidence, layer, text; in colour, cut to the width, without control characters of the text."""
    status, shown = on_a_terminal("Acme cuts its \x1b[2J outlook", "Acme rises " * 30, " ")
    assert status == 1
    assert "\x1b[31m" in shown and "\x1b[2J" not in shown
    negative, positive, fault = re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()
    assert re.fullmatch(r"▼ negative +\d+%  layer \d of 3  Acme cuts its \[2J outlook", negative)
    assert re.match(r"▲ positive +\d+%  layer \d of 3  Acme rises", positive) and len(positive) <= 80
    assert fault == "! line 3: text: nothing in it to read"


def test_who_types_texts_is_told_how_to_end() -> None:
    """Without arguments on a terminal it waits for texts, and says so."""
    status, shown = on_a_terminal(typed=b"Acme rises\n\x04")
    assert status == 0
    assert "type texts, one a line; Ctrl-D ends" in shown and "▲ positive" in shown


@pytest.mark.parametrize(
    "encoding",
    [{"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["latin-1", "ascii"],
)
def test_a_terminal_without_our_signs_gets_their_numbers(
    monkeypatch: pytest.MonkeyPatch, encoding: dict[str, str]
) -> None:
    """Not a traceback: the answer is what counts."""
    for name, value in encoding.items():
        monkeypatch.setenv(name, value)
    status, shown = on_a_terminal("Acme rises \U0001f680")
    assert status == 0
    shown = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert re.match(r"\\u25b2 positive +\d+%  layer \d of 3  Acme rises \\U0001f680", shown)


def test_the_first_page_shows_what_a_terminal_and_a_pipe_get(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/first-signal.md, on any CPU: the same to three digits."""
    page = (ROOT / "docs" / "first-signal.md").read_text(encoding="utf-8")
    (text,) = re.findall(r'^earlybird classify "(.*)"$', page, re.MULTILINE)
    shown = json.loads(re.findall(r'^\{"text".*', page, re.MULTILINE)[0])
    assert cli.main(["classify", text]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == list(shown)
    assert answer.pop("probs") == pytest.approx(shown.pop("probs"), abs=1e-3)
    assert {**answer, "score": 0, "confidence": 0} == {**shown, "score": 0, "confidence": 0}
    assert f"\n{answer_line(answer, 3, 80).plain}\n" in page


def test_json_is_what_a_terminal_gets_with_the_option() -> None:
    """The same lines as in a pipe."""
    status, shown = on_a_terminal("Acme rises", "--json")
    assert status == 0 and json.loads(shown)["label"] == "positive"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["no-such-file"], "no-such-file: cannot be read"),
        (["Bankruptcy"], "if it is a text: echo Bankruptcy | earlybird classify"),
        (["my headlines.txt"], "my headlines.txt: cannot be read"),
        (["/no such/folder"], "/no such/folder: cannot be read"),
        (["tests/no such file"], "tests/no such file: cannot be read"),
        (["Acme rises", "no-such-file"], "no-such-file: no such file; a text without a space is read as a file name"),
        (["\U0001f600", "\U0001f99c"], "needs quotes: earlybird classify '\U0001f600 \U0001f99c'"),
        (["Acme rises", "README.md"], "README.md: one file, or texts only, expected; a text needs a space in it"),
        (["LICENSE", "README.md"], "LICENSE: one file, or texts only, expected; more go through cat"),
        (["."], ".: cannot be read"),
        (["--model", "no-such-model"], "model: a folder required, was no-such-model"),
        (["--policy", "cwb:delta=2,window=9"], "delta"),
        (["--slots", "0"], "slots: at least 1 required, was 0"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    reason: str,
) -> None:
    """Status 2, no traceback, nothing on stdout."""
    monkeypatch.chdir(ROOT)
    empty = tmp_path / "empty"
    empty.touch()
    assert cli.main(["classify", *([str(empty)] if arguments[0][0] == "-" else []), *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and reason in told.err
