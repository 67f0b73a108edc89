"""What a lab looks like now, as tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from netfabric.fabric.prefix import Address, Prefix, host_prefix
from netfabric.lab.container import Container
from netfabric.lab.lab import LARGEST_FULL, Lab
from netfabric.lab.measure import Reach
from netfabric.lab.probe import Matrix, Pair

LARGEST_MATRIX = 16
"""Containers; more do not fit on a screen, and only what fails is listed."""
_MOST_PREFIXES, _MOST_CONTAINERS = 12, 40
_UP, _DOWN = Text("up", "green"), Text("down", "bold red")


def everything(lab: Lab, matrix: Matrix) -> Iterator[RenderableType]:
    """Yield the tables of a lab that is up."""
    containers = lab.containers()
    yield hosts(lab)
    yield sessions(lab)
    yield attached(containers)
    yield learned(lab, containers)
    yield pings(containers, matrix)


def hosts(lab: Lab) -> Table:
    """Return the hosts: where they stand, and what netmaster knows of them."""
    known = {item["name"]: item for item in lab.controller.ask(lambda n: n.items("hosts"))}
    table = _table(
        "Hosts", "host", "rack", "AS", "router id", "ToRs", "state", "blocks", "containers"
    )
    for node in lab.plan.hosts:
        item = known.get(node.name, {})
        tors = " ".join(other.node for _, other in lab.plan.peerings(node.name))
        table.add_row(
            node.name,
            str(node.rack),
            str(node.asn),
            str(node.router_id),
            tors,
            _state(item.get("state")),
            " ".join(_block(block) for block in item.get("blocks", ())),
            str(len(lab.machines[node.name].engine.containers())),
        )
    return table


def _state(state: object) -> Text:
    return Text(str(state or "unknown"), "green" if state == "connected" else "bold red")


def _block(block: Any) -> str:
    return str(block.get("prefix", block) if isinstance(block, Mapping) else block)


def sessions(lab: Lab) -> Table:
    """Return every BGP session, as the switch sees it and as the host sees it."""
    table = _table(
        "BGP sessions", "switch", "runs", "AS", "peer", "peer's AS", "IPv4", "IPv6", "host says"
    )
    theirs = {(item["host"], str(item["address"])): item for item in lab.sessions()}
    for node in lab.plan.switches:
        states = lab.switches[node.name].sessions()
        for own, other in lab.plan.peerings(node.name):
            peer = lab.plan.node(other.node)
            assert own.v4 and own.v6 and other.v4 and other.v6
            said = [theirs.get((peer.name, str(end.ip)), {}) for end in (own.v4, own.v6)]
            table.add_row(
                node.name,
                node.kind,
                str(node.asn),
                peer.name,
                str(peer.asn),
                *(_UP if states.get(end.ip) else _DOWN for end in (other.v4, other.v6)),
                " / ".join(dict.fromkeys(map(_told, said))) if peer.role == "host" else "",
            )
    return table


def _told(item: Mapping[str, Any]) -> str:
    if not item:
        return "unknown"
    return " ".join(str(item[key]) for key in ("state", "reason") if item.get(key))


def attached(containers: Sequence[Container]) -> Table:
    """Return the containers with their addresses, of very many the first ones."""
    table = _table("Containers", "container", "network", "IPv4", "IPv6", "ADD took")
    for container in containers[:_MOST_CONTAINERS]:
        v4, v6 = (_address(container.addresses, family) for family in (4, 6))
        table.add_row(container.title, container.network, v4, v6, _ms(container.took))
    if len(containers) > _MOST_CONTAINERS:
        table.add_row(f"and {len(containers) - _MOST_CONTAINERS} more")
    return table


def _address(addresses: Iterable[Address], family: int) -> str:
    return " ".join(str(a) for a in addresses if a.version == family)


def learned(lab: Lab, containers: Sequence[Container]) -> Table:
    """Return what each switch learned, by its own command line."""
    table = _table(
        "Learned by the switches", "switch", "runs", "IPv4", "IPv6", "container", "paths via"
    )
    owners = {host_prefix(a): c.title for c in containers for a in c.addresses}
    names = _names(lab)
    for node in lab.plan.switches:
        rib = lab.switches[node.name].rib()
        counts = [str(sum(prefix.version == family for prefix in rib)) for family in (4, 6)]
        shown = sorted((p for p in rib if p in owners), key=lambda p: (owners[p], p.version))
        lines = [(owners[p], f"{p} via {_via(rib, p, names)}") for p in shown[:_MOST_PREFIXES]]
        if len(shown) > _MOST_PREFIXES:
            lines.append((f"and {len(shown) - _MOST_PREFIXES} more", ""))
        who, how = ("\n".join(column) for column in zip(*lines, strict=True)) if lines else ("", "")
        table.add_row(node.name, node.kind, *counts, who, how, end_section=True)
    return table


def _names(lab: Lab) -> dict[Address, str]:
    """Return whose each address of a wire is."""
    ends = (end for wire in lab.plan.wires for end in (wire.upper, wire.lower))
    return {address.ip: end.node for end in ends for address in end.addresses}


def _via(
    rib: Mapping[Prefix, Iterable[Address]], prefix: Prefix, names: Mapping[Address, str]
) -> str:
    return " ".join(sorted(names.get(hop, str(hop)) for hop in rib[prefix]))


def pings(containers: Sequence[Container], matrix: Matrix) -> RenderableType:
    """Return who reaches whom: a cross for each pair, or only what fails where there are many."""
    parts: list[RenderableType] = []
    if len(containers) <= LARGEST_MATRIX:
        parts.append(_cross(containers, matrix))
    parts += [_summary(matrix, family) for family in (4, 6)]
    if len(containers) > LARGEST_FULL:
        parts.append(Text(f"  ({len(containers)} containers: each pings one of every host)", "dim"))
    lost = [pair for pair, trip in matrix.items() if trip is None]
    if len(containers) > LARGEST_MATRIX:
        parts += [Text(f"  no answer: {_words(pair)}", "red") for pair in lost[:20]]
    return Group(*parts)


def _cross(containers: Sequence[Container], matrix: Matrix) -> Table:
    heads = [f"{c.host}\n{c.name}" for c in containers]
    table = _table("Ping: from (row) to (column), IPv4 and IPv6", "", *heads)
    for source in containers:
        cells = [_cell(matrix, source.title, target.title) for target in containers]
        table.add_row(source.title, *cells)
    return table


def _cell(matrix: Matrix, source: str, target: str) -> Text:
    if source == target:
        return Text("·", "dim")
    text = Text()
    for family in (4, 6):
        pair = Pair(source, target, family)
        if pair in matrix:
            text.append(
                "✓" if matrix[pair] is not None else "✗", "green" if matrix[pair] else "bold red"
            )
    return text


def _summary(matrix: Matrix, family: int) -> Text:
    found = [trip for pair, trip in matrix.items() if pair.family == family]
    trips = [trip for trip in found if trip is not None]
    if not found:
        return Text(f"IPv{family}: nothing to ping", "dim")
    text = f"IPv{family}: {len(trips)} of {len(found)} pairs reach each other"
    text += f", round trip {_ms(median(trips))} (median)" if trips else ""
    return Text(text, "green" if len(trips) == len(found) else "bold red")


def _words(pair: Pair) -> str:
    return f"{pair.source} to {pair.target} over IPv{pair.family}"


def reaching(found: Reach) -> Text:
    """Return the time from ADD to reachable in words."""
    times = ", ".join(f"{_ms(s)} over IPv{family}" for family, s in found.reachable.items())
    return Text(
        f"From ADD to reachable: {times} (ADD itself {_ms(found.add)}); a new container on {found.host}, "
        f"seen from {found.source}; medians"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for head in heads:
        table.add_column(head)
    return table
