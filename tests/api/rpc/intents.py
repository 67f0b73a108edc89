"""A netmaster that serves intent, a client of it, and an object of every kind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

import grpc
import grpc.aio

from netfabric.api.store.base import Store
from netfabric.api.store.memory import MemoryStore
from netfabric.proto import intent_pb2 as pb
from netfabric.proto.intent_pb2_grpc import IntentStub, StateStub
from tests.api.rpc.agents import OPTIONS, PATIENCE, Netmaster, netmaster

GLOBAL = pb.Object(
    global_settings=pb.GlobalSpec(
        name="global",
        fwd_mode="routing",
        vlans="1-4094",
        vxlans="1-10000",
        pvt_subnet="172.19.0.0/16",
    )
)
TENANT = pb.Object(tenant=pb.TenantSpec(tenant_name="blue"))


def network(name: str = "n", subnet: str = "10.1.0.0/16", **fields: Any) -> pb.Object:
    return pb.Object(
        network=pb.NetworkSpec(tenant_name="blue", network_name=name, subnet=subnet, **fields)
    )


def group(name: str = "web", net: str = "n", **fields: Any) -> pb.Object:
    return pb.Object(
        endpoint_group=pb.EndpointGroupSpec(
            tenant_name="blue", group_name=name, network_name=net, **fields
        )
    )


def policy(name: str = "p") -> pb.Object:
    return pb.Object(policy=pb.PolicySpec(tenant_name="blue", policy_name=name))


def rule(id_: str = "1", **fields: Any) -> pb.Object:
    usual: dict[str, Any] = {"direction": "in", "action": "allow", "protocol": "tcp", "port": 80}
    return pb.Object(
        rule=pb.RuleSpec(tenant_name="blue", policy_name="p", rule_id=id_, **usual | fields)
    )


def large(at: int) -> pb.Object:
    """Half a megabyte."""
    return pb.Object(
        ext_contracts_group=pb.ExtContractsGroupSpec(
            tenant_name="blue",
            contracts_group_name=f"c{at}",
            contracts_type="provided",
            contracts=["x" * 1000] * 500,
        )
    )


def speaker(host: str = "h1", asn: int = 65001, address: str = "10.9.0.2/31") -> pb.Object:
    return pb.Object(bgp=pb.BgpSpec(hostname=host, asn=asn, routerip=address))


def peer(name: str = "tor", **fields: Any) -> pb.Object:
    usual: dict[str, Any] = {"address": "10.9.0.3", "asn": 65002}
    return pb.Object(peer=pb.PeerSpec(hostname="h1", peer_name=name, **usual | fields))


def port(**more: Any) -> pb.Object:
    names = {"hostname": "h1", "link_name": "tap0", "tenant_name": "blue", "network_name": "n"}
    return pb.Object(port=pb.PortSpec(**names, **more))


OBJECTS: tuple[tuple[pb.Kind.ValueType, pb.Object, Callable[[Any], object]], ...] = (
    (pb.KIND_GLOBAL, GLOBAL, lambda spec: setattr(spec, "arp_mode", "flood")),
    (
        pb.KIND_ACI_GW,
        pb.Object(aci_gw=pb.AciGwSpec(name="aciGw", physical_domain="dom")),
        lambda spec: setattr(spec, "physical_domain", "mod"),
    ),
    (pb.KIND_TENANT, TENANT, lambda spec: setattr(spec, "default_network", "n")),
    (pb.KIND_NETWORK, network(), lambda spec: setattr(spec, "announce", "blocks")),
    (
        pb.KIND_NETPROFILE,
        pb.Object(
            netprofile=pb.NetprofileSpec(
                tenant_name="blue", profile_name="slow", bandwidth="10 mbps", burst=100, dscp=8
            )
        ),
        lambda spec: setattr(spec, "dscp", 9),
    ),
    (
        pb.KIND_EXT_CONTRACTS_GROUP,
        pb.Object(
            ext_contracts_group=pb.ExtContractsGroupSpec(
                tenant_name="blue",
                contracts_group_name="c",
                contracts_type="provided",
                contracts=["uni/x"],
            )
        ),
        lambda spec: spec.contracts.append("uni/y"),
    ),
    (pb.KIND_POLICY, policy(), lambda spec: None),
    (
        pb.KIND_ENDPOINT_GROUP,
        group(policies=["p"], net_profile="slow", ext_contracts_grps=["c"]),
        lambda spec: spec.ClearField("net_profile"),
    ),
    (pb.KIND_RULE, rule(), lambda spec: setattr(spec, "port", 443)),
    (
        pb.KIND_APP_PROFILE,
        pb.Object(
            app_profile=pb.AppProfileSpec(
                tenant_name="blue", app_profile_name="a", endpoint_groups=["web"]
            )
        ),
        lambda spec: spec.ClearField("endpoint_groups"),
    ),
    (
        pb.KIND_SERVICE_LB,
        pb.Object(
            service_lb=pb.ServiceLBSpec(
                tenant_name="blue",
                service_name="s",
                network_name="n",
                ports=["80:8080:TCP"],
                selectors=["app=web"],
            )
        ),
        lambda spec: spec.ports.append("81:8081:TCP"),
    ),
    (pb.KIND_BGP, speaker(), lambda spec: setattr(spec, "router_id", "10.9.9.9")),
    (pb.KIND_PEER, peer(password="s3cret", med=0), lambda spec: setattr(spec, "hold_time", 30)),
    (pb.KIND_PORT, port(), lambda spec: setattr(spec, "mac_address", "52:54:00:00:00:01")),
)
"""One of each kind, in an order in which they can be made, with a change of it."""


def spec_of(wire: pb.Object) -> Any:
    return getattr(wire, str(wire.WhichOneof("spec")))


class Client:
    """A client with a connection of its own."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self.intent: Any = IntentStub(self._channel)
        self.state: Any = StateStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def put(self, wire: pb.Object, expected: int | None = None) -> pb.PutResponse:
        request = pb.PutRequest(object=wire, expected_revision=expected)
        found: pb.PutResponse = await self.intent.Put(request, timeout=PATIENCE)
        return found

    async def get(self, kind: pb.Kind.ValueType, key: str) -> pb.Object:
        found: pb.Object = await self.intent.Get(pb.GetRequest(kind=kind, key=key))
        return found

    async def keys(self, kind: pb.Kind.ValueType, **fields: Any) -> list[str]:
        request = pb.ListRequest(kind=kind, **fields)
        return [wire.key for wire in (await self.intent.List(request)).objects]

    async def delete(
        self, kind: pb.Kind.ValueType, key: str, expected: int | None = None
    ) -> pb.DeleteResponse:
        request = pb.DeleteRequest(kind=kind, key=key, expected_revision=expected)
        found: pb.DeleteResponse = await self.intent.Delete(request)
        return found

    async def apply(self, *objects: pb.Object, dry: bool = False) -> pb.ApplyResponse:
        found: pb.ApplyResponse = await self.intent.Apply(
            pb.ApplyRequest(objects=objects, dry_run=dry)
        )
        return found


class Watching:
    """What a watch has said so far."""

    def __init__(self, client: Client, **fields: Any) -> None:
        self._call = client.intent.Watch(pb.WatchRequest(**fields))
        self.messages: list[pb.WatchResponse] = []
        self.there: dict[str, int] = {}
        """What there is by all that was said, with its revisions."""

    def _take(self, message: pb.WatchResponse) -> None:
        self.messages.append(message)
        for change in message.changes:
            self.there.pop(change.key, None)
            if change.HasField("object"):
                self.there[change.key] = change.revision

    async def until(self, condition: Callable[["Watching"], Any]) -> None:
        """Read on until a condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                message = await self._call.read()
                assert isinstance(message, pb.WatchResponse), await self._call.details()
                self._take(message)

    async def complete(self) -> "Watching":
        """Read until everything up to some version has been said."""
        await self.until(lambda watch: watch.messages and watch.messages[-1].HasField("version"))
        return self

    async def sees(self, *keys: str) -> "Watching":
        """Read until these keys have changed."""
        await self.until(lambda watch: set(keys) <= {change.key for change in watch.changes})
        return await self.complete()

    @property
    def changes(self) -> list[pb.Change]:
        return [change for message in self.messages for change in message.changes]

    async def ended(self) -> grpc.aio.AioRpcError:
        """Return the status with which the watch ends."""
        try:
            async with asyncio.timeout(PATIENCE):
                while isinstance(message := await self._call.read(), pb.WatchResponse):
                    self._take(message)
                await self._call
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("ended without an error")

    def stop(self) -> None:
        self._call.cancel()


@contextlib.asynccontextmanager
async def serving(
    objects: Sequence[pb.Object] = (GLOBAL, TENANT), store: Store | None = None
) -> AsyncIterator[tuple[Netmaster, Client]]:
    """A netmaster with some objects, and a client."""
    async with netmaster(store or MemoryStore()) as master, Client(master.address) as client:
        await client.apply(*objects)
        yield master, client


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    """Return the status with which a call ends that is refused."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError(f"not refused: {answer}")


def remedy(error: grpc.aio.AioRpcError) -> str:
    """Return the remedy in an error's metadata."""
    found = dict(error.trailing_metadata())
    return str(found.get("remedy", ""))
