"""`earlybird dlq` on a real broker: what is listed, and what is redriven how."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from earlybird.schemas.codec import encode
from earlybird.schemas.identity import sha256_hex
from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import RawPosition
from earlybird.stream import cli
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.ports import Outgoing, Record
from project import ROOT

pytestmark = pytest.mark.broker

NOW_US = 1_770_000_000_000_000


class Desk:
    """Topics of one stage, and the command on them."""

    def __init__(self, bootstrap_servers: str, unique: Callable[[str], str], patch: pytest.MonkeyPatch) -> None:
        self.bootstrap_servers, self.raw, self.dlq = bootstrap_servers, unique("raw"), unique("dlq")
        create_topics(bootstrap_servers, [Topic(self.raw), Topic(self.dlq)])
        patch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", bootstrap_servers)
        patch.setenv("EARLYBIRD_TOPICS__RAW", json.dumps([{"name": self.raw}]))
        patch.setenv("EARLYBIRD_TOPICS__DLQ", self.dlq)

    def publish(self, *records: Outgoing) -> None:
        sink = KafkaSink(self.bootstrap_servers)
        for record in records:
            sink.send(record)
        while sink.unacknowledged():
            sink.receipts(50)
        sink.close()

    def record(self, number: int) -> Outgoing:
        """A raw record with headers of its own."""
        return Outgoing(self.raw, f"wire:{number}".encode(), self.value(number), (("feed", b"one"),))

    def value(self, number: int) -> bytes:
        return json.dumps({"item_key": f"wire:{number}", "headline": "Acme " * number}).encode()

    def letter(
        self, number: int, reason: Reason = Reason.LANGUAGE, kept: int | None = None, at_us: int | None = None
    ) -> Outgoing:
        """Its dead letter, with so many bytes of it. `at_us`: the broker's time of it, by default now."""
        value = self.value(number)
        rejection = Rejection(
            reason=reason,
            detail="no",
            raw=RawPosition(topic=self.raw, partition=0, offset=number),
            item_key=f"wire:{number}",
            key=base64.b64encode(f"wire:{number}".encode()).decode(),
            original=base64.b64encode(value[:kept]).decode(),
            original_bytes=len(value),
            original_sha256=sha256_hex(value),
            rejected_us=NOW_US,
        )
        headers = (("reason", reason.value.encode()),)
        return Outgoing(self.dlq, f"wire:{number}".encode(), encode(rejection), headers, timestamp_us=at_us)

    def read(self) -> list[Record]:
        """All that the raw topic has."""
        tail, records = Tail(self.bootstrap_servers, [self.raw], start="beginning"), list[Record]()
        ends = tail.ends()
        while not tail.reached(ends):
            records += tail.poll(100)
        tail.close()
        return records

    def delete_before(self, offset: int) -> None:
        """As retention does."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        for answer in admin.delete_records([TopicPartition(self.raw, 0, offset)]).values():
            answer.result()


@pytest.fixture
def desk(kafka: Any, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(kafka.bootstrap_servers, unique, monkeypatch)


def test_dead_letters_are_chosen_shown_and_redriven_once(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """With key and headers while the raw topic holds the record, from the copy later, never from a beginning."""
    desk.publish(*map(desk.record, range(4)))
    desk.publish(desk.letter(0), desk.letter(1, Reason.STALE), desk.letter(2, kept=10), desk.letter(3, kept=10))
    desk.delete_before(3)  # of 0 to 2 only the dead letters are left

    capsys.readouterr()  # the log of our own client

    def told(status: int, *words: str) -> list[dict[str, Any]]:
        assert cli.main(["dlq", *words, "--json"]) == status
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    listed = told(0, "list")
    assert [(one["place"], one["reason"], one["whole"]) for one in listed] == [
        ("0/0", "language", True), ("0/1", "stale", True), ("0/2", "language", False), ("0/3", "language", False)
    ]  # fmt: skip
    assert [one["place"] for one in told(0, "list", "--reason", "stale", "--source", "wire")] == ["0/1"]
    assert told(0, "show", "0/1")[0]["original"] == desk.value(1).decode()
    assert told(1, "redrive", "--reason", "language", "--dry-run")[-1] == {"dry_run": True, "redriven": 2, "cut": 1}
    done = told(1, "redrive", "--reason", "language")
    assert [(one["place"], one["outcome"], one["headers_kept"]) for one in done[:-1]] == [
        ("0/0", "redriven", False), ("0/2", "cut", False), ("0/3", "redriven", True)
    ]  # fmt: skip
    kept, copied, again = desk.read()
    assert (kept.offset, copied.key, copied.value) == (3, b"wire:0", desk.value(0))
    assert dict(copied.headers) == {"redriven": b"1", "redriven-from": f"{desk.dlq}/0/0".encode()}
    assert (again.key, again.value) == (b"wire:3", desk.value(3))
    assert dict(again.headers) == {"feed": b"one", "redriven": b"1", "redriven-from": f"{desk.dlq}/0/3".encode()}
    assert told(1, "redrive", "--reason", "language")[-1] == {"dry_run": False, "repeated": 2, "cut": 1}
    assert len(desk.read()) == 3


def test_dead_letters_are_chosen_by_time(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """From an instant, included, to another, excluded; ages count from now."""
    now_us, hour_us = time.time_ns() // 1000, 3_600_000_000
    desk.publish(*map(desk.record, range(3)))
    desk.publish(*(desk.letter(number, at_us=now_us - (5 - 2 * number) * hour_us) for number in range(3)))
    capsys.readouterr()

    def places(*words: str) -> list[str]:
        assert cli.main(["dlq", "list", "--json", *words]) == 0
        return [json.loads(line)["place"] for line in capsys.readouterr().out.splitlines()]

    assert places("--from", "-4h") == ["0/1", "0/2"] and places("--to", "-4h") == ["0/0"]
    assert places("--from", "-4h", "--to", "-2h") == ["0/1"]
    assert cli.main(["dlq", "redrive", "--from", "-4h", "--to", "-2h"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "redriven: 1 of 1"
    assert [record.key for record in desk.read()] == [b"wire:0", b"wire:1", b"wire:2", b"wire:1"]


def test_a_place_without_a_dead_letter_is_named(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever was to be done with it, and the others are done."""
    desk.publish(desk.record(0), desk.letter(0))
    for verb in ("list", "show", "redrive"):
        capsys.readouterr()
        assert cli.main(["dlq", verb, "0/0", "0/170000"]) == 1
        printed = capsys.readouterr()
        assert printed.err == "no dead letter at 0/170000\n" and printed.out
    assert [record.key for record in desk.read()] == [b"wire:0", b"wire:0"]
    assert cli.main(["dlq", "list", "0/0", "--reason", "stale"]) == 1
    assert capsys.readouterr().err == "no dead letter at 0/0 that the filters choose\n"


def test_show_takes_all_as_list_does(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Only redriving all has to be asked for."""
    desk.publish(desk.letter(0), desk.letter(1))
    capsys.readouterr()
    for verb in ("list", "show"):
        assert cli.main(["dlq", verb, "--json"]) == 0
        assert [json.loads(line)["place"] for line in capsys.readouterr().out.splitlines()] == ["0/0", "0/1"]


def test_a_terminal_sees_what_the_columns_are(desk: Desk) -> None:
    """A pipe gets the rows alone."""
    desk.publish(desk.letter(0))
    command = [sys.executable, "-m", "earlybird.stream.cli", "dlq", "list"]
    piped = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    terminal, screen = os.openpty()
    done = subprocess.run(command, cwd=ROOT, stdout=screen, check=False)
    os.close(screen)
    seen = b""
    with suppress(OSError):  # Linux raises it once the terminal's last writer has closed it
        while part := os.read(terminal, 4096):
            seen += part
    os.close(terminal)
    head, row, rest = seen.decode().split("\r\n")
    assert done.returncode == 0 and rest == "" and piped == f"{row}\n"
    assert head.split() == ["place", "at", "reason", "raw", "redriven", "whole", "item_key", "detail"]
    assert head.index("reason") == row.index("language") and head.index("item_key") == row.index("wire:0")


def test_nothing_is_redriven_by_accident(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A filter or --all is asked for, and a place that is none is named."""
    assert cli.main(["dlq", "redrive"]) == 2
    assert "--all" in capsys.readouterr().err
    assert cli.main(["dlq", "show", "17"]) == 2
    assert "3/17" in capsys.readouterr().err
    assert cli.main(["dlq", "redrive", "--all"]) == 0
    assert capsys.readouterr().out == "redriven: 0 of 0\n"
