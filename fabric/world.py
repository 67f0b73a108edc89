"""What the rules of REST objects look at, and the write that they decide on."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from netfabric.fabric.endpoint import Endpoint
from netfabric.fabric.index import Index
from netfabric.fabric.prefix import Prefix
from netfabric.fabric.schema import Dialect, Link, Object
from netfabric.fabric.session import SessionStatus
from netfabric.fabric.view import ROOT, View, block_key, holds_key, loan_key

Fields = Mapping[str, Any]


class Stored(Protocol):
    """An object with the revision of its last change."""

    @property
    def value(self) -> Fields:
        """Return the object's fields."""
        ...

    @property
    def revision(self) -> int:
        """Return the store's revision of the last change."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """Objects by type and key, and what hosts have made of them."""

    objects: Mapping[str, Mapping[str, Stored]]
    index: Index
    """Of those objects, and of the tags that are allocated."""
    endpoints: Callable[[str], Iterable[Endpoint]] = lambda network: ()
    """The endpoints of a network; of all where its key is empty."""
    blocks: Callable[[str], Iterable[Prefix]] = lambda network: ()
    """The blocks of a network that some host holds."""
    held: Callable[[str], Mapping[str, int]] = lambda network: {}
    """Keys of a network's allocations (blocks, loans, what each of them bumps), with their revisions."""
    sessions: Callable[[str], Sequence[SessionStatus] | None] = lambda host: None
    """The BGP sessions of a host; None where no agent of that name is known."""
    cluster_mode: str = ""
    """Which orchestrator this netmaster was told of: docker, kubernetes, swarm-mode."""
    counted: Callable[[str, str, str], tuple[int, int]] = lambda group, direction, rule: (0, 0)
    """Packets and octets that a rule of a group has counted, over all hosts: `counts.Tally.of`."""
    _referring: dict[tuple[str, tuple[str, ...], str], dict[str, list[str]]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Who names whom, found out once: a listing asks it for every object."""

    def get(self, type_: str, key: str) -> Fields | None:
        """Return an object's fields, or None."""
        found = self.objects.get(type_, {}).get(key)
        return None if found is None else found.value

    def all(self, type_: str) -> Iterator[Fields]:
        """Yield every object of a type."""
        for stored in self.objects.get(type_, {}).values():
            yield stored.value

    def within(self, type_: str, tenant: str) -> Iterator[Fields]:
        """Yield every object of a type in a tenant."""
        of_type = self.objects.get(type_, {})
        return (of_type[key].value for key in self.index.users(type_, "tenantName", tenant))

    def referring(self, link: Link, type_: str, key: str) -> Iterator[str]:
        """Yield the keys of objects of `link.type` whose `link.fields` name the object `type_` `key`."""
        found = [set(self.index.users(link.type, field, key)) for field in link.fields]
        yield from set().union(*found)

    def users(self, type_: str, key: str, user: str, *fields: str) -> list[str]:
        """Return the keys of objects of type `user` whose `fields` name the object `type_` `key`."""
        return sorted(self.referring(Link("", user, fields), type_, key))

    def endpoints_of(self, network: str = "", group: str = "", tenant: str = "") -> list[Endpoint]:
        """Return the endpoints of a network or a group (`tenant:name`), or of a tenant; by key."""
        if group:
            used = self.get("endpointGroup", group) or {}
            network = f"{used.get('tenantName')}:{used.get('networkName')}"
        found = [
            e
            for e in self.endpoints(network)
            if (not group or f"{e.tenant}:{e.group}" == group)
            and (not tenant or e.tenant == tenant)
        ]
        return sorted(found, key=lambda e: (e.key, e.host))


def world_of(view: View, cluster_mode: str = "") -> World:
    """Return the world that a view shows. It follows the view: decide before the next `apply`."""

    def endpoints(network: str) -> Iterable[Endpoint]:
        if not network:
            return view.endpoints.values()
        return [view.endpoints[where] for where in view.endpoints_by_network.get(network, ())]

    def held(network: str) -> Mapping[str, int]:
        keys = [block_key(network, block) for block in view.blocks_of(network)]
        keys += [loan_key(loan.id) for loan in view.loans.values() if loan.network == network]
        keys.append(holds_key(network))
        return {key.removeprefix(ROOT): view.revisions.get(key, 0) for key in sorted(keys)}

    def sessions(host: str) -> Sequence[SessionStatus] | None:
        found = view.hosts.get(host)
        return None if found is None else found.sessions

    return World(
        view.objects,
        view.index,
        endpoints,
        view.blocks_of,
        held,
        sessions,
        cluster_mode,
        view.tally.of,
    )


@dataclass(frozen=True, slots=True)
class Write:
    """A decided change. Keys are relative to the store's root, `intent/<type>/<key>` for objects."""

    puts: Mapping[str, Fields]
    deletes: tuple[str, ...] = ()
    unchanged: Mapping[str, int] = field(default_factory=dict)
    """Keys whose last change must have this revision; 0: that must not exist."""

    def __bool__(self) -> bool:
        return bool(self.puts or self.deletes)


@dataclass(slots=True)
class Draft:
    """A change in the making: the rules of one object add to it what else has to change with it."""

    world: World
    dialect: Dialect
    puts: dict[str, Fields] = field(default_factory=dict)
    deletes: list[str] = field(default_factory=list)
    unchanged: dict[str, int] = field(default_factory=dict)

    def put(self, type_: str, obj: Object) -> None:
        """Write an object."""
        self.puts[intent_key(type_, obj["key"])] = obj

    def delete(self, type_: str, key: str) -> None:
        """Remove an object."""
        self.deletes.append(intent_key(type_, key))

    def claim(self, key: str, owner: str) -> None:
        """Take a key that nobody may have yet, such as a VLAN's."""
        self.puts[key] = {"owner": owner}
        self.unchanged[key] = 0

    def release(self, network: str) -> None:
        """Remove a network's blocks and loans, if they are still those seen."""
        held = self.world.held(network)
        self.deletes += held
        self.unchanged.update(held)

    def done(self) -> Write:
        """Return the write."""
        return Write(self.puts, tuple(self.deletes), self.unchanged)


def intent_key(type_: str, key: str) -> str:
    """Return where an object is stored, relative to the root."""
    return f"intent/{type_}/{key}"
