"""Where this netmaster stands among the others: its address, the leader's, everybody's."""

import socket
from typing import Protocol

from netfabric.api.settings import Settings

ANY = ("0.0.0.0", "::")


class Standing(Protocol):
    """What `/info` tells of the netmasters on one store."""

    @property
    def address(self) -> str:
        """Return our own address, as others reach it."""
        ...

    @property
    def leader(self) -> str:
        """Return the leader's address, "" where there is none now."""
        ...

    @property
    def masters(self) -> list[str]:
        """Return every netmaster's address."""
        ...


def own_address(settings: Settings) -> str:
    """Return the address we listen on; of several, that which faces the store, or the default route."""
    for listen in (settings.grpc, settings.rest):
        if listen.host not in ANY:
            return listen.host
    return _towards(settings.store.endpoints[0] if settings.store.endpoints else "192.0.2.1:9")


def _towards(endpoint: str) -> str:
    """Connecting a datagram socket asks the routing table, and sends nothing."""
    host, _, port = endpoint.rpartition(":")
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"
