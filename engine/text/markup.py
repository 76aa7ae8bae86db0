"""Linear-time HTML to text: `to_text` for parts-v1, `read` for parts-v2."""

import re

# The standard library's html.parser is quadratic on hostile input (23 s for 40 KB of "<a "), and bodies are untrusted.
# Here every alternative stops at the next "<" or runs to the end once.
MARKUP = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(script|style)\b.*?(?:</\1\s*>|\Z)"
    r"|</?([a-z][a-z0-9]*)[^<>]*>"
    r"|<[!?][^<>]*>",
    re.IGNORECASE | re.DOTALL,
)
INLINE = frozenset(
    {"a", "abbr", "b", "big", "cite", "code", "em", "font", "i", "mark", "q", "s"}
    | {"small", "span", "strong", "sub", "sup", "tt", "u"}
)


# As above, but a ">" in quotes ends no tag, an unfinished tag counts as a tag (it may hold an image) and CDATA is text.
# An alternative that starts never fails and is possessive, so that no character is scanned twice.
TAGS = re.compile(
    r"<(?:"
    r"!\[CDATA\["
    r"|!--[^-]*+(?:-(?!->)[^-]*+)*+(?:-->|\Z)"
    r"|(script|style|template|svg)\b[^<]*+(?:<(?!/\1\s*>)[^<]*+)*+(?:</\1\s*>|\Z)"
    r"|/?([a-z][a-z0-9]*+)(?:[^<>=]++|=\s*+(?:\"[^\"]*\"|'[^']*')?+)*+(?:>|(?=<)|\Z)"
    r"|[!?][^<>]*+(?:>|(?=<)|\Z)"
    r")|\]\]>",
    re.IGNORECASE | re.DOTALL,
)
MOST_TAGS = 20_000  # a page with more tags before its text is not worth reading
_NAMES = (
    "a|abbr|article|aside|b|blockquote|body|br|center|cite|code|dd|div|dl|dt|em|figure|font|footer|form|h[1-6]|head|"
    "header|hr|html|i|iframe|img|input|li|link|main|meta|nav|noscript|object|ol|p|path|pre|q|s|script|section|small|"
    "source|span|strike|strong|style|sub|sup|svg|table|tbody|td|template|th|thead|title|tr|tt|u|ul|video"
)
_SEEMS = re.compile(rf"<(?:/?(?:{_NAMES})(?=\s*/?>|\s+[a-z][a-z:-]*\s*=)|!--|!doctype\b|!\[CDATA\[)", re.IGNORECASE)
_ESCAPED = re.compile(rf"&(?:amp;)?(?:lt|#0*60|#x0*3c);(?:/?(?:{_NAMES})(?![a-z0-9])|!)", re.IGNORECASE)


def seems(text: str, limit: int) -> bool:
    """Return whether the first `limit` characters hold an HTML tag."""
    return "<" in text and _SEEMS.search(text, 0, limit) is not None


def is_escaped(text: str, limit: int) -> bool:
    """Return whether the first `limit` characters hold an HTML tag with an escaped "<"."""
    return "&" in text and _ESCAPED.search(text, 0, limit) is not None


def read(markup: str, limit: int) -> tuple[str, bool]:
    """Extract about `limit` characters of text, and return whether markup was left unread.

    The text may be a little longer than `limit`. Scripts and images do not count, so the text behind them is found
    however large they are. Entities stay. Never raises.
    """
    pieces, length, end = list[str](), 0, 0
    for number, tag in enumerate(TAGS.finditer(markup)):
        pieces.append(markup[end : tag.start()])
        length += len(pieces[-1].strip())
        end = tag.end()
        if length >= limit or number == MOST_TAGS:
            break
        if tag[2] and not tag[0].endswith(">") and "=" not in tag[0]:
            pieces.append(tag[0])  # "a <b and c" holds no tag
        elif (tag[2] or "").lower() not in INLINE:
            pieces.append(" ")
    else:
        pieces.append(markup[end:])
        end = len(markup)
    return " ".join("".join(pieces).split()), bool(markup[end:].strip())


def to_text(markup: str) -> str:
    """Drop tags, comments, scripts and styles; one space replaces each visual break.

    Entities stay, since every text profile resolves them. Never raises.
    """
    return " ".join(MARKUP.sub(lambda tag: "" if (tag[2] or "").lower() in INLINE else " ", markup).split())
