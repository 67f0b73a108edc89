"""A host with two uplinks and containers to attach, on the fake kernel and on the real one."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from itertools import count
from pathlib import Path
from typing import Literal, Protocol

from netfabric.agent.datapath.base import Datapath
from netfabric.agent.datapath.datapath import RoutedDatapath
from netfabric.agent.datapath.route_book import DEFAULT_METRIC
from netfabric.fabric.attachment import endpoint_of
from netfabric.fabric.endpoint import AttachRequest, Endpoint, EndpointKey
from netfabric.fabric.kernel import KernelRoute, Nexthop, Uplink
from netfabric.fabric.prefix import Address, Prefix
from netfabric.lab.namespace import Namespace, wire
from tests.fabric.fake_kernel import FakeKernel, HostLink, Inside

Damage = Literal[
    "link gone",
    "link down",
    "route",
    "route6",
    "neighbour",
    "inner address",
    "inner gateway",
    "inner default",
]
UPLINKS = ("up0", "up1")
_serial = count()


def address(number: int, version: int) -> Address:
    return ip_address(f"10.1.0.{number}" if version == 4 else f"fd10:1::{number:x}")


class Bench(Protocol):
    """What the contract does beside calling the datapath."""

    @property
    def datapath(self) -> Datapath:
        """Return the datapath under test."""
        ...

    def container(self, number: int, interface: str = "eth0") -> Endpoint:
        """Return an endpoint to attach, with a container of its own."""
        ...

    def end(self, endpoint: Endpoint) -> None:
        """End its container."""
        ...

    def take_name(self, endpoint: Endpoint) -> None:
        """Give the container an interface of that name that is not ours."""
        ...

    def damage(self, endpoint: Endpoint, what: Damage) -> None:
        """Break a part of an endpoint's datapath."""
        ...

    def set_uplink(self, name: str, *, up: bool) -> None:
        """Set an uplink up or down."""
        ...

    def way(self, target: str, mark: int = 0) -> str:
        """Return the link by which a packet leaves, "unreachable", or "" where there is no route."""
        ...

    def foreign_route(self, prefix: Prefix, *, same_metric: bool) -> None:
        """Let somebody else route a prefix over up0."""
        ...

    def foreign_nexthop(self, number: int) -> None:
        """Let somebody else have a nexthop object."""
        ...

    def foreign_link(self, name: str) -> None:
        """Let somebody else have a link."""
        ...

    def foreign(self) -> list[str]:
        """Return in words all that is not ours."""
        ...

    def foreign_rule(self, priority: int) -> None:
        """Let somebody else have a rule for packets with mark 1."""
        ...

    def without_device(self, name: str) -> None:
        """Let somebody else delete a VXLAN device of ours."""
        ...

    def again(self) -> Datapath:
        """Return a second datapath on the same kernel, as after a restart."""
        ...


def make_endpoint(namespace: str, number: int, interface: str) -> Endpoint:
    wanted = AttachRequest(EndpointKey(f"c{number}", interface), namespace, network="blue")
    return endpoint_of(wanted, "h1", (address(number, 4), address(number, 6)))


class FakeBench:
    """The fake kernel's."""

    def __init__(self) -> None:
        self.datapath = self.kernel = FakeKernel()
        self._rules: list[str] = []
        for number, name in enumerate(UPLINKS):
            own = Uplink(name, ip_address(f"10.90.{number}.1"), ip_network(f"10.90.{number}.0/31"))
            self.kernel.links[name] = HostLink(addresses=(own,))

    def container(self, number: int, interface: str = "eth0") -> Endpoint:
        path = f"/run/netns/fake-c{number}"
        self.kernel.namespaces.setdefault(path, {})
        return make_endpoint(path, number, interface)

    def end(self, endpoint: Endpoint) -> None:
        self.kernel.end_namespace(endpoint.namespace)

    def take_name(self, endpoint: Endpoint) -> None:
        self.kernel.namespaces[endpoint.namespace][endpoint.key.interface] = Inside("foreign")

    def damage(self, endpoint: Endpoint, what: Damage) -> None:
        four, six = endpoint.addresses
        link = self.kernel.links[endpoint.link]
        inside = self.kernel.namespaces[endpoint.namespace][endpoint.key.interface]
        match what:
            case "link gone":
                self.kernel._remove_link(endpoint.link)
            case "link down":
                link.up = False
            case "route":
                del self.kernel.endpoint_routes[endpoint.table, four]
            case "route6":
                del self.kernel.endpoint_routes[endpoint.table, six]
            case "neighbour":
                del link.neighbours[four]
            case "inner address":
                inside.addresses.discard(four)
            case "inner gateway":
                inside.gateway_known = False
            case "inner default":
                inside.default_route = False

    def set_uplink(self, name: str, *, up: bool) -> None:
        self.kernel.set_link(name, up=up)

    def way(self, target: str, mark: int = 0) -> str:
        return self.kernel.way(target, mark).split("+")[0]

    def foreign_route(self, prefix: Prefix, *, same_metric: bool) -> None:
        metric = DEFAULT_METRIC if same_metric else 0
        self.kernel.routes[254, prefix, metric] = ("up0", "foreign")

    def foreign_nexthop(self, number: int) -> None:
        thing = Nexthop(number, ip_address("10.90.0.0"), "up0")
        self.kernel.nexthops[number] = (thing, "foreign")

    def foreign_link(self, name: str) -> None:
        self.kernel.links[name] = HostLink()

    def foreign_rule(self, priority: int) -> None:
        self._rules.append(f"{priority}: fwmark 0x1")

    def without_device(self, name: str) -> None:
        self.kernel.remove_device(name)

    def foreign(self) -> list[str]:
        kernel = self.kernel
        return sorted(
            [
                *self._rules,
                *(name for name, link in kernel.links.items() if not link.ours),
                *(str(t) for t, owner in kernel.nexthops.values() if owner == "foreign"),
                *(
                    f"{prefix} {metric}"
                    for (_, prefix, metric), (thing, _) in kernel.routes.items()
                    if not isinstance(thing, KernelRoute)
                ),
            ]
        )

    def again(self) -> Datapath:
        return self.kernel


class RealBench:
    """A network namespace as the host, one behind each uplink, one a container."""

    def __init__(self, worker: str) -> None:
        self._prefix = f"nfco{worker}{os.getpid()}-{next(_serial)}-"
        self._spaces: list[Namespace] = []
        self._open: list[Datapath] = []
        self.host = self.space("h")
        self.routers = [self._wire(number) for number in (0, 1)]
        self.datapath = self.routed = RoutedDatapath(self.host.path)
        self._open.append(self.routed)
        self.routed.prepare()

    def space(self, name: str) -> Namespace:
        """Make a namespace that goes with the bench."""
        made = Namespace(self._prefix + name)
        made.create()
        self._spaces.append(made)
        return made

    def _wire(self, number: int) -> Namespace:
        router = self.space(f"r{number}")
        wire((self.host, f"up{number}"), (router, "dn0"))
        for space, link, last in ((self.host, f"up{number}", 1), (router, "dn0", 0)):
            space.run("ip", "addr", "add", f"10.90.{number}.{last}/31", "dev", link)
            space.run(*f"ip addr add fd90:{number}::{last}/127 dev {link} nodad".split())
        for there, via in (("10.1.0.0/16", "10.90.{}.1"), ("fd10:1::/64", "fd90:{}::1")):
            router.run("ip", "route", "add", there, "via", via.format(number))
        for own in ("192.0.2.1/32", "2001:db8::1/128"):
            router.run("ip", "addr", "add", own, "dev", "lo")
        return router

    def close(self) -> None:
        for datapath in self._open:
            datapath.close()
        for space in reversed(self._spaces):
            space.delete()

    def inside(self, endpoint: Endpoint) -> Namespace:
        """Return an endpoint's container."""
        return Namespace(Path(endpoint.namespace).name)

    def container(self, number: int, interface: str = "eth0") -> Endpoint:
        space = Namespace(f"{self._prefix}c{number}")
        if not space.path.exists():
            self.space(f"c{number}")
        return make_endpoint(str(space.path), number, interface)

    def end(self, endpoint: Endpoint) -> None:
        self.inside(endpoint).delete()
        wait_until(lambda: endpoint.link not in self.link_names())

    def take_name(self, endpoint: Endpoint) -> None:
        name = endpoint.key.interface
        self.inside(endpoint).run(*f"ip link add {name} type veth peer name other".split())

    def damage(self, endpoint: Endpoint, what: Damage) -> None:
        four, six = endpoint.addresses
        link, name = endpoint.link, endpoint.key.interface
        inside = self.inside(endpoint)
        space, words = {
            "link gone": (self.host, f"ip link del {link}"),
            "link down": (self.host, f"ip link set {link} down"),
            "route": (self.host, f"ip route del {four} dev {link}"),
            "route6": (self.host, f"ip -6 route del {six} dev {link}"),
            "neighbour": (self.host, f"ip neigh del {four} dev {link}"),
            "inner address": (inside, f"ip addr del {four}/32 dev {name}"),
            "inner gateway": (inside, f"ip neigh del 169.254.1.1 dev {name}"),
            "inner default": (inside, "ip route del default"),
        }[what]
        space.run(*words.split())

    def set_uplink(self, name: str, *, up: bool) -> None:
        self.host.run("ip", "link", "set", name, "up" if up else "down")

    def way(self, target: str, mark: int = 0) -> str:
        done = subprocess.run(
            self.host.command("ip", "-j", "route", "get", target, "mark", str(mark)),
            capture_output=True,
            text=True,
            check=False,
        )
        if "No route to host" in done.stderr or '"type":"unreachable"' in done.stdout:
            return "unreachable"
        found = json.loads(done.stdout or "[]")
        return str(found[0]["dev"]) if found else ""

    def foreign_route(self, prefix: Prefix, *, same_metric: bool) -> None:
        metric = str(DEFAULT_METRIC if same_metric else 0)
        words = f"ip route add {prefix} via 10.90.0.0 proto static metric {metric}"
        self.host.run(*words.split())

    def foreign_nexthop(self, number: int) -> None:
        self.host.run(*f"ip nexthop add id {number} via 10.90.0.0 dev up0".split())

    def foreign_link(self, name: str) -> None:
        self.host.run("ip", "link", "add", name, "type", "veth", "peer", "name", f"x{name[2:]}")
        self.host.run("ip", "link", "set", name, "up")

    def foreign_rule(self, priority: int) -> None:
        self.host.run(*f"ip rule add fwmark 0x1 lookup main priority {priority}".split())

    def without_device(self, name: str) -> None:
        self.host.run("ip", "link", "delete", name)

    def link_names(self) -> set[str]:
        """Return the names of the host's links."""
        return {one["ifname"] for one in json.loads(self.host.run("ip", "-j", "link"))}

    def foreign(self) -> list[str]:
        routes = [
            line
            for family in ("-4", "-6")
            for line in self.host.run("ip", family, "route").splitlines()
            if "proto 200" not in line
        ]
        hops = [
            line for line in self.host.run("ip", "nexthop").splitlines() if "proto 200" not in line
        ]
        links = [name for name in self.link_names() if not name.startswith("nf")]
        rules = [
            line for line in self.host.run("ip", "rule").splitlines() if "proto 200" not in line
        ]
        return sorted([*routes, *hops, *links, *rules])

    def again(self) -> RoutedDatapath:
        other = RoutedDatapath(self.host.path)
        self._open.append(other)
        return other


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition, at most that long."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not come true in time")
        time.sleep(0.01)
