"""Which block a host gets, or whose address it borrows, or why neither."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias, cast

from netfabric.fabric.controller import (
    Decision,
    block_at,
    fields_of,
    holds_at,
    loan_at,
    revision_of,
)
from netfabric.fabric.errors import (
    ConflictError,
    ExhaustedError,
    InvalidError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from netfabric.fabric.intent import contains
from netfabric.fabric.ipam import block_of, candidate_blocks, usable
from netfabric.fabric.network import Network, Range
from netfabric.fabric.prefix import Address, Prefix, host_prefix
from netfabric.fabric.session import BlockReturned, BlockWanted, HeldLoan, LendAnswered
from netfabric.fabric.view import View
from netfabric.fabric.world import Write, intent_key

NOTHING = Write({})
SEARCHED = 4096
"""Addresses of a block that are tried before it counts as one without any to give."""


@dataclass(frozen=True, slots=True)
class Given:
    """The host gets this block; the write is empty where it has it already."""

    block: Prefix
    write: Write = NOTHING


@dataclass(frozen=True, slots=True)
class Lending:
    """The loan's owner is asked for an address; or, with one in it, the host has the loan already."""

    loan: HeldLoan
    write: Write = NOTHING


BlockDecision: TypeAlias = Given | Lending


def decide_block(
    view: View, host: str, wanted: BlockWanted, loan_id: str, tried: Container[Prefix] = ()
) -> BlockDecision:
    """Return what a host that wants a block gets; `loan_id` names a new loan, `tried` blocks have none to lend.

    Raises NotFoundError, InvalidError, ConflictError, UnavailableError, and ExhaustedError.
    """
    network = view.networks.get(wanted.network)
    if network is None:
        raise NotFoundError(f"network {wanted.network}: does not exist", "netctl net ls lists them")
    range_ = network.range_of(wanted.family)
    if range_ is None:
        raise InvalidError(
            f"network {network.key}: has no IPv{wanted.family} subnet", "ask without that family"
        )
    if wanted.address is not None:
        return _decide_address(view, host, network, range_, wanted.address, loan_id, tried)
    taken = view.blocks_by_network.get(network.key, {})
    for block in candidate_blocks(range_, taken):
        if _has_usable(network, range_, block):
            return _claim(view, host, network, block)
    lender = _lender(view, host, network, range_, tried)
    if lender is None:
        raise _exhausted(view, network, range_)
    return _lend(view, host, network, lender, loan_id, None)


def _has_usable(network: Network, range_: Range, block: Prefix) -> bool:
    if any(contains(reserved, block) for reserved in network.reserved):
        return False
    addresses = cast("Iterator[Address]", islice(block, SEARCHED))
    return any(usable(network, range_, address) for address in addresses)


def _claim(view: View, host: str, network: Network, block: Prefix) -> Given:
    """The block must be nobody's, and the network the one that was looked at, when this is committed."""
    key, intent = block_at(network.key, block), intent_key("network", network.key)
    unchanged = {key: 0, intent: revision_of(view, intent)}
    return Given(block, Write({key: {"host": host}, holds_at(network.key): {}}, (), unchanged))


def _lend(
    view: View, host: str, network: Network, block: Prefix, loan_id: str, wanted: Address | None
) -> Lending:
    owner = view.blocks[network.key, block]
    loan = HeldLoan(loan_id, network.key, block, owner, host, None, wanted)
    key, held = loan_at(loan_id), block_at(network.key, block)
    unchanged = {key: 0, held: revision_of(view, held)}
    puts = {key: fields_of(loan), holds_at(network.key): {}}
    return Lending(loan, Write(puts, (), unchanged))


def _decide_address(
    view: View,
    host: str,
    network: Network,
    range_: Range,
    address: Address,
    loan_id: str,
    tried: Container[Prefix],
) -> BlockDecision:
    what = f"network {network.key}: address {address}"
    if not usable(network, range_, address):
        raise InvalidError(
            f"{what} is not one to give", "it is outside the subnet, reserved, or the gateway"
        )
    block = block_of(range_, address)
    owner = view.blocks.get((network.key, block))
    if owner is None:
        return _claim(view, host, network, block)
    loan = view.loans.get(view.loans_by_address.get((network.key, address), ""))
    if loan is not None:
        if loan.borrower == host:
            return Lending(loan)
        raise ConflictError(f"{what} is lent to host {loan.borrower}", "choose another address")
    if owner == host:
        return Given(block)
    if where := view.endpoints_by_address.get((network.key, address)):
        raise ConflictError(
            f"{what} is in use by container {where[1].container} on host {where[0]}",
            "choose another address, or end that container",
        )
    if block in tried:
        raise ConflictError(
            f"{what} is in use or cooling down on host {owner}, which holds its block",
            "choose another address, or try again later",
        )
    if owner not in view.hosts:
        raise UnavailableError(
            f"{what} lies in {block}, held by host {owner}, whose agent is not connected",
            "choose another address, or bring that host back",
        )
    return _lend(view, host, network, block, loan_id, address)


def _lender(
    view: View, host: str, network: Network, range_: Range, tried: Container[Prefix]
) -> Prefix | None:
    """Return the block of a connected host that seems to have the most free addresses."""
    free = {
        block: block.num_addresses
        for block, owner in view.blocks_by_network.get(network.key, {}).items()
        if owner != host
        and owner in view.hosts
        and block.version == range_.family
        and block not in tried
    }
    for address in _taken(view, network, range_):
        block = block_of(range_, address)
        if block in free:
            free[block] -= 1
    best = max(free, key=lambda block: (free[block], -int(block.network_address)), default=None)
    return best if best is not None and free[best] > 0 else None


def _taken(view: View, network: Network, range_: Range) -> list[Address]:
    taken = [
        address
        for where in view.endpoints_by_network.get(network.key, ())
        for address in view.endpoints[where].addresses
        if address.version == range_.family
    ]
    taken += [
        loan.address
        for loan in view.loans.values()
        if loan.network == network.key
        and loan.address is not None
        and loan.address.version == range_.family
    ]
    return taken


def _exhausted(view: View, network: Network, range_: Range) -> ExhaustedError:
    blocks = [b for b in view.blocks_of(network.key) if b.version == range_.family]
    used = len(_taken(view, network, range_))
    return ExhaustedError(
        f"network {network.key}: no IPv{range_.family} address left in {range_.subnet}: all"
        f" {len(blocks)} blocks are held by hosts, {used} addresses in use, and no other connected"
        " host has one to lend",
        "end containers that are not needed, or create a network with a larger subnet",
    )


def decide_return(view: View, host: str, returned: BlockReturned) -> Decision:
    """Take a block back, if it is the host's and the store knows of nothing in it."""
    key = block_at(returned.network, returned.prefix)
    if view.blocks.get((returned.network, returned.prefix)) != host:
        return Decision(NOTHING)
    if is_used(view, host, returned.network, returned.prefix):
        return Decision(NOTHING)
    return Decision(Write({}, (key,), {key: revision_of(view, key)}))


def is_used(view: View, host: str, network: str, block: Prefix) -> bool:
    """Return whether the store knows of an endpoint of a host in a block of its, or of a loan of it."""
    return has_endpoint(view, host, network, block) or any(
        loan.network == network and loan.block == block and loan.address is not None
        for loan in view.loans.values()
    )


def has_endpoint(view: View, host: str, network: str, block: Prefix) -> bool:
    """Return whether the store knows of an endpoint of a host in a block."""
    low, high = int(block.network_address), int(block.broadcast_address)
    return any(
        a.version == block.version and low <= int(a) <= high
        for endpoint in (view.endpoints[host, key] for key in view.endpoints_by_host.get(host, ()))
        if f"{endpoint.tenant}:{endpoint.network}" == network
        for a in endpoint.addresses
    )


@dataclass(frozen=True, slots=True)
class LendDecision:
    """What an owner's answer changes. `ended`: nobody has that loan any more, the owner may use the address."""

    write: Write = NOTHING
    ended: bool = False


def decide_lent(view: View, host: str, answer: LendAnswered) -> LendDecision:
    """Complete a loan with the address that its owner gave up, or end it where there was none.

    Raises UnauthorizedError for a loan or an address that is not the host's to give.
    """
    loan = view.loans.get(answer.loan)
    key = loan_at(answer.loan)
    if loan is None:
        return LendDecision(ended=answer.address is not None)
    if loan.owner != host:
        raise UnauthorizedError(f"loan {loan.id}: is of host {loan.owner}", "answer your own")
    if loan.address is not None:
        return LendDecision(ended=answer.address is not None and answer.address != loan.address)
    held = block_at(loan.network, loan.block)
    unchanged = {key: revision_of(view, key), held: revision_of(view, held)}
    if answer.address is None or view.blocks.get((loan.network, loan.block)) != host:
        return LendDecision(Write({}, (key,), unchanged))
    if not contains(loan.block, host_prefix(answer.address)):
        raise UnauthorizedError(
            f"loan {loan.id}: {answer.address} is not in {loan.block}", "lend out of that block"
        )
    given = HeldLoan(
        loan.id, loan.network, loan.block, loan.owner, loan.borrower, answer.address, loan.wanted
    )
    # The block is written again, as it was: whoever removes it must have seen that it is lent from.
    return LendDecision(Write({key: fields_of(given), held: {"host": host}}, (), unchanged))


def decide_loan_end(view: View, host: str, loan_id: str) -> Decision:
    """End a loan that its borrower gives up, or that it does not want any more."""
    loan = view.loans.get(loan_id)
    if loan is None or loan.borrower != host:
        return Decision(NOTHING)
    if loan.address is not None:
        where = view.endpoints_by_address.get((loan.network, loan.address))
        if where is not None and where[0] == host:
            return Decision(NOTHING)
    key = loan_at(loan_id)
    return Decision(Write({}, (key,), {key: revision_of(view, key)}))


def decide_withdrawal(view: View, loan_id: str) -> Decision:
    """End a loan whose owner has not answered."""
    loan = view.loans.get(loan_id)
    if loan is None or loan.address is not None:
        return Decision(NOTHING)
    key = loan_at(loan_id)
    return Decision(Write({}, (key,), {key: revision_of(view, key)}))
