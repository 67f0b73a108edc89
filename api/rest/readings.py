"""The read-only collections of `/api/v2`: endpoints, hosts, sessions, routes, blocks, pods, verdicts."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from netfabric.api.rest.verdicts import verdicts
from netfabric.fabric.errors import InvalidError, NotFoundError
from netfabric.fabric.intent import contains
from netfabric.fabric.oper import session_oper
from netfabric.fabric.placement import pod_of
from netfabric.fabric.prefix import Prefix, host_prefix, parse_prefix
from netfabric.fabric.route import LearnedRoute
from netfabric.fabric.session import SessionStatus
from netfabric.fabric.view import HostStatus, View

Item = dict[str, Any]
Query = Mapping[str, str]


def _only(view: View, query: Query, known: Iterable[str]) -> None:
    """Refuse filters that can only be mistakes: of an unknown name, or an unknown host."""
    for name in query:
        if name not in known:
            raise InvalidError(f"unknown filter {name!r}", f"known are {', '.join(known)}")
    host = query.get("host")
    if host and host not in host_names(view):
        raise NotFoundError(f"host {host} is unknown", "netctl host ls lists the hosts")


def host_names(view: View) -> set[str]:
    """Return the hosts that are connected, have a speaker, or still hold blocks or endpoints."""
    names = {*view.hosts, *view.speakers}
    names |= {host for host, held in view.blocks_by_host.items() if held}
    return names | {host for host, held in view.endpoints_by_host.items() if held}


def _pass(query: Query, **values: str) -> bool:
    return all(query.get(name) in (None, value) for name, value in values.items())


def endpoints(view: View, query: Query) -> list[Item]:
    """Return attached containers; filters host, tenant, network, group, container."""
    _only(view, query, ("host", "tenant", "network", "group", "container"))
    return [
        {
            "key": f"{e.host}:{e.key}",
            "tenant": e.tenant,
            "network": e.network,
            "group": e.group,
            "host": e.host,
            "container": e.key.container,
            "interface": e.key.interface,
            "name": e.name,
            "labels": dict(e.labels),
            "addresses": [str(address) for address in e.addresses],
            "mac": e.mac,
            "link": e.link,
            "mtu": e.mtu,
            "sequence": e.sequence,
        }
        for _, e in sorted(view.endpoints.items())
        if _pass(
            query,
            host=e.host,
            tenant=e.tenant,
            network=e.network,
            group=e.group,
            container=e.key.container,
        )
    ]


def _session(host: str, session: SessionStatus) -> Item:
    return {"host": host, "peer": session.peer.partition(":")[2], **session_oper(session)}


def sessions(view: View, query: Query) -> list[Item]:
    """Return the BGP sessions of connected hosts; filters host, state."""
    _only(view, query, ("host", "state"))
    return [
        _session(name, session)
        for name, host in sorted(view.hosts.items())
        for session in host.sessions
        if _pass(query, host=name, state=session.state)
    ]


def hosts(view: View, query: Query) -> list[Item]:
    """Return hosts: those connected, and those that still hold blocks or endpoints."""
    _only(view, query, ("name", "state"))
    found = [_host(view, name) for name in sorted(host_names(view))]
    return [item for item in found if _pass(query, name=item["name"], state=item["state"])]


def _host(view: View, name: str) -> Item:
    status = view.hosts.get(name)
    told = status or HostStatus(name)
    return {
        "key": name,
        "name": name,
        "address": told.address,
        "state": "connected" if status else "away",
        "software": told.software,
        "features": list(told.features),
        "vtep": str(view.vteps.get(name, "")),
        "endpoints": len(view.endpoints_by_host.get(name, ())),
        "blocks": [
            {"network": network, "prefix": str(prefix)}
            for network, prefix in sorted(view.blocks_by_host.get(name, ()), key=str)
        ],
        "sessions": [_session(name, session) for session in told.sessions],
        "refused": told.refused,
    }


def _route(route: LearnedRoute) -> Item:
    return {
        "key": f"{route.host}:{route.tenant}:{route.prefix}",
        "prefix": str(route.prefix),
        "host": route.host,
        "origin": route.origin,
        "nextHops": [str(hop) for hop in route.next_hops],
        "asPath": list(route.as_path),
        "tenant": route.tenant,
    }


def _prefix_of(text: str) -> Prefix | None:
    return parse_prefix(text) if text else None


def routes(view: View, query: Query) -> list[Item]:
    """Return learned routes and endpoints.

    Filters: host, tenant, origin; prefix (those inside it); covers (an address: the longest match).
    """
    _only(view, query, ("host", "tenant", "origin", "prefix", "covers"))
    host = query.get("host", "")
    found = view.host_routes(host)
    learned = view.learned.items() if not host else [(host, view.learned.get(host, ()))]
    for _, of_host in learned:
        found.extend(of_host)
    inside, covers = _prefix_of(query.get("prefix", "")), _prefix_of(query.get("covers", ""))
    kept = [
        route
        for route in found
        if _pass(query, tenant=route.tenant, origin=route.origin)
        and (inside is None or contains(inside, route.prefix))
        and (covers is None or contains(route.prefix, covers))
    ]
    if covers is not None:
        longest = max((route.prefix.prefixlen for route in kept), default=0)
        kept = [route for route in kept if route.prefix.prefixlen == longest]
    kept.sort(key=lambda r: (r.prefix.version, r.prefix, r.host, r.tenant))
    return [_route(route) for route in kept]


def blocks(view: View, query: Query) -> list[Item]:
    """Return address blocks and who holds them; filters host, network."""
    _only(view, query, ("host", "network"))
    return [
        {
            "key": f"{network}:{prefix}",
            "network": network,
            "prefix": str(prefix),
            "host": host,
            "inUse": in_use(view, network, prefix),
        }
        for (network, prefix), host in sorted(view.blocks.items(), key=str)
        if _pass(query, host=host, network=network)
    ]


def pods(view: View, query: Query) -> list[Item]:
    """Return the pods of a Kubernetes cluster; filters host, namespace, tenant, network."""
    _only(view, {**query, "host": ""}, ("host", "namespace", "tenant", "network"))
    addresses: dict[str, list[str]] = {}
    for endpoint in view.endpoints.values():
        placed = view.pods.get(pod_of(endpoint.name, endpoint.labels))
        if placed is not None and placed.fits(endpoint):
            addresses.setdefault(placed.pod, []).extend(map(str, endpoint.addresses))
    return [
        {
            "key": key,
            "host": p.host,
            "state": "attached" if key in addresses else "expected",
            "tenant": p.tenant,
            "network": p.network,
            "group": p.group,
            "filter": p.filter,
            "peers": list(p.peers),
            "labels": dict(p.labels),
            "addresses": addresses.get(key, []),
        }
        for key, p in sorted(view.pods.items())
        if _pass(
            query,
            host=p.host,
            namespace=key.partition("/")[0],
            tenant=p.tenant,
            network=p.network,
        )
    ]


def in_use(view: View, network: str, block: Prefix) -> int:
    """Return how many addresses of a block endpoints have."""
    return sum(
        any(contains(block, host_prefix(address)) for address in view.endpoints[where].addresses)
        for where in view.endpoints_by_network.get(network, ())
    )


READINGS: Mapping[str, Callable[[View, Query], list[Item]]] = {
    "endpoints": endpoints,
    "hosts": hosts,
    "sessions": sessions,
    "routes": routes,
    "blocks": blocks,
    "pods": pods,
    "verdicts": verdicts,
}
