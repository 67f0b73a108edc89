"""Routes: a prefix and the path attributes with which somebody offers it (RFC 4271, section 1.1)."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from netfabric.fabric.prefix import Address, Prefix

Origin: TypeAlias = Literal["igp", "egp", "incomplete"]


@dataclass(frozen=True, slots=True)
class PathAttributes:
    """What is said of a route besides its prefix. AS_SETs are flattened into `as_set`."""

    next_hop: Address
    as_path: tuple[int, ...] = ()
    as_set: tuple[int, ...] = ()
    origin: Origin = "igp"
    med: int = 0
    local_preference: int = 100
    communities: tuple[str, ...] = ()
    large_communities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Path:
    """A candidate in a RIB: who offered which prefix how. `peer` is the peer's key."""

    prefix: Prefix
    peer: str
    attributes: PathAttributes


@dataclass(frozen=True, slots=True)
class Announcement:
    """A route that this host offers to its peers; the speaker adds next hop self and the peer's options."""

    prefix: Prefix
    communities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LearnedRoute:
    """One best route of a host, as netmaster stores and redistributes it."""

    prefix: Prefix
    host: str
    next_hops: tuple[Address, ...]
    as_path: tuple[int, ...] = ()
    origin: Literal["bgp", "endpoint"] = "bgp"
    tenant: str = "default"
