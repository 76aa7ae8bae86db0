"""Scripted answers of an HTTP server, and a record of its requests."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Asked:
    """One request that a server got."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, content."""


@dataclass
class Web:
    """An HTTP server: `answer` says what it answers, `asked` what it was asked."""

    url: str = ""
    answer: Callable[[Asked], Answer] = lambda _: (200, {}, b"")
    asked: list[Asked] = field(default_factory=list)
