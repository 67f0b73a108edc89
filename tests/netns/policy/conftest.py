"""A fabric of two hosts with containers of several groups, and two tenants."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from netfabric.lab.container import Container as Attached
from netfabric.lab.lab import Lab
from netfabric.lab.settings import Settings
from tests.netns.policy.probing import Range
from tests.policy_reference import Container, Object

NETWORKS: tuple[Object, ...] = (
    {
        "tenantName": "default",
        "networkName": "lab",
        "subnet": "10.1.0.0/16",
        "ipv6Subnet": "fd10:1::/64",
    },
    {
        "tenantName": "default",
        "networkName": "other",
        "encap": "routed",
        "subnet": "10.2.0.0/24",
        "ipv6Subnet": "fd10:2::/64",
    },
    {
        "tenantName": "red",
        "networkName": "rnet",
        "encap": "routed",
        "subnet": "10.9.0.0/24",
        "ipv6Subnet": "fd10:9::/64",
    },
)
PLACES = {
    "web": ("h1", "default:lab", "web"),
    "db": ("h2", "default:lab", "db"),
    "cache": ("h1", "default:other", "cache"),
    "loose": ("h2", "default:lab", ""),
    "red": ("h1", "red:rnet", "red"),
}
"""Containers by name: host, network, group."""
GROUPS = {"web": "lab", "db": "lab", "cache": "other"}
"""Those of tenant default that have policies, one each, of the group's name; and their networks."""
WITH_POLICY = [
    *(("default", name, network) for name, network in GROUPS.items()),
    ("red", "red", "rnet"),
]
"""Tenant, group and network of every group that has a policy."""

TCP_PORTS, UDP_PORTS = (22, 80, 8080), (53, 5000)


@dataclass
class Field:
    """The lab, and how to write to it."""

    lab: Lab
    containers: dict[str, Attached]

    def put(self, plural: str, key: str, body: Object) -> None:
        self.lab.controller.ask(lambda netmaster: netmaster.put(plural, key, body))

    def remove(self, plural: str, key: str) -> None:
        self.lab.controller.ask(lambda netmaster: netmaster.delete(plural, key))

    def group(self, name: str, network: str, tenant: str = "default", **more: object) -> Object:
        body: Object = {"tenantName": tenant, "groupName": name, "networkName": network} | more
        self.put("endpoint-groups", f"{tenant}:{name}", body)
        return body

    def members(self) -> list[Container]:
        """Return every container as the reference evaluator knows it, once a family."""
        return [
            Container(self.containers[name].network.partition(":")[0], group, address)
            for name, (_, _, group) in PLACES.items()
            for address in self.containers[name].addresses
        ]


@pytest.fixture(scope="module")
def world() -> Iterator[Field]:
    name = f"nfpb{os.getpid() % 100000:05d}"
    with Lab(Settings(name=name, racks=1, hosts=2, tors=1, containers=0)) as lab:
        field = Field(lab, {})
        hosts = dict(zip(("h1", "h2"), lab.machines, strict=True))
        field.put("tenants", "red", {"tenantName": "red"})
        for network in NETWORKS[1:]:
            field.put("networks", f"{network['tenantName']}:{network['networkName']}", network)
        for tenant, group, network_name in WITH_POLICY:
            field.put("policies", f"{tenant}:{group}", {"tenantName": tenant, "policyName": group})
            field.group(group, network_name, tenant, policies=[group])
        field.containers |= {
            container: lab.attach(hosts[host], container, network, group=group)
            for container, (host, network, group) in PLACES.items()
        }
        lab.wait_for_routes(lab.containers())
        yield field


@pytest.fixture(scope="module")
def probes(world: Field) -> Iterator[Range]:
    containers = world.containers
    addresses: dict[str, dict[int, str]] = {
        name: {address.version: str(address) for address in container.addresses}
        for name, container in containers.items()
    }
    namespaces = {name: container.namespace for name, container in containers.items()}
    with Range(namespaces, addresses, TCP_PORTS, UDP_PORTS) as made:
        yield made
