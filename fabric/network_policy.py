"""Kubernetes NetworkPolicies (networking.k8s.io/v1) as filters: what each set of policies means for the pods that it selects."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Self

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.filter import (
    ANYONE,
    Direction,
    FilterRule,
    GroupFilter,
    PeerMatch,
    PortRange,
)
from netfabric.fabric.placement import PODS
from netfabric.fabric.pod import Pod
from netfabric.fabric.rule_reading import addresses
from netfabric.fabric.selector import EVERYTHING, Labels, Object, Selector

ISOLATED, ALLOWED = 1, 2
"""Priorities: what no policy allows, of pods that some policy selects; and what one allows."""
OWNER = "kubernetes"
"""In place of a tenant, in the names of these rules."""
NamedPort = tuple[str, str]
"""(name, protocol)."""
Numbers = Callable[[NamedPort], Iterable[int]]
"""Returns the numbers that a named port has in any pod."""
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "132"}


@dataclass(frozen=True, slots=True)
class PodPeer:
    """Pods as one end of a rule."""

    namespace: str
    """Theirs, where `where` is None."""
    where: Selector | None = None
    """Of their namespaces' labels."""
    who: Selector = EVERYTHING

    def means(self, pod: Pod, namespaces: Mapping[str, Labels]) -> bool:
        """Return whether a pod is chosen."""
        if self.where is None:
            here = pod.namespace == self.namespace
        else:
            here = self.where.chooses(namespaces.get(pod.namespace, {}))
        return here and self.who.chooses(pod.labels)


@dataclass(frozen=True, slots=True)
class PeerGroup:
    """Pods of a tenant that rules speak of, and of which netmaster tells every host the addresses."""

    tenant: str
    peer: PodPeer | None = None
    """None: every pod."""
    port: NamedPort | None = None
    number: int = 0
    """Only those of which the named port has this number."""

    @property
    def key(self) -> str:
        """Return the group's key, `tenant:name`: the same for the same pods, whichever policy speaks of them."""
        return f"{self.tenant}:{PODS}peer-{_digest(repr((self.peer, self.port, self.number)))}"

    @property
    def namespace(self) -> str:
        """Return the namespace that all its pods are in; "" where they may be in any."""
        return self.peer.namespace if self.peer is not None else ""

    def means(self, pod: Pod, namespaces: Mapping[str, Labels]) -> bool:
        """Return whether a pod of the tenant is chosen."""
        if self.port is not None and pod.ports.get(self.port) != self.number:
            return False
        return self.peer is None or self.peer.means(pod, namespaces)


@dataclass(frozen=True, slots=True)
class Port:
    """Ports of the receiver: a range, or those of a name."""

    protocol: str
    """TCP, UDP or SCTP."""
    ranges: tuple[PortRange, ...] = ()
    """None, and no name: all."""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of `ingress` or `egress`: these peers, on these ports; none of either means all."""

    id: str
    direction: Direction
    peers: tuple[PodPeer | PeerMatch, ...]
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """One policy, read."""

    name: str
    """`namespace/name`."""
    namespace: str
    selector: Selector
    directions: tuple[Direction, ...]
    """In which it isolates the pods that it selects."""
    entries: tuple[Entry, ...]

    @classmethod
    def parse(cls, raw: Object) -> Self:
        """Read a policy as the API has it; raise InvalidError."""
        meta, spec = raw["metadata"], raw.get("spec") or {}
        namespace = meta["namespace"]
        directions = _directions(spec)
        return cls(
            name=f"{namespace}/{meta['name']}",
            namespace=namespace,
            selector=Selector.parse(spec.get("podSelector")),
            directions=directions,
            entries=tuple(e for d in directions for e in _entries(spec, d, namespace)),
        )

    def selects(self, pod: Pod) -> bool:
        """Return whether a pod is one of those that it is about."""
        return pod.namespace == self.namespace and self.selector.chooses(pod.labels)

    def named(self, direction: Direction) -> frozenset[NamedPort]:
        """Return the named ports that it speaks of."""
        ports = [p for e in self.entries if e.direction == direction for p in e.ports if p.name]
        return frozenset((port.name, port.protocol) for port in ports)


def _directions(spec: Object) -> tuple[Direction, ...]:
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    named: tuple[tuple[str, Direction], ...] = (("Ingress", "in"), ("Egress", "out"))
    return tuple(direction for name, direction in named if name in types)


def _entries(spec: Object, direction: Direction, namespace: str) -> Iterator[Entry]:
    section, side = ("ingress", "from") if direction == "in" else ("egress", "to")
    for number, raw in enumerate(spec.get(section) or ()):
        yield Entry(
            f"{section}.{number}",
            direction,
            tuple(_peer(peer, namespace) for peer in raw.get(side) or ()),
            tuple(_port(port) for port in raw.get("ports") or ()),
        )


def _peer(raw: Object, namespace: str) -> PodPeer | PeerMatch:
    if block := raw.get("ipBlock"):
        without = tuple(p for text in block.get("except") or () for p in addresses(text))
        return PeerMatch("", addresses(block["cidr"]), without)
    where = raw.get("namespaceSelector")
    found = None if where is None else Selector.parse(where)
    return PodPeer(
        namespace if found is None else "", found, Selector.parse(raw.get("podSelector"))
    )


def _port(raw: Object) -> Port:
    protocol, number = raw.get("protocol") or "TCP", raw.get("port")
    if protocol not in _PROTOCOLS:
        raise InvalidError(f"protocol {protocol!r}", f"one of {', '.join(_PROTOCOLS)}")
    if number is None:
        return Port(protocol)
    if isinstance(number, int):
        last = raw.get("endPort") or number
        if not 1 <= number <= last <= 65535:
            raise InvalidError(f"ports {number} to {last}: no range of ports", "1 to 65535")
        return Port(protocol, (PortRange(number, last),))
    return Port(protocol, name=number)


@dataclass(frozen=True, slots=True)
class Guarded:
    """Pods that are guarded alike: of one tenant, selected by the same policies, with the same named ports."""

    tenant: str
    policies: tuple[str, ...]
    """`namespace/name`, sorted."""
    ports: tuple[tuple[NamedPort, int], ...] = ()
    """Of those that the policies speak of: what they are in these pods."""
    group: str = ""
    """Their endpoint group, `tenant:group`: its rules hold as well."""

    @property
    def key(self) -> str:
        """Return the filter's key, `tenant:name`."""
        namespace = self.policies[0].partition("/")[0]
        return f"{self.tenant}:{PODS}{namespace}-{_digest(repr((self.policies, self.ports, self.group)))}"


def guarded(pod: Pod, tenant: str, group: str, policies: Iterable[NetworkPolicy]) -> Guarded | None:
    """Return with whom a pod is guarded alike; None where no policy selects it: everything may reach it."""
    chosen = sorted((p for p in policies if p.selects(pod)), key=lambda p: p.name)
    if not chosen:
        return None
    named = sorted({port for policy in chosen for port in policy.named("in")})
    ports = tuple((port, pod.ports[port]) for port in named if port in pod.ports)
    own = f"{tenant}:{group}" if group else ""
    return Guarded(tenant, tuple(policy.name for policy in chosen), ports, own)


def filter_of(
    group: Guarded, policies: Sequence[NetworkPolicy], numbers: Numbers
) -> tuple[GroupFilter, tuple[PeerGroup, ...]]:
    """Return the filter of pods that these policies select, and the groups of peers that it speaks of."""
    compiled = _Compiled(group, numbers)
    rules = [rule for policy in policies for rule in compiled.rules(policy)]
    isolated = {direction for policy in policies for direction in policy.directions}
    rules += [
        FilterRule("isolated", f"{OWNER}:", direction, "deny", ISOLATED)
        for direction in sorted(isolated)
    ]
    ordered = tuple(sorted(rules, key=lambda rule: rule.order))
    made = GroupFilter(group.key, "allow", ordered, also=group.group)
    return made, tuple(compiled.peers.values())


class _Compiled:
    """One filter in the making: its rules, and the groups that they speak of."""

    def __init__(self, group: Guarded, numbers: Numbers) -> None:
        self._group = group
        self._own = dict(group.ports)
        self._numbers = numbers
        self.peers: dict[str, PeerGroup] = {}

    def rules(self, policy: NetworkPolicy) -> Iterator[FilterRule]:
        for entry in policy.entries:
            for at, (peer, protocol, ports) in enumerate(self._matches(entry)):
                yield FilterRule(
                    id=f"{entry.id}.{at}",
                    policy=f"{OWNER}:{policy.name}",
                    direction=entry.direction,
                    action="allow",
                    priority=ALLOWED,
                    protocol=protocol,
                    ports=ports,
                    peer=peer,
                )

    def _matches(self, entry: Entry) -> Iterator[tuple[PeerMatch, str, tuple[PortRange, ...]]]:
        """Yield (peer, protocol, ports) for each peer and port of an entry."""
        for peer in entry.peers or (None,):
            if not entry.ports:
                yield self._match(peer), "", ()
            for port in entry.ports:
                protocol = _PROTOCOLS[port.protocol]
                if not port.name:
                    yield self._match(peer), protocol, port.ranges
                elif entry.direction == "in":
                    if number := self._own.get((port.name, port.protocol)):
                        yield self._match(peer), protocol, (PortRange(number, number),)
                else:
                    yield from self._named(peer, (port.name, port.protocol), protocol)

    def _named(
        self, peer: PodPeer | PeerMatch | None, port: NamedPort, protocol: str
    ) -> Iterator[tuple[PeerMatch, str, tuple[PortRange, ...]]]:
        """Yield a match for each number that a receiver's port of a name may have: each has its own."""
        pods = None if isinstance(peer, PeerMatch) else peer
        for number in sorted(set(self._numbers(port))):
            match = self._members(PeerGroup(self._group.tenant, pods, port, number))
            if isinstance(peer, PeerMatch):
                match = replace(peer, group=match.group)  # pods with an address in the block
            yield match, protocol, (PortRange(number, number),)

    def _match(self, peer: PodPeer | PeerMatch | None) -> PeerMatch:
        if peer is None:
            return ANYONE
        if isinstance(peer, PeerMatch):
            return peer
        return self._members(PeerGroup(self._group.tenant, peer))

    def _members(self, group: PeerGroup) -> PeerMatch:
        self.peers[group.key] = group
        return PeerMatch(group.key)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
