"""netmaster's brain for one host: what it holds, and what its Hello has to change in the store."""

from collections.abc import Iterable
from dataclasses import dataclass

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.ipam import block_of
from netfabric.fabric.prefix import Prefix, family_of
from netfabric.fabric.session import HeldBlock, HeldLoan, Hello, LendAsked, Welcome
from netfabric.fabric.stored import plain
from netfabric.fabric.view import ROOT, View, block_key, holds_key, loan_key
from netfabric.fabric.world import Fields, Write, intent_key

MAX_OPERATIONS = 96
"""Operations, and comparisons, that a decided write has at most; etcd takes 128."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A write, and nothing to tell."""

    write: Write


def check_hello(hello: Hello) -> None:
    """Raise InvalidError where a host has a name that cannot be one."""
    name = hello.host
    if not name or not name.isprintable() or "/" in name or ":" in name or len(name) > 253:
        raise InvalidError(
            f"host name {name!r}: empty, too long, or with a slash, colon or control character",
            "give netplugin a --host such as the machine's name",
        )


def revision_of(view: View, key: str) -> int:
    """Return the revision of a key relative to the root, 0 where it is not there."""
    return view.revisions.get(ROOT + key, 0)


def relative(key: str) -> str:
    """Return a key relative to the root."""
    return key.removeprefix(ROOT)


def block_at(network: str, block: Prefix) -> str:
    """Return a block's key, relative to the root."""
    return relative(block_key(network, block))


def loan_at(loan: str) -> str:
    """Return a loan's key, relative to the root."""
    return relative(loan_key(loan))


def holds_at(network: str) -> str:
    """Return the key that whatever is newly held of a network bumps, relative to the root."""
    return relative(holds_key(network))


def fields_of(value: object) -> Fields:
    """Return a value of the model as it is stored."""
    found: Fields = plain(value)
    return found


def is_block(view: View, network: str, block: Prefix) -> bool:
    """Return whether a network's range, as it is cut now, has such a block."""
    known = view.networks.get(network)
    range_ = known.range_of(family_of(block)) if known else None
    return (
        range_ is not None
        and int(range_.subnet.network_address) <= int(block.network_address) <= int(range_.last)
        and block_of(range_, block.network_address) == block
    )


def decide_claims(view: View, host: str, blocks: Iterable[HeldBlock]) -> Decision:
    """Give a host the blocks that it says it holds and that nobody has in the store.

    The store was restored from a backup, or the claim's answer was lost. Blocks of others are left out.
    """
    puts: dict[str, Fields] = {}
    unchanged: dict[str, int] = {}
    for held in blocks:
        missing = (held.network, held.prefix) not in view.blocks
        if missing and is_block(view, held.network, held.prefix):
            key, network = block_at(held.network, held.prefix), intent_key("network", held.network)
            puts[key], unchanged[key] = {"host": host}, 0
            puts[holds_at(held.network)] = {}
            unchanged[network] = revision_of(view, network)
        if len(unchanged) >= MAX_OPERATIONS - 1:
            break
    return Decision(Write(puts, (), unchanged))


def welcome_of(view: View, host: str) -> Welcome:
    """Return what the store holds of a host."""
    blocks = sorted(view.blocks_by_host.get(host, ()), key=str)
    return Welcome(
        blocks=tuple(HeldBlock(network, prefix) for network, prefix in blocks),
        loans=tuple(loan for loan in view.loans.values() if host in (loan.owner, loan.borrower)),
        endpoints=tuple(
            view.endpoints[host, key] for key in sorted(view.endpoints_by_host.get(host, ()))
        ),
    )


def asked_of(view: View, host: str) -> list[LendAsked]:
    """Return the questions for an address that a host has not answered."""
    return [
        lend_asked(loan)
        for loan in view.loans.values()
        if loan.owner == host and loan.address is None
    ]


def lend_asked(loan: HeldLoan) -> LendAsked:
    """Return the question that a loan without an address is to its owner."""
    return LendAsked(loan.id, loan.network, loan.block, loan.wanted)


def decide_abandoned(view: View, host: str) -> Decision:
    """Drop loans that a host asked for in an earlier session, and that nobody has answered."""
    keys = [
        loan_at(loan.id)
        for loan in view.loans.values()
        if loan.borrower == host and loan.address is None
    ][:MAX_OPERATIONS]
    return Decision(Write({}, tuple(keys), {key: revision_of(view, key) for key in keys}))


def decide_orphans(view: View) -> Decision:
    """Drop blocks and loans of networks that do not exist: claimed while the network was being deleted.

    That they don't exist is compared when it is committed, so this cannot hit a network made anew.
    """
    deletes: list[str] = []
    unchanged: dict[str, int] = {}
    known = view.objects.get("network", {})
    found = [(network, block_at(network, prefix)) for network, prefix in view.blocks]
    found += [(loan.network, loan_at(loan.id)) for loan in view.loans.values()]
    for network, key in found:
        if network not in known and len(unchanged) < MAX_OPERATIONS - 1:
            deletes.append(key)
            unchanged[key] = revision_of(view, key)
            unchanged[intent_key("network", network)] = 0
    return Decision(Write({}, tuple(deletes), unchanged))


def away(view: View) -> dict[str, str]:
    """Return hosts without an agent that hold something, and what, in words.

    Nothing of theirs is taken: that their agent is silent does not prove that their containers are gone.
    """
    names = {host for host, held in view.blocks_by_host.items() if held}
    names |= {host for host, held in view.endpoints_by_host.items() if held}
    return {
        host: f"{len(view.blocks_by_host.get(host, ()))} blocks,"
        f" {len(view.endpoints_by_host.get(host, ()))} endpoints"
        for host in sorted(names - view.hosts.keys())
    }
