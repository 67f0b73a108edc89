"""The clients and commands that the documentation shows, against a netmaster as users start it."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2  # noqa: F401  known to the pool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from netfabric.api.rpc.intent_serving import INTENT
from netfabric.proto import fabric_pb2, fabric_pb2_grpc, intent_pb2, intent_pb2_grpc

if TYPE_CHECKING:
    from tests.api.conftest import NetmasterProcess, Starter

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = DOCS / "examples"
PAGE = (DOCS / "grpc.md").read_text()
PATIENCE = 20


def grpc_of(netmaster: "NetmasterProcess") -> str:
    return netmaster.until(lambda: re.search(r" ready .*grpc=(\S+)", netmaster.said))[1]


@pytest.fixture(scope="module")
def address(netmaster: "NetmasterProcess") -> str:
    return grpc_of(netmaster)


def run(name: str, address: str) -> str:
    words = [sys.executable, str(EXAMPLES / name), address]
    return subprocess.run(
        words, capture_output=True, text=True, timeout=PATIENCE, check=True
    ).stdout


@contextmanager
def running(name: str, address: str) -> Iterator[Iterator[str]]:
    """Yield the lines of an example that goes on until it is ended."""
    words = [sys.executable, str(EXAMPLES / name), address]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        patience = Timer(PATIENCE, process.kill)
        patience.start()
        try:
            yield (line.strip() for line in process.stdout)
        finally:
            patience.cancel()
            process.kill()


def test_a_network(address: str) -> None:
    assert re.search(r"^default:blue 10\.1\.0\.0/16 \d+$", run("network.py", address), re.MULTILINE)


def test_several_objects(address: str) -> None:
    dry, done = run("apply.py", address).splitlines()
    assert dry == done == "['OUTCOME_CREATED', 'OUTCOME_CREATED']"
    assert "UNCHANGED" in run("apply.py", address)


def test_what_changes(address: str) -> None:
    with running("watch.py", address) as lines:
        assert "KIND_TENANT default tenant" in lines
        run("network.py", address)
        with grpc.insecure_channel(address) as channel:
            intent = intent_pb2_grpc.IntentStub(channel)
            policy = intent_pb2.PolicySpec(tenant_name="default", policy_name="seen")
            wire = intent_pb2.Object(policy=policy)
            made = intent.Put(intent_pb2.PutRequest(object=wire)).object
            assert f"KIND_POLICY {made.key} policy" in lines
            intent.Delete(intent_pb2.DeleteRequest(kind=intent_pb2.KIND_POLICY, key=made.key))
            assert f"KIND_POLICY {made.key} gone" in lines


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_watch_outlives_its_netmaster(start: "Starter", tmp_path: Path, end: int) -> None:
    store = ("--store", f"sqlite:{tmp_path / 'state.db'}")
    first = start(*store)
    address = grpc_of(first)
    with running("watch.py", address) as lines:
        assert "KIND_TENANT default tenant" in lines
        first.stop(end)
        start(*store, "--grpc", address).ready()
        run("network.py", address)
        assert "KIND_NETWORK default:blue network" in lines


def test_routes(address: str) -> None:
    with running("routes.py", address), grpc.insecure_channel(address) as channel:
        ended = fabric_pb2_grpc.RoutesStub(channel).List(fabric_pb2.RouteFilter())
        assert [batch.end for batch in ended] == [True]


def test_every_example_is_run_and_shown() -> None:
    tests = Path(__file__).read_text()
    for example in EXAMPLES.iterdir():
        if example.suffix == ".py":
            assert f'"{example.name}", address' in tests
            assert f"examples/{example.name}" in PAGE
    assert f"```python\n{(EXAMPLES / 'network.py').read_text()}```" in PAGE


def test_reflection_alone_tells_a_client_everything(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        told = ProtoReflectionDescriptorDatabase(channel)
        assert {"netfabric.v1.Intent", "netfabric.v1.State"} <= set(told.get_services())
        pool = descriptor_pool.DescriptorPool(told)
        intent = pool.FindServiceByName("netfabric.v1.Intent")
        assert [method.name for method in intent.methods] == [
            method.name for method in INTENT.methods
        ]
        spec = pool.FindMessageTypeByName("netfabric.v1.PeerSpec")
        assert "password_set" in spec.fields_by_name


COMMANDS = re.findall(
    r"grpcurl -plaintext (?:-d '([^']*)' )?\$NETMASTER (\S+)/(\w+)$", PAGE, re.MULTILINE
)


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 8


def test_the_commands_of_the_page(address: str) -> None:
    """Ask what grpcurl would ask: a request of JSON, to the method of that name."""
    pool = descriptor_pool.Default()
    with grpc.insecure_channel(address) as channel:
        for body, service, name in COMMANDS:
            method = pool.FindServiceByName(service).methods_by_name[name]
            request = ParseDict(json.loads(body or "{}"), GetMessageClass(method.input_type)())
            make: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
            call = make(
                f"/{service}/{name}",
                request_serializer=lambda wire: wire.SerializeToString(),
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            if method.server_streaming:
                stream = call(request, timeout=PATIENCE)
                next(stream)
                stream.cancel()
            else:
                call(request, timeout=PATIENCE)
