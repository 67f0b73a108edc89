"""What can go wrong in a lab: which node, why, and the log that says more."""

from pathlib import Path

from netfabric.fabric.errors import FabricError


class LabError(FabricError):
    """A node does not do what it should."""

    def __init__(self, node: str, cause: str, log: Path | None = None) -> None:
        super().__init__(f"{node}: {cause}", f"see {log}" if log else "")
        self.node = node
        self.log = log


def last_words(log: Path, lines: int = 3) -> str:
    """Return the last lines of a log in one, or "" where there is none."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())
