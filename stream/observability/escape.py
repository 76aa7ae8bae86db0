"""What others wrote, made fit to be shown: no control character reaches a terminal or a log, and no text floods it."""

LONGEST_SHOWN = 500


def escaped(text: str, longest: int = LONGEST_SHOWN) -> str:
    """One line of printable characters, at most `longest` of the text's own: control characters, line ends, bidi
    overrides and lone surrogates are written as Python escapes, what is cut off is counted."""
    shown = cut(text, longest)
    return shown if shown.isprintable() else "".join(map(_escaped, shown))


def cut(text: str, longest: int) -> str:
    """At most `longest` characters of the text, then how many are left out."""
    left_out = len(text) - longest
    return f"{text[:longest]}... ({left_out:,} characters more)" if left_out > 0 else text


def escaped_lines(text: str) -> str:
    """The same line by line, for what is of several lines on purpose."""
    return "\n".join(escaped(line) for line in text.split("\n"))


def plain(text: str, longest: int = LONGEST_SHOWN) -> str:
    """One line for people: what is not printable becomes a space, and a run of them a single one."""
    text = text[:longest]
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def json_line(text: str) -> str:
    """JSON text as one line of printable characters that says the same: in its strings they become \\u escapes, and
    between its values, where only white space can stand, a space."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _json_escaped(char) for char in text)


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    return " " if char == "\u00a0" else char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _json_escaped(char: str) -> str:
    if char < " ":  # a string's own are escaped in all JSON
        return " "
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
