"""Four hosts in two racks, and two tenants whose overlays have the same subnets."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from netfabric.lab.container import Container
from netfabric.lab.lab import Lab
from netfabric.lab.settings import Settings

SUBNETS = {"subnet": "10.5.0.0/16", "ipv6Subnet": "fd10:5::/64"}
TENANTS = ("red", "blue")


@dataclass
class Field:
    """The lab, its containers by tenant and host, and how to write to it."""

    lab: Lab
    containers: dict[tuple[str, str], Container] = field(default_factory=dict)

    def put(self, plural: str, key: str, **body: object) -> None:
        self.lab.controller.ask(lambda netmaster: netmaster.put(plural, key, body))

    def network(self, tenant: str, name: str, encap: str, **more: object) -> None:
        names = {"tenantName": tenant, "networkName": name, "encap": encap}
        self.put("networks", f"{tenant}:{name}", **names, **more)

    def vni(self, tenant: str) -> int:
        key = f"{tenant}:net"
        found = self.lab.controller.ask(lambda netmaster: netmaster.inspect("networks", key))
        return int(found["Oper"]["externalPktTag"])

    def of(self, tenant: str) -> list[Container]:
        return [c for (owner, _), c in self.containers.items() if owner == tenant]


def make(lab: Lab) -> Field:
    """Make the tenants, their networks, and a container of each on every host."""
    made = Field(lab)
    for tenant in TENANTS:
        made.put("tenants", tenant, tenantName=tenant)
        made.network(tenant, "net", "vxlan", **SUBNETS)
    for tenant in TENANTS:
        for host in lab.machines:
            made.containers[tenant, host] = lab.attach(host, f"{tenant}net", f"{tenant}:net")
    return made


@pytest.fixture(scope="module")
def make_field() -> Iterator[Callable[..., Field]]:
    """Bring a lab up by its settings; it is down again after the module."""
    with ExitStack() as stack:

        def bring_up(**wanted: object) -> Field:
            name = f"nfoc{os.getpid() % 100000:05d}"
            lab = Lab(Settings(name=name, containers=0, store="sqlite", **wanted))  # type: ignore[arg-type]
            return make(stack.enter_context(lab))

        yield bring_up
