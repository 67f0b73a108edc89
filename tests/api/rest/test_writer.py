"""Several writers at once: they share transactions, and each is answered as if it had been alone."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from netfabric.api.bootstrap import bootstrap
from netfabric.api.mirror import Mirror
from netfabric.api.rest.writer import ATTEMPTS, Writer
from netfabric.api.rest.writer_batch import GUARD, MAX_OPERATIONS
from netfabric.api.settings import Listen, Settings, StoreSettings
from netfabric.api.store.base import ROOT, Batch, Compare, Delete, Put
from netfabric.api.store.memory import MemoryStore
from netfabric.fabric.controller_blocks import decide_block
from netfabric.fabric.errors import (
    ConflictError,
    InvalidError,
    StaleError,
    UnavailableError,
)
from netfabric.fabric.invariants import violations
from netfabric.fabric.kinds import KINDS
from netfabric.fabric.rules import decide_delete, decide_put
from netfabric.fabric.schema import validate
from netfabric.fabric.session import BlockWanted
from netfabric.fabric.stored import dump
from netfabric.fabric.view import HostStatus, host_key
from netfabric.fabric.world import World, Write

if TYPE_CHECKING:
    from tests.api.rest.conftest import Api

ANYWHERE = Listen("127.0.0.1", 0)
PATIENCE = 10
Operations = Sequence[Put | Delete]


class SlowStore(MemoryStore):
    """A store in memory whose transactions wait at a gate, and of which some fail."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        """Somebody is at the gate."""
        self.sizes: list[int] = []
        """Operations of each transaction of intent that was asked for, the guard's left out."""
        self.failing: list[Exception] = []
        self.most = MAX_OPERATIONS

    async def txn(self, compares: Sequence[Compare], operations: Operations) -> int:
        if any(operation.key == GUARD for operation in operations):
            self.sizes.append(len(operations) - 1)
        self.asked.set()
        await self.gate.wait()
        self.asked.clear()
        if max(len(compares), len(operations)) > self.most:
            raise InvalidError("too many operations in txn request", "ask for less")
        if self.failing:
            raise self.failing.pop(0)
        return await super().txn(compares, operations)

    async def content(self) -> dict[str, bytes]:
        return {entry.key: entry.value for entry in (await self.list(ROOT)).entries}


@contextlib.asynccontextmanager
async def netmaster(store: MemoryStore) -> AsyncIterator[Writer]:
    """A writer whose mirror follows the store."""
    mirror = Mirror(store)
    writer = Writer(store, mirror)
    following = asyncio.ensure_future(mirror.run())
    try:
        await asyncio.wait_for(mirror.listed.wait(), PATIENCE)
        await bootstrap(writer, Settings(StoreSettings("memory"), ANYWHERE, ANYWHERE, "m1"))
        yield writer
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
async def store() -> AsyncIterator[SlowStore]:
    found = SlowStore()
    yield found
    sound = violations((await found.content()).items())
    await found.close()
    assert sound == []


@pytest.fixture
async def writer(store: SlowStore) -> AsyncIterator[Writer]:
    async with netmaster(store) as found:
        store.sizes.clear()
        yield found


def putting(type_: str, **fields: Any) -> Callable[[World], Write]:
    kind = KINDS[type_]
    obj = {**fields, "key": kind.key_of(fields)}

    def decide(world: World) -> Write:
        new = dict(obj)
        validate(kind, new, "v2")
        return decide_put(world, kind, new, "v2")

    return decide


def removing(type_: str, key: str) -> Callable[[World], Write]:
    return lambda world: decide_delete(world, KINDS[type_], key, "v2")


def network(number: int, **fields: Any) -> Callable[[World], Write]:
    named = {"tenantName": "default", "networkName": f"n{number}", "encap": "vxlan"}
    return putting("network", **{**named, "subnet": f"10.0.{number}.0/24", **fields})


class Held:
    """Writes of which the first is on its way to the store, and the others wait."""

    def __init__(self, writer: Writer, store: SlowStore) -> None:
        self._writer = writer
        self._store = store
        self.tasks: list[asyncio.Task[int]] = []

    async def write(self, *decisions: Callable[[World], Write]) -> None:
        """Ask for writes, and see the first of all of them at the gate."""
        self._store.gate.clear()
        for decide in decisions:
            self.tasks.append(asyncio.ensure_future(self._writer.write(decide)))
        async with asyncio.timeout(PATIENCE):
            await asyncio.sleep(0)  # all of them have asked
            await self._store.asked.wait()

    async def release(self) -> list[int | BaseException]:
        """Let the store answer; return every write's outcome."""
        self._store.gate.set()
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
def held(writer: Writer, store: SlowStore) -> Held:
    return Held(writer, store)


async def test_who_waits_shares_the_next_transaction(
    writer: Writer, store: SlowStore, held: Held
) -> None:
    await held.write(network(0))
    await held.write(*(network(number) for number in range(1, 21)))
    first, *others = await held.release()
    assert store.sizes == [2, 40]
    assert {*others} == {first + 1}  # type: ignore[operator]
    tags = [writer.world.get("network", f"default:n{number}")["tag"] for number in range(21)]  # type: ignore[index]
    assert tags == list(range(1, 22))


async def test_a_bad_one_fails_alone(writer: Writer, store: SlowStore, held: Held) -> None:
    await held.write(network(0))
    await held.write(
        network(1),
        network(2, subnet="10.0.1.128/25"),  # overlaps with one that is not committed
        network(3, gateway="10.9.9.9"),
        network(4),
        putting("network", tenantName="nobody", networkName="n", subnet="10.9.0.0/24"),
    )
    _, one, overlap, gateway, four, tenant = await held.release()
    assert one == four
    assert isinstance(overlap, ConflictError)
    assert "network n1 conflicts with subnet 10.0.1.128/25" in overlap.what
    assert isinstance(gateway, InvalidError)
    assert isinstance(tenant, InvalidError)
    assert store.sizes == [2, 4]
    assert sorted(writer.view.objects["network"]) == ["default:n0", "default:n1", "default:n4"]


async def test_later_ones_see_what_earlier_ones_leave(writer: Writer, held: Held) -> None:
    await held.write(network(0))
    await held.write(
        putting("tenant", tenantName="blue"),
        putting("network", tenantName="blue", networkName="n", subnet="10.1.0.0/24"),
        putting("policy", tenantName="blue", policyName="p"),
        putting("endpointGroup", tenantName="blue", groupName="g", networkName="n", policies=["p"]),
        removing("policy", "blue:p"),
        removing("tenant", "blue"),
    )
    outcomes = await held.release()
    assert isinstance(outcomes[-2], ConflictError)
    assert isinstance(outcomes[-1], ConflictError)
    assert len({*outcomes[1:-2]}) == 1, "the four share a transaction"
    assert writer.world.get("endpointGroup", "blue:g") is not None


async def test_two_writes_of_one_object_have_two_revisions(writer: Writer, held: Held) -> None:
    await held.write(network(0))
    named = {"tenantName": "default", "profileName": "slow"}
    await held.write(*(putting("netprofile", **named, DSCP=number) for number in range(1, 6)))
    _, *revisions = await held.release()
    assert len({*revisions}) == 5
    assert writer.view.objects["netprofile"]["default:slow"].revision == max(revisions)  # type: ignore[type-var]


async def test_a_tag_that_goes_is_given_again_in_the_next_transaction(
    writer: Writer, held: Held
) -> None:
    await writer.write(network(1))
    await held.write(network(0))
    await held.write(removing("network", "default:n1"), network(2), network(3))
    _, gone, two, three = await held.release()
    assert gone < two == three  # type: ignore[operator]
    assert {s.value["tag"] for s in writer.view.objects["network"].values()} == {1, 2, 3}


async def test_nothing_to_write_waits_for_what_makes_it_true(writer: Writer, held: Held) -> None:
    """The second asks for what the first is about to write; it is told so once that is committed."""
    same = putting("netprofile", tenantName="default", profileName="slow", DSCP=3)
    await held.write(network(0))
    await held.write(same, same)
    assert not any(task.done() for task in held.tasks)
    _, first, second = await held.release()
    assert first == second == writer.view.revision


async def test_a_refusal_waits_for_what_makes_it_right(
    writer: Writer, store: SlowStore, held: Held
) -> None:
    """What stood in the way was never committed: then it does not stand in the way."""
    await held.write(network(0))
    await held.write(network(1), network(1, networkName="other"))
    store.failing = [
        StaleError("guard"),  # of the first
        UnavailableError("gone", "wait"),
    ]
    outcomes = await held.release()
    assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 3
    assert await writer.write(network(1, networkName="other"))


async def test_a_lost_race_is_decided_again(store: SlowStore, writer: Writer, held: Held) -> None:
    """Another netmaster is faster: what it took is not given twice."""
    async with netmaster(store) as other:
        await held.write(network(0))
        await held.write(network(1), network(2, networkName="x"))
        held.tasks.append(asyncio.ensure_future(other.write(network(2))))
        zero, one, *rivals = await held.release()
    assert isinstance(zero, int)
    assert isinstance(one, int)
    assert sorted(type(outcome).__name__ for outcome in rivals) == ["ConflictError", "int"]


async def test_two_netmasters_writing_at_once_lose_nothing(
    store: SlowStore, writer: Writer
) -> None:
    async with netmaster(store) as other, asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for number in range(120):
            one = writer if number % 2 else other
            tasks.create_task(one.write(network(number)))
    assert len(writer.view.objects["network"]) == 120
    assert {s.value["tag"] for s in writer.view.objects["network"].values()} == {*range(1, 121)}


class Behind:
    """The same store, whose news may come late."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.news = asyncio.Event()
        self.news.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Batch]:
        async for batch in self._store.watch(prefix, after):
            await self.news.wait()
            yield batch


async def test_nobody_is_refused_for_what_another_netmaster_has_just_made(
    store: SlowStore, writer: Writer
) -> None:
    behind = Behind(store)
    async with netmaster(behind) as other:  # type: ignore[arg-type]
        behind.news.clear()
        await writer.write(putting("tenant", tenantName="blue"))
        asked = asyncio.ensure_future(
            other.write(putting("policy", tenantName="blue", policyName="p"))
        )
        done, _ = await asyncio.wait([asked], timeout=0.2)
        assert not done
        behind.news.set()
        await asyncio.wait_for(asked, PATIENCE)
        with pytest.raises(InvalidError, match="Tenant not found"):
            await other.write(putting("policy", tenantName="red", policyName="p"))


async def test_a_race_lost_too_often_is_given_up(store: SlowStore, writer: Writer) -> None:
    store.failing = [StaleError("guard") for _ in range(2 * ATTEMPTS)]
    with pytest.raises(UnavailableError, match="too many changes at once"):
        await writer.write(network(1))
    store.failing.clear()
    assert await writer.write(network(1))


async def test_a_store_that_fails_fails_all_who_wait(
    store: SlowStore, writer: Writer, held: Held
) -> None:
    before = await store.content()
    await held.write(network(0))
    await held.write(network(1), network(2), removing("tenant", "default"))
    store.failing = [UnavailableError("no majority", "wait")]
    outcomes = await held.release()
    assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 4
    assert len(store.sizes) == 1, "one attempt is enough to know"
    assert await store.content() == before
    assert not writer.view.objects["network"]
    assert await writer.write(network(1))


async def test_a_client_that_goes_away_takes_nobody_along(writer: Writer, held: Held) -> None:
    await held.write(network(0))
    await held.write(network(1), network(2))
    held.tasks[0].cancel()  # at the store: it happens all the same
    held.tasks[1].cancel()  # waits still: it never happens
    gone, never, stays = await held.release()
    assert isinstance(gone, asyncio.CancelledError)
    assert isinstance(never, asyncio.CancelledError)
    assert isinstance(stays, int)
    assert sorted(writer.view.objects["network"]) == ["default:n0", "default:n2"]


async def test_as_many_share_as_etcd_takes(store: SlowStore, writer: Writer, held: Held) -> None:
    await held.write(network(200))
    await held.write(*(network(number) for number in range(200)))
    outcomes = await held.release()
    assert not [outcome for outcome in outcomes if not isinstance(outcome, int)]
    assert len(writer.view.objects["network"]) == 201
    assert max(store.sizes) == MAX_OPERATIONS - 2, "two a network, and one is the guard's"


async def test_values_share_only_what_fits(store: SlowStore, writer: Writer, held: Held) -> None:
    large = ["x" * 300_000]
    rule = {"tenantName": "default", "contractsType": "provided"}
    await held.write(network(0))
    await held.write(
        *(
            putting("extContractsGroup", **rule, contractsGroupName=f"c{number}", contracts=large)
            for number in range(5)
        )
    )
    outcomes = await held.release()
    assert not [outcome for outcome in outcomes if not isinstance(outcome, int)]
    assert store.sizes == [2, 3, 2]


async def test_what_the_store_takes_only_alone(
    store: SlowStore, writer: Writer, held: Held
) -> None:
    """An etcd with a lower limit than usual: who fits is served, and who does not is told."""
    for number in range(4):
        key = f"{ROOT}alloc/block/default:n1/10.0.1.{64 * number}_26"
        await MemoryStore.txn(store, [], [Put(key, b'{"host":"h1"}')])
    store.most = 4
    await held.write(network(0))
    await held.write(network(1), network(2), network(3))
    outcomes = await held.release()
    assert len({*outcomes}) == 4
    with pytest.raises(InvalidError, match="too many operations"):
        await writer.write(removing("network", "default:n1"))
    store.most = MAX_OPERATIONS
    store.sizes.clear()
    held.tasks.clear()
    await held.write(removing("network", "default:n1"))
    await held.write(network(4), network(5))
    await held.release()
    assert store.sizes == [7, 4], "they share again"


@pytest.mark.parametrize("lent", [False, True])
async def test_what_is_claimed_while_a_network_is_being_deleted_goes_with_it(
    store: SlowStore, writer: Writer, held: Held, lent: bool
) -> None:
    """The deletion was decided when nothing of the kind was there, and is on its way."""
    await writer.write(network(1, encap="routed", blockLength=24))
    if lent:
        await claim(store, writer, "h1")
    await held.write(removing("network", "default:n1"))
    await claim(store, writer, "h2" if lent else "h1")
    (deleted,) = await held.release()
    assert isinstance(deleted, int)
    assert not [key for key in await store.content() if "n1" in key or "/loan/" in key]


async def claim(store: SlowStore, writer: Writer, host: str) -> None:
    """Give a host a block of `n1`, or lend it an address, past the gate."""
    wanted = BlockWanted("default:n1", 4)
    status_of_owner = Put(host_key("h1"), dump(HostStatus("h1")).encode())
    await MemoryStore.txn(store, [], [status_of_owner])
    await writer.reached(store._state.revision)
    write = decide_block(writer.view, host, wanted, f"loan-{host}").write
    assert write
    puts = [Put(ROOT + key, json.dumps(value).encode()) for key, value in write.puts.items()]
    compares = [Compare(ROOT + key, at) for key, at in write.unchanged.items()]
    await writer.reached(await MemoryStore.txn(store, compares, puts))


async def test_a_defect_in_a_decision_is_its_own(writer: Writer, held: Held) -> None:
    def broken(_: World) -> Write:
        raise ZeroDivisionError("a defect")

    await held.write(network(0))
    await held.write(network(1), broken, network(2))
    _, one, defect, two = await held.release()
    assert isinstance(defect, ZeroDivisionError)
    assert one == two


async def test_a_defect_around_decisions_is_told_to_all(writer: Writer, held: Held) -> None:
    def unwritable(_: World) -> Write:
        return Write({"intent/tenant/x": {"key": object()}})

    await held.write(network(0))
    await held.write(unwritable, network(1))
    _, first, second = await asyncio.wait_for(held.release(), PATIENCE)
    assert isinstance(first, TypeError)
    assert isinstance(second, TypeError)
    assert await writer.write(network(1))


async def test_one_of_many_conditional_updates_wins(api: "Api") -> None:
    """RFC 9110, 13.1.1: an If-Match is for the object as it was read; also among those who share."""
    created = await api.call("PUT", "/api/v2/netprofiles/default:p", {"DSCP": 1})
    tag = created.headers["ETag"]
    answers = await asyncio.gather(
        *(
            api.call("PATCH", "/api/v2/netprofiles/default:p", {"DSCP": number}, If_Match=tag)
            for number in range(2, 22)
        )
    )
    (won,) = [answer for answer in answers if answer.status == 200]
    assert [answer.status for answer in answers].count(412) == 19
    now = await api.call("GET", "/api/v2/netprofiles/default:p")
    assert now.json == won.json
    assert now.headers["ETag"] == won.headers["ETag"] != tag


async def test_each_of_many_updates_has_an_etag_of_its_own(api: "Api") -> None:
    await api.put("netprofiles", "default:p", DSCP=1)
    answers = await asyncio.gather(
        *(
            api.call("PUT", "/api/v2/netprofiles/default:p", {"DSCP": number})
            for number in range(2, 22)
        )
    )
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["ETag"] for answer in answers}) == 20
    now = await api.call("GET", "/api/v2/netprofiles/default:p")
    (last,) = [a for a in answers if a.headers["ETag"] == now.headers["ETag"]]
    assert last.json == now.json


async def test_one_of_many_creations_wins(api: "Api") -> None:
    body = {"tenantName": "default", "networkName": "n", "subnet": "10.0.0.0/24"}
    answers = await asyncio.gather(*(api.call("POST", "/api/v2/networks", body) for _ in range(20)))
    statuses = [answer.status for answer in answers]
    assert (statuses.count(201), statuses.count(409)) == (1, 19)
    v1 = "/api/v1/networks/default:n/"
    gone = await asyncio.gather(*(api.call("DELETE", v1) for _ in range(20)))
    assert [answer.status for answer in gone].count(200) == 1
    stored = await api.stored()
    assert not [key for key in stored if "/network/" in key or "/alloc/" in key]
    assert json.loads(stored[GUARD]) == {}
