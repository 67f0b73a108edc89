"""Docker's networks: which network of the fabric each one is, and pools' names."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Self

from netfabric.agent.cnm.field import Json, address_of, only, prefix_of, text
from netfabric.fabric.errors import ConflictError, InvalidError, NotFoundError
from netfabric.fabric.network import Network, Range
from netfabric.fabric.prefix import Address, Family, Prefix, family_of

DEFAULT_TENANT, DEFAULT_MTU = "default", 1500
SPACES = {"LocalDefaultAddressSpace": "netfabric", "GlobalDefaultAddressSpace": "netfabric-global"}
_MTU_OPTION = "com.docker.network.driver.mtu"
_MTU = range(1280, 65536)
GATEWAYS: dict[Family, Address] = {4: IPv4Address("169.254.1.1"), 6: IPv6Address("fd4e:4600::1")}
"""What `docker network inspect` shows; a container's second network has another."""


@dataclass(frozen=True, slots=True)
class DockerNetwork:
    """A network of Docker's, as it was created."""

    id: str
    tenant: str
    network: str
    group: str = ""
    mtu: int = DEFAULT_MTU
    open_pool: str = ""
    """The id of the pool that was asked for before anybody said of which network; empty: the pool's id says it."""

    @property
    def key(self) -> str:
        """Return the fabric's network (`tenant:name`)."""
        return f"{self.tenant}:{self.network}"


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool of Docker's IPAM: one family of a network; its id says all, so nothing has to be kept."""

    network: str
    """`tenant:name`."""
    family: Family

    @classmethod
    def parse(cls, identity: str) -> Self:
        """Read a pool's id; raise NotFoundError."""
        network, bar, family = identity.rpartition("|")
        if not bar or family not in ("4", "6"):
            raise NotFoundError(
                f"pool {identity!r}: not netfabric's", "docker network rm it, and create it again"
            )
        return cls(network, 4 if family == "4" else 6)

    def __str__(self) -> str:
        return f"{self.network}|{self.family}"


ANYWHERE = ip_network("0.0.0.0/0")
"""What an open pool seems to be: Docker tells which network it is of with CreateNetwork."""
_OPEN_GATEWAYS = int(IPv4Address("169.254.2.0"))
OPEN_POOLS = range(1, 0xF000)


def open_pool(number: int) -> str:
    """Return the id of an open pool."""
    return f"?{number}|4"


def open_gateway(identity: str) -> IPv4Address | None:
    """Return the gateway by which CreateNetwork names an open pool; None for another pool."""
    if not identity.startswith("?"):
        return None
    return IPv4Address(_OPEN_GATEWAYS + int(identity[1:].partition("|")[0]))


def _open_pool_of(pools: Iterable[Json]) -> str:
    """Return the id of the open pool among a CreateNetwork's, "" for none."""
    for pool in pools:
        gateway = address_of(pool, "Gateway")
        if prefix_of(pool, "Pool") == ANYWHERE and gateway is not None:
            return open_pool(int(gateway) - _OPEN_GATEWAYS)
    return ""


def named(options: Json, where: str) -> str:
    """Return the network (`tenant:name`) that options name, "" for none; raise InvalidError."""
    tenant, network = text(options, "tenant"), text(options, "network")
    if tenant and not network:
        raise InvalidError(f"{where}: tenant={tenant}, and no network", "add network=NAME")
    return f"{tenant or DEFAULT_TENANT}:{network}" if network else ""


def find(networks: Iterable[Network], key: str, subnet: Prefix | None, where: str) -> Network:
    """Return the network of a name (`tenant:name`), of a subnet, or of both; raise a FabricError."""
    found = [n for n in networks if key in ("", n.key)]
    if key and not found:
        raise NotFoundError(
            f"{where}: network {key} is not known on this host",
            "netctl net ls -a lists the networks; netctl net create makes one",
        )
    if subnet is not None:
        found = [n for n in found if _range(n, subnet)]
    if not found and key:
        raise InvalidError(
            f"{where}: --subnet {subnet} is not that of network {key}",
            "leave --subnet away, or give the network's own (netctl net ls -a)",
        )
    if not found:
        raise NotFoundError(
            f"{where}: no network has subnet {subnet}",
            "netctl net ls -a lists them; netctl net create makes one",
        )
    if len(found) > 1:
        raise ConflictError(
            f"{where}: {subnet} may be {' or '.join(sorted(n.key for n in found))}",
            "say which: --ipam-opt tenant=T --ipam-opt network=N",
        )
    return found[0]


def _range(network: Network, subnet: Prefix) -> Range | None:
    return next((r for r in network.ranges if r.subnet == subnet), None)


def range_of(network: Network, family: Family) -> Range:
    """Return a network's range of a family; raise InvalidError."""
    found = network.range_of(family)
    if found is None:
        raise InvalidError(
            f"network {network.key} has no IPv{family} subnet",
            "leave --ipv6 away" if family == 6 else "give it one, or use another network",
        )
    return found


def network_of(
    identity: str, generic: Json, pools: Iterable[Json], all_: Iterable[Network]
) -> DockerNetwork:
    """Return the network that a CreateNetwork makes; raise a FabricError."""
    where = "docker network create"
    only(generic, ("tenant", "network", "group"), f"{where} -o")
    key, all_, pools = named(generic, f"{where} -o"), list(all_), list(pools)
    unsaid, subnets = _open_pool_of(pools), [_subnet_of(pool) for pool in pools]
    if not key and (unsaid or not pools):
        raise InvalidError(f"{where}: no network is named", "add -o tenant=T -o network=N")
    for subnet in subnets or [None]:
        found = find(all_, key, subnet, where)
        key = found.key
    if unsaid:
        range_of(found, 4)
    group, mtu = text(generic, "group"), _mtu(generic)
    return DockerNetwork(identity, found.tenant, found.name, group, mtu, unsaid)


def _subnet_of(pool: Json) -> Prefix | None:
    if text(pool, "AddressSpace") not in ("", *SPACES.values()):  # a swarm's manager names none
        raise InvalidError(
            "docker network create: its addresses are another IPAM driver's",
            "add --ipam-driver netfabric",
        )
    subnet = prefix_of(pool, "Pool")
    return subnet if subnet != ANYWHERE else None


def _mtu(generic: Json) -> int:
    value = text(generic, _MTU_OPTION) or str(DEFAULT_MTU)
    if not (value.isascii() and value.isdecimal() and int(value) in _MTU):
        raise InvalidError(
            f"docker network create -o {_MTU_OPTION}={value}: out of range",
            f"give a number from {_MTU.start} to {_MTU.stop - 1}",
        )
    return int(value)


def is_gateway(address: Address, network: Network) -> bool:
    """Return whether an address may stand as a Docker network's gateway."""
    range_ = network.range_of(family_of(address))
    return address == GATEWAYS[family_of(address)] or bool(range_ and range_.gateway == address)
