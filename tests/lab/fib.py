"""GoBGP's best paths put into the kernel: run beside gobgpd, in its namespace, with the standard library only.

`python3 fib.py DIRECTORY` follows `gobgp monitor`, reads the whole RIB after each burst of changes and
replaces what differs in the kernel. SIGTERM takes its routes out; the end of gobgpd leaves them, as a
switch's hardware would.
"""

import json
import os
import select
import signal
import subprocess
import sys
from typing import Any, TypeAlias

Route: TypeAlias = tuple[str, ...]
"""Next hops, sorted."""
Table: TypeAlias = dict[str, Route]

NEXT_HOP, AS_PATH, ORIGIN, MED, LOCAL_PREFERENCE, MP_REACH = 3, 2, 1, 4, 5, 14
"""Types of path attributes (RFC 4271, RFC 4760)."""
BURST = 0.003
"""Seconds without a change after which the RIB is read."""


def next_hop(path: dict[str, Any]) -> str:
    """Return the next hop of a path as `gobgp global rib -j` prints it."""
    given = {a["type"]: a["nexthop"] for a in path["attrs"] if "nexthop" in a}
    return str(given.get(MP_REACH) or given[NEXT_HOP])


def _rank(path: dict[str, Any]) -> tuple[int, int, int, int]:
    """What the decision process compares before it comes to who sent a path (RFC 4271, 9.1.2.2)."""
    given = {a["type"]: a for a in path["attrs"]}
    segments = given.get(AS_PATH, {}).get("as_paths", ())
    length = sum(1 if s["segment_type"] == 1 else len(s["asns"]) for s in segments)
    preference = given.get(LOCAL_PREFERENCE, {}).get("value", 100)
    med = given.get(MED, {}).get("metric", 0)
    return -preference, length, given.get(ORIGIN, {}).get("value", 0), med


def best(paths: list[dict[str, Any]]) -> Route:
    """Return the next hops of the paths that are as good as the best; none for a route of our own."""
    top = min(map(_rank, paths))
    equal = [path for path in paths if _rank(path) == top]
    if any("neighbor-ip" not in path for path in equal):
        return ()
    return tuple(sorted({next_hop(path) for path in equal}))


def read() -> Table:
    """Return what the kernel should have."""
    table: Table = {}
    for family in ("ipv4", "ipv6"):
        words = ["gobgp", "global", "rib", "-j", "-a", family]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        for prefix, paths in json.loads(said).items():
            if hops := best(paths):
                table[prefix] = hops
    return table


def lines(old: Table, new: Table) -> list[str]:
    """Return what `ip -batch` has to do to get from one table to the other."""
    gone = [f"route del {prefix} proto bgp" for prefix in old if prefix not in new]
    changed = [
        f"route replace {prefix} proto bgp {_hops(prefix, hops)}"
        for prefix, hops in new.items()
        if old.get(prefix) != hops
    ]
    return gone + changed


def _hops(prefix: str, hops: Route) -> str:
    via = [f"via inet6 {hop}" if ":" in hop and ":" not in prefix else f"via {hop}" for hop in hops]
    return via[0] if len(via) == 1 else " ".join(f"nexthop {one}" for one in via)


def apply(old: Table, new: Table) -> None:
    """Change the kernel; what it refuses is said on stderr."""
    if todo := lines(old, new):
        script = "".join(line + "\n" for line in todo)
        subprocess.run(["ip", "-force", "-batch", "-"], input=script, text=True, check=False)


def _quiet(descriptor: int) -> bool:
    """Take what there is, until nothing more comes; return False at the end of the stream."""
    while select.select([descriptor], [], [], BURST)[0]:
        if not os.read(descriptor, 1 << 20):
            return False
    return True


def follow() -> None:
    """Keep the kernel in step until gobgpd or we end."""
    words = ["gobgp", "monitor", "global", "rib", "-j", "--current"]
    table: Table = {}
    with subprocess.Popen(words, stdout=subprocess.PIPE) as monitor:
        assert monitor.stdout is not None

        def leave(*_: object) -> None:
            monitor.terminate()
            apply(table, {})
            sys.exit(0)

        signal.signal(signal.SIGTERM, leave)
        descriptor = monitor.stdout.fileno()
        while os.read(descriptor, 1 << 20) and _quiet(descriptor):
            new = read()
            apply(table, new)
            table.clear()
            table.update(new)


if __name__ == "__main__":
    follow()
