"""A host's kernel kept as it should be: small changes at once, a full audit at a slow pace."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from netfabric.fabric.effects import Attach, Effect, Program, Warn
from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.errors import FabricError
from netfabric.fabric.kernel import (
    EndpointLink,
    KernelKey,
    KernelObject,
    KernelRoute,
    KernelState,
    Nexthop,
    NexthopGroup,
    Uplink,
    key_of,
)
from netfabric.fabric.plan import plan
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.reconcile import difference
from netfabric.fabric.resolve import Resolver
from netfabric.fabric.route import Path


def link_of(endpoint: Endpoint) -> EndpointLink:
    """Return what the kernel should hold for an endpoint."""
    return EndpointLink(
        endpoint.link,
        endpoint.mac,
        endpoint.addresses,
        endpoint.mtu,
        endpoint.table,
        endpoint.bandwidth.kept,
    )


@dataclass(slots=True)
class Upkeep:
    """Desired and believed state of the kernel.

    Routes found at start are left alone until the sessions have settled: a restart must not flap.
    """

    out: list[Effect]
    resolver: Resolver = field(default_factory=Resolver)
    actual: dict[KernelKey, KernelObject] = field(default_factory=dict)
    """What we believe the kernel holds, links aside."""
    inherited: set[KernelKey] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)

    def start(self, observed: KernelState, uplinks: tuple[Uplink, ...]) -> None:
        """Adopt what is there."""
        things = {k: v for k, v in observed.objects.items() if not isinstance(v, EndpointLink)}
        self.actual = dict(things)
        self.inherited = set(things)
        self.resolver.set_uplinks(uplinks, {})
        self.resolver.ids.adopt(things.values())

    def settle(self) -> None:
        """Stop sparing what was found at start."""
        if self.inherited:
            self.inherited = set()
            self.program(None)

    def paths_changed(
        self, prefixes: Iterable[Prefix], table: dict[Prefix, tuple[Path, ...]]
    ) -> None:
        """Follow changed best paths."""
        self.program(self.resolver.set_paths(prefixes, table))

    def uplinks_changed(
        self, uplinks: tuple[Uplink, ...], table: dict[Prefix, tuple[Path, ...]]
    ) -> None:
        """Follow the host's own links. The kernel has dropped what hung on a lost one: removing it again is fine."""
        if uplinks == self.resolver.uplinks:
            return
        self.program(self.resolver.set_uplinks(uplinks, table))

    def aggregate(self, prefix: Prefix, wanted: bool) -> None:
        """Put or take the unreachable route below an announced block."""
        self.program(self.resolver.set_unreachable(prefix, wanted))

    def follow(self, keys: Iterable[KernelKey]) -> None:
        """Make these keys as desired, whatever was found at start."""
        keys = list(keys)
        self.inherited.difference_update(keys)
        if keys:
            self.program(keys)

    def program(self, keys: Iterable[KernelKey] | None) -> None:
        """Emit what makes these keys (or all) as desired."""
        desired = self.resolver.objects
        if keys is not None:
            keys = [k for k in keys if not self._spared(k)]
        elif self.inherited:
            keys = [k for k in {**desired, **self.actual} if not self._spared(k)]
        steps = plan(difference(desired, self.actual, keys))
        for step in steps:
            if step.action == "put":
                self.actual[key_of(step.thing)] = step.thing
            else:
                self.actual.pop(key_of(step.thing), None)
                if isinstance(step.thing, Nexthop | NexthopGroup):
                    self.resolver.ids.free(step.thing.id)
        if steps:
            self.out.append(Program(steps))

    def _spared(self, key: KernelKey) -> bool:
        return key in self.inherited

    def failed(self, failures: Iterable[tuple[KernelKey, FabricError]]) -> None:
        """Note what the kernel refused: the next audit tries again."""
        by_kind: dict[str, list[FabricError]] = {}
        for key, error in failures:
            self.actual.pop(key, None)
            by_kind.setdefault(f"kernel {key[0]}", []).append(error)
        for subject, errors in by_kind.items():
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            self.warned.add(subject)
            self.out.append(Warn(subject, f"{errors[0]}{more}"))

    def audit(
        self,
        observed: KernelState,
        endpoints: dict[str, Endpoint],
        busy: set[str],
        *,
        sweep: bool = True,
    ) -> None:
        """Repair what differs. `endpoints` by link that should be there; links in `busy` are being changed.

        With `sweep`, links that are neither are removed.
        """
        links = {}
        self.actual = {}
        for key, thing in observed.objects.items():
            if isinstance(thing, EndpointLink):
                links[thing.name] = thing
            else:
                self.actual[key] = thing
        self._audit_links(links, endpoints, busy, sweep)
        self.inherited &= self.actual.keys()
        self.program(None)
        for name in self.warned:
            self.out.append(Warn(name, ""))
        self.warned = set()

    def _audit_links(
        self,
        links: dict[str, EndpointLink],
        endpoints: dict[str, Endpoint],
        busy: set[str],
        sweep: bool,
    ) -> None:
        for name, endpoint in endpoints.items():
            if name not in busy and links.get(name) != link_of(endpoint):
                self.out.append(Attach(endpoint))
        foreign = [
            thing for name, thing in links.items() if name not in endpoints and name not in busy
        ]
        if foreign and sweep:
            steps = plan(difference({}, {key_of(thing): thing for thing in foreign}))
            self.out.append(Program(steps))

    def routes(self) -> list[KernelRoute]:
        """Return the desired routes."""
        return [t for t in self.resolver.objects.values() if isinstance(t, KernelRoute)]
