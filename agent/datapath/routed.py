"""The routed datapath: veth, host routes and link-local gateways; off the host by plain routing."""

import errno
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from netfabric.agent.datapath import endpoint as side
from netfabric.agent.datapath import message as nl
from netfabric.agent.datapath import reading
from netfabric.agent.datapath.netlink import Netlink, inside, open_namespace
from netfabric.agent.datapath.sysctl import prepare, probe
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import ConflictError, FabricError, KernelError, NamespaceGoneError
from netfabric.fabric.kernel import (
    LINK_PREFIX,
    NEXTHOP_BASE,
    PROTOCOL,
    EndpointLink,
    KernelKey,
    KernelObject,
    KernelRoute,
    KernelState,
    Nexthop,
    NexthopGroup,
    Operation,
    Uplink,
    key_of,
)
from netfabric.fabric.prefix import Address, host_prefix

GRAVEYARD = side.LINK_GROUP + 1
"""Group of links that are detached already and wait to be deleted together."""
INDEX_BASE, INDEX_SPAN = 0x100000, 0x3FFFFFFF
"""We choose the indexes of our links: no look-up after creating one."""
METRIC = 20
"""Of routes towards the fabric: a default route of somebody else (metric 0) keeps winning."""


class RoutedDatapath:
    """The datapath of one host namespace. Not thread-safe: one thread calls it."""

    def __init__(self, namespace: str | Path | None = None) -> None:
        """Work in the namespace at a path, or in the calling thread's own."""
        self._namespace = open_namespace(namespace) if namespace else None
        with self._at_home():
            self._netlink = Netlink()
        self._next_index = INDEX_BASE + int.from_bytes(os.urandom(3)) % 0xF00000

    def close(self) -> None:
        """Let go of sockets; the kernel's state stays."""
        self._netlink.close()
        if self._namespace is not None:
            os.close(self._namespace)

    @contextmanager
    def _at_home(self) -> Iterator[None]:
        if self._namespace is None:
            yield
        else:
            with inside(self._namespace):
                yield

    def prepare(self) -> tuple[str, ...]:
        """Switch forwarding on, and bury what an earlier run left half deleted."""
        with self._at_home():
            changed = prepare()
        self.bury()
        return changed

    def features(self) -> tuple[str, ...]:
        """Return the kernel features found by trying."""
        return probe(self._netlink)

    # endpoints

    def attach(self, endpoint: Endpoint) -> None:
        """Build an endpoint's datapath, or mend it."""
        namespace = open_namespace(endpoint.namespace)
        try:
            self._attach(endpoint, namespace)
        finally:
            os.close(namespace)

    def _attach(self, endpoint: Endpoint, namespace: int) -> None:
        index, peer = self._two_indexes()
        requests = [
            side.create(endpoint, index, peer, namespace),
            *side.host_side(endpoint, index),
        ]
        failures = self._netlink.send(requests)
        if failures.get(0, (0, ""))[0] == errno.EEXIST and self._buried_one():
            failures = self._netlink.send(requests)
        if 0 in failures:
            self._mend(endpoint, namespace, failures[0])
            return
        try:
            _raise_first(endpoint, "host", failures)
            with self._at_home():
                _quiet(endpoint.link)
            self._build_inside(endpoint, namespace, peer)
        except FabricError:
            self._netlink.send([nl.link_delete(endpoint.link)])
            raise

    def _two_indexes(self) -> tuple[int, int]:
        self._next_index += 2
        return self._next_index, self._next_index + 1

    def _build_inside(self, endpoint: Endpoint, namespace: int, peer: int) -> None:
        with inside(namespace):
            netlink = Netlink()
        try:
            defaults = self._families_without_default(netlink, peer)
            failures = netlink.send(list(side.container_side(endpoint, peer, defaults)))
            _raise_first(endpoint, "container", failures)
        finally:
            netlink.close()

    @staticmethod
    def _families_without_default(netlink: Netlink, peer: int) -> set[int]:
        """A second interface leaves the default route where it is."""
        taken = {
            route.prefix.version
            for route in reading.routes(netlink)
            if route.prefix.prefixlen == 0
            and route.table == 254
            and route.link != peer
            and route.kind == nl.RTN_UNICAST
        }
        return {4, 6} - taken

    def _mend(self, endpoint: Endpoint, namespace: int, refusal: tuple[int, str]) -> None:
        """The pair could not be created: it is there already and is mended, or the name is taken."""
        ours = reading.link_named(self._netlink, endpoint.link)
        if ours is None or ours.group != side.LINK_GROUP:
            raise _refused(endpoint, "veth", *refusal)
        with inside(namespace):
            netlink = Netlink()
        try:
            peer = reading.link_named(netlink, endpoint.key.interface)
        finally:
            netlink.close()
        if peer is None or peer.mac != endpoint.mac:
            self._netlink.send([nl.link_delete(endpoint.link)])
            if peer is not None:
                raise _refused(endpoint, "veth", errno.EEXIST, "")
            self._attach(endpoint, namespace)
            return
        failures = self._netlink.send(list(side.host_side(endpoint, ours.index)))
        _raise_first(endpoint, "host", failures)
        self._build_inside(endpoint, namespace, peer.index)

    def detach(self, endpoint: Endpoint) -> None:
        """Take an endpoint's routes and link away at once; the link itself is buried later, with others.

        Deleting one device costs the kernel some 20 ms whatever it is, many together little more.
        """
        link = reading.link_named(self._netlink, endpoint.link)
        if link is None or link.group != side.LINK_GROUP:
            return
        routes = [
            nl.route_delete(host_prefix(address), 254, PROTOCOL, 0)
            for address in endpoint.addresses
        ]
        self._netlink.send([*routes, _retire(link.index)])

    def bury(self) -> None:
        """Delete the links that were detached."""
        self._netlink.send([nl.group_delete(GRAVEYARD)])

    def _buried_one(self) -> bool:
        """Bury at once what still has its name in a container; return whether there was any."""
        waiting = any(link.group == GRAVEYARD for link in reading.links(self._netlink))
        if waiting:
            self.bury()
        return waiting

    def check(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return what is wrong with an endpoint on either side."""
        wanted = EndpointLink(endpoint.link, endpoint.mac, endpoint.addresses, endpoint.mtu)
        found = self.observe().objects.get(key_of(wanted))
        problems = []
        if found is None:
            problems.append(f"link {endpoint.link} is not on the host")
        elif found != wanted:
            problems.append(f"link {endpoint.link}, its routes or neighbours differ: {found}")
        try:
            problems += self._check_inside(endpoint)
        except NamespaceGoneError as error:
            problems.append(str(error))
        return tuple(problems)

    def _check_inside(self, endpoint: Endpoint) -> list[str]:
        namespace = open_namespace(endpoint.namespace)
        try:
            with inside(namespace):
                netlink = Netlink()
        finally:
            os.close(namespace)
        try:
            return self._problems(endpoint, netlink)
        finally:
            netlink.close()

    @staticmethod
    def _problems(endpoint: Endpoint, netlink: Netlink) -> list[str]:
        name = endpoint.key.interface
        link = reading.link_named(netlink, name)
        if link is None:
            return [f"interface {name} is not in the container"]
        problems = [] if link.up else [f"interface {name} is down"]
        if link.mac != endpoint.mac:
            problems.append(f"interface {name} has MAC {link.mac}, not {endpoint.mac}")
        held = {address for index, address, _ in reading.addresses(netlink) if index == link.index}
        problems += [f"{name} lacks {a}" for a in endpoint.addresses if a not in held]
        known = {
            (address, permanent)
            for index, address, _, permanent in reading.neighbours(netlink)
            if index == link.index
        }
        for address in endpoint.addresses:
            gateway = side.gateway_for(address)
            if (gateway, True) not in known:
                problems.append(f"{name} lacks the permanent neighbour {gateway}")
        defaults = {r.prefix.version for r in reading.routes(netlink) if r.prefix.prefixlen == 0}
        problems += [
            f"no default route for IPv{a.version}"
            for a in endpoint.addresses
            if a.version not in defaults
        ]
        return problems

    # routes

    def apply(self, operations: Sequence[Operation]) -> tuple[tuple[KernelKey, FabricError], ...]:
        """Carry out operations in order; return those that the kernel refused."""
        indexes = self._link_indexes(operations)
        failed: list[tuple[KernelKey, FabricError]] = []
        requests: list[nl.Message] = []
        sent: list[Operation] = []
        for operation in operations:
            try:
                requests.append(self._request(operation, indexes))
                sent.append(operation)
            except KernelError as error:
                failed.append((key_of(operation.thing), error))
        for position, (number, words) in sorted(self._netlink.send(requests).items()):
            operation = sent[position]
            if operation.action == "remove" and number in _GONE:
                continue
            failed.append((key_of(operation.thing), _trouble(operation, number, words)))
        return tuple(failed)

    def _link_indexes(self, operations: Sequence[Operation]) -> dict[str, int]:
        if not any(isinstance(operation.thing, Nexthop) for operation in operations):
            return {}
        return {link.name: link.index for link in reading.links(self._netlink)}

    @staticmethod
    def _request(operation: Operation, indexes: dict[str, int]) -> nl.Message:
        put = operation.action == "put"
        match operation.thing:
            case Nexthop(id=identity, gateway=gateway, link=link):
                if not put:
                    return nl.nexthop_delete(identity)
                if link not in indexes:
                    raise KernelError(f"link {link} is gone", "the audit follows the host's links")
                return nl.nexthop(identity, PROTOCOL, indexes[link], gateway)
            case NexthopGroup(id=identity, members=members):
                if not put:
                    return nl.nexthop_delete(identity)
                return nl.nexthop_group(identity, PROTOCOL, members)
            case KernelRoute(prefix=prefix, table=table, nexthop=nexthop):
                if not put:
                    return nl.route_delete(prefix, table, PROTOCOL, METRIC)
                return nl.nexthop_route(prefix, table, PROTOCOL, nexthop, METRIC)
            case EndpointLink(name=name):
                return nl.link_delete(name)

    # what is there

    def observe(self) -> KernelState:
        """Return everything of ours that is there. An incomplete endpoint shows as what it lacks."""
        links = {link.index: link for link in reading.links(self._netlink)}
        ours = {
            index: link
            for index, link in links.items()
            if link.name.startswith(LINK_PREFIX) and link.group == side.LINK_GROUP
        }
        things: list[KernelObject] = list(self._nexthops(links))
        routed: dict[int, list[Address]] = {}
        for route in reading.routes(self._netlink, PROTOCOL):
            if route.link in ours and not route.nexthop:
                routed.setdefault(route.link, []).append(route.prefix.network_address)
            else:
                things.append(_kernel_route(route))
        things += self._endpoint_links(ours, routed)
        return KernelState({key_of(thing): thing for thing in things})

    def _nexthops(self, links: dict[int, reading.Link]) -> Iterator[KernelObject]:
        for found in reading.nexthops(self._netlink):
            if found.protocol != PROTOCOL or not 0 <= found.id - NEXTHOP_BASE <= 0xFFFF:
                continue
            if found.members:
                yield NexthopGroup(found.id, tuple(sorted(found.members)))
            elif found.gateway is not None and found.link in links:
                yield Nexthop(found.id, found.gateway, links[found.link].name)

    def _endpoint_links(
        self, ours: dict[int, reading.Link], routed: dict[int, list[Address]]
    ) -> Iterator[EndpointLink]:
        permanent: dict[int, dict[Address, str]] = {}
        for index, address, mac, lasting in reading.neighbours(self._netlink):
            if index in ours and lasting:
                permanent.setdefault(index, {})[address] = mac
        for index, link in ours.items():
            known = permanent.get(index, {})
            macs = set(known.values())
            whole = [a for a in routed.get(index, []) if a in known]
            yield EndpointLink(
                link.name,
                macs.pop() if len(macs) == 1 and link.up else "",
                tuple(sorted(whole, key=lambda a: (a.version, int(a)))),
                link.mtu,
            )

    def uplinks(self) -> tuple[Uplink, ...]:
        """Return the addresses of the host's other links that are up."""
        links = {link.index: link for link in reading.links(self._netlink)}
        found = []
        for index, address, length in reading.addresses(self._netlink):
            link = links.get(index)
            if link is None or not link.up or link.name == "lo" or link.group == side.LINK_GROUP:
                continue
            subnet = host_prefix(address).supernet(new_prefix=length)
            found.append(Uplink(link.name, address, subnet))
        return tuple(sorted(found, key=lambda u: (u.link, u.address.version, int(u.address))))

    def local_address_for(self, peer: Address) -> Address | None:
        """Return the source address that the kernel would use towards a peer."""
        family = nl.family(peer)
        bits = 32 if peer.version == 4 else 128
        body = struct.pack("=8BI", family, bits, 0, 0, 0, 0, 0, 0, 0)
        request = nl.Message(nl.RTM_GETROUTE, 0, body + nl.attribute(nl.RTA_DST, peer.packed))
        failed, answer = self._netlink.ask(request)
        if failed:
            return None
        return reading.address_of(nl.attributes(answer[12:]).get(nl.RTA_PREFSRC))


_GONE = {errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.ENXIO}


def _retire(index: int) -> nl.Message:
    """Down, out of its name and into the graveyard: the name is free at once."""
    body = struct.pack("=BxHiII", 0, 0, index, 0, nl.IFF_UP)
    body += nl.text(nl.IFLA_IFNAME, f"{LINK_PREFIX}-{index:x}") + nl.number(
        nl.IFLA_GROUP, GRAVEYARD
    )
    return nl.Message(nl.RTM_NEWLINK, 0, body)


def _kernel_route(route: reading.Route) -> KernelRoute:
    kind = "unreachable" if route.kind == nl.RTN_UNREACHABLE else "unicast"
    return KernelRoute(route.prefix, kind, route.nexthop, route.table)  # type: ignore[arg-type]


def _quiet(link: str) -> None:
    """No reverse-path filter of its own: with two ToRs, an answer may come in over the other one."""
    path = Path(f"/proc/sys/net/ipv4/conf/{link}/rp_filter")
    if path.exists() and path.read_text().strip() != "0":
        path.write_text("0")


def _raise_first(endpoint: Endpoint, where: str, failures: dict[int, tuple[int, str]]) -> None:
    for _, (number, words) in sorted(failures.items()):
        raise _refused(endpoint, f"{where} side", number, words)


def _refused(endpoint: Endpoint, what: str, number: int, words: str) -> FabricError:
    if number == errno.EEXIST:
        return ConflictError(
            f"endpoint {endpoint.key}: interface {endpoint.key.interface} exists in the container, "
            f"or link {endpoint.link} on the host, and is not ours",
            "remove it, or use another interface name (CNI_IFNAME)",
        )
    return KernelError(
        f"endpoint {endpoint.key}: {what}: {os.strerror(number)}{': ' + words if words else ''}",
        "see netctl host inspect for what this kernel can do",
    )


def _trouble(operation: Operation, number: int, words: str) -> KernelError:
    name = " ".join(key_of(operation.thing))
    return KernelError(
        f"{name}: {os.strerror(number)}{': ' + words if words else ''}",
        "the next audit tries again",
    )
