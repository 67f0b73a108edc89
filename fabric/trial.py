"""Decided writes seen as if they were committed, so that the next decision counts with them; then taken back."""

from types import TracebackType
from typing import Self

from netfabric.fabric.view import Stored, View
from netfabric.fabric.world import Write

NOT_YET = -1
"""The revision of what is not committed: no client's ETag is that."""


class Trial:
    """A context in which the view shows writes of intent; when it ends the view is as it was.

    Nothing else may use the view meanwhile. What hosts hold (blocks, loans) is not shown as removed:
    it goes with its network, and who asks for that network is told that it is gone.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._objects: list[tuple[str, str, Stored | None]] = []
        self._tags: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        for type_, key, before in reversed(self._objects):
            self._view.place(type_, key, before)
        for name, revision in reversed(self._tags):
            self._view.allocate(name, revision)

    def apply(self, write: Write) -> None:
        """Show a write."""
        for at, fields in write.puts.items():
            self._put(at, Stored(dict(fields), NOT_YET))
        for at in write.deletes:
            self._put(at, None)

    def _put(self, at: str, stored: Stored | None) -> None:
        """Keys are relative to the root: `intent/<type>/<key>`, `alloc/<kind>/<number>`."""
        room, _, name = at.partition("/")
        kind, _, key = name.partition("/")
        if room == "intent":
            self._objects.append((kind, key, self._view.place(kind, key, stored)))
        elif room == "alloc" and kind in self._view.index.tags:
            self._tags.append((name, self._view.allocate(name, NOT_YET if stored else 0)))
