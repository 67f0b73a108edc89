"""`netplugin status`: what a running agent says of itself, for people or for programs."""

import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from netfabric.fabric.errors import InvalidError, UnavailableError

PATIENCE = 5.0
"""Seconds to wait for an answer."""


def fetch(path: Path) -> dict[str, Any]:
    """Return what the agent behind a status socket says; raise UnavailableError."""
    said = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
            asker.settimeout(PATIENCE)
            asker.connect(str(path))
            while data := asker.recv(1 << 16):
                said += data
    except OSError as error:
        raise UnavailableError(
            f"{path}: no agent answers ({error.strerror or error})",
            "start netplugin, or name its --run-dir; only root may ask",
        ) from None
    try:
        found = json.loads(said)
    except ValueError:
        raise UnavailableError(f"{path}: half an answer", "see the agent's log") from None
    assert isinstance(found, dict)
    return found


def show(run_dir: str, form: str) -> None:
    """Print the status of the agent of a run directory."""
    if not run_dir:
        raise InvalidError("--run-dir is empty", "name the agent's run directory")
    found = fetch(Path(run_dir) / "status.sock")
    if form == "json":
        click.echo(json.dumps(found, indent=2))
    elif form == "yaml":
        import yaml

        click.echo(yaml.safe_dump(found, sort_keys=False), nl=False)
    else:
        for line in table(found, time.time()):
            click.echo(line)


def table(found: Mapping[str, Any], now: float) -> Iterator[str]:
    """Yield the lines that people read."""
    yield f"Host:       {found['host']} (netplugin {found['software']}, pid {found['pid']})"
    yield f"Netmaster:  {found['netmaster'] or 'none is followed'}"
    yield f"CNI ADD:    {'not served: ' + found['unready'] if found['unready'] else 'served'}"
    yield f"Routes:     {found['routes']} programmed, {found['announced']} announced"
    sessions = [
        (s["peer"], s["address"], s["asn"], s["state"], _age(now - s["since"]), s["received"])
        for s in found["sessions"]
    ]
    yield from _rows("BGP", ("Peer", "Address", "AS", "State", "For", "Received"), sessions)
    blocks = [(b["network"], b["prefix"], b["used"]) for b in found["blocks"]]
    yield from _rows("Blocks", ("Network", "Block", "Used"), blocks)
    endpoints = [
        (e["container"][:16], e["interface"], e["network"], " ".join(e["addresses"]), e["state"])
        for e in found["endpoints"]
    ]
    titles = ("Container", "Interface", "Network", "Addresses", "State")
    yield from _rows("Endpoints", titles, endpoints)
    for subject, text in found["warnings"].items():
        yield f"Warning: {subject}: {text}"


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _rows(title: str, titles: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    if not rows:
        return
    cells = [titles, *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    yield ""
    yield f"{title} ({len(rows)})"
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {line.rstrip()}"
