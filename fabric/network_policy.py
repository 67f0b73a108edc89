"""Kubernetes NetworkPolicies as filters and members: a translation, of the objects as its API has them (networking.k8s.io/v1)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import product
from typing import Any

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.filter import (
    ANYONE,
    Direction,
    FilterRule,
    GroupFilter,
    Members,
    PeerMatch,
    PortRange,
)
from netfabric.fabric.prefix import Address, Prefix, host_prefix, parse_prefix

Object = Mapping[str, Any]
Labels = Mapping[str, str]
TENANT = "kubernetes"
ISOLATED, ALLOWED = 1, 2
"""Priorities: what no policy allows, of pods that some policy selects; and what one allows."""
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "132"}


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as policies see it."""

    namespace: str
    name: str
    addresses: tuple[Address, ...]
    labels: Labels = field(default_factory=dict)
    ports: tuple[tuple[str, str, int], ...] = ()
    """Named ports: (name, TCP, UDP or SCTP, number)."""

    @property
    def key(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def port(self, name: str, protocol: str) -> int | None:
        """Return a named port's number."""
        return next((n for known, of, n in self.ports if (known, of) == (name, protocol)), None)


@dataclass(frozen=True, slots=True)
class Translation:
    """Filters of groups of pods that the same policies select, who is in which, and the peers' addresses."""

    filters: tuple[GroupFilter, ...]
    members: tuple[Members, ...]
    groups: Mapping[str, str]
    """Each selected pod's group, by `namespace/name`. The others have none: everything may reach them."""


def selects(selector: Object, labels: Labels) -> bool:
    """Return whether a label selector chooses what has these labels; an empty one chooses everything."""
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or ()
    return all(labels.get(name) == value for name, value in wanted.items()) and all(
        _holds(expression, labels) for expression in expressions
    )


def _holds(expression: Object, labels: Labels) -> bool:
    value = labels.get(expression["key"])
    values = expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise InvalidError(
        f"selector: operator {expression['operator']!r}", "In, NotIn, Exists or DoesNotExist"
    )


def translate(
    policies: Iterable[Object], pods: Sequence[Pod], namespaces: Mapping[str, Labels]
) -> Translation:
    """Return what policies mean for pods; `namespaces` are labels by name. Raises InvalidError."""
    return _Translator(sorted(policies, key=_name), pods, namespaces).done()


def _name(policy: Object) -> str:
    return f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"


def directions_of(spec: Object) -> tuple[Direction, ...]:
    """Return in which directions a policy isolates the pods that it selects."""
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    named: tuple[tuple[str, Direction], ...] = (("Ingress", "in"), ("Egress", "out"))
    return tuple(direction for name, direction in named if name in types)


class _Translator:
    def __init__(
        self, policies: Sequence[Object], pods: Sequence[Pod], namespaces: Mapping[str, Labels]
    ) -> None:
        self._policies = policies
        self._pods = pods
        self._namespaces = namespaces
        self._members: dict[str, Members] = {}

    def done(self) -> Translation:
        alike: dict[tuple[str, ...], list[Pod]] = {}
        for pod in self._pods:
            names = tuple(_name(p) for p in self._policies if self._selected(p, pod))
            if names:
                alike.setdefault(names, []).append(pod)
        filters = [self._filter(names, pods) for names, pods in sorted(alike.items())]
        groups = {pod.key: _group(names) for names, pods in alike.items() for pod in pods}
        members = tuple(self._members[key] for key in sorted(self._members))
        return Translation(tuple(filters), members, groups)

    def _selected(self, policy: Object, pod: Pod) -> bool:
        here = policy["metadata"]["namespace"] == pod.namespace
        return here and selects(policy["spec"].get("podSelector") or {}, pod.labels)

    def _filter(self, names: tuple[str, ...], own: Sequence[Pod]) -> GroupFilter:
        chosen = [policy for policy in self._policies if _name(policy) in names]
        isolated = {d for policy in chosen for d in directions_of(policy["spec"])}
        rules = [rule for policy in chosen for rule in self._rules(policy, own)]
        rules += [
            FilterRule("isolated", f"{TENANT}:", direction, "deny", ISOLATED)
            for direction in sorted(isolated)
        ]
        return GroupFilter(_group(names), "allow", tuple(sorted(rules, key=lambda r: r.order)))

    def _rules(self, policy: Object, own: Sequence[Pod]) -> Iterator[FilterRule]:
        spec = policy["spec"]
        for direction in directions_of(spec):
            section, side = ("ingress", "from") if direction == "in" else ("egress", "to")
            for number, entry in enumerate(spec.get(section) or ()):
                made = self._entry(policy, direction, entry, side, own)
                for at, (peer, ends, protocol, ports) in enumerate(made):
                    yield FilterRule(
                        id=f"{section}.{number}.{at}",
                        policy=f"{TENANT}:{_name(policy)}",
                        direction=direction,
                        action="allow",
                        priority=ALLOWED,
                        protocol=protocol,
                        ports=ports,
                        peer=peer,
                        own=ends,
                    )

    def _entry(
        self, policy: Object, direction: Direction, entry: Object, side: str, own: Sequence[Pod]
    ) -> Iterator[tuple[PeerMatch, tuple[Prefix, ...], str, tuple[PortRange, ...]]]:
        """Yield a rule for each peer and port: (peer, own addresses, protocol, ports)."""
        namespace = policy["metadata"]["namespace"]
        peers = [self._peer(peer, namespace) for peer in entry.get(side) or ()]
        for (peer, pods), port in product(
            peers or [(ANYONE, self._pods)], entry.get("ports") or [{}]
        ):
            protocol = port.get("protocol", "TCP")
            if protocol not in _PROTOCOLS:
                raise InvalidError(f"protocol {protocol!r}", f"one of {', '.join(_PROTOCOLS)}")
            number, name = port.get("port"), _PROTOCOLS[protocol]
            if not port:
                yield peer, (), "", ()
            elif number is None:
                yield peer, (), name, ()
            elif isinstance(number, int):
                yield peer, (), name, (PortRange(number, port.get("endPort") or number),)
            else:
                receivers = own if direction == "in" else pods
                for found, ends in _named(number, protocol, receivers):
                    ports = (PortRange(found, found),)
                    if direction == "in":
                        yield peer, ends, name, ports
                    else:
                        yield PeerMatch(prefixes=ends), (), name, ports

    def _peer(self, peer: Object, namespace: str) -> tuple[PeerMatch, Sequence[Pod]]:
        """Return what a peer matches, and which pods it means."""
        if block := peer.get("ipBlock"):
            without = tuple(parse_prefix(text) for text in block.get("except") or ())
            return PeerMatch("", (parse_prefix(block["cidr"]),), without), ()
        found = [pod for pod in self._pods if self._meant(peer, namespace, pod)]
        where = peer.get("namespaceSelector")
        key = f"{TENANT}:peer-{_digest(repr((namespace if where is None else where, peer)))}"
        addresses = frozenset(address for pod in found for address in pod.addresses)
        self._members[key] = Members(key, addresses)
        return PeerMatch(key), found

    def _meant(self, peer: Object, namespace: str, pod: Pod) -> bool:
        where = peer.get("namespaceSelector")
        if where is None:
            if pod.namespace != namespace:
                return False
        elif not selects(where, self._namespaces.get(pod.namespace, {})):
            return False
        return selects(peer.get("podSelector") or {}, pod.labels)


def _named(
    name: str, protocol: str, pods: Sequence[Pod]
) -> Iterator[tuple[int, tuple[Prefix, ...]]]:
    """Yield each number that a named port has, with the addresses of the pods where it does."""
    found: dict[int, list[Prefix]] = {}
    for pod in pods:
        number = pod.port(name, protocol)
        if number is not None:
            found.setdefault(number, []).extend(map(host_prefix, pod.addresses))
    for number, ends in sorted(found.items()):
        yield number, tuple(ends)


def _group(names: tuple[str, ...]) -> str:
    return f"{TENANT}:pods-{_digest(repr(names))}"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
