"""What a lab is to be: how many of each, and of which kind."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from netfabric.fabric.errors import InvalidError

TorKind: TypeAlias = Literal["frr", "bird", "gobgp"]
StoreKind: TypeAlias = Literal["etcd", "sqlite"]
VtepKind: TypeAlias = Literal["none", "ipv4", "ipv6"]
KINDS: tuple[TorKind, ...] = get_args(TorKind)

_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
_MAX_RACKS, _MAX_TORS, _MAX_SPINES, _MAX_HOSTS, _MAX_CONTAINERS = 64, 8, 8, 512, 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """What `netlab up` was asked for; everything else follows from it."""

    name: str = "lab"
    racks: int = 2
    hosts: int = 2
    """In each rack."""
    tors: int = 2
    """In each rack; a host is wired to all of them."""
    spines: int = 1
    tor: TorKind | Literal["mixed"] = "frr"
    """What the switches run; `mixed` takes turns over the ToRs."""
    store: StoreKind = "etcd"
    containers: int = 2
    """On each host, once it is up."""
    vteps: VtepKind = "none"
    """Hosts' loopback addresses for VXLAN, announced to the ToRs: the underlay's family, or none."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidError(
                f"lab name {self.name!r}: not usable in names of namespaces",
                "use at most 12 lower-case letters and digits, the first one a letter",
            )
        if self.tor not in (*KINDS, "mixed"):
            raise InvalidError(
                f"lab {self.name}: no switch {self.tor!r}", "choose frr, bird, gobgp or mixed"
            )
        if self.vteps not in get_args(VtepKind):
            raise InvalidError(
                f"lab {self.name}: no VTEPs {self.vteps!r}", "choose none, ipv4 or ipv6"
            )
        for what, value, low, high in (
            ("racks", self.racks, 1, _MAX_RACKS),
            ("hosts", self.hosts, 1, _MAX_HOSTS // max(1, self.racks)),
            ("tors", self.tors, 1, _MAX_TORS),
            ("spines", self.spines, 1, _MAX_SPINES),
            ("containers", self.containers, 0, _MAX_CONTAINERS),
        ):
            if not low <= value <= high:
                raise InvalidError(f"lab {self.name}: {what} {value}", f"choose {low} to {high}")
