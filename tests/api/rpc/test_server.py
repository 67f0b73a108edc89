"""The server around the services: health, reflection, TLS, ports, pings, and who leads."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from netfabric.api.control import Control
from netfabric.api.election import LEADER, Election
from netfabric.api.mirror import Mirror
from netfabric.api.rpc.server import SERVICES
from netfabric.api.settings import Listen, Tls
from netfabric.api.store.base import Store
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.errors import InvalidError, UnavailableError
from netfabric.proto import fabric_pb2 as pb
from netfabric.proto.fabric_pb2_grpc import RoutesStub
from tests.api.rpc.agents import Agent, netmaster, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def _health(address: str, service: str = "") -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        return int(answer.status)


async def _becomes_serving(address: str, service: str) -> None:
    async with asyncio.timeout(5), grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=service)):
            if answer.status == SERVING:
                return


async def test_healthy_only_once_the_store_has_been_read() -> None:
    store = MemoryStore()
    mirror = Mirror(store)
    control = Control(store, mirror, name="m1")
    async with asyncio.TaskGroup() as tasks:
        serve = tasks.create_task(control.serve(Listen("127.0.0.1", 0)))
        await control.listening.wait()
        address = f"127.0.0.1:{control.port}"
        assert await _health(address) == NOT_SERVING
        run = tasks.create_task(mirror.run())
        await mirror.listed.wait()
        for service in ("", *SERVICES):
            await _becomes_serving(address, service)
        serve.cancel()
        run.cancel()


async def test_reflection_lists_the_services() -> None:
    async with (
        netmaster(MemoryStore()) as master,
        grpc.aio.insecure_channel(master.address) as channel,
    ):
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = stub.ServerReflectionInfo(iter([request]))
        answer = await call.read()
        names = {service.name for service in answer.list_services_response.service}
        assert {"netfabric.v1.Fabric", "netfabric.v1.Routes", "grpc.health.v1.Health"} <= names
        call.cancel()


async def test_a_port_in_use_is_told() -> None:
    store = MemoryStore()
    async with netmaster(store) as master:
        other = Control(store, master.mirror, name="m2")
        with pytest.raises(UnavailableError, match=r"--grpc 127.0.0.1:\d+: the port is in use"):
            await other.serve(Listen("127.0.0.1", master.control.port))


def _certificates(folder: Path) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
            "-subj",
            f"/CN={name}",
        )
    for name in ("server", "agent"):
        openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        )
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-copy_extensions", "copy", "-out", f"{name}.pem")  # fmt: skip


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    _certificates(tmp_path)
    return tmp_path


async def test_tls_with_client_certificates(certificates: Path) -> None:
    tmp_path = certificates
    at = {name: str(tmp_path / name) for name in ("server.pem", "server.key", "ca.pem")}
    ca = (tmp_path / "ca.pem").read_bytes()
    key, chain = (tmp_path / "agent.key").read_bytes(), (tmp_path / "agent.pem").read_bytes()
    with_client = grpc.ssl_channel_credentials(ca, key, chain)
    without = grpc.ssl_channel_credentials(ca)
    tls = Tls(at["server.pem"], at["server.key"], at["ca.pem"])
    async with netmaster(MemoryStore(), listen=Listen("127.0.0.1", 0, tls)) as master:
        async with grpc.aio.secure_channel(master.address, with_client) as channel:
            batches = [b async for b in RoutesStub(channel).List(pb.RouteFilter())]
            assert batches[0].end
        async with grpc.aio.secure_channel(master.address, without) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                [b async for b in RoutesStub(channel).List(pb.RouteFilter())]
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    store = MemoryStore()
    control = Control(store, Mirror(store), name="m1")
    tls = Tls(str(tmp_path / "none.pem"), str(tmp_path / "none.key"))
    with pytest.raises(InvalidError, match=r"none.key: No such file"):
        await control.serve(Listen("127.0.0.1", 0, tls))


async def test_one_netmaster_leads_and_another_follows_at_once() -> None:
    store = MemoryStore()
    async with netmaster(store, "m2") as two:
        await until(lambda: two.control.election.leads.is_set())
        async with netmaster(store, "m1") as one:
            await until(lambda: one.control.standing.leader == "m2")
            assert not one.control.election.leads.is_set()
            assert sorted(one.control.standing.masters) == ["m1", "m2"]
    async with netmaster(store, "m1") as one, netmaster(store, "m2") as two:
        await until(lambda: one.control.election.leads.is_set())
        entry = await store.get(LEADER)
        assert entry is not None and not two.control.election.leads.is_set()
        await store.revoke(entry.lease)  # as if it had not been kept in time
        both = (one.control.election, two.control.election)
        await until(lambda: one.view.revisions.get(LEADER, 0) > entry.revision)
        await until(lambda: [e.leads.is_set() for e in both].count(True) == 1)
        again = await store.get(LEADER)
        assert again is not None and again.lease != entry.lease


class Line:
    """A store over a line that can be cut."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        if self.cut:
            raise UnavailableError("store: no answer", "mend the line")
        return getattr(self._store, name)


async def test_a_leader_without_word_from_the_store_steps_down_before_another_begins() -> None:
    store = MemoryStore()
    line = Line(store)
    mirror = Mirror(store)
    one = Election(cast(Store, line), mirror, name="m1", ttl=0.6)
    two = Election(store, mirror, name="m2", ttl=0.6)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(mirror.run()), tasks.create_task(one.run())]
        await until(one.leads.is_set)
        running.append(tasks.create_task(two.run()))
        await until(lambda: two.leader == "m1")
        line.cut = True
        await until(lambda: not one.leads.is_set())
        assert not two.leads.is_set()
        await until(two.leads.is_set)
        line.cut = False
        await until(lambda: one.leader == "m2")
        assert not one.leads.is_set()
        for task in running:
            task.cancel()


async def test_pings_every_five_seconds_and_less_are_borne() -> None:
    options = (
        ("grpc.keepalive_time_ms", 200),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    async with (
        netmaster(MemoryStore()) as master,
        grpc.aio.insecure_channel(master.address, options=options) as channel,
        Agent(master.address, "h1") as agent,
    ):
        await agent.welcomed()
        call = RoutesStub(channel).Watch(pb.RouteFilter())
        await call.read()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await call.read()
