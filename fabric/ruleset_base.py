"""What stands in our table whatever the intent: where packets come in, and what is looked at first.

A packet that has nothing to do with a link of ours is let through by one comparison a hook.
"""

from netfabric.fabric.kernel import LINK_GROUP, OVERLAY_GROUP, VLAN_GROUP
from netfabric.fabric.ruleset import (
    Between,
    Chain,
    Field,
    Goto,
    HasBit,
    In,
    Is,
    Jump,
    Match,
    NamedSet,
    Rule,
    RulesetObject,
    SetMark,
    rule,
)
from netfabric.fabric.vrf import MARK_MASK

SOURCES, SOURCES6 = "sources", "sources6"
PORTS, PORTS6 = "ports", "ports6"
"""What may be sent from on links whose MAC is not known to us: a virtual machine's, a bare-metal port."""
LEAVING, ARRIVING = "leaving", "arriving"
MARKING = "marking"
FABRIC, FABRIC6 = "fabric", "fabric6"
"""Every subnet of every tenant."""

IPV4, IPV6 = 2, 10
"""NFPROTO_IPV4, NFPROTO_IPV6."""
ICMP, TCP, UDP, ICMP6, SCTP = 1, 6, 17, 58, 132
_KNOWN = HasBit("ct state", 2 | 4)
"""Established or related: replies, and errors about what was allowed."""
_ECHO, _ECHO6 = 8, 128
_SOLICIT = 135
"""Neighbour solicitation (RFC 4861): Docker's containers look the gateway's MAC up."""
_ADVERTISE = 136
"""Neighbour advertisement: what is behind a port is looked up, and answers."""
_DNS = 53
DSCP = "dscp"
"""The chain of what groups' profiles say: `ruleset_group.marking_of`."""
_RAW = -300
"""Before connection tracking: what is forged leaves no trace there."""


def family_is(number: int) -> Match:
    """Match IPv4 or IPv6, as `IPV4` and `IPV6` number them."""
    return Is("nf family", number)


def _is_ours(field: Field) -> Match:
    return Is(field, LINK_GROUP)


def _antispoofing() -> tuple[Chain, ...]:
    """An endpoint sends from its own addresses and its own MAC only, wherever the packet goes."""
    return (
        Chain(
            "prerouting",
            (
                rule("endpoints", (_is_ours("iif group"),), Jump("antispoofing")),
                rule("endpoints' vrf", (_is_ours("iif group"),), Jump(MARKING)),
                rule("overlays' vrf", (Is("iif group", OVERLAY_GROUP),), Jump(MARKING)),
                rule("vlans' vrf", (Is("iif group", VLAN_GROUP),), Jump(MARKING)),
                rule("endpoints' dscp", (_is_ours("iif group"),), Jump(DSCP)),
            ),
            "prerouting",
            _RAW,
        ),
        Chain(
            "antispoofing",
            (
                rule(
                    "source",
                    (
                        family_is(IPV4),
                        In(("iif name", "ether source", "ip source"), SOURCES),
                    ),
                ),
                rule(
                    "source6",
                    (
                        family_is(IPV6),
                        In(("iif name", "ether source", "ip6 source"), SOURCES6),
                    ),
                ),
                rule("port", (family_is(IPV4), In(("iif name", "ip source"), PORTS))),
                rule("port6", (family_is(IPV6), In(("iif name", "ip6 source"), PORTS6))),
                rule("forged", (), "drop"),
            ),
        ),
    )


def _forwarding() -> tuple[Chain, ...]:
    """First the sender's group decides, then the receiver's: see `fabric.ruleset_ways`."""
    return (
        Chain(
            "forward",
            (
                rule("known", (_KNOWN,), "accept"),
                rule("from endpoints", (_is_ours("iif group"),), Jump(LEAVING)),
                rule("to endpoints", (_is_ours("oif group"),), Jump(ARRIVING)),
            ),
            "forward",
        ),
    )


def _host_protection() -> tuple[Chain, ...]:
    """Endpoints may ask the host for an echo, for names and for its MAC; it may open anything towards them."""
    return (
        Chain(
            "input",
            (
                rule("known", (_KNOWN,), "accept"),
                rule("from endpoints", (_is_ours("iif group"),), Goto("to_host")),
                rule("from overlays", (Is("iif group", OVERLAY_GROUP),), Goto("to_host")),
                rule("from vlans", (Is("iif group", VLAN_GROUP),), Goto("to_host")),
            ),
            "input",
        ),
        Chain("to_host", (*_open_on_host(), rule("host", (), "drop"))),
    )


def _open_on_host() -> tuple[Rule, ...]:
    return (
        rule("echo", (family_is(IPV4), Is("protocol", ICMP), Is("icmp type", _ECHO))),
        rule("echo6", (family_is(IPV6), Is("protocol", ICMP6), Is("icmp type", _ECHO6))),
        rule("neighbour", (family_is(IPV6), Is("protocol", ICMP6), Is("icmp type", _SOLICIT))),
        rule("answer", (family_is(IPV6), Is("protocol", ICMP6), Is("icmp type", _ADVERTISE))),
        rule("dns", (Is("protocol", UDP), Between("destination port", _DNS, _DNS))),
        rule("dns tcp", (Is("protocol", TCP), Between("destination port", _DNS, _DNS))),
    )


def _encapsulation() -> Chain:
    """What goes into a VXLAN device is routed: its mark is not for the packet that carries it."""
    into = (Is("oif group", OVERLAY_GROUP),)
    return Chain(
        "postrouting", (rule("overlays' mark", into, SetMark(0, MARK_MASK)),), "postrouting"
    )


def base() -> tuple[RulesetObject, ...]:
    """Return the table's fixed part."""
    return (
        NamedSet(SOURCES, "source"),
        NamedSet(SOURCES6, "source6"),
        NamedSet(PORTS, "own"),
        NamedSet(PORTS6, "own6"),
        NamedSet(FABRIC, "subnet"),
        NamedSet(FABRIC6, "subnet6"),
        *_antispoofing(),
        *_forwarding(),
        *_host_protection(),
        _encapsulation(),
    )
