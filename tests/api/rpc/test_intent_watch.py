"""Intent.Watch: snapshot and changes, resuming, clients that are slow, netmasters that were away."""

import asyncio
from typing import Any

import grpc
import pytest
import structlog

from netfabric.api.store.base import Put
from netfabric.fabric.stored import dump
from netfabric.fabric.view import endpoint_key
from netfabric.proto import fabric_pb2 as fabric
from netfabric.proto import intent_pb2 as pb
from tests.api.rpc.agents import endpoint, netmaster, until
from tests.api.rpc.intents import (
    GLOBAL,
    OBJECTS,
    TENANT,
    Client,
    Watching,
    group,
    large,
    network,
    policy,
    remedy,
    serving,
    speaker,
)

Status = grpc.StatusCode


async def test_every_kind_is_seen_there_changed_and_gone() -> None:
    objects = [wanted for _, wanted, _ in OBJECTS]
    async with serving(objects) as (_, client):
        snapshot = await Watching(client).complete()
        assert len(snapshot.there) == len(objects)
        for change in snapshot.changes:
            assert change.object == await client.get(change.kind, change.key)
            assert (change.object.key, change.object.revision) == (change.key, change.revision)
        assert [message.HasField("version") for message in snapshot.messages] == [True]
        for kind, _, change_it in OBJECTS:
            [key] = await client.keys(kind)
            made = await client.get(kind, key)
            change_it(getattr(made, str(made.WhichOneof("spec"))))
            await client.put(made)
        for kind, _, _ in reversed(OBJECTS):
            [key] = await client.keys(kind)
            await client.delete(kind, key)
        await snapshot.until(lambda watch: not watch.there)
        gone = [change for change in snapshot.changes if not change.HasField("object")]
        assert {change.kind for change in gone} == {kind for kind, _, _ in OBJECTS}
        assert [change.revision for change in gone] == sorted(change.revision for change in gone)
        assert "s3cret" not in str(snapshot.messages)


async def test_a_watch_ends_where_the_store_is() -> None:
    """What a client has put together from a watch is what a list says."""
    async with serving() as (_, client):
        watch = Watching(client, kinds=[pb.KIND_NETWORK])
        for at in range(20):
            await client.put(network(f"n{at}", f"10.{at}.0.0/24"))
            if at % 3 == 0:
                await client.delete(pb.KIND_NETWORK, f"blue:n{at}")
        await watch.sees("blue:n19")
        assert sorted(watch.there) == await client.keys(pb.KIND_NETWORK)
        revisions = [m.version.revision for m in watch.messages if m.HasField("version")]
        assert revisions == sorted(revisions)


async def test_filters() -> None:
    red = pb.Object(tenant=pb.TenantSpec(tenant_name="red"))
    async with serving([GLOBAL, TENANT, red, network(), policy(), speaker()]) as (_, client):
        networks = await Watching(client, kinds=[pb.KIND_NETWORK]).complete()
        assert list(networks.there) == ["blue:n"]
        blue = await Watching(client, tenant="blue").complete()
        assert sorted(blue.there) == ["blue", "blue:n", "blue:p"]
        both = await Watching(
            client, kinds=[pb.KIND_TENANT, pb.KIND_POLICY], tenant="red"
        ).complete()
        assert sorted(both.there) == ["red"]
        await client.put(speaker("h2", address="10.9.0.4/31"))
        await client.put(policy("q"))
        await client.put(network("m", "10.2.0.0/16"))
        await client.delete(pb.KIND_POLICY, "blue:p")
        await client.delete(pb.KIND_TENANT, "red")
        await both.until(lambda watch: not watch.there)
        await networks.sees("blue:m")
        await blue.until(lambda watch: "blue:p" not in watch.there)
        assert sorted(networks.there) == ["blue:m", "blue:n"]
        assert sorted(blue.there) == ["blue", "blue:m", "blue:n", "blue:q"]


@pytest.mark.parametrize(
    "fields",
    [
        {"kinds": [pb.KIND_UNSPECIFIED]},
        {"kinds": [pb.KIND_NETWORK, 99]},
        {"kinds": [pb.KIND_BGP], "tenant": "blue"},
    ],
)
async def test_impossible_filters(fields: dict[str, Any]) -> None:
    async with serving() as (_, client):
        error = await Watching(client, **fields).ended()
        assert error.code() is Status.INVALID_ARGUMENT


async def test_changes_only() -> None:
    async with serving([GLOBAL, TENANT, network()]) as (_, client):
        watch = await Watching(client, changes_only=True).complete()
        assert watch.changes == []
        await client.put(policy())
        await watch.sees("blue:p")
        assert list(watch.there) == ["blue:p"]


async def test_what_belongs_together_comes_together() -> None:
    async with serving() as (_, client):
        watch = await Watching(client, changes_only=True).complete()
        await client.apply(network(), policy(), group(policies=["p"]))
        await watch.sees("blue:n")
        assert len(watch.messages) == 2
        assert {change.key for change in watch.changes} == {"blue:n", "blue:p", "blue:web"}


async def test_a_watch_resumes_with_what_was_missed_and_nothing_else() -> None:
    async with serving([GLOBAL, TENANT, network()]) as (_, client):
        first = await Watching(client).complete()
        seen = first.messages[-1].version
        first.stop()
        await client.put(policy())
        await client.delete(pb.KIND_NETWORK, "blue:n")
        for since in (seen, fabric.Version(revision=seen.revision)):
            again = await Watching(client, since=since).complete()
            assert [(c.key, c.HasField("object")) for c in again.changes] == [
                ("blue:p", True),
                ("blue:n", False),
            ]
        listed = await client.intent.List(pb.ListRequest(kind=pb.KIND_POLICY))
        quiet = await Watching(client, since=listed.version).complete()
        assert quiet.changes == []
        await client.put(policy("q"))
        await quiet.sees("blue:q")


async def test_a_list_and_a_watch_from_it_miss_nothing() -> None:
    async with serving() as (_, client):
        writes = asyncio.ensure_future(_many_networks(client, 40))
        await asyncio.sleep(0)
        listed = await client.intent.List(pb.ListRequest(kind=pb.KIND_NETWORK))
        there = {wire.key for wire in listed.objects}
        watch = Watching(client, kinds=[pb.KIND_NETWORK], since=listed.version)
        await writes
        await watch.until(lambda w: len(there | set(w.there)) == 40)
        assert there.isdisjoint(watch.there)


async def _many_networks(client: Client, count: int) -> None:
    for at in range(count):
        await client.put(network(f"n{at}", f"10.{at}.0.0/24"))


async def test_history_that_is_gone_and_versions_of_others() -> None:
    async with (
        serving() as (master, client),
        netmaster(master.store, "m2") as late,
        Client(late.address) as other,
    ):
        version = (await client.apply()).version
        for since, what in (
            (fabric.Version(epoch=version.epoch, revision=1), "history begins at"),
            (fabric.Version(epoch="another", revision=version.revision), "another store"),
        ):
            error = await Watching(other, since=since).ended()
            assert error.code() is Status.OUT_OF_RANGE
            assert what in str(error.details())
            assert remedy(error) == "watch anew, without since"
        elsewhere = await Watching(client).complete()
        here = await Watching(other, since=elsewhere.messages[-1].version).complete()
        await client.put(policy("q"))
        await here.sees("blue:q")


async def test_a_version_that_this_netmaster_has_not_reached_is_waited_for() -> None:
    async with serving() as (master, client):
        ahead = fabric.Version(epoch=master.store.epoch, revision=master.view.revision + 1)
        watch = Watching(client, since=ahead)
        waiting = asyncio.ensure_future(watch.complete())
        made = await client.put(policy())
        assert made.object.revision == ahead.revision
        await waiting
        assert watch.changes == []
        await client.put(policy("q"))
        await watch.sees("blue:q")


async def test_endpoints_that_come_and_go_leave_a_watch_in_peace() -> None:
    async with serving() as (master, client):
        watch = await Watching(client).complete()
        here = endpoint("h1", "10.1.0.5")
        for _ in range(5):
            value = dump(here).encode()
            at = await master.store.txn([], [Put(endpoint_key("h1", here.key), value)])
        await until(lambda: master.view.revision >= at)
        await client.put(policy())
        await watch.sees("blue:p")
        assert len(watch.messages) == 2
        assert watch.messages[-1].version.revision == master.view.revision


async def test_a_slow_client_is_cut_off_and_holds_up_nobody() -> None:
    with structlog.testing.capture_logs() as logs:
        async with serving() as (master, client), Client(master.address) as other:
            slow = await Watching(other).complete()
            quick = await Watching(client, kinds=[pb.KIND_POLICY]).complete()
            for at in range(8):  # a window holds 64 KB
                await client.put(large(at))
                await client.put(policy(f"p{at}"))
            await quick.sees("blue:p7")
            await until(lambda: [line for line in logs if "cut off" in line["event"]])
            error = await slow.ended()
            assert error.code() is Status.RESOURCE_EXHAUSTED
            assert "does not read" in str(error.details())
            version = next(m.version for m in reversed(slow.messages) if m.HasField("version"))
            on = await Watching(client, since=version).sees("blue:p7")
            assert {*slow.there, *on.there} >= {f"blue:c{at}" for at in range(8)}


async def test_a_large_snapshot_comes_in_parts_that_any_client_takes() -> None:
    wires = [large(at) for at in range(12)]
    async with serving() as (_, client):
        for wire in wires:
            await client.put(wire)
        watch = await Watching(client).complete()
        assert len(watch.messages) > 5
        assert max(message.ByteSize() for message in watch.messages) < 4 << 20
        assert [m.HasField("version") for m in watch.messages].index(True) == (
            len(watch.messages) - 1
        )
        assert len(watch.there) == 14
