"""The datapath's interface: how packets leave a container and a host."""

from collections.abc import Sequence
from typing import Protocol

from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import FabricError
from netfabric.fabric.kernel import KernelKey, KernelState, Operation, Uplink
from netfabric.fabric.prefix import Address

GATEWAYS: tuple[str, str] = ("169.254.1.1", "fe80::1")
"""The gateways of every container: link-local, permanent neighbours, never resolved."""


class Datapath(Protocol):
    """One way off the host. Every call is idempotent, short, and raises only fabric errors."""

    def prepare(self) -> tuple[str, ...]:
        """Set what forwarding needs; return what was changed, in words. Raise KernelError."""
        ...

    def features(self) -> tuple[str, ...]:
        """Return the kernel features found by trying: "nexthop", "vxlan", "8021q", "vrf"."""
        ...

    def attach(self, endpoint: Endpoint) -> None:
        """Build an endpoint's datapath, or mend it.

        Raises NamespaceGoneError, ConflictError (the interface name is taken) or KernelError; then
        nothing half-made is left.
        """
        ...

    def detach(self, endpoint: Endpoint) -> None:
        """Remove an endpoint's datapath; what is gone already is success."""
        ...

    def check(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return what is wrong with an endpoint on either side, in words."""
        ...

    def apply(self, operations: Sequence[Operation]) -> tuple[tuple[KernelKey, FabricError], ...]:
        """Carry out operations in order; return those that the kernel refused."""
        ...

    def observe(self) -> KernelState:
        """Return everything of ours that is there."""
        ...

    def uplinks(self) -> tuple[Uplink, ...]:
        """Return the addresses of the host's other links that are up."""
        ...

    def local_address_for(self, peer: Address) -> Address | None:
        """Return the source address that the kernel would use towards a peer."""
        ...
