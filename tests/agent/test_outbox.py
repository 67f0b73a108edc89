"""What waits to be said to netmaster: merged, and in the end the same as if it had all been said."""

import asyncio
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from netfabric.agent.outbox import BATCH, Outbox
from netfabric.fabric.attachment import endpoint_of
from netfabric.fabric.endpoint import Endpoint, EndpointKey
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.route import LearnedRoute
from netfabric.fabric.session import (
    AgentMessage,
    BlockWanted,
    CountsChanged,
    EndpointsChanged,
    Hello,
    RoutesLearned,
    RuleCount,
    SessionsChanged,
)
from tests.fabric.script import key, request

HOP = ip_address("10.90.0.0")
HELLO = Hello("h1", "0", "")


def _prefix(number: int) -> Prefix:
    return ip_network((0x0A000000 + number, 32))


def _route(number: int, *path: int) -> LearnedRoute:
    return LearnedRoute(_prefix(number), "h1", (HOP,), tuple(path))


def _endpoint(number: int) -> Endpoint:
    return endpoint_of(request(f"c{number}"), "h1", (ip_address(f"10.1.0.{number}"),))


async def _drain(outbox: Outbox) -> list[AgentMessage]:
    end = BlockWanted("end", 4)
    outbox.put(end)
    said: list[AgentMessage] = []
    async with asyncio.timeout(5):
        while (message := await outbox.take()) != end:
            said.append(message)
    return said


async def test_news_of_one_thing_merge() -> None:
    outbox = Outbox()
    outbox.put(HELLO)
    outbox.put(RoutesLearned(True, (_route(1),)))
    outbox.put(SessionsChanged(()))
    outbox.put(RoutesLearned(False, (_route(2),), (_prefix(1),)))
    outbox.put(EndpointsChanged(up=(_endpoint(1), _endpoint(2))))
    outbox.put(EndpointsChanged(down=(key("c1"),)))
    assert await _drain(outbox) == [
        HELLO,
        RoutesLearned(True, (_route(2),)),
        SessionsChanged(()),
        EndpointsChanged((_endpoint(2),), (key("c1"),)),
    ]


async def test_many_routes_are_many_messages() -> None:
    outbox = Outbox()
    outbox.put(RoutesLearned(True, tuple(map(_route, range(BATCH + 10)))))
    first, second = await _drain(outbox)
    assert isinstance(first, RoutesLearned)
    assert isinstance(second, RoutesLearned)
    assert (first.full, len(first.routes)) == (True, BATCH)
    assert (second.full, len(second.routes)) == (False, 10)


async def test_whoever_waits_gets_the_next_message() -> None:
    outbox = Outbox()
    taking = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    outbox.put(HELLO)
    assert await taking == HELLO


async def test_nothing_of_before_is_left_after_clear() -> None:
    outbox = Outbox()
    outbox.put(HELLO)
    outbox.put(RoutesLearned(True, (_route(1),)))
    outbox.put(EndpointsChanged(down=(key("c1"),)))
    outbox.clear()
    outbox.put(RoutesLearned(False, (_route(2),)))
    assert await _drain(outbox) == [RoutesLearned(False, (_route(2),))]


_numbers = st.integers(0, 5)
_routes = st.builds(
    lambda full, up, down: RoutesLearned(
        full, tuple(_route(n) for n in up), () if full else tuple(map(_prefix, down - up))
    ),
    st.booleans(),
    st.sets(_numbers),
    st.sets(_numbers),
)
_endpoints = st.builds(
    lambda up, down: EndpointsChanged(
        tuple(map(_endpoint, up)), tuple(key(f"c{n}") for n in down - up)
    ),
    st.sets(_numbers),
    st.sets(_numbers),
)


class _Listener:
    """What a netmaster knows after it heard messages."""

    def __init__(self) -> None:
        self.routes: dict[Prefix, LearnedRoute] = {}
        self.endpoints: dict[EndpointKey, Endpoint] = {}

    def hear(self, message: AgentMessage) -> None:
        match message:
            case RoutesLearned(full, routes, withdrawn):
                if full:
                    self.routes.clear()
                self.routes.update((route.prefix, route) for route in routes)
                for prefix in withdrawn:
                    self.routes.pop(prefix, None)
            case EndpointsChanged(up, down):
                self.endpoints.update((e.key, e) for e in up)
                for gone in down:
                    self.endpoints.pop(gone, None)


@given(st.lists(st.one_of(_routes, _endpoints, st.none())))
def test_merged_news_end_in_the_same_state(news: list[AgentMessage | None]) -> None:
    """None: netmaster has time to read one message in between."""

    async def scenario() -> None:
        outbox, plain, merged = Outbox(), _Listener(), _Listener()
        for message in news:
            if message is not None:
                outbox.put(message)
                plain.hear(message)
            elif outbox.waiting:
                merged.hear(await outbox.take())
        for message in await _drain(outbox):
            merged.hear(message)
        assert (merged.routes, merged.endpoints) == (plain.routes, plain.endpoints)

    asyncio.run(scenario())


async def test_of_counts_the_last_are_told() -> None:
    outbox = Outbox()
    for packets in (1, 2):
        outbox.put(CountsChanged((RuleCount("a:b", "in", "default", packets, 60),)))
    assert await _drain(outbox) == [CountsChanged((RuleCount("a:b", "in", "default", 2, 60),))]
