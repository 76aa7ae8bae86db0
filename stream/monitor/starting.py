"""Start-up display: one line per part that is being started."""

import time
from typing import Self

from rich.console import Console
from rich.status import Status


class Starting:
    """Context manager that prints one line per started part.

    On a terminal the line shows the seconds it took.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = Status("starting", console=console)
        self._part, self._since = "", 0.0

    def tell(self, part: str) -> None:
        """Announce the part that starts now; the previous one is up."""
        self._finish()
        self._part, self._since = part, time.monotonic()
        if self._console.is_terminal:
            self._status.update(f"starting {part}")
            self._status.start()
        else:
            self._console.print(f"starting {part}", soft_wrap=True)

    def done(self) -> None:
        """Announce that all parts are up."""
        self._finish()
        self._status.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def _finish(self) -> None:
        if self._part and self._console.is_terminal:
            self._console.print(f"[green]✓[/green] {self._part} [dim]{time.monotonic() - self._since:.1f} s[/dim]")
        self._part = ""
