"""Invariants of what hosts hold: blocks, loans, endpoints, peers; each address in one place."""

from collections.abc import Iterator

from netfabric.fabric.controller import is_block
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.intent import contains
from netfabric.fabric.ipam import block_of
from netfabric.fabric.network import Network
from netfabric.fabric.prefix import Address, family_of, host_prefix
from netfabric.fabric.spans import Span, overlaps
from netfabric.fabric.view import View
from netfabric.fabric.violation import Violation

_SWEPT = "netmaster's leader drops it at its next sweep"
_END = "end the container"


def check_hosts(view: View) -> Iterator[Violation]:
    """Yield what is wrong with what hosts hold and announce."""
    yield from _check_blocks(view)
    yield from _check_loans(view)
    yield from _check_endpoints(view)
    yield from _check_peers(view)


def _check_blocks(view: View) -> Iterator[Violation]:
    spans: dict[tuple[str, int], list[tuple[Span, str]]] = {}
    for (network, block), host in view.blocks.items():
        about = f"block {block} of {network}"
        if network not in view.objects.get("network", {}):
            said = f"is held by host {host}, and the network does not exist"
            yield Violation("block", about, said, _SWEPT)
        elif network in view.networks and not is_block(view, network, block):
            said = f"is held by host {host}, and is no block of the network"
            yield Violation("block", about, said, "have the host return it")
        span = int(block.network_address), int(block.broadcast_address)
        spans.setdefault((network, block.version), []).append((span, str(block)))
    for (network, _), blocks in spans.items():
        for one, other in overlaps(blocks):
            said = f"overlaps with {other}"
            yield Violation("block", f"block {one} of {network}", said, "have one returned")


def _check_loans(view: View) -> Iterator[Violation]:
    lent: dict[tuple[str, Address], str] = {}
    for loan in sorted(view.loans.values(), key=lambda loan: loan.id):
        about = f"loan {loan.id}"
        if loan.network not in view.objects.get("network", {}):
            yield Violation("loan", about, f"network {loan.network} does not exist", _SWEPT)
        owner = view.blocks.get((loan.network, loan.block))
        if owner != loan.owner:
            said = f"{loan.owner} lends out of {loan.block}, which {owner or 'nobody'} holds"
            yield Violation("loan", about, said, f"end it on {loan.borrower}")
        if loan.owner == loan.borrower:
            yield Violation("loan", about, f"{loan.owner} lends to itself", "delete the key")
        if loan.address is None:
            continue
        if not contains(loan.block, host_prefix(loan.address)):
            said = f"{loan.address} is not in {loan.block}"
            yield Violation("loan", about, said, f"end it on {loan.borrower}")
        other = lent.setdefault((loan.network, loan.address), loan.id)
        if other != loan.id:
            said = f"{loan.address} of {loan.network} is lent already, by loan {other}"
            yield Violation("address", about, said, f"end it on {loan.borrower}")


def _check_endpoints(view: View) -> Iterator[Violation]:
    """Each address is in one place, may be given out, and is its host's to announce."""
    having: dict[tuple[str, Address], str] = {}
    for (host, key), endpoint in sorted(view.endpoints.items()):
        about = f"endpoint {host}/{key}"
        if (endpoint.host, endpoint.key) != (host, key):
            said = f"says that it is {endpoint.host}/{endpoint.key}"
            yield Violation("misplaced", about, said, "delete the key; its host reports it again")
        network = f"{endpoint.tenant}:{endpoint.network}"
        for address in endpoint.addresses:
            other = having.setdefault((network, address), about)
            if other != about:
                said = f"{address} of {network} is that of {other} too"
                yield Violation("address", about, said, _END)
        yield from _check_places(view, about, endpoint, network)


def _check_places(view: View, about: str, endpoint: Endpoint, network: str) -> Iterator[Violation]:
    if network not in view.objects.get("network", {}):
        yield Violation("dangling", about, f"network {network} does not exist", _END)
        return
    group = f"{endpoint.tenant}:{endpoint.group}"
    if endpoint.group and group not in view.objects.get("endpointGroup", {}):
        yield Violation("dangling", about, f"endpoint group {group} does not exist", _END)
    read = view.networks.get(network)
    for address in endpoint.addresses if read else ():
        assert read is not None
        if reason := _misfit(view, endpoint.host, read, address):
            yield Violation("address", about, f"{address} {reason}", _END)


def _misfit(view: View, host: str, network: Network, address: Address) -> str:
    """Say why an address cannot be an endpoint's of a host, "" where it can."""
    range_ = network.range_of(family_of(address))
    if range_ is None or not int(range_.first) <= int(address) <= int(range_.last):
        return f"is outside the range of network {network.key}"
    if address == range_.gateway:
        return f"is the gateway of network {network.key}"
    vips = view.objects["network"][network.key].value.get("vips") or ()
    if str(address) in vips:
        return f"is a service's address in network {network.key}"
    loan = view.loans_by_address.get((network.key, address))
    block = block_of(range_, address)
    holder = view.blocks.get((network.key, block))
    if (view.loans[loan].borrower if loan else holder) == host:
        return ""
    if loan:
        return f"is lent to host {view.loans[loan].borrower}"
    return f"is in {block}, which {f'host {holder}' if holder else 'nobody'} holds"


def _check_peers(view: View) -> Iterator[Violation]:
    having: dict[tuple[str, Address], str] = {}
    for key, peer in sorted(view.peers.items()):
        other = having.setdefault((peer.host, peer.address), key)
        if other != key:
            said = f"{peer.address} is the address of peer {other} too"
            yield Violation("address", f"peer {key}", said, "delete one of them")
