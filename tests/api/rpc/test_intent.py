"""Intent over gRPC: every kind read and written, what is refused and why, several objects at once."""

import asyncio
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio

from netfabric.api.rpc.intent import MAX_OBJECTS, MAX_OCTETS
from netfabric.api.store.base import ROOT
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.errors import UnavailableError
from netfabric.proto import intent_pb2 as pb
from netfabric.proto.intent_codec import FORMS
from tests.api.rpc.agents import netmaster
from tests.api.rpc.intents import (
    GLOBAL,
    OBJECTS,
    TENANT,
    Client,
    group,
    large,
    network,
    peer,
    policy,
    refusal,
    remedy,
    rule,
    serving,
    speaker,
    spec_of,
)

Status = grpc.StatusCode


def test_there_is_an_object_of_every_kind() -> None:
    assert {kind for kind, _, _ in OBJECTS} == {form.number for form in FORMS.values()}


async def test_every_kind_is_made_read_changed_and_removed() -> None:
    async with netmaster(MemoryStore()) as master, Client(master.address) as client:
        keys = []
        for kind, wanted, change in OBJECTS:
            made = await client.put(wanted)
            assert made.outcome == pb.OUTCOME_CREATED
            key, sent, got = made.object.key, spec_of(wanted), spec_of(made.object)
            assert {f.name for f, _ in sent.ListFields()} - {"password"} <= {
                f.name for f, _ in got.ListFields()
            }
            assert await client.get(kind, key) == made.object
            assert await client.keys(kind) == [key]
            again = await client.put(made.object)
            assert (again.object, again.outcome) == (made.object, pb.OUTCOME_UNCHANGED)
            changed = pb.Object.FromString(made.object.SerializeToString())
            change(spec_of(changed))
            after = await client.put(changed, made.object.revision)
            if kind != pb.KIND_POLICY:  # it has nothing but its name
                assert after.outcome == pb.OUTCOME_CHANGED
                assert after.object.revision > made.object.revision
            assert spec_of(after.object) == spec_of(changed)
            keys.append((kind, key))
        for kind, key in reversed(keys):
            await client.delete(kind, key)
            assert (await refusal(client.get(kind, key))).code() is Status.NOT_FOUND
            assert await client.keys(kind) == []
        left = [entry.key for entry in (await master.store.list(ROOT)).entries]
        assert not [key for key in left if "/intent/" in key.replace("guard/intent", "")]
        assert not [key for key in left if "/alloc/" in key]


async def test_the_rest_api_and_grpc_have_the_same_objects() -> None:
    async with serving([wanted for _, wanted, _ in OBJECTS]) as (master, client):
        for form in FORMS.values():
            there = master.view.objects[form.kind.type]
            assert await client.keys(form.number) == sorted(there)
        stored = master.view.objects["Bgp"]["h1"].value
        assert stored["as"] == "65001"


REFUSED: tuple[tuple[pb.Object, Any, str, str], ...] = (
    (network("m", "10.1.0.0/99"), Status.INVALID_ARGUMENT, "subnet", "write a.b.c.d/len"),
    (network("-", "10.2.0.0/16"), Status.INVALID_ARGUMENT, "network blue:-", "letters"),
    (network("m", "10.1.4.0/24"), Status.FAILED_PRECONDITION, "network n conflicts", "in use"),
    (network("m", "10.2.0.0/24", gateway="10.3.0.1"), Status.INVALID_ARGUMENT, "10.3.0.1", "insid"),
    (network("m", "10.2.0.0/24", encap="gre"), Status.INVALID_ARGUMENT, "encap", "routed"),
    (network("m", "10.2.0.0/24", pkt_tag=7), Status.INVALID_ARGUMENT, "no tag", "leave"),
    (network("n", "10.2.0.0/24"), Status.FAILED_PRECONDITION, "Cant change", "delete it"),
    (group("g", "none"), Status.INVALID_ARGUMENT, "Network none not found", "create"),
    (rule(priority=101), Status.INVALID_ARGUMENT, "priority", "1 to 100"),
    (rule(action="maybe"), Status.INVALID_ARGUMENT, "action", ""),
    (speaker(asn=0), Status.INVALID_ARGUMENT, "AS", "RFC 6996"),
    (speaker(asn=23456), Status.INVALID_ARGUMENT, "AS_TRANS", "1 to"),
    (peer(asn=65001), Status.FAILED_PRECONDITION, "own AS", "eBGP"),
    (peer(hold_time=2), Status.INVALID_ARGUMENT, "holdTime", "from 3"),
    (peer(hold_time=0), Status.INVALID_ARGUMENT, "holdTime", "from 3"),
    (peer(password="a b"), Status.INVALID_ARGUMENT, "password", "printable"),
    (peer("q", password_set=True), Status.INVALID_ARGUMENT, "passwordSet", "give password"),
    (pb.Object(), Status.INVALID_ARGUMENT, "without a spec", "tenant"),
    (pb.Object(key="blue"), Status.INVALID_ARGUMENT, "without a spec", "tenant"),
    (
        pb.Object(tenant=pb.TenantSpec(tenant_name="red"), key="blue"),
        Status.INVALID_ARGUMENT,
        "Invalid Key",
        "tenantName",
    ),
    (pb.Object(tenant=pb.TenantSpec()), Status.INVALID_ARGUMENT, "tenant", "letters"),
)


async def test_what_is_refused_is_explained_and_writes_nothing() -> None:
    async with serving([GLOBAL, TENANT, network(), policy(), speaker(), peer()]) as (
        master,
        client,
    ):
        before = (await master.store.list("")).entries
        for wanted, code, what, cure in REFUSED:
            for others in ([], [network("k", "10.5.0.0/24")]):
                error = await refusal(
                    client.apply(*others, wanted) if others else client.put(wanted)
                )
                told = f"{wanted}{error}"
                assert error.code() is code, told
                assert what in str(error.details()), told
                assert cure in remedy(error), told
                assert (await master.store.list("")).entries == before, told


async def test_what_is_in_use_stays() -> None:
    async with serving([GLOBAL, TENANT, network(), group()]) as (master, client):
        before = (await master.store.list("")).entries
        for kind, key in ((pb.KIND_NETWORK, "blue:n"), (pb.KIND_TENANT, "blue")):
            error = await refusal(client.delete(kind, key))
            assert error.code() is Status.FAILED_PRECONDITION
            assert f" {key}: cannot delete" in str(error.details())
            assert remedy(error) == "delete those first"
        error = await refusal(client.delete(pb.KIND_NETWORK, "blue:none"))
        assert error.code() is Status.NOT_FOUND
        assert (await master.store.list("")).entries == before


async def test_kinds_that_do_not_exist() -> None:
    async with serving() as (_, client):
        for kind in (pb.KIND_UNSPECIFIED, pb.Kind.ValueType(77)):
            calls: tuple[Any, ...] = (client.get, client.delete)
            for call in calls:
                error = await refusal(call(kind, "x"))
                assert error.code() is Status.INVALID_ARGUMENT
                error = await refusal(client.keys(kind))
                assert error.code() is Status.INVALID_ARGUMENT
                assert "KIND_TENANT" in remedy(error)


async def test_expected_revisions() -> None:
    async with serving() as (_, client):
        made = (await client.put(network(), 0)).object
        error = await refusal(client.put(network(), 0))
        assert error.code() is Status.ALREADY_EXISTS
        changed = (await client.put(network(announce="blocks"), made.revision)).object
        error = await refusal(client.put(network(), made.revision))
        assert error.code() is Status.ABORTED
        assert f"is at revision {changed.revision}, not at {made.revision}" in str(error.details())
        error = await refusal(client.delete(pb.KIND_NETWORK, "blue:n", made.revision))
        assert error.code() is Status.ABORTED
        await client.delete(pb.KIND_NETWORK, "blue:n", changed.revision)
        error = await refusal(client.put(network(), changed.revision))
        assert error.code() is Status.ABORTED
        assert "is gone" in str(error.details())
        error = await refusal(client.delete(pb.KIND_NETWORK, "blue:n", changed.revision))
        assert error.code() is Status.NOT_FOUND


async def test_of_many_who_expect_one_revision_one_wins() -> None:
    async with serving([GLOBAL, TENANT, network()]) as (_, client):
        at = (await client.get(pb.KIND_NETWORK, "blue:n")).revision
        wishes = [network(reserved=[f"10.1.{i}.0/24"]) for i in range(20)]
        done = await asyncio.gather(
            *(client.put(wish, at) for wish in wishes), return_exceptions=True
        )
        won = [answer for answer in done if isinstance(answer, pb.PutResponse)]
        lost = [error for error in done if isinstance(error, grpc.aio.AioRpcError)]
        assert (len(won), len(lost)) == (1, 19)
        assert {error.code() for error in lost} == {Status.ABORTED}
        assert await client.get(pb.KIND_NETWORK, "blue:n") == won[0].object


async def test_answers_of_writes_that_share_a_transaction_have_its_revision() -> None:
    """The next write's ETag comes from the answer: one too high would overwrite somebody else's."""
    async with serving() as (_, client):
        names = [f"n{i}" for i in range(30)]
        made = await asyncio.gather(
            *(client.put(network(name, f"10.{at}.0.0/24")) for at, name in enumerate(names))
        )
        for answer in made:
            assert await client.get(pb.KIND_NETWORK, answer.object.key) == answer.object


async def test_a_secret_is_kept_changed_and_removed_but_never_shown() -> None:
    async with serving([GLOBAL, TENANT, speaker()]) as (master, client):
        made = (await client.put(peer(password="s3cret"))).object
        assert (made.peer.password, made.peer.password_set) == ("", True)
        made.peer.hold_time = 30
        kept = (await client.put(made)).object
        assert kept.peer.password_set
        assert master.view.objects["peer"]["h1:tor"].value["password"] == "s3cret"
        assert (await client.put(peer(password="0ther"))).object.peer.password_set
        assert master.view.objects["peer"]["h1:tor"].value["password"] == "0ther"
        assert not (await client.put(peer())).object.peer.password_set
        assert "password" not in master.view.objects["peer"]["h1:tor"].value


async def test_lists_come_in_pages_sorted_by_key() -> None:
    red = pb.Object(tenant=pb.TenantSpec(tenant_name="red"))
    many = [network(f"n{i:03}", f"10.{i}.0.0/24") for i in range(25)]
    foreign = network("x", "11.0.0.0/24")
    foreign.network.tenant_name = "red"
    async with serving([GLOBAL, TENANT, red, foreign, *many]) as (_, client):
        found, token, pages = [], "", 0
        while token or not pages:
            request = pb.ListRequest(
                kind=pb.KIND_NETWORK, tenant="blue", page_size=10, page_token=token
            )
            answer = await client.intent.List(request)
            found += [wire.key for wire in answer.objects]
            token, pages = answer.next_page_token, pages + 1
            if pages == 1:
                await client.delete(pb.KIND_NETWORK, "blue:n003")
                await client.put(network("n0105", "10.200.0.0/24"))
        assert pages == 3
        expected = [f"blue:n{i:03}" for i in range(25)]
        assert found == sorted([*expected, "blue:n0105"])
        assert len(await client.keys(pb.KIND_NETWORK)) == 26
        assert await client.keys(pb.KIND_TENANT, tenant="red") == ["red"]
        assert await client.keys(pb.KIND_NETWORK, tenant="nobody") == []


async def test_a_page_of_large_objects_ends_before_a_client_refuses_it() -> None:
    async with serving() as (_, client):
        for at in range(10):
            await client.put(large(at))
        found, token, sizes = [], "", list[int]()
        while token or not sizes:
            request = pb.ListRequest(
                kind=pb.KIND_EXT_CONTRACTS_GROUP, page_size=1000, page_token=token
            )
            answer = await client.intent.List(request)
            found += [wire.key for wire in answer.objects]
            token = answer.next_page_token
            sizes.append(answer.ByteSize())
        assert found == [f"blue:c{at}" for at in range(10)]
        assert max(sizes) < 4 << 20


async def test_a_page_token_is_good_for_its_list_only() -> None:
    async with serving([GLOBAL, TENANT, network(), network("m", "10.2.0.0/16")]) as (_, client):
        request = pb.ListRequest(kind=pb.KIND_NETWORK, page_size=1)
        token = (await client.intent.List(request)).next_page_token
        for fields in (
            {"kind": pb.KIND_TENANT, "page_token": token},
            {"kind": pb.KIND_NETWORK, "tenant": "blue", "page_token": token},
            {"kind": pb.KIND_NETWORK, "page_token": "nonsense"},
            {"kind": pb.KIND_NETWORK, "page_token": "ü"},
            {"kind": pb.KIND_NETWORK, "page_token": token[:-4]},
        ):
            error = await refusal(client.intent.List(pb.ListRequest(**fields)))
            assert error.code() is Status.INVALID_ARGUMENT, fields
        error = await refusal(client.keys(pb.KIND_BGP, tenant="blue"))
        assert error.code() is Status.INVALID_ARGUMENT
        assert remedy(error) == "leave tenant out"


async def test_apply_puts_everything_in_one_transaction_in_the_right_order() -> None:
    async with netmaster(MemoryStore()) as master, Client(master.address) as client:
        objects = [wanted for _, wanted, _ in reversed(OBJECTS)]
        before = master.store.epoch, master.view.revision
        done = await client.apply(*objects)
        assert {result.outcome for result in done.results} == {pb.OUTCOME_CREATED}
        assert [result.object.WhichOneof("spec") for result in done.results] == [
            wanted.WhichOneof("spec") for wanted in objects
        ]
        assert {result.object.revision for result in done.results} == {done.version.revision}
        assert (done.version.epoch, done.version.revision) > before
        for kind, _, _ in OBJECTS:
            [key] = await client.keys(kind)
            assert (await client.get(kind, key)).revision == done.version.revision


async def test_apply_again_changes_nothing_and_says_so() -> None:
    async with serving([wanted for _, wanted, _ in OBJECTS]) as (master, client):
        before = (await master.store.list("")).entries
        answers = [wanted for kind, wanted, _ in OBJECTS if kind != pb.KIND_PEER]
        done = await client.apply(*answers)
        assert {result.outcome for result in done.results} == {pb.OUTCOME_UNCHANGED}
        assert (await master.store.list("")).entries == before
        mixed = await client.apply(*answers, network("new", "10.77.0.0/16"))
        outcomes = [result.outcome for result in mixed.results]
        assert outcomes == [*[pb.OUTCOME_UNCHANGED] * len(answers), pb.OUTCOME_CREATED]
        assert mixed.results[0].object.revision < mixed.version.revision


async def test_apply_is_all_or_nothing() -> None:
    async with serving() as (master, client):
        before = (await master.store.list("")).entries
        for bad, code in (
            (network("m", "10.1.4.0/24"), Status.FAILED_PRECONDITION),  # overlaps the first
            (group("g", "none"), Status.INVALID_ARGUMENT),
            (network(), Status.INVALID_ARGUMENT),  # twice
            (rule(port=70000), Status.INVALID_ARGUMENT),
        ):
            for objects in ((network(), policy(), bad), (bad, policy(), network())):
                error = await refusal(client.apply(*objects))
                assert error.code() is code, bad
                assert (await master.store.list("")).entries == before


async def test_apply_gives_each_its_own_tag_and_address() -> None:
    def vlan(at: int) -> pb.Object:
        return network(f"v{at}", f"10.{at}.0.0/24", encap="vlan")

    def service(name: str) -> pb.Object:
        return pb.Object(
            service_lb=pb.ServiceLBSpec(
                tenant_name="blue",
                service_name=name,
                network_name="v1",
                ports=["80:80:TCP"],
                selectors=["a=b"],
            )
        )

    async with serving() as (master, client):
        await client.apply(service("a"), vlan(1), vlan(2), service("b"), vlan(3))
        networks = master.view.objects["network"]
        assert {stored.value["tag"] for stored in networks.values()} == {1, 2, 3}
        services = [stored.value["vip"] for stored in master.view.objects["serviceLB"].values()]
        assert len(set(services)) == 2
        assert networks["blue:v1"].value["vips"] == sorted(services)


async def test_a_dry_run_says_what_would_be_and_writes_nothing() -> None:
    async with serving([GLOBAL, TENANT, network()]) as (master, client):
        before = (await master.store.list("")).entries
        done = await client.apply(group(), network(announce="blocks"), TENANT, policy(), dry=True)
        assert [result.outcome for result in done.results] == [
            pb.OUTCOME_CREATED,
            pb.OUTCOME_CHANGED,
            pb.OUTCOME_UNCHANGED,
            pb.OUTCOME_CREATED,
        ]
        assert [bool(result.object.revision) for result in done.results] == [0, 0, 1, 0]
        error = await refusal(client.apply(group("g", "none"), dry=True))
        assert error.code() is Status.INVALID_ARGUMENT
        assert (await master.store.list("")).entries == before
        assert await client.keys(pb.KIND_ENDPOINT_GROUP) == []
        assert (await client.put(group())).outcome == pb.OUTCOME_CREATED


async def test_limits() -> None:
    async with serving() as (_, client):
        many = [policy(f"p{i}") for i in range(MAX_OBJECTS + 1)]
        error = await refusal(client.apply(*many))
        assert error.code() is Status.INVALID_ARGUMENT
        assert (await client.apply()).results == []
        done = await client.apply(*many[:MAX_OBJECTS])
        assert len(done.results) == MAX_OBJECTS
        large = network(cfgd_tag="x" * MAX_OCTETS)
        error = await refusal(client.put(large))
        assert error.code() is Status.INVALID_ARGUMENT
        assert "octets" in str(error.details())


async def test_a_long_and_foreign_value_does_not_spoil_the_answer() -> None:
    async with serving() as (_, client):
        error = await refusal(client.put(network("m", "ü%\n" * 50_000)))
        assert error.code() is Status.INVALID_ARGUMENT
        error = await refusal(client.put(network("ü%" * 10, "10.2.0.0/16")))
        assert "network blue:ü%ü%" in str(error.details())
        error = await refusal(client.get(pb.KIND_NETWORK, "ü" * 100_000))
        assert error.code() is Status.NOT_FOUND
        assert "…" in str(error.details())
        error = await refusal(client.put(network("m", "10.2.0.0/16", cfgd_tag="ü%1\n")))
        assert error.code() is Status.INVALID_ARGUMENT
        assert remedy(error).isascii()
        assert unquote(remedy(error)) == "not 'ü%1\\n'"


class _Full(MemoryStore):
    """A store that stops answering."""

    gone = False

    async def txn(self, compares: Any, operations: Any) -> int:
        if self.gone:
            raise UnavailableError("the store does not answer", "start it")
        return await super().txn(compares, operations)


async def test_without_the_store_reads_are_served_and_writes_refused() -> None:
    store = _Full()
    async with serving(store=store) as (_, client):
        store.gone = True
        error = await refusal(client.put(network()))
        assert (error.code(), remedy(error)) == (Status.UNAVAILABLE, "start it")
        assert await client.keys(pb.KIND_TENANT) == ["blue"]
        store.gone = False
        assert (await client.put(network())).outcome == pb.OUTCOME_CREATED
