"""What is being done now, on a terminal or in a log, and how long each step took."""

import time

from rich.console import Console


class Steps:
    """Shows what is being done, and how long each step took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()
        self._since = self._begun
        self._step = ""
        self._status = self._console.status("")

    def __call__(self, step: str) -> None:
        """A new step begins: the one before is done."""
        self._finish()
        self._step, self._since = step, time.monotonic()
        self._status.update(step)
        self._status.start()

    def _finish(self) -> None:
        if self._step:
            took = time.monotonic() - self._since
            self._console.print(f"[green]✓[/] {self._step} [dim]{took:.1f} s[/]")
        self._step = ""

    def done(self) -> None:
        """The last step is done."""
        self._finish()
        self._status.stop()
        self._console.print()

    def failed(self) -> None:
        """The step ends where it is."""
        self._status.stop()
        if self._step:
            self._console.print(f"[red]✗[/] {self._step}")

    def total(self) -> float:
        """Return seconds since the beginning."""
        return time.monotonic() - self._begun
