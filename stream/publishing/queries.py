"""JMESPath expressions over the lines of a feed.

They are compiled once and share one interpreter: making one costs more than evaluating most expressions.
"""

import re
from collections.abc import Sequence
from typing import Any

import jmespath
from jmespath.exceptions import ArityError, IncompleteExpressionError, JMESPathError, ParseError, UnknownFunctionError
from jmespath.functions import Functions, signature
from jmespath.parser import ParsedResult
from jmespath.visitor import Options, TreeInterpreter

from earlybird.stream.errors import FeedError
from earlybird.stream.observability.escape import escaped

_LONGEST_COMPLAINT = 200
_NUMBER_STEP = re.compile(r"\.\d")
_PIECE = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`|[^"'`]""", re.DOTALL)


class UnmappableError(ValueError):
    """Record that does not fit the map; the message names the field."""


class _LineFunctions(Functions):
    """The standard functions, and `line()`: the whole line around an item."""

    line: object = None

    @signature()
    def _func_line(self) -> object:
        return self.line


class Queries:
    """Compiler and evaluator of the expressions of one feed.

    Not thread-safe: `line` is that of the last call of `begin`.
    """

    def __init__(self) -> None:
        self._functions = _LineFunctions()
        self._interpreter = TreeInterpreter(Options(custom_functions=self._functions))

    def compiled(self, expression: str, given: str) -> ParsedResult:
        """Return the compiled expression; `given` is what contains it, for messages.

        Raises FeedError with the column in `given`, also for functions that do not exist.
        """
        try:
            query = jmespath.compile(expression)
        except JMESPathError as error:
            raise FeedError(f"{_shown(given)}: {_complaint(error, expression, given)}") from None
        try:
            self._interpreter.visit(query.parsed, {})
        except (UnknownFunctionError, ArityError) as error:
            raise FeedError(f"{_shown(given)}: {error}") from None
        except (JMESPathError, TypeError):
            pass  # an empty object has not what it needs; a line may
        return query

    def begin(self, line: object) -> None:
        """Set the line that `line()` is."""
        self._functions.line = line

    def value(self, query: ParsedResult, node: object) -> Any:
        """Return the value of an expression on a node, None if there is none.

        Raises UnmappableError for a function that does not take what it is given.
        """
        try:
            return self._interpreter.visit(query.parsed, node)
        except (JMESPathError, TypeError) as error:  # a TypeError for an order between kinds, such as 1 < "a"
            raise UnmappableError(escaped(str(error), _LONGEST_COMPLAINT)) from None


class Selection:
    """Choice of lines, and of the items in them, by two expressions.

    `when`: lines for which it is false or empty are skipped. `each`: the items of a line, or its one item.
    """

    def __init__(self, queries: Queries, when: str | None = None, each: str | None = None) -> None:
        """Compile the expressions. Raises FeedError."""
        self._queries = queries
        self._when = None if when is None else queries.compiled(when, when)
        self._each = None if each is None else queries.compiled(each, each)

    def items(self, line: object) -> Sequence[object]:
        """Return the items of a decoded line, none if it is to be skipped.

        Raises UnmappableError.
        """
        self._queries.begin(line)
        if self._when is not None:
            holds = self._value("--when", self._when, line)
            if holds is None or holds is False or holds in ("", [], {}):  # what JMESPath calls false; 0 is not
                return []
        found = line if self._each is None else self._value("--each", self._each, line)
        if found is None:
            raise UnmappableError("--each: nothing there; --when EXPRESSION skips such lines")
        return found if isinstance(found, list) else [found]

    def _value(self, name: str, query: ParsedResult, line: object) -> Any:
        try:
            return self._queries.value(query, line)
        except UnmappableError as error:
            raise UnmappableError(f"{name}: {error}") from None


def suffixed(text: str) -> tuple[str, str | None]:
    """Split an expression and what follows its first colon; None without a colon.

    A colon in quotes or brackets is the expression's own: JMESPath has colons nowhere else.
    """
    depth = 0
    for piece in _PIECE.finditer(text):
        depth += piece[0] in "[{(" and len(piece[0]) == 1
        depth -= piece[0] in "]})" and len(piece[0]) == 1
        if piece[0] == ":" and depth == 0:
            return text[: piece.start()], text[piece.end() :]
    return text, None


def _complaint(error: JMESPathError, expression: str, given: str) -> str:
    if not expression.strip() or not isinstance(error, ParseError):
        return "an expression expected"
    at = min(error.lex_position, len(expression))
    hint = "; an element of a list is written [0]" if _NUMBER_STEP.match(expression, max(at - 1, 0)) else ""
    hint = hint or ('; a name with other characters is written in "quotes"' if expression[at : at + 1] == "-" else "")
    if isinstance(error, IncompleteExpressionError):
        return "no JMESPath: it ends too early"
    column = given.rfind(expression) + at + 1
    return f"no JMESPath at column {column}, {_shown(expression[at : at + 20])}{hint}"


def _shown(text: str) -> str:
    return ascii(text) if len(text) <= _LONGEST_COMPLAINT else f"{ascii(text)[:_LONGEST_COMPLAINT]}..."
