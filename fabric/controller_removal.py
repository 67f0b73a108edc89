"""A host that is gone for good: what the store holds of it, and how that goes, a transaction at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

from netfabric.fabric.controller import MAX_OPERATIONS, block_at, loan_at, relative, revision_of
from netfabric.fabric.endpoint import EndpointKey
from netfabric.fabric.errors import ConflictError
from netfabric.fabric.session import HeldBlock, HeldLoan
from netfabric.fabric.view import (
    View,
    counted_key,
    endpoint_key,
    host_key,
    learned_key,
    vtep_key,
)
from netfabric.fabric.world import Write

STATUS_KEYS = 4
"""Operations that a host's status, its learned routes, its VTEP and its rules' counts need."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What the store holds of a host and may go with it; and blocks that stay, with those who use them."""

    endpoints: tuple[EndpointKey, ...] = ()
    blocks: tuple[HeldBlock, ...] = ()
    loans: tuple[str, ...] = ()
    """Borrowed by the host, or asked of it and never answered."""
    kept: tuple[tuple[HeldBlock, HeldLoan], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.endpoints or self.blocks or self.loans)


def holding_of(view: View, host: str) -> Holding:
    """Return what the store holds of a host.

    A block of which another host has borrowed an address stays: whoever got it next would not know of the loan.
    """
    lent = {
        HeldBlock(loan.network, loan.block): loan
        for loan in view.loans.values()
        if loan.owner == host and loan.borrower != host and loan.address is not None
    }
    held = [HeldBlock(*block) for block in sorted(view.blocks_by_host.get(host, ()), key=str)]
    loans = [
        loan.id
        for loan in view.loans.values()
        if loan.borrower == host or (loan.owner == host and loan.address is None)
    ]
    return Holding(
        endpoints=tuple(sorted(view.endpoints_by_host.get(host, ()))),
        blocks=tuple(block for block in held if block not in lent),
        loans=tuple(sorted(loans)),
        kept=tuple((block, lent[block]) for block in held if block in lent),
    )


@dataclass(frozen=True, slots=True)
class Removal:
    """As much of a host's removal as fits in a transaction; an empty write: nothing is left."""

    write: Write


def decide_removal(view: View, host: str, *, force: bool = False) -> Removal:
    """Remove of a host what the store holds, as far as it fits; call again until nothing is left.

    Raises ConflictError while its agent is connected. With `force` its session ends instead, and none of its
    writes counts any more. Every write compares that no agent is there: with one, nothing may be taken.
    """
    status = relative(host_key(host))
    if host in view.hosts and not force:
        raise _connected(view, host)
    unchanged = {status: revision_of(view, status)}
    beside = (relative(key(host)) for key in (learned_key, vtep_key, counted_key))
    deletes = [key for key in (status, *beside) if revision_of(view, key)]
    for key in _keys(host, holding_of(view, host)):
        if len(unchanged) >= MAX_OPERATIONS - STATUS_KEYS:
            break
        deletes.append(key)
        unchanged[key] = revision_of(view, key)
    return Removal(Write({}, tuple(deletes), unchanged))


def _keys(host: str, holding: Holding) -> Iterator[str]:
    """Yield keys in the order in which they go: what uses an address before what gives the right to it."""
    for endpoint in holding.endpoints:
        yield relative(endpoint_key(host, endpoint))
    for loan in holding.loans:
        yield loan_at(loan)
    for block in holding.blocks:
        yield block_at(block.network, block.prefix)


def _connected(view: View, host: str) -> ConflictError:
    return ConflictError(
        f"host {host}: its agent at {view.hosts[host].address or 'an unknown address'} is connected",
        "a host is removed when it is gone for good: end its containers and stop netplugin there"
        " (it counts as away within 15 s), or force the removal",
    )
