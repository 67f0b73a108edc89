"""The seam between the agent's loop and a kernel: what every datapath can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import FabricError
from netfabric.fabric.kernel import KernelKey, KernelState, Operation, Uplink
from netfabric.fabric.prefix import Address
from netfabric.fabric.ruleset import Element
from netfabric.fabric.ruleset_plan import Transaction
from netfabric.fabric.session import RuleCount


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` found and did."""

    changed: tuple[str, ...]
    """Kernel settings that it changed, as "net.ipv4.ip_forward: 0 -> 1"."""
    features: tuple[str, ...]
    """What this kernel was seen to do, sorted: names of `features.PROBES`."""


class Datapath(Protocol):
    """Calls block, for about a millisecond at most unless said otherwise, and may come from any thread."""

    def prepare(self) -> Prepared:
        """Set the host up to forward, once at start (some 50 ms).

        Raise KernelError where the kernel lacks what no host can do without.
        """
        ...

    def attach(self, endpoint: Endpoint) -> None:
        """Build an endpoint's datapath, or mend what is there; doing it twice is doing it once.

        On failure nothing half-made stays. Raise NamespaceGoneError, ConflictError (the interface
        name is taken in the container, or the address on the host), InvalidError or KernelError.
        """
        ...

    def filter(self, rules: Transaction) -> None:
        """Change the packet filter, whole or not at all: an endpoint's part takes 0.2 ms, 10,000 rules 1 s.

        Raise KernelError: nothing has changed then.
        """
        ...

    def detach(self, endpoint: Endpoint) -> None:
        """End an endpoint's datapath; what is gone already is success. Name and address are free at once."""
        ...

    def check(self, endpoint: Endpoint, guards: Sequence[Element] = ()) -> tuple[str, ...]:
        """Return what is wrong with an endpoint's datapath, on the host and in the container; () if nothing.

        `guards`: what the packet filter should have of it.
        """
        ...

    def apply(self, operations: Sequence[Operation]) -> tuple[tuple[KernelKey, FabricError], ...]:
        """Carry operations out in order; return those that failed. One failure stops no other.

        Puts create or replace; what is gone already is removed. 10,000 routes take under 100 ms.
        """
        ...

    def observe(self) -> KernelState:
        """Return everything of ours that is really there (30 ms at 500 endpoints, or at 10,000 routes)."""
        ...

    def count(self, groups: Sequence[str]) -> tuple[RuleCount, ...]:
        """Return what groups' rules have counted, those with nothing left out (0.4 ms a group of ten rules).

        Waits for no other call, nor does any for it; not to be called twice at once. Raise KernelError.
        """
        ...

    def uplinks(self) -> tuple[Uplink, ...]:
        """Return the addresses of the host's own links that are up."""
        ...

    def local_address_for(self, peer: Address) -> Address | None:
        """Return the source address with which the host reaches a peer, None where it has no route."""
        ...

    def close(self) -> None:
        """Let go of sockets and threads; what was built stays and forwards."""
        ...
