"""Which reported endpoints are stored: only those whose address is their host's to announce."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from netfabric.fabric.controller import (
    MAX_OPERATIONS,
    block_at,
    fields_of,
    loan_at,
    relative,
    revision_of,
)
from netfabric.fabric.controller_blocks import has_endpoint
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import UnauthorizedError
from netfabric.fabric.ipam import block_of
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Address, family_of
from netfabric.fabric.session import RefusedEndpoint, StoredEndpoint
from netfabric.fabric.view import View, endpoint_key
from netfabric.fabric.world import Fields, Write

WIDEST = 5
"""Operations that one endpoint may need: itself, and of two addresses each the hold and who had it before."""

Reported = Mapping[EndpointKey, Endpoint | None]


@dataclass(frozen=True, slots=True)
class EndpointsDecision:
    """The write for as many of the reported endpoints as fit, `done`, and what the agent is told of them."""

    write: Write
    done: tuple[EndpointKey, ...]
    stored: tuple[StoredEndpoint, ...] = ()
    refused: tuple[RefusedEndpoint, ...] = ()


@dataclass(slots=True)
class _Draft:
    view: View
    host: str
    puts: dict[str, Fields] = field(default_factory=dict)
    deletes: dict[str, None] = field(default_factory=dict)
    unchanged: dict[str, int] = field(default_factory=dict)
    stored: list[StoredEndpoint] = field(default_factory=list)
    refused: list[RefusedEndpoint] = field(default_factory=list)

    def guard(self, key: str) -> None:
        self.unchanged[key] = revision_of(self.view, key)

    def is_full(self) -> bool:
        room = MAX_OPERATIONS - WIDEST
        return len(self.unchanged) > room or len(self.puts) + len(self.deletes) > room

    def write(self) -> Write:
        deletes = tuple(key for key in self.deletes if key not in self.puts)
        return Write(self.puts, deletes, self.unchanged)


def decide_endpoints(view: View, host: str, reported: Reported) -> EndpointsDecision:
    """Return what of the reported endpoints (None: gone) is written; call again with what is left over."""
    draft = _Draft(view, host)
    done = []
    for key, endpoint in reported.items():
        if draft.is_full():
            break
        done.append(key)
        if endpoint is None:
            _remove(draft, host, key)
            continue
        try:
            holds = authorise(view, host, endpoint)
        except UnauthorizedError as error:
            _refuse(draft, key, str(error))
        else:
            _store(draft, endpoint, holds)
    return EndpointsDecision(draft.write(), tuple(done), tuple(draft.stored), tuple(draft.refused))


def _refuse(draft: _Draft, key: EndpointKey, reason: str) -> None:
    """What is stored of a refused endpoint was right before, and is not any more."""
    draft.refused.append(RefusedEndpoint(key, reason))
    _remove(draft, draft.host, key)


def _remove(draft: _Draft, host: str, key: EndpointKey) -> None:
    if (host, key) in draft.view.endpoints:
        at = relative(endpoint_key(host, key))
        draft.deletes[at] = None
        draft.guard(at)


def authorise(view: View, host: str, endpoint: Endpoint) -> list[str]:
    """Return the keys of the blocks and loans that make an endpoint's addresses its host's to announce.

    Raises UnauthorizedError (origin authorisation, in the sense of RFC 6811).
    """
    if endpoint.host != host:
        raise UnauthorizedError(
            f"endpoint {endpoint.key}: is on host {endpoint.host}, reported by {host}",
            "each host reports its own",
        )
    network = view.networks.get(f"{endpoint.tenant}:{endpoint.network}")
    if network is None:
        raise UnauthorizedError(
            f"endpoint {endpoint.key}: network {endpoint.tenant}:{endpoint.network} does not exist",
            "end the container, or create the network again",
        )
    return [_hold(view, host, network, address) for address in endpoint.addresses]


def _hold(view: View, host: str, network: Network, address: Address) -> str:
    what = f"address {address} of network {network.key}"
    range_ = network.range_of(family_of(address))
    if range_ is None or address not in range_.subnet:
        raise UnauthorizedError(f"{what}: is outside its subnets", "end the container")
    if loan := view.loans_by_address.get((network.key, address)):
        borrower = view.loans[loan].borrower
        if borrower == host:
            return loan_at(loan)
        raise UnauthorizedError(f"{what}: is lent to host {borrower}", "end one of the containers")
    block = block_of(range_, address)
    owner = view.blocks.get((network.key, block))
    if owner == host:
        return block_at(network.key, block)
    holder = f"host {owner}" if owner else "nobody"
    raise UnauthorizedError(
        f"{what}: its block {block} is held by {holder}, not by {host}",
        "end the container and start it again, it gets an address of its host",
    )


def _store(draft: _Draft, endpoint: Endpoint, holds: Iterable[str]) -> None:
    view, host, key = draft.view, draft.host, endpoint.key
    known = view.endpoints.get((host, key))
    sequence = max(endpoint.sequence, known.sequence if known else 1, 1)
    sequence = max([sequence, *_succeed(draft, endpoint)])
    stored = endpoint.moved(sequence)
    draft.stored.append(StoredEndpoint(key, sequence))
    if stored == known:
        return
    at = relative(endpoint_key(host, key))
    draft.puts[at] = fields_of(stored)
    draft.guard(at)
    for hold in holds:
        draft.guard(hold)
    _touch(draft, stored)


def _succeed(draft: _Draft, endpoint: Endpoint) -> list[int]:
    """Remove who had the addresses before, on a host that lost them; return the numbers that are higher."""
    network = f"{endpoint.tenant}:{endpoint.network}"
    numbers = []
    for address in endpoint.addresses:
        where = draft.view.endpoints_by_address.get((network, address))
        if where is not None and where != (endpoint.host, endpoint.key):
            numbers.append(draft.view.endpoints[where].sequence + 1)
            _remove(draft, *where)
    return numbers


def _touch(draft: _Draft, endpoint: Endpoint) -> None:
    """Write a hold again with its first endpoint, value as it was.

    A network's deletion compares its holds' revisions, not the absence of endpoints. So whoever decided
    it before this endpoint was stored has to decide again. Later endpoints of the block need no such
    mark: nobody can have missed the first.
    """
    view, host = draft.view, draft.host
    network = view.networks[f"{endpoint.tenant}:{endpoint.network}"]
    for address in endpoint.addresses:
        if loan := view.loans_by_address.get((network.key, address)):
            draft.puts[loan_at(loan)] = fields_of(view.loans[loan])
            continue
        range_ = network.range_of(family_of(address))
        assert range_ is not None
        block = block_of(range_, address)
        if not has_endpoint(view, host, network.key, block):
            draft.puts[block_at(network.key, block)] = {"host": host}
