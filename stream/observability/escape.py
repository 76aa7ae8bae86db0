"""Escape untrusted text before it is logged or shown.

No control character reaches a terminal or a log, and no text floods it.
"""

LONGEST_SHOWN = 500


def escaped(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Return the text as one line of printable characters, cut after `longest`.

    Control characters, line ends, bidi overrides and lone surrogates become Python escapes. The number of characters
    cut off is appended.
    """
    shown = cut(text, longest)
    return shown if shown.isprintable() else "".join(map(_escaped, shown))


def cut(text: str, longest: int) -> str:
    """Return at most `longest` characters, then the number of those left out."""
    left_out = len(text) - longest
    return f"{text[:longest]}... ({left_out:,} characters more)" if left_out > 0 else text


def escaped_lines(text: str) -> str:
    """Escape each line on its own, for text that has several lines on purpose."""
    return "\n".join(escaped(line) for line in text.split("\n"))


def plain(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Return one readable line: each run of unprintable characters becomes one space."""
    text = text[:longest]
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def json_line(text: str) -> str:
    r"""Return JSON text as one line of printable characters with the same meaning.

    Unprintable characters become \u escapes inside strings, and a space between values, where only white space can
    stand.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _json_escaped(char) for char in text)


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    return " " if char == "\u00a0" else char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _json_escaped(char: str) -> str:
    if char < " ":  # inside strings JSON always escapes these, so this one stands between values
        return " "
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
