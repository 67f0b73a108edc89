"""What the operator of a lab tells netmaster: a network, each host's AS, its ToRs as peers."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from netfabric.lab.plan import NETWORK, SUBNETS, TENANT, Node, Plan


class Put(NamedTuple):
    """One object of `/api/v2`, to be created or replaced."""

    plural: str
    key: str
    body: dict[str, Any]


def intent(plan: Plan) -> Iterator[Put]:
    """Yield the objects in the order in which they refer to each other."""
    yield Put("tenants", TENANT, {"tenantName": TENANT})
    yield network(TENANT, NETWORK, str(SUBNETS[0]), str(SUBNETS[1]))
    for host in plan.hosts:
        yield from _speaker(plan, host)


def network(tenant: str, name: str, subnet: str, subnet6: str) -> Put:
    """Return a routed network."""
    body = {
        "tenantName": tenant,
        "networkName": name,
        "encap": "routed",
        "subnet": subnet,
        "ipv6Subnet": subnet6,
    }
    return Put("networks", f"{tenant}:{name}", body)


def _speaker(plan: Plan, host: Node) -> Iterator[Put]:
    first = next(own for own, _ in plan.peerings(host.name))
    body = {"hostname": host.name, "as": str(host.asn), "routerip": str(first.v4)}
    yield Put("bgps", host.name, body)
    for _, other in plan.peerings(host.name):
        asn = plan.node(other.node).asn
        for suffix, there in (("", other.v4), ("-v6", other.v6)):
            assert there
            peer = {
                "hostname": host.name,
                "peerName": other.node + suffix,
                "address": str(there.ip),
                "as": asn,
            }
            yield Put("peers", f"{host.name}:{other.node}{suffix}", peer)
