"""The command: what it says when it cannot, and that it needs nothing before it must."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import shtab
from confluent_kafka import Producer

from earlybird.stream import cli
from earlybird.stream.adapters.embedded import EmbeddedBroker
from earlybird.stream.commands import bench, completion, topics
from project import ROOT


def fresh(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_and_version_need_the_standard_library_alone() -> None:
    """A bare install answers `earlybird --help`."""
    done = fresh(
        "import sys; from stream import cli; code = cli.main(['--help']) + cli.main(['--version']);"
        "heavy = {'torch', 'confluent_kafka', 'redis', 'rich', 'pydantic_settings'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: earlybird COMMAND" in done.stdout
    assert all(name in done.stdout for name in cli.COMMANDS)


def test_a_missing_package_names_its_extra() -> None:
    """Not a traceback, but what to install."""
    done = fresh(
        "import sys; sys.modules['pydantic_settings'] = None; from stream import cli;"
        "sys.exit(cli.main(['config', 'check']))"
    )
    assert (done.returncode, done.stdout) == (2, "")
    install_hint = "install the extra, in a checkout pip install -e '.[stream]'"
    assert done.stderr == f"earlybird: `earlybird config` needs pydantic_settings: {install_hint}\n"


def test_a_missing_package_of_one_option_is_named_before_the_work(tmp_path: Path) -> None:
    """`evaluate --html` runs a model for minutes, and draws at the end."""
    done = fresh(
        "import sys; sys.modules['matplotlib'] = None; from stream import cli;"
        f"sys.exit(cli.main(['evaluate', '--from', {str(tmp_path)!r}, '--html', 'page.html']))"
    )
    install_hint = "install the extra, in a checkout pip install -e '.[evaluate]'"
    assert done.stderr == f"earlybird: `earlybird evaluate` needs matplotlib: {install_hint}\n"


def test_a_missing_verb_is_answered_with_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    """Not with the name of an argument."""
    with pytest.raises(SystemExit):
        cli.main(["topics"])
    assert "arguments are required: {create,show}" in capsys.readouterr().err


def test_a_missing_module_of_our_own_stays_a_traceback() -> None:
    """An extra would not cure it."""
    done = fresh(
        "import sys; sys.modules['earlybird.stream.config.settings'] = None; from stream import cli;"
        "sys.exit(cli.main(['config', 'check']))"
    )
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_an_unknown_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2 and one line."""
    assert cli.main(["fed"]) == 2
    assert capsys.readouterr().err == "earlybird: no command 'fed'; did you mean 'feed'?\n"


def test_our_errors_are_one_block_on_stderr(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A wrong setting is no traceback."""
    assert cli.main(["config", "check", "--config", str(tmp_path / "none.toml")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("earlybird: ")
    assert "No such file" in captured.err


def test_config_show_hides_secrets(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What people paste into tickets."""
    monkeypatch.setenv("EARLYBIRD_REDIS__URL", "redis://:hunter2@cache")
    assert cli.main(["config", "show"]) == 0
    assert cli.main(["config", "show", "--json"]) == 0
    shown = capsys.readouterr().out
    assert "hunter2" not in shown
    assert "redis://<hidden>@cache" in shown


def test_an_interrupt_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 130, no traceback."""

    def interrupted(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    assert cli.main(["run"]) == 130
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_amid_a_callback_of_the_kafka_client_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ground: EmbeddedBroker
) -> None:
    """The client's C code makes another error of it; without an interrupt that stays one."""

    def delivers(_: list[str]) -> int:
        def report(*_: object) -> None:
            signal.raise_signal(signal.SIGINT)

        producer = Producer({"bootstrap.servers": ground.bootstrap_servers, "log_level": 0})
        producer.produce("news.raw", b"{}", on_delivery=report)
        return producer.flush(30)

    monkeypatch.setattr(cli, "_dispatch", delivers)
    assert cli.main(["replay"]) == 130
    assert capsys.readouterr() == ("", "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def broken(_: list[str]) -> int:
        raise SystemError("poll returned NULL")

    monkeypatch.setattr(cli, "_dispatch", broken)
    with pytest.raises(SystemError, match="NULL"):
        cli.main(["replay"])


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    """`earlybird config table | head -1` prints no complaint."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "earlybird.stream.cli", "config", "table"],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_topics_without_a_broker_gives_up_with_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 2: 1 would say that a topic is missing. `create` waits longest, for the broker of its deployment."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("EARLYBIRD_LOG__LEVEL", "error")
    monkeypatch.setattr(topics, "_CREATED_S", 0.05)
    assert cli.main(["topics", "create"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("earlybird: no Kafka at 127.0.0.1:1, tried for ")


def test_topics_that_are_there_and_missing_are_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ground: EmbeddedBroker
) -> None:
    """Status 1 when one is missing."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", ground.bootstrap_servers)
    assert cli.main(["topics", "show"]) == 0
    assert "there    news.raw  4 partitions" in capsys.readouterr().out
    monkeypatch.setenv("EARLYBIRD_TOPICS__SIGNALS", "nowhere")
    assert cli.main(["topics", "show"]) == 1
    assert "missing  nowhere  0 partitions" in capsys.readouterr().out


def test_topics_are_shown_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ground: EmbeddedBroker
) -> None:
    """One object, with the exit status of the table."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", ground.bootstrap_servers)
    monkeypatch.setenv("EARLYBIRD_TOPICS__SIGNALS", "nowhere")
    assert cli.main(["topics", "show", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert {"name": "news.raw", "state": "there", "partitions": 4} in shown["topics"]
    assert {"name": "nowhere", "state": "missing", "partitions": 0} in shown["topics"]
    assert shown["signals_sender_dated"] is False


def test_classify_says_that_blank_lines_are_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    """Who pairs its lines with those of the input must know."""
    with pytest.raises(SystemExit):
        cli.main(["classify", "--help"])
    assert "Blank lines" in capsys.readouterr().out


def test_run_help_names_the_most_used_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """As variables with their defaults, and where all of them are."""
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    told = capsys.readouterr().out
    variables = re.findall(r"^  (EARLYBIRD_\w+)  +\w", told, re.MULTILINE)
    assert len(variables) == 10 and "EARLYBIRD_REDIS__URL" in variables
    assert "host:port,... [127.0.0.1:9092]" in told and "earlybird config table" in told


def test_a_broker_that_is_not_there_is_given_up_with_its_address(tmp_path: Path) -> None:
    """By each short command, within a stated time. All at once here: they only wait."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        (tmp_path / "f.jsonl").touch()
        commands = [
            ["topics", "show"], ["signals"], ["audit"], ["feed", "f.jsonl"], ["archive", "kept", "--once"],
            ["replay", "--output", "replayed"],
        ]  # fmt: skip
        environment = os.environ | {"EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS": address, "PYTHONPATH": str(ROOT)}
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "earlybird.stream.cli", *words],
                env=environment, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            )
            for words in commands
        ]  # fmt: skip
        said = [process.communicate(timeout=300)[1].splitlines()[-1] for process in running]
    assert [process.returncode for process in running] == [2] * len(commands), said
    assert all(f"no Kafka at {address}, tried for 10 s: " in line for line in said), said


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    """Completion script by shell."""
    parser = completion.whole_parser()
    return {shell: shtab.complete(parser, shell=shell) for shell in ("bash", "zsh")}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_names_every_command_with_its_options(scripts: dict[str, str], shell: str) -> None:
    """Those of the benches too."""
    assert all(re.search(rf"\b{name}\b", scripts[shell]) for name in [*cli.COMMANDS, *bench.MODULES])
    assert all(option in scripts[shell] for option in ("--keep-raw", "--geometry", "--max-lost", "--config"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["cl"], {"classify"}),
        (["comp"], {"completion"}),
        (["topics", ""], {"create", "show"}),
        (["bench", ""], set(bench.MODULES)),
        (["bench", "engine", "--qu"], {"--quick"}),
        (["classify", "--pol"], {"--policy"}),
        (["classify", "READ"], {"README.md"}),
    ],
)
def test_bash_completes(scripts: dict[str, str], words: list[str], expected: set[str]) -> None:
    """Ask a real bash for what follows these words."""
    ask = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_earlybird; printf "%s\\n" "${COMPREPLY[@]}"'
    command = ["bash", "-c", f"{scripts['bash']}\n{ask}", "bash", "earlybird", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert expected == {word.strip() for word in done.stdout.splitlines()} - {"-h", "--help", ""}, done.stderr


def test_completion_prints_the_script(capsys: pytest.CaptureFixture[str], scripts: dict[str, str]) -> None:
    """As it is, on stdout."""
    assert cli.main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == scripts["bash"] + "\n"
