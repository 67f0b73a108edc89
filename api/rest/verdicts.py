"""`/api/v2/verdicts`: may this container talk to that one, and which rule says so?"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import ConflictError, InvalidError, NotFoundError
from netfabric.fabric.placement import pod_of
from netfabric.fabric.policies import Policies, group_of
from netfabric.fabric.prefix import Address
from netfabric.fabric.verdict import ICMP6, NUMBERS, Considered, End, Packet, Verdict, judge
from netfabric.fabric.view import View

Item = dict[str, Any]
QUERY = ("from", "to", "protocol", "port")


def verdicts(view: View, query: Mapping[str, str]) -> list[Item]:
    """Return a verdict for each family that both ends have; all of `from`, `to` and `protocol` are needed.

    An end is a container's name or the beginning of its id, a group (`tenant:group`: its first container), or an
    address. Raises InvalidError, NotFoundError, and ConflictError where several containers are meant.
    """
    for name in query:
        if name not in QUERY:
            raise InvalidError(f"unknown filter {name!r}", f"known are {', '.join(QUERY)}")
    if not (query.get("from") and query.get("to")):
        return []
    sources, targets = _ends(view, query["from"]), _ends(view, query["to"])
    policies = Policies(view)
    found = []
    for family in (4, 6):
        if family in sources and family in targets:
            packet = _packet(sources[family], targets[family], query)
            found.append(_shown(packet, judge(packet, policies.filter_of)))
    if not found:
        raise InvalidError(
            f"{query['from']} and {query['to']}: have no address family in common",
            "netctl endpoint ls shows their addresses",
        )
    return found


def _packet(source: End, target: End, query: Mapping[str, str]) -> Packet:
    protocol, port = query.get("protocol", "tcp"), query.get("port", "0")
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise InvalidError(f"port {port}: there is none", "choose a number up to 65535")
    if protocol == "icmp" and source.address.version == 6:
        return Packet(source, target, ICMP6)
    number = NUMBERS.get(
        protocol, int(protocol) if protocol.isascii() and protocol.isdecimal() else 256
    )
    if number > 255:
        raise InvalidError(
            f"protocol {protocol}: there is none", "choose tcp, udp, icmp or a number"
        )
    return Packet(source, target, number, int(port))


def _ends(view: View, text: str) -> dict[int, End]:
    """Return the end that a text means, by family."""
    address = _address(text)
    if address is not None:
        holders = [e for e in view.endpoints.values() if address in e.addresses]
        return {address.version: _end(view, holders[0], address) if holders else End(text, address)}
    holder = _endpoint(view, text)
    return {address.version: _end(view, holder, address) for address in holder.addresses}


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _end(view: View, endpoint: Endpoint, address: Address) -> End:
    name = endpoint.name or endpoint.key.container
    placed = view.pods.get(pod_of(endpoint.name, endpoint.labels))
    if placed is None or not placed.fits(endpoint):
        return End(name, address, endpoint.tenant, group_of(endpoint))
    groups = frozenset((group_of(endpoint), *placed.peers))
    return End(name, address, endpoint.tenant, placed.filter or group_of(endpoint), groups)


def _endpoint(view: View, text: str) -> Endpoint:
    everyone = sorted(view.endpoints.values(), key=lambda e: (e.key, e.host))
    found = [e for e in everyone if text == e.name or e.key.container.startswith(text)]
    if not found and ":" in text:
        found = [e for e in everyone if group_of(e) == text][:1]
    if not found:
        raise NotFoundError(
            f"{text}: no container, group with containers, or address",
            "netctl endpoint ls lists the containers; a group is written TENANT:GROUP",
        )
    if len(found) > 1:
        where = ", ".join(f"{e.key.container} on {e.host}" for e in found[:4])
        raise ConflictError(f"{text}: several containers: {where}", "give an id or an address")
    return found[0]


def _shown(packet: Packet, verdict: Verdict) -> Item:
    return {
        "key": f"IPv{packet.source.address.version}",
        "from": _shown_end(packet.source),
        "to": _shown_end(packet.target),
        "protocol": packet.protocol,
        "port": packet.port,
        "action": verdict.action,
        "reason": verdict.reason,
        "considered": [_shown_rule(one) for one in verdict.considered],
    }


def _shown_end(end: End) -> Item:
    return {
        "name": end.name,
        "address": str(end.address),
        "tenant": end.tenant,
        "group": end.group,
    }


def _shown_rule(one: Considered) -> Item:
    return {
        "rule": f"{one.rule.policy}:{one.rule.id}",
        "group": one.group,
        "direction": one.direction,
        "priority": one.rule.priority,
        "action": one.rule.action,
        "matches": one.matches,
        "decides": one.decides,
    }
