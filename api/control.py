"""netmaster's side of agents: the controller's decisions carried out on the store, over gRPC.

Wiring, in api/daemon.py:

    control = Control(store, mirror, name=settings.name, address=own_address(settings))
    tasks.create_task(control.run())                  # after store.open(); until cancelled
    tasks.create_task(control.serve(settings.grpc))   # at once, or whenever; until cancelled
    app = make_app(writer, control.standing)          # a Standing: who leads, who else is there

`serve` answers health checks from its first moment, NOT_SERVING until the mirror has listed; agents that come
earlier are told UNAVAILABLE and go to the next netmaster. It raises UnavailableError where the port is in use,
InvalidError for certificates that cannot be read. Cancelling it lets sessions go: their leases are revoked.
"""

from netfabric.api.mirror import Mirror
from netfabric.api.settings import Listen
from netfabric.api.standing import Standing
from netfabric.api.store.base import Store


class Control:
    """Every agent's session at this netmaster, and the singletons where it leads."""

    def __init__(self, store: Store, mirror: Mirror, *, name: str, address: str = "") -> None:
        self.store = store
        self.mirror = mirror
        self.name = name
        self.address = address
        self.port = 0
        """The gRPC port, once `serve` listens."""

    @property
    def standing(self) -> Standing:
        """Return where this netmaster stands among the others."""
        raise NotImplementedError

    async def run(self) -> None:
        """Follow the mirror and lead where elected, until cancelled."""
        raise NotImplementedError

    async def serve(self, listen: Listen) -> None:
        """Serve gRPC until cancelled; raise UnavailableError or InvalidError where that cannot begin."""
        raise NotImplementedError
