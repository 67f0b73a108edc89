"""A listening unix socket at a path, there at once with its mode, in place of one left behind."""

import os
import socket
from pathlib import Path

from netfabric.fabric.errors import InvalidError, KernelError

_PATH_LIMIT = 107
"""Octets of a unix socket's path that the kernel takes."""


def check_length(path: Path, said: str, remedy: str) -> None:
    """Raise InvalidError where a path, written as `said`, is longer than a socket's may be."""
    if len(os.fsencode(path)) > _PATH_LIMIT - len(".new"):
        raise InvalidError(f"{said} {path}: the path is too long", remedy)


def listening(path: Path, backlog: int, what: str, remedy: str) -> socket.socket:
    """Return the socket, for root alone; raise KernelError about `what`."""
    fresh = path.with_name(path.name + ".new")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        listener.bind(str(fresh))
        fresh.chmod(0o600)
        listener.listen(backlog)
        fresh.rename(path)
    except OSError as error:
        listener.close()
        raise KernelError(f"{what} {path}: {error.strerror}", remedy) from None
    return listener
