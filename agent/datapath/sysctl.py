"""Kernel settings under /proc/sys/net of the namespace that the calling thread is in."""

from pathlib import Path

from netfabric.fabric.errors import KernelError

_ROOT = Path("/proc/sys")
_WANTED = (
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    # An error about a packet of an overlay goes back by the same table.
    ("net/ipv4/fwmark_reflect", "1"),
    ("net/ipv6/fwmark_reflect", "1"),
    # Replacing a nexthop under 100,000 routes: one notification instead of 100,000.
    ("net/ipv4/nexthop_compat_mode", "0"),
    # ECMP by ports, too: flows between two hosts spread over the uplinks.
    ("net/ipv4/fib_multipath_hash_policy", "1"),
    ("net/ipv6/fib_multipath_hash_policy", "1"),
)


def has_ipv6() -> bool:
    """Return whether this kernel has IPv6 at all."""
    return (_ROOT / "net/ipv6").exists()


def set_for_host() -> tuple[str, ...]:
    """Make the host forward; return what changed. Raise KernelError."""
    changed = _keep_router_advertisements()
    for name, value in _WANTED:
        if (_ROOT / name).exists():
            changed += put(name, value)
        elif not name.startswith("net/ipv6"):
            raise KernelError(f"{name.replace('/', '.')}: not there", "use Linux 5.8 or newer")
    return changed


def _keep_router_advertisements() -> tuple[str, ...]:
    """Let links that listen to routers go on doing so.

    With forwarding on, accept_ra 1 means no, and the host would lose its own default route.
    """
    changed: tuple[str, ...] = ()
    for path in sorted((_ROOT / "net/ipv6/conf").glob("*/accept_ra")):
        listens = path.parent.name not in ("all", "lo") and path.read_text().strip() == "1"
        if listens and (path.parent / "forwarding").read_text().strip() == "0":
            changed += put(str(path.relative_to(_ROOT)), "2")
    return changed


def enable_ipv6(link: str) -> None:
    """Let a link have IPv6 although its namespace's default says no (Docker's sandboxes)."""
    put(f"net/ipv6/conf/{link}/disable_ipv6", "0")


def get(name: str) -> str:
    """Return one's value, "" if it is not there."""
    try:
        return (_ROOT / name).read_text().strip()
    except OSError:
        return ""


def put(name: str, value: str) -> tuple[str, ...]:
    """Set one; return what changed, if anything. Raise KernelError."""
    path = _ROOT / name
    dotted = name.replace("/", ".")
    try:
        before = path.read_text().strip()
        if before == value:
            return ()
        path.write_text(value)
    except OSError as error:
        raise KernelError(
            f"sysctl {dotted}: {error.strerror}", f"set {dotted}={value} on the host"
        ) from None
    return (f"{dotted}: {before} -> {value}",)
