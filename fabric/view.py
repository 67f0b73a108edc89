"""What a netmaster knows of the store: intent, allocations, endpoints, hosts, routes; indexed, typed.

Keys, under `/netfabric/v1/`: `intent/<type>/<key>`, `alloc/block/<network>/<prefix with _ for />`,
`alloc/loan/<id>`, `alloc/<kind>/<number>`, `endpoint/<host>/<container>/<interface>`, `host/<name>`,
`learned/<host>`, `counted/<host>`, `vtep/<host>`, `guard/holds/<network>`,
`kubernetes/pod/<namespace>/<name>`, `kubernetes/filter/<tenant:name>`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from netfabric.fabric.counts import Tally, load_counts
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import FabricError
from netfabric.fabric.filter import GroupFilter
from netfabric.fabric.index import Index
from netfabric.fabric.intent import network_of, peer_of, peers_of_bgp, port_of, speaker_of
from netfabric.fabric.network import Network
from netfabric.fabric.packed import load_routes
from netfabric.fabric.peer import Peer, Speaker
from netfabric.fabric.placement import Placement
from netfabric.fabric.port import Port, Ports
from netfabric.fabric.prefix import Address, Prefix
from netfabric.fabric.route import LearnedRoute
from netfabric.fabric.session import HeldLoan, SessionStatus
from netfabric.fabric.stored import load

ROOT = "/netfabric/v1/"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of the REST API with the revision of its last change."""

    value: dict[str, Any]
    revision: int


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host whose agent is connected to some netmaster."""

    name: str
    address: str = ""
    software: str = ""
    features: tuple[str, ...] = ()
    sessions: tuple[SessionStatus, ...] = ()
    refused: int = 0
    """Endpoints and routes that origin authorisation refused since the agent connected."""
    vtep: Address | None = None
    """Where it takes VXLAN packets; None: it carries no overlay."""


@dataclass(slots=True)
class ViewChange:
    """Which parts of the view one batch changed."""

    revision: int
    networks: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    """Hosts whose speaker or peers changed."""
    blocks: set[tuple[str, Prefix]] = field(default_factory=set)
    loans: set[str] = field(default_factory=set)
    endpoints: set[tuple[str, EndpointKey]] = field(default_factory=set)
    learned: set[str] = field(default_factory=set)
    vteps: set[str] = field(default_factory=set)
    """Hosts whose VTEP changed."""
    objects: set[tuple[str, str]] = field(default_factory=set)
    pods: set[tuple[str, str]] = field(default_factory=set)
    """(host, `namespace/name`): where it is, and where it was."""
    filters: set[str] = field(default_factory=set)
    """Of pods."""


def block_key(network: str, prefix: Prefix) -> str:
    """Return the store's key of a block."""
    return f"{ROOT}alloc/block/{network}/{str(prefix).replace('/', '_')}"


def loan_key(loan: str) -> str:
    """Return the store's key of a loan."""
    return f"{ROOT}alloc/loan/{loan}"


def holds_key(network: str) -> str:
    """Return the key that every claim of a block and every loan of a network bumps.

    The network's deletion compares it, and so cannot miss one that was made meanwhile: a comparison of
    what is held says nothing of what is not held yet.
    """
    return f"{ROOT}guard/holds/{network}"


def endpoint_key(host: str, key: EndpointKey) -> str:
    """Return the store's key of an endpoint."""
    return f"{ROOT}endpoint/{host}/{key}"


def pod_key(pod: str) -> str:
    """Return the store's key of a pod's placement."""
    return f"{ROOT}kubernetes/pod/{pod}"


def filter_key(name: str) -> str:
    """Return the store's key of a filter of pods."""
    return f"{ROOT}kubernetes/filter/{name}"


def service_key(service: str) -> str:
    """Return the store's key of what a Service of Kubernetes (`namespace/name`) has made."""
    return f"{ROOT}kubernetes/service/{service}"


def host_key(host: str) -> str:
    """Return the store's key of a host's status."""
    return f"{ROOT}host/{host}"


def learned_key(host: str) -> str:
    """Return the store's key of a host's learned routes."""
    return f"{ROOT}learned/{host}"


def vtep_key(host: str) -> str:
    """Return the key of a host's VTEP. It is under no lease: packets go there whether or not the agent is up."""
    return f"{ROOT}vtep/{host}"


def counted_key(host: str) -> str:
    """Return the store's key of what rules have counted on a host."""
    return f"{ROOT}counted/{host}"


class View:
    """The model in memory. `apply` is its only writer; one change costs one change."""

    def __init__(self) -> None:
        self.revision = 0
        self.objects: dict[str, dict[str, Stored]] = {}
        self.index = Index()
        """Of the objects and the tags."""
        self.networks: dict[str, Network] = {}
        self.speakers: dict[str, Speaker] = {}
        self.peers: dict[str, Peer] = {}
        self.ports: dict[str, Port] = {}
        self.blocks: dict[tuple[str, Prefix], str] = {}
        self.blocks_by_network: dict[str, dict[Prefix, str]] = {}
        self.blocks_by_host: dict[str, set[tuple[str, Prefix]]] = {}
        self.loans: dict[str, HeldLoan] = {}
        self.loans_by_address: dict[tuple[str, Address], str] = {}
        self.endpoints: dict[tuple[str, EndpointKey], Endpoint] = {}
        self.endpoints_by_host: dict[str, set[EndpointKey]] = {}
        self.endpoints_by_network: dict[str, set[tuple[str, EndpointKey]]] = {}
        self.endpoints_by_address: dict[tuple[str, Address], tuple[str, EndpointKey]] = {}
        self.hosts: dict[str, HostStatus] = {}
        self.learned: dict[str, tuple[LearnedRoute, ...]] = {}
        self.vteps: dict[str, Address] = {}
        self.tally = Tally()
        self.pods: dict[str, Placement] = {}
        self.pods_by_host: dict[str, set[str]] = {}
        self.filters: dict[str, GroupFilter] = {}
        """Of pods; those of endpoint groups are made of objects."""
        self.services: dict[str, str] = {}
        """Keys of serviceLB objects by the Service of Kubernetes (`namespace/name`) that they were made for."""
        self.tags: dict[str, int] = {}
        """Allocated numbers by `kind/number`, with the revision."""
        self.owners: dict[str, str] = {}
        """Whom they were allocated to."""
        self.revisions: dict[str, int] = {}
        """Of every key that is there."""
        self.broken: dict[str, str] = {}
        """Keys whose value could not be read, and why."""

    def apply(
        self, puts: Iterable[tuple[str, bytes, int]], deletes: Iterable[str], revision: int
    ) -> ViewChange:
        """Take one batch of the store's changes; return what they touched."""
        change = ViewChange(revision)
        for key in deletes:
            self.revisions.pop(key, None)
            self.broken.pop(key, None)
            self._take(key, None, 0, change)
        for key, value, at in puts:
            self.revisions[key] = at
            self.broken.pop(key, None)
            try:
                self._take(key, value, at, change)
            except (FabricError, ValueError, KeyError, TypeError, AttributeError) as error:
                self.broken[key] = str(error)
        self.revision = revision
        return change

    def clear(self) -> ViewChange:
        """Forget everything, before a new listing; return what there was."""
        gone = list(self.revisions)
        return self.apply((), gone, self.revision)

    def _take(self, key: str, value: bytes | None, revision: int, change: ViewChange) -> None:
        kind, _, rest = key.removeprefix(ROOT).partition("/")
        match kind:
            case "intent":
                type_, _, name = rest.partition("/")
                self._intent(type_, name, value, revision, change)
            case "alloc":
                self._alloc(rest, value, revision, change)
            case "endpoint":
                host, container, interface = rest.split("/", 2)
                self._endpoint(host, EndpointKey(container, interface), value, change)
            case "host":
                self._host(rest, value)
                change.hosts.add(rest)
            case "kubernetes":
                what, _, name = rest.partition("/")
                self._kubernetes(what, name, value, change)
            case "counted":
                self.tally.put(rest, () if value is None else load_counts(value))
            case "learned":
                change.learned.add(rest)
                if value is None:
                    self.learned.pop(rest, None)
                else:
                    self.learned[rest] = load_routes(value)
            case "vtep":
                change.vteps.add(rest)
                self.vteps.pop(rest, None)
                if value is not None:
                    self.vteps[rest] = ip_address(json.loads(value))

    def _intent(
        self, type_: str, key: str, value: bytes | None, revision: int, change: ViewChange
    ) -> None:
        change.objects.add((type_, key))
        obj = None if value is None else json.loads(value)
        if value is not None and not isinstance(obj, dict):
            raise TypeError("no JSON object")
        self.place(type_, key, None if obj is None else Stored(obj, revision))
        match type_:
            case "network":
                change.networks.add(key)
                self.networks.pop(key, None)
                if obj is not None:
                    self.networks[key] = network_of(obj, self._forward_mode())
            case "Bgp":
                self._bgp(key, obj, change)
            case "peer":
                self._peer(key, obj, change)
            case "port":
                self.ports.pop(key, None)
                if obj is not None:
                    self.ports[key] = port_of(obj)

    def place(self, type_: str, key: str, stored: Stored | None) -> Stored | None:
        """Put an object where it belongs, or remove it; return the one that was there."""
        of_type = self.objects.setdefault(type_, {})
        before = of_type.get(key)
        if stored is not None:
            of_type[key] = stored
        elif before is not None:
            del of_type[key]
        self.index.replace(
            type_, key, before.value if before else None, stored.value if stored else None
        )
        return before

    def allocate(self, name: str, revision: int) -> int:
        """Note the revision of the tag `kind/number`, 0 where nobody has it; return the one before."""
        before = self.tags.pop(name, 0)
        if revision:
            self.tags[name] = revision
        if bool(before) != bool(revision):
            self.index.allocate(name, taken=bool(revision))
        return before

    def _forward_mode(self) -> str:
        stored = self.objects.get("global", {}).get("global")
        return str(stored.value.get("fwdMode", "")) if stored else ""

    def _bgp(self, host: str, obj: dict[str, Any] | None, change: ViewChange) -> None:
        """A Bgp object is a host's speaker, and its neighbour a peer named by its address."""
        change.hosts.add(host)
        self.speakers.pop(host, None)
        for key in [
            k for k, p in self.peers.items() if p.host == host and p.name == str(p.address)
        ]:
            if key not in self.objects.get("peer", {}):
                del self.peers[key]
        if obj is not None:
            self.speakers[host] = speaker_of(obj)
            for peer in peers_of_bgp(obj):
                self.peers.setdefault(peer.key, peer)

    def _peer(self, key: str, obj: dict[str, Any] | None, change: ViewChange) -> None:
        change.hosts.add(key.partition(":")[0])
        self.peers.pop(key, None)
        if obj is not None:
            self.peers[key] = peer_of(obj)

    def peers_of(self, host: str) -> tuple[Peer, ...]:
        """Return a host's peers, by key."""
        found = [peer for peer in self.peers.values() if peer.host == host]
        return tuple(sorted(found, key=lambda peer: peer.key))

    def ports_of(self, host: str) -> Ports:
        """Return a host's ports, by key."""
        return Ports(tuple(p for _, p in sorted(self.ports.items()) if p.host == host))

    def _alloc(self, rest: str, value: bytes | None, revision: int, change: ViewChange) -> None:
        kind, _, name = rest.partition("/")
        if kind == "block":
            network, _, prefix = name.rpartition("/")
            self._block(network, ip_network(prefix.replace("_", "/")), value, change)
        elif kind == "loan":
            self._loan(name, value, change)
        else:
            self.owners.pop(rest, None)
            self.allocate(rest, 0 if value is None else revision)
            if value is not None:
                self.owners[rest] = str(json.loads(value)["owner"])

    def _loan(self, name: str, value: bytes | None, change: ViewChange) -> None:
        change.loans.add(name)
        before = self.loans.pop(name, None)
        if before is not None and before.address is not None:
            self.loans_by_address.pop((before.network, before.address), None)
        if value is not None:
            loan = self.loans[name] = load(HeldLoan, value)
            if loan.address is not None:
                self.loans_by_address[loan.network, loan.address] = name

    def _block(self, network: str, prefix: Prefix, value: bytes | None, change: ViewChange) -> None:
        change.blocks.add((network, prefix))
        before = self.blocks.pop((network, prefix), None)
        if before is not None:
            self.blocks_by_host[before].discard((network, prefix))
            self.blocks_by_network[network].pop(prefix, None)
        if value is not None:
            host = str(json.loads(value)["host"])
            self.blocks[network, prefix] = host
            self.blocks_by_host.setdefault(host, set()).add((network, prefix))
            self.blocks_by_network.setdefault(network, {})[prefix] = host

    def _endpoint(
        self, host: str, key: EndpointKey, value: bytes | None, change: ViewChange
    ) -> None:
        change.endpoints.add((host, key))
        where = (host, key)
        before = self.endpoints.pop(where, None)
        if before is not None:
            network = f"{before.tenant}:{before.network}"
            self.endpoints_by_host[host].discard(key)
            self.endpoints_by_network[network].discard(where)
            for address in before.addresses:
                if self.endpoints_by_address.get((network, address)) == where:
                    del self.endpoints_by_address[network, address]
        if value is not None:
            endpoint = load(Endpoint, value)
            network = f"{endpoint.tenant}:{endpoint.network}"
            self.endpoints[where] = endpoint
            self.endpoints_by_host.setdefault(host, set()).add(key)
            self.endpoints_by_network.setdefault(network, set()).add(where)
            self.endpoints_by_address.update(
                ((network, address), where) for address in endpoint.addresses
            )

    def _host(self, name: str, value: bytes | None) -> None:
        self.hosts.pop(name, None)
        if value is not None:
            self.hosts[name] = load(HostStatus, value)

    def _kubernetes(self, what: str, name: str, value: bytes | None, change: ViewChange) -> None:
        if what == "filter":
            change.filters.add(name)
            self.filters.pop(name, None)
            if value is not None:
                self.filters[name] = load(GroupFilter, value)
        elif what == "pod":
            self._pod(name, value, change)
        elif what == "service":
            self.services.pop(name, None)
            if value is not None:
                self.services[name] = str(json.loads(value)["key"])

    def _pod(self, name: str, value: bytes | None, change: ViewChange) -> None:
        before = self.pods.pop(name, None)
        if before is not None:
            change.pods.add((before.host, name))
            self.pods_by_host[before.host].discard(name)
        if value is not None:
            placed = self.pods[name] = load(Placement, value)
            change.pods.add((placed.host, name))
            self.pods_by_host.setdefault(placed.host, set()).add(name)

    def host_routes(self, host: str = "") -> list[LearnedRoute]:
        """Return the routes of endpoints, of one host or of all."""
        keys = (
            [(host, key) for key in self.endpoints_by_host.get(host, ())]
            if host
            else list(self.endpoints)
        )
        routes = []
        for where in keys:
            endpoint = self.endpoints[where]
            routes += [
                LearnedRoute(prefix, endpoint.host, (), origin="endpoint", tenant=endpoint.tenant)
                for prefix in endpoint.prefixes
            ]
        return routes

    def blocks_of(self, network: str) -> Iterable[Prefix]:
        """Return the blocks of a network that some host holds."""
        return tuple(self.blocks_by_network.get(network, ()))
