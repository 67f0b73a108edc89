"""What engines (CNI, Docker) ask of the agent: the seam between their servers and the loop."""

from collections.abc import Iterable
from typing import Protocol

from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Address, Family


class Requests(Protocol):
    """Every method is of the event loop's thread; every error is a FabricError.

    A caller may go away (be cancelled) at any moment: what it began goes on, and the same request
    again joins it.
    """

    async def attach(self, request: AttachRequest) -> Endpoint:
        """ADD: return the endpoint when it is durable and forwards; the same again answers the same.

        Raise NotFoundError (no such network), InvalidError, ConflictError (address in use, another
        namespace, a DEL under way), ExhaustedError, NamespaceGoneError, KernelError or UnavailableError.
        """
        ...

    async def detach(self, key: EndpointKey) -> None:
        """DEL: return when it is withdrawn and gone; what is unknown is gone. "" means every interface."""
        ...

    async def collect(self, valid: frozenset[EndpointKey]) -> None:
        """GC: detach every endpoint that is not among these."""
        ...

    async def check(self, key: EndpointKey) -> tuple[str, ...]:
        """CHECK: return what is wrong with an endpoint, in words; () if nothing. Raise NotFoundError."""
        ...

    def unready(self) -> str:
        """STATUS: return why an ADD cannot be served now, "" if it can."""
        ...

    def endpoints(self) -> Iterable[Endpoint]:
        """Return every endpoint that is up here: for CHECK, and for GC, which is of one CNI network only."""
        ...

    def network(self, key: str) -> Network | None:
        """Return a network (`tenant:name`) as this host knows it, or None."""
        ...


class AddressRequests(Requests, Protocol):
    """What an engine asks besides that gives addresses out before there is an endpoint, as Docker does."""

    async def reserve(self, network: str, family: Family, wanted: Address | None = None) -> Address:
        """Return an address that nobody else is given for `reservations.RESERVED_FOR` seconds, durably.

        An attach with it makes it the endpoint's. Raise NotFoundError, InvalidError, ConflictError
        (in use), ExhaustedError or UnavailableError.
        """
        ...

    def release(self, network: str, address: Address) -> None:
        """Give a reserved address back; one that became an endpoint's, or that is not known, stays as it is."""
        ...

    def networks(self) -> Iterable[Network]:
        """Return every network that this host knows."""
        ...
