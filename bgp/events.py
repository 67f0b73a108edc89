"""What ExaBGP says, line by line: JSON events, answers to commands; never an exception for garbage."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, TypeAlias

from netfabric.fabric.prefix import Address, Family, Prefix
from netfabric.fabric.route import Origin, PathAttributes


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to the oldest command that has none yet."""

    ok: bool


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The answer to `show neighbor json`: peers' addresses, and whether each is established."""

    up: Mapping[Address, bool]


@dataclass(frozen=True, slots=True)
class Mark:
    """The description of one neighbor in the configuration that ExaBGP runs."""

    text: str


@dataclass(frozen=True, slots=True)
class Out:
    """One line of `show adj-rib out json`: what ExaBGP holds for a peer."""

    peer: Address
    prefixes: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True)
class State:
    """A session's state changed: "connected", "up" or "down"."""

    peer: Address
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Update:
    """An UPDATE received, or the echo of one that was sent."""

    peer: Address
    sent: bool
    attributes: PathAttributes | None
    announced: tuple[Prefix, ...] = ()
    withdrawn: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class Eor:
    """End-of-RIB."""

    peer: Address
    sent: bool
    family: Family


@dataclass(frozen=True, slots=True)
class Refresh:
    """A mark around a refreshed table (RFC 7313): "begin" or "end"."""

    peer: Address
    family: Family
    mark: str


@dataclass(frozen=True, slots=True)
class Notification:
    """A NOTIFICATION (RFC 4271, section 4.5)."""

    peer: Address
    sent: bool
    code: int
    subcode: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A line that says nothing to us."""

    line: str


ExaEvent: TypeAlias = (
    Ack | Neighbors | Mark | Out | State | Update | Eor | Refresh | Notification | Unknown
)

UP = "ESTABLISHED"
_MARK = re.compile(r'description "(.*)";')
_FAMILIES: dict[str, Family] = {"ipv4 unicast": 4, "ipv6 unicast": 6, "ipv4": 4, "ipv6": 6}


def parse(line: str) -> ExaEvent:
    """Return what a line says; `Unknown` for whatever is not understood."""
    line = line.strip()
    if line in ("done", "error"):
        return Ack(line == "done")
    if mark := _MARK.fullmatch(line):
        return Mark(mark[1])
    try:
        said = json.loads(line)
        if isinstance(said, list):
            # its own "state" is "down" for the first second of a session
            return Neighbors({ip_address(n["peer"]["address"]): n["fsm"] == UP for n in said})
        if "exabgp" in said:
            return _event(said) or Unknown(line)
        ((peer, held),) = said.items()
        prefixes = tuple(ip_network(route["prefix"]) for route in held["routes"])
        return Out(ip_address(peer), prefixes)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return Unknown(line)


def _event(said: Mapping[str, Any]) -> ExaEvent | None:
    if "neighbor" not in said:
        return None
    neighbor = said["neighbor"]
    peer = ip_address(neighbor["address"]["peer"])
    sent = neighbor.get("direction") == "send"
    match said["type"]:
        case "state":
            return State(peer, neighbor["state"], neighbor.get("reason", ""))
        case "update":
            return _update(peer, sent, neighbor["message"])
        case "refresh":
            mark = neighbor["route-refresh"]
            return Refresh(peer, _FAMILIES[mark["afi"]], str(mark["subtype"]))
        case "notification":
            told = neighbor["notification"]
            return Notification(
                peer, sent, int(told["code"]), int(told["subcode"]), str(told.get("message", ""))
            )
    return None


def _update(peer: Address, sent: bool, message: Mapping[str, Any]) -> ExaEvent | None:
    if "eor" in message:
        return Eor(peer, sent, _FAMILIES[message["eor"]["afi"]])
    update = message.get("update")
    if update is None:
        return None
    announced: list[Prefix] = []
    next_hop: Address | None = None
    for family, hops in update.get("announce", {}).items():
        if family in _FAMILIES:
            # an IPv6 next hop may come twice, global and link-local, each with the whole list
            next_hop = _best_hop(hops)
            announced += _prefixes(hops[str(next_hop)] if str(next_hop) in hops else _first(hops))
    withdrawn = [
        prefix
        for family, list_ in update.get("withdraw", {}).items()
        if family in _FAMILIES
        for prefix in _prefixes(list_)
    ]
    attributes = None if next_hop is None else _attributes(update.get("attribute", {}), next_hop)
    return Update(peer, sent, attributes, tuple(announced), tuple(withdrawn))


def _best_hop(hops: Mapping[str, Any]) -> Address:
    parsed = [ip_address(hop) for hop in hops]
    return min(parsed, key=lambda hop: hop.is_link_local)


def _first(hops: Mapping[str, Any]) -> Any:
    return next(iter(hops.values()))


def _prefixes(items: Any) -> Iterator[Prefix]:
    for item in items:
        yield ip_network(item["nlri"] if isinstance(item, dict) else item)


def _attributes(said: Mapping[str, Any], next_hop: Address) -> PathAttributes:
    sequence: list[int] = []
    sets: list[int] = []
    for segment in said.get("as-path", {}).values():
        into = sets if segment["element"] == "as-set" else sequence
        into += [int(asn) for asn in segment["value"]]
    origin: Origin = said.get("origin", "incomplete")
    return PathAttributes(
        next_hop,
        tuple(sequence),
        tuple(sets),
        origin,
        int(said.get("med", 0)),
        communities=tuple(":".join(map(str, c)) for c in said.get("community", [])),
        large_communities=tuple(":".join(map(str, c)) for c in said.get("large-community", [])),
    )
