"""What `args` of the network configuration says: CNI's own conventions, and Mesos' network_info."""

from dataclasses import dataclass
from typing import Self

from netfabric.agent.cni.field import Json, addresses, labels, mac, object_of
from netfabric.fabric.prefix import Address

TENANT, NETWORK, GROUP = "io.contiv.tenant", "io.contiv.network", "io.contiv.net-group"
"""Labels that say where an endpoint belongs, as Contiv had them."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Labels, and what is asked for."""

    labels: tuple[tuple[str, str], ...] = ()
    addresses: tuple[Address, ...] = ()
    mac: str = ""

    @classmethod
    def parse(cls, args: Json) -> Self:
        """Read `args`: what is not known in it is ignored, as the conventions want. Raise CniError.

        Mesos (docs/cni.md, src/…/isolators/network/cni/cni.cpp, attach) writes the NetworkInfo of its API as
        `args."org.apache.mesos".network_info`: labels one level deeper than CNI's, addresses as objects.
        """
        cni = object_of(args, "cni", "args.cni")
        path = "args.org.apache.mesos.network_info"
        outer = object_of(args, "org.apache.mesos", "args.org.apache.mesos")
        mesos = object_of(outer, "network_info", path)
        mesos_labels = object_of(mesos, "labels", f"{path}.labels")
        found = {
            **labels(mesos_labels.get("labels"), f"{path}.labels"),
            **labels(cni.get("labels"), "args.cni.labels"),
        }
        return cls(
            labels=tuple(sorted(found.items())),
            addresses=addresses(cni, "ips", "args.cni.ips") or _of_mesos(mesos, path),
            mac=mac(cni, "args.cni.mac"),
        )

    def says(self, label: str) -> str:
        """Return a label's value, "" for none."""
        return dict(self.labels).get(label, "")


def _of_mesos(info: Json, path: str) -> tuple[Address, ...]:
    written = info.get("ip_addresses")
    asked = written if isinstance(written, list) else []
    given = [one["ip_address"] for one in asked if isinstance(one, dict) and one.get("ip_address")]
    return addresses({"ips": given}, "ips", f"{path}.ip_addresses")
