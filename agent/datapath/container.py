"""The container's end of an endpoint: its addresses, the gateway as a permanent neighbour, the way out."""

from errno import EACCES

from netfabric.agent.datapath import address, link, neighbour, route, rule, table_rule
from netfabric.agent.datapath.host_end import GATEWAYS, MAC
from netfabric.agent.datapath.link import Link
from netfabric.agent.datapath.message import Message
from netfabric.agent.datapath.netlink import Netlink
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.prefix import Address, Family, family_of


def gateway_of(value: Address) -> Address:
    """Return the link-local gateway of an address's family."""
    return GATEWAYS[0 if value.version == 4 else 1]


def find(netlink: Netlink, name: str) -> Link | None:
    """Return the container's link of that name."""
    body = netlink.ask(link.get(name))
    return link.parse(body) if isinstance(body, bytes) else None


def build(netlink: Netlink, endpoint: Endpoint, index: int, ipv6: bool, reshape: bool) -> bool:
    """Make the inside as the endpoint wants it; with `reshape`, MAC and MTU as well. Raise KernelError.

    Return whether nothing is wrong but that IPv6 is turned off on the interface.
    """
    first = [link.shaped(endpoint.mac, endpoint.mtu)] if reshape else []
    requests = [
        link.set_up(link.LOOPBACK_INDEX),
        link.change(index, *first, link.quiet(ipv6)),
        link.set_up(index),
    ]
    for own in endpoint.addresses:
        requests += _way_out(netlink, own, index)
    refused = netlink.send(requests)
    if any(refusal.number == EACCES for refusal in refused.values()):
        return True
    for position, refusal in sorted(refused.items()):
        raise refusal.error(
            f"endpoint {endpoint.key}: {endpoint.key.interface} in {endpoint.namespace}"
            f" (step {position})"
        )
    return False


def _way_out(netlink: Netlink, own: Address, index: int) -> list[Message]:
    gateway = gateway_of(own)
    requests = [address.put(index, own), neighbour.put(index, gateway, MAC)]
    if _leaves_elsewhere(netlink, family_of(own), index):
        return requests + _way_of_its_own(netlink, own, index)
    return [*requests, route.default(gateway, index)]


def _way_of_its_own(netlink: Netlink, own: Address, index: int) -> list[Message]:
    """Lead what this address sends out by its own link: by the other, it would be dropped as forged.

    Interfaces that are gone have left their rules: a container's end goes without anybody being inside.
    """
    wanted = rule.of_link(own, index)
    there = _rules(netlink, family_of(own))
    links = {link.parse(body).index for body in netlink.dump(link.get_all())}
    requests = [route.default(gateway_of(own), index, wanted.table)]
    requests += [rule.remove(one) for one in there if one.index not in links]
    return requests + ([] if wanted in there else [rule.put(wanted)])


def _rules(netlink: Netlink, version: Family) -> list[rule.Rule]:
    found = map(rule.parse, netlink.dump(table_rule.get_all(version)))
    return [one for one in found if one is not None]


def _defaults(netlink: Netlink, version: Family) -> list[route.Route]:
    found = map(route.parse, netlink.dump(route.get_main(version)))
    return [one for one in found if one is not None and one.prefix.prefixlen == 0]


def _leaves_elsewhere(netlink: Netlink, version: Family, index: int) -> bool:
    """Return whether another interface has the default route: the first one keeps it."""
    return any(one.index != index for one in _defaults(netlink, version))


def problems(netlink: Netlink, found: Link, endpoint: Endpoint) -> list[str]:
    """Return what is wrong inside, in words."""
    name = f"{found.name} in the container"
    wrong = [
        (not found.up, f"{name} is down"),
        (found.mtu != endpoint.mtu, f"{name} has MTU {found.mtu}, not {endpoint.mtu}"),
        (found.mac != endpoint.mac, f"{name} has MAC {found.mac}, not {endpoint.mac}"),
    ]
    dumped = map(address.parse, netlink.dump(address.get_all(found.index)))
    there = {one.address for one in dumped}
    permanent = map(neighbour.parse, netlink.dump(neighbour.get_all(found.index)))
    gateways = {one.address for one in permanent if one is not None and one.mac == MAC}
    for own in endpoint.addresses:
        gateway = gateway_of(own)
        wrong.append((own not in there, f"{name} has no address {own}"))
        wrong.append((gateway not in gateways, f"{name} does not know gateway {gateway}"))
        led = _is_led(netlink, own, found.index)
        wrong.append((not led, f"the container has no way out for {own} by {gateway}"))
    return [words for is_wrong, words in wrong if is_wrong]


def _is_led(netlink: Netlink, own: Address, index: int) -> bool:
    """Return whether what an address sends finds its gateway."""
    defaults = _defaults(netlink, family_of(own))
    if any(one.index == index for one in defaults):
        return any(one.gateway == gateway_of(own) for one in defaults if one.index == index)
    return bool(defaults) and rule.of_link(own, index) in _rules(netlink, family_of(own))
