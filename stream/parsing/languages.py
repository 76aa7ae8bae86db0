"""Normalisation of the language names that sources send to ISO 639-1 codes."""

import re

UNKNOWN = frozenset(
    {"", "und", "zxx", "mis", "mul", "art", "qme", "qct", "qst", "qht", "qam", "unknown", "none", "null"}
)
"""Values for an unknown language: ISO 639-2 codes, and X's own for posts of only media, cards, links, hashtags or
mentions."""

# ISO 639-1 code, ISO 639-2 code (both where there are two), English name.
_KNOWN = """
af afr afrikaans|ar ara arabic|az aze azerbaijani|be bel belarusian|bg bul bulgarian|bn ben bengali|bs bos bosnian
ca cat catalan|cs ces cze czech|da dan danish|de deu ger german|el ell gre greek|en eng english|es spa spanish
et est estonian|eu eus baq basque|fa fas per persian|fi fin finnish|fr fra fre french|ga gle irish|gl glg galician
he heb hebrew|hi hin hindi|hr hrv croatian|hu hun hungarian|hy hye arm armenian|id ind indonesian
is isl ice icelandic|it ita italian|ja jpn japanese|ka kat geo georgian|kk kaz kazakh|ko kor korean
lt lit lithuanian|lv lav latvian|mk mkd mac macedonian|ms msa may malay|nl nld dut dutch|no nor norwegian
pl pol polish|pt por portuguese|ro ron rum romanian|ru rus russian|sk slk slo slovak|sl slv slovenian
sq sqi alb albanian|sr srp serbian|sv swe swedish|sw swa swahili|ta tam tamil|th tha thai|tr tur turkish
uk ukr ukrainian|ur urd urdu|uz uzb uzbek|vi vie vietnamese|zh zho chi chinese
"""
_CODES = {name: line.split()[0] for line in _KNOWN.replace("\n", "|").split("|") if line for name in line.split()}


_WORD = re.compile(r"[^\W\d_]+")
_CODE = re.compile(r"[A-Za-z]{2}(?:[-_]\w+)*", re.ASCII)


def primary_language(lang: str | None) -> str | None:
    """Return the primary subtag, as an ISO 639-1 code where known.

    None where the source does not know the language. An unlisted subtag is returned in lower case.
    """
    if lang is None:
        return None
    word = _WORD.search(lang.lower())
    primary = word[0] if word else lang.strip()
    return None if primary in UNKNOWN else _CODES.get(primary, primary)


def named_language(lang: str) -> str | None:
    """Return the code of a third-party feed's language name; None for an unknown one."""
    primary = primary_language(lang)
    if primary is None or _CODE.fullmatch(lang.strip()):
        return None if primary is None else lang.strip()
    return primary if primary in _CODES or (len(primary) == 3 and primary.isascii()) else None
