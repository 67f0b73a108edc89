"""What the kernel says of our table: chains, sets, rules and elements, as values."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from struct import unpack, unpack_from

from netfabric.agent.datapath.message import attributes, mac_text
from netfabric.agent.datapath.nftables_message import COMMENT, HOOKS, INTERVAL_END, KIND_OF
from netfabric.fabric.filter import PortRange
from netfabric.fabric.prefix import Address
from netfabric.fabric.ruleset import Chain, Element, Item, NamedSet, Rule, Source

_FIXED = 4
"""Octets of struct nfgenmsg, in front of the attributes."""


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


def _u32(value: bytes | None) -> int:
    return int(unpack(">I", value)[0]) if value else 0


def _listed(data: bytes) -> Iterator[bytes]:
    """Yield the members of a list."""
    offset = 0
    while offset + 4 <= len(data):
        length, _ = unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def generation_of(body: bytes) -> int:
    """Return the number that every change of any table moves on."""
    return _u32(attributes(body, _FIXED)[1])


def chain_of(body: bytes) -> Chain:
    """Return a chain without its rules."""
    found = attributes(body, _FIXED)
    if 4 not in found:
        return Chain(_text(found[3]))
    hook = attributes(found[4])
    named = {number: name for name, number in HOOKS.items()}
    (priority,) = unpack(">i", hook[2])
    return Chain(_text(found[3]), hook=named.get(_u32(hook[1])), priority=int(priority))


def set_of(body: bytes) -> NamedSet | None:
    """Return a set; None where it is of no kind that we make."""
    found = attributes(body, _FIXED)
    kind = KIND_OF.get((_u32(found.get(3)), _u32(found.get(4))))
    return NamedSet(_text(found[2]), kind) if kind else None


def name_of(body: bytes) -> str:
    """Return the name of a set of any kind."""
    return _text(attributes(body, _FIXED)[2])


@dataclass(frozen=True, slots=True)
class KernelRule:
    """A rule as the kernel has it."""

    chain: str
    handle: int
    rule: Rule
    packets: int = 0
    octets: int = 0


def rule_of(body: bytes) -> KernelRule:
    """Return a rule; one without our label gets one that no rule of ours has."""
    found = attributes(body, _FIXED)
    (handle,) = unpack(">Q", found[3])
    label = _label(found.get(7, b"")) or f"?{handle}"
    octets, packets = _counted(found.get(4, b""))
    return KernelRule(_text(found[2]), int(handle), Rule(label), packets, octets)


def _label(userdata: bytes) -> str:
    if len(userdata) < 2 or userdata[0] != COMMENT:
        return ""
    return _text(userdata[2 : 2 + userdata[1]])


def _counted(expressions: bytes) -> tuple[int, int]:
    for one in _listed(expressions):
        found = attributes(one)
        if _text(found.get(1)) == "counter":
            counter = attributes(found[2])
            return int.from_bytes(counter[1], "big"), int.from_bytes(counter[2], "big")
    return 0, 0


def elements_of(of: NamedSet, bodies: Iterable[bytes]) -> list[Element]:
    """Return the elements of a set."""
    ends: list[bytes] = []
    starts: list[bytes] = []
    for body in bodies:
        for one in _listed(attributes(body, _FIXED).get(3, b"")):
            found = attributes(one)
            key = attributes(found[1])[1]
            if _u32(found.get(3)) & INTERVAL_END:
                ends.append(key)
            else:
                starts.append(key)
    if of.kind in ("subnet", "subnet6", "port"):
        return [Element(of.name, item) for item in _intervals(of, starts, ends)]
    return [Element(of.name, _item(of, key)) for key in starts]


def _item(of: NamedSet, key: bytes) -> Item:
    if of.kind in ("ip", "ip6"):
        return ip_address(key)
    if of.kind == "links":
        return _text(key)
    if of.kind in ("own", "own6"):
        return Source(_text(key[:16]), "", ip_address(key[16:]))
    return Source(_text(key[:16]), mac_text(key[16:22]), ip_address(key[24:]))


def _intervals(of: NamedSet, starts: list[bytes], ends: list[bytes]) -> Iterator[Item]:
    """Pair each start with the first end behind it; the last may reach to the very end."""
    ends = sorted(ends)
    at = 0
    for start in sorted(starts):
        while at < len(ends) and ends[at] <= start:
            at += 1
        first = int.from_bytes(start, "big")
        behind = int.from_bytes(ends[at], "big") if at < len(ends) else 1 << 8 * len(start)
        yield _interval(of, start, first, behind - 1)


def _interval(of: NamedSet, start: bytes, first: int, last: int) -> Item:
    if of.kind == "port":
        return PortRange(first, last)
    address: Address = ip_address(start)
    size = last - first + 1
    if size & (size - 1) or first % size:
        return f"{address}+{size}"  # no prefix, hence not ours: named so that it is taken out
    return ip_network((address, 8 * len(start) - size.bit_length() + 1))
