"""The table of routes follows the view, and whoever follows its log ends with the same."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from netfabric.fabric.controller_routes import RouteKey, RouteTable, Subnets, key_of
from netfabric.fabric.network import Network, whole_range
from netfabric.fabric.packed import dump_routes, load_routes
from netfabric.fabric.route import LearnedRoute
from netfabric.fabric.stored import dump
from netfabric.fabric.view import View, endpoint_key, learned_key
from tests.fabric.controllers import at

HOPS = (ip_address("10.9.0.1"), ip_address("fd99::1"))
PREFIXES = [ip_network(p) for p in ("0.0.0.0/0", "10.0.0.0/8", "fd00::/8", "::/0")]


def learned(host: str, numbers: frozenset[int], path: int) -> tuple[LearnedRoute, ...]:
    return tuple(
        LearnedRoute(PREFIXES[n], host, HOPS[: 1 + path % 2], (path,)) for n in sorted(numbers)
    )


events = st.lists(
    st.one_of(
        st.tuples(
            st.just("endpoint"),
            st.sampled_from(["h1", "h2"]),
            st.sampled_from("abc"),
            st.sampled_from([None, "10.1.0.1", "10.1.0.2"]),
        ),
        st.tuples(
            st.just("learned"),
            st.sampled_from(["h1", "h2"]),
            st.none() | st.frozensets(st.integers(0, 3)),
            st.integers(1, 3),
        ),
    ),
    max_size=20,
)


@settings(deadline=None)
@given(events=events, looks=st.sets(st.integers(0, 19)), limit=st.integers(0, 10))
def test_the_log_leads_to_the_table_and_the_table_is_the_view(
    events: list[tuple[str, str, object, object]], looks: set[int], limit: int
) -> None:
    view = View()
    table = RouteTable(view, limit=limit)
    rib: dict[RouteKey, LearnedRoute] = {}
    serial = 0

    def look() -> None:
        nonlocal serial
        changes = table.since(serial)
        if changes is None:
            rib.clear()
            rib.update(table.routes)
        for key, route in (changes or {}).items():
            if route is None:
                rib.pop(key, None)
            else:
                rib[key] = route
        serial = table.serial

    for number, (kind, host, what, how) in enumerate(events):
        if kind == "endpoint":
            up = at(host, str(how or "10.1.0.1"), str(what))
            key, value = endpoint_key(host, up.key), how and dump(up).encode()
        else:
            key = learned_key(host)
            value = None if what is None else dump_routes(learned(host, what, int(str(how))))  # type: ignore[arg-type]
        puts = [(key, value, number + 1)] if value is not None else []
        change = view.apply(puts, () if puts else (key,), number + 1)  # type: ignore[arg-type]
        assert not view.broken
        table.follow(change)
        if number in looks:
            look()
    look()
    everything = {key_of(r): r for r in view.host_routes()}
    everything |= {key_of(r): r for routes in view.learned.values() for r in routes}
    assert table.routes == everything == rib


@settings(deadline=None)
@given(st.frozensets(st.integers(0, 3)), st.integers(1, 3))
def test_packed_routes_survive(numbers: frozenset[int], path: int) -> None:
    routes = [*learned("h1", numbers, path), *learned("h2", numbers, path + 1)]
    routes.append(replace(learned("h1", frozenset({0}), 9)[0], tenant="red", origin="endpoint"))
    assert sorted(load_routes(dump_routes(routes)), key=str) == sorted(routes, key=str)


def test_in_which_subnet_a_prefix_lies() -> None:
    blue = Network("default", "blue", "routed", (whole_range(ip_network("10.1.0.0/16")),), ())
    both = Network(
        "red",
        "x",
        "vxlan",
        (whole_range(ip_network("10.1.2.0/24")), whole_range(ip_network("fd10::/64"))),
    )
    subnets = Subnets([blue, both])
    for prefix, expected in (
        ("10.1.2.3/32", {"default:blue", "red:x"}),
        ("10.1.3.0/24", {"default:blue"}),
        ("10.1.0.0/16", {"default:blue"}),
        ("10.0.0.0/8", set()),
        ("0.0.0.0/0", set()),
        ("fd10::7/128", {"red:x"}),
        ("fd11::/64", set()),
    ):
        assert {n.key for n in subnets.holding(ip_network(prefix))} == expected, prefix
