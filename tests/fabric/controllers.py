"""A view with a store's manners, for netmaster's decisions without a store."""

import json
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from netfabric.fabric.controller_blocks import Given, Lending, decide_block, decide_lent
from netfabric.fabric.controller_endpoints import decide_endpoints
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.errors import StaleError
from netfabric.fabric.prefix import Address, Prefix
from netfabric.fabric.session import BlockWanted, LendAnswered
from netfabric.fabric.view import ROOT, View, ViewChange
from netfabric.fabric.world import Write

BLUE = "default:blue"


class Fabric:
    """A view with a store's manners: a write is applied whole, or not at all."""

    def __init__(self, subnet: str = "10.1.0.0/24", **fields: Any) -> None:
        self.view = View()
        self.revision = 0
        self._listeners: list[Callable[[ViewChange], object]] = []
        self.network("blue", subnet=subnet, **fields)

    def commit(self, write: Write) -> None:
        """Carry out a write; raise StaleError where something is not as it was read."""
        for key, at in write.unchanged.items():
            if self.view.revisions.get(ROOT + key, 0) != at:
                raise StaleError(key)
        assert len(write.puts) + len(write.deletes) <= 128
        assert not set(write.puts) & set(write.deletes), "etcd takes a key once a transaction"
        self.revision += 1
        puts = [
            (ROOT + key, json.dumps(value).encode(), self.revision)
            for key, value in write.puts.items()
        ]
        change = self.view.apply(puts, [ROOT + key for key in write.deletes], self.revision)
        assert not self.view.broken
        for listener in self._listeners:
            listener(change)

    def follow(self, listener: Callable[[ViewChange], object]) -> None:
        """Call `listener` with every change from now on."""
        self._listeners.append(listener)

    def address(self, number: int) -> Address:
        return ip_address(f"10.1.0.{number}")

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        self.commit(Write({key: value}))

    def network(self, name: str, **fields: Any) -> None:
        obj = {"tenantName": "default", "networkName": name, "encap": "routed"} | fields
        self.put(f"intent/network/default:{name}", obj | {"key": f"default:{name}"})

    def connect(self, *hosts: str) -> None:
        for host in hosts:
            self.put(f"host/{host}", {"name": host})

    def claim(self, host: str, address: str | None = None) -> Prefix:
        wanted = BlockWanted(BLUE, 4, ip_address(address) if address else None)
        given = decide_block(self.view, host, wanted, "x")
        assert isinstance(given, Given)
        self.commit(given.write)
        return given.block

    def lend(self, host: str, loan: str, address: str | None = None) -> None:
        """Borrow an address and have the owner give it."""
        lending = decide_block(self.view, host, BlockWanted(BLUE, 4), loan)
        assert isinstance(lending, Lending)
        self.commit(lending.write)
        if address:
            answer = LendAnswered(loan, ip_address(address))
            self.commit(decide_lent(self.view, lending.loan.owner, answer).write)

    def store(self, *endpoints: Endpoint) -> None:
        for endpoint in endpoints:
            decision = decide_endpoints(self.view, endpoint.host, {endpoint.key: endpoint})
            assert not decision.refused
            self.commit(decision.write)


def at(host: str, address: str, container: str = "", sequence: int = 0) -> Endpoint:
    key = EndpointKey(container or f"c{address}", "eth0")
    where = (ip_address(address),)
    return Endpoint(
        key, host, "default", "blue", "", "/ns", "nf0", "02:02", where, sequence=sequence
    )
