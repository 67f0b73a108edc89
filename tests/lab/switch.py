"""A switch of the lab: a real routing daemon in a network namespace, one of three kinds."""

from typing import Literal, Protocol, TypeAlias

from netfabric.fabric.prefix import Address, Prefix
from netfabric.lab.bird import Bird
from netfabric.lab.frr import Frr
from netfabric.lab.gobgp import Gobgp
from netfabric.lab.peering import PeerRole, SwitchPeer, SwitchSettings

__all__ = ["PeerRole", "Switch", "SwitchKind", "SwitchPeer", "SwitchSettings", "make_switch"]

SwitchKind: TypeAlias = Literal["frr", "bird", "gobgp"]


class Switch(Protocol):
    """What every kind can do. One made again from the same settings takes up the running switch."""

    settings: SwitchSettings

    def start(self) -> None:
        """Run the daemons; they outlive the caller. Raise UnavailableError with their own words."""

    def stop(self) -> None:
        """End the daemons and remove their files; nothing there is fine."""

    def pids(self) -> tuple[int, ...]:
        """Return the processes that run."""

    def rib(self) -> dict[Prefix, frozenset[Address]]:
        """Return the next hops of the valid paths that came over BGP; no link-local ones."""

    def sessions(self) -> dict[Address, bool]:
        """Return the configured peers' addresses, and whether each is established."""

    def show(self, what: str) -> str:
        """Return what the switch's own command line answers."""


def make_switch(kind: SwitchKind, settings: SwitchSettings) -> Switch:
    """Return a switch, not started."""
    kinds: dict[SwitchKind, type[Frr | Bird | Gobgp]] = {"frr": Frr, "bird": Bird, "gobgp": Gobgp}
    return kinds[kind](settings)
