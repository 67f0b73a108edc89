"""Words to systemd: sd_notify(3), without its library."""

import os
import socket
from contextlib import suppress


def notify(words: str) -> None:
    """Send such as "READY=1" to whoever supervises us, if anybody asked for it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger:
        messenger.sendto(words.encode(), address)
