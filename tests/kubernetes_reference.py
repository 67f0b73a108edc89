"""What NetworkPolicies mean, in the plainest way: the documentation's words over the API's objects, and nothing of the product."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Connection:
    """From one pod to another, `namespace/name`, with their addresses."""

    source: str
    target: str
    source_address: str
    target_address: str
    protocol: str
    port: int


@dataclass
class World:
    """Namespaces' labels by name, pods and policies by `namespace/name`."""

    namespaces: Mapping[str, Mapping[str, str]]
    pods: Mapping[str, Object]
    policies: Mapping[str, Object]

    def passes(self, one: Connection) -> bool:
        """Return whether both ends' policies let a connection open."""
        return self._end(one, "Egress") and self._end(one, "Ingress")

    def _end(self, one: Connection, side: str) -> bool:
        own, other = (one.source, one.target) if side == "Egress" else (one.target, one.source)
        address = one.target_address if side == "Egress" else one.source_address
        about = [
            policy["spec"]
            for policy in self.policies.values()
            if self._selects(policy, own) and side in _types(policy["spec"])
        ]
        section, ends = ("egress", "to") if side == "Egress" else ("ingress", "from")
        return not about or any(
            self._peer_fits(own, entry.get(ends), other, address)
            and self._port_fits(entry.get("ports"), one)
            for spec in about
            for entry in spec.get(section) or ()
        )

    def _selects(self, policy: Object, pod: str) -> bool:
        here = policy["metadata"]["namespace"] == pod.split("/")[0]
        return here and chosen(policy["spec"].get("podSelector"), self._labels(pod))

    def _labels(self, pod: str) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.pods[pod]["metadata"]["labels"]
        return labels

    def _peer_fits(
        self, own: str, peers: Sequence[Object] | None, other: str, address: str
    ) -> bool:
        return not peers or any(self._one_peer(own, peer, other, address) for peer in peers)

    def _one_peer(self, own: str, peer: Object, other: str, address: str) -> bool:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            inside = _within(address, block["cidr"])
            return inside and not any(_within(address, e) for e in block.get("except", ()))
        namespace = other.split("/")[0]
        if peer.get("namespaceSelector") is None:
            near = namespace == own.split("/")[0]
        else:
            near = chosen(peer["namespaceSelector"], self.namespaces.get(namespace, {}))
        return near and chosen(peer.get("podSelector"), self._labels(other))

    def _port_fits(self, ports: Sequence[Object] | None, one: Connection) -> bool:
        return not ports or any(self._one_port(port, one) for port in ports)

    def _one_port(self, port: Object, one: Connection) -> bool:
        if port.get("protocol", "TCP") != one.protocol:
            return False
        wanted = port.get("port")
        if wanted is None:
            return True
        if isinstance(wanted, int):
            return bool(wanted <= one.port <= (port.get("endPort") or wanted))
        return any(
            known.get("name") == wanted
            and known.get("protocol", "TCP") == one.protocol
            and known["containerPort"] == one.port
            for container in self.pods[one.target]["spec"]["containers"]
            for known in container.get("ports", ())
        )


def _types(spec: Object) -> Sequence[str]:
    given: Sequence[str] | None = spec.get("policyTypes")
    return given or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])


def _within(address: str, prefix: str) -> bool:
    return ip_address(address) in ip_network(prefix)


def chosen(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Return whether a label selector chooses what has these labels."""
    selector = selector or {}
    for name, value in (selector.get("matchLabels") or {}).items():
        if labels.get(name) != value:
            return False
    for one in selector.get("matchExpressions") or ():
        value, values = labels.get(one["key"]), one.get("values", ())
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[one["operator"]]:
            return False
    return True
