"""Editor of one typed line: bytes in, whole lines out."""

import codecs
import unicodedata
from enum import Enum, auto

LONGEST_LINE = 10_000  # characters; a headline with its whole body is shorter


class _State(Enum):
    TEXT = auto()
    ESCAPE = auto()  # after ESC
    SEQUENCE = auto()  # inside a control sequence, until its final character


class LineEditor:
    """Line under way, from the bytes that a terminal sends.

    Backspace, Ctrl-U (all), Ctrl-W (a word) and Enter work; keys that send control sequences (arrows, pasting marks)
    and other control characters are ignored.
    """

    def __init__(self) -> None:
        self.text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._state = _State.TEXT

    def feed(self, typed: bytes) -> list[str]:
        """Take these bytes and return the lines that they end, blank ones left out."""
        lines = []
        for char in self._decoder.decode(typed):
            if self._is_text(char):
                if char in "\r\n":
                    lines.append(self.text.strip())
                    self.text = ""
                else:
                    self._edit(char)
        return [line for line in lines if line]

    def _is_text(self, char: str) -> bool:
        """Follow control sequences; return whether the character is outside of them."""
        if char == "\x1b":
            self._state = _State.ESCAPE
        elif self._state is _State.ESCAPE:
            self._state = _State.SEQUENCE if char in "[O" else _State.TEXT
            return char in "\r\n"  # Esc and then Enter: a line ends
        elif self._state is _State.SEQUENCE:
            if "@" <= char <= "~":
                self._state = _State.TEXT
        else:
            return True
        return False

    def _edit(self, char: str) -> None:
        if char in "\x7f\b":
            self.text = self.text[:-1]
        elif char == "\x15":
            self.text = ""
        elif char == "\x17":
            words = self.text.rstrip()
            self.text = words[: words.rfind(" ") + 1]
        elif char == "\t":
            self.text += " "
        elif unicodedata.category(char) not in ("Cc", "Cs") and len(self.text) < LONGEST_LINE:
            self.text += char
