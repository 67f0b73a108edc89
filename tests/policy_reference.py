"""What policy means, said as plainly as can be: objects of `/api/v2` in, a packet in, yes or no out.

It shares nothing with the product but the names of fields. It looks at everything each time, and knows no sets,
no compilation and no connections: a packet is one that opens a connection.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

Object = dict[str, Any]
NUMBERS = {"tcp": 6, "udp": 17}


@dataclass(frozen=True)
class Container:
    tenant: str
    group: str
    """Without tenant; "": none."""
    address: IPv4Address | IPv6Address


@dataclass(frozen=True)
class Packet:
    source: Container
    target: Container
    protocol: int
    port: int = 0
    """TCP, UDP: the receiver's."""
    kind: int = 0
    """ICMP: the type."""


@dataclass
class Fabric:
    """Objects as they were written; `members` are all containers, on whichever host."""

    networks: list[Object] = field(default_factory=list)
    groups: list[Object] = field(default_factory=list)
    rules: list[Object] = field(default_factory=list)
    members: list[Container] = field(default_factory=list)

    def passes(self, packet: Packet) -> bool:
        """Return whether a packet that opens a connection gets from its source to its target."""
        return self._side(packet, "out") == "allow" and self._side(packet, "in") == "allow"

    def _side(self, packet: Packet, direction: str) -> str:
        """Return what the sender's (out) or the receiver's (in) group says."""
        own, other = packet.source, packet.target
        if direction == "in":
            own, other = other, own
        group = self._group(own)
        crossing = own.tenant != other.tenant
        if group is None:
            return "deny" if crossing else "allow"
        matching = [
            rule
            for rule in self.rules
            if rule["tenantName"] == own.tenant
            and rule["policyName"] in group.get("policies", [])
            and rule["direction"] == direction
            and self._matches(rule, packet, own, other)
            and (not crossing or rule["action"] == "deny" or names_another_tenant(rule))
        ]
        if not matching and crossing:
            return "deny"
        if not matching:
            return str(group.get("defaultAction") or "allow")
        highest = max(rule.get("priority") or 1 for rule in matching)
        actions = {r["action"] for r in matching if (r.get("priority") or 1) == highest}
        return "deny" if "deny" in actions else "allow"

    def _group(self, container: Container) -> Object | None:
        for group in self.groups:
            if (group["tenantName"], group["groupName"]) == (container.tenant, container.group):
                return group
        return None

    def _matches(self, rule: Object, packet: Packet, own: Container, other: Container) -> bool:
        there, here = ("from", "to") if rule["direction"] == "in" else ("to", "from")
        if group := rule.get(f"{there}EndpointGroup"):
            peers = [
                member.address
                for member in self.members
                if (member.tenant, member.group) == tenant_and_name(rule, group)
            ]
            if other.address not in peers:
                return False
        network = rule.get(f"{there}Network")
        if network and not self._in_network(other.address, rule["tenantName"], network):
            return False
        for end, name in ((other, f"{there}IpAddress"), (own, f"{here}IpAddress")):
            if rule.get(name) and not in_range(end.address, rule[name]):
                return False
        return right_protocol(rule, packet)

    def _in_network(self, address: IPv4Address | IPv6Address, tenant: str, name: str) -> bool:
        for network in self.networks:
            if (network["tenantName"], network["networkName"]) == (tenant, name):
                subnets = [network.get("subnet"), network.get("ipv6Subnet")]
                return any(in_range(address, text) for text in subnets if text)
        return False


def tenant_and_name(rule: Object, group: str) -> tuple[str, str]:
    """Return whose group a rule means: `tenant:group`, or one of its own tenant."""
    if ":" in group:
        tenant, name = group.split(":")
        return tenant, name
    return rule["tenantName"], group


def names_another_tenant(rule: Object) -> bool:
    """Return whether a rule speaks of another tenant's group: only such a rule lets tenants talk."""
    group = rule.get("fromEndpointGroup") or rule.get("toEndpointGroup")
    return bool(group) and tenant_and_name(rule, str(group))[0] != rule["tenantName"]


def in_range(address: IPv4Address | IPv6Address, text: str) -> bool:
    """Return whether an address is one of `a.b.c.d`, `a.b.c.d/len`, `a.b.c.d-e`, or the same in IPv6."""
    if "-" in text:
        first, last = text.split("-")
        low = ip_address(first)
        high = ip_address(".".join([*first.split(".")[:3], last.split("/")[0]]))
        return address.version == 4 and int(low) <= int(address) <= int(high)
    network = ip_network(text, strict=False)
    return address.version == network.version and address in network


def right_protocol(rule: Object, packet: Packet) -> bool:
    """Return whether a rule speaks of a packet's protocol, and of its port or type."""
    wanted = rule.get("protocol", "")
    if wanted == "":
        return True
    if wanted == "icmp":
        icmp = 1 if packet.source.address.version == 4 else 58
        types = rule.get("icmpTypes", [])
        return packet.protocol == icmp and (not types or packet.kind in types)
    number = NUMBERS[wanted] if wanted in NUMBERS else int(wanted)
    if packet.protocol != number:
        return False
    if packet.protocol not in (6, 17, 132):
        return True
    spans = [text.partition("-") for text in rule.get("ports", [])]
    if rule.get("port"):
        spans.append((str(rule["port"]), "", ""))
    if not spans:
        return True
    return any(int(low) <= packet.port <= int(high or low) for low, _, high in spans)
