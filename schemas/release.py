"""The JSON and Avro Schemas for readers in other languages.

There is one frozen file of each kind per version of a message.
"""

import json
from pathlib import Path
from typing import Any, Literal

from earlybird.schemas import avro
from earlybird.schemas.base import Message
from earlybird.schemas.control import Heartbeat, ReplayComplete
from earlybird.schemas.raw import RawNews, RawTweet
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.sentiment import Sentiment
from earlybird.schemas.signal import Signal

FOLDER = Path(__file__).with_name("released")
MESSAGES: dict[str, type[Message]] = {
    "raw-news-1.1": RawNews,
    "raw-tweet-1.1": RawTweet,
    "signal-1.3": Signal,
    "rejection-1.2": Rejection,
    "heartbeat-1.1": Heartbeat,
    "replay-complete-1.0": ReplayComplete,
    "sentiment-1.0": Sentiment,
}


DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft whose keywords the schemas keep to. Some registries refuse a union that names none, or a later one."""

Kind = Literal["json", "avsc"]
"""Suffix of a schema's file."""


def schema(name: str) -> dict[str, Any]:
    """Return a message's JSON Schema from the current models. Raises KeyError."""
    return MESSAGES[name].model_json_schema(mode="validation")


def text(name: str) -> str:
    """Return the content of a new schema file."""
    return json.dumps(schema(name), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def released(name: str, kind: Kind = "json") -> str:
    """Return the frozen file's content. Raises FileNotFoundError."""
    return (FOLDER / f"{name}.{kind}").read_text(encoding="utf-8")


def latest(message: type[Message], kind: Kind = "json") -> str:
    """Return the content of the frozen file of a message's latest version."""
    return released(next(name for name, each in MESSAGES.items() if each is message), kind)


def union(title: str, *messages: type[Message]) -> str:
    """Return one JSON Schema of the latest versions of several messages, for their common topic."""
    schemas = [json.loads(latest(message)) for message in messages]
    shared: dict[str, Any] = {}
    for schema in schemas:
        for name, definition in schema.pop("$defs", {}).items():
            assert shared.setdefault(name, definition) == definition, f"two definitions of {name}. This is a bug."
    own = {schema["title"]: schema for schema in schemas}
    choice = [{"$ref": f"#/$defs/{name}"} for name in own]
    whole = {"$schema": DRAFT, "title": title, "oneOf": choice, "$defs": shared | own}
    return json.dumps(whole, sort_keys=True)


if __name__ == "__main__":  # for a new version: run python -m earlybird.schemas.release, commit the file
    for new in sorted(MESSAGES):
        for path, content in (
            (FOLDER / f"{new}.json", text(new)),
            (FOLDER / f"{new}.avsc", avro.text(avro.avro(json.loads(text(new))))),
        ):
            if not path.exists():
                path.write_text(content, encoding="utf-8")
                print(f"released {path.name}")
