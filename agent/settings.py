"""What an agent is told at its start, out of flags, environment and a TOML file."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, TypeAlias

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.events import HostSettings
from netfabric.fabric.prefix import Address
from netfabric.fabric.session import PLACEMENTS

LogFormat: TypeAlias = Literal["text", "json"]
Scope: TypeAlias = Literal["local", "global"]

DEFAULT_CONFIG = "/etc/netfabric/netplugin.toml"
DEFAULT_RUN_DIR = "/run/netfabric"
DEFAULT_CNM_SOCKET = "/run/docker/plugins/netfabric.sock"
DEFAULT_STATE_DIR = "/var/lib/netfabric"
GRPC_PORT = 50051
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_SOCKET_PATH_LIMIT = 107 - len("/exabgp/exabgp.sock")
"""Octets of the longest run directory: a unix socket's path ends at 107."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for the stream to netmaster; all empty means plain text."""

    certificate: str = ""
    key: str = ""
    ca: str = ""

    def __bool__(self) -> bool:
        return bool(self.certificate or self.ca)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an agent is told."""

    host: str
    """This host's name, unlike any other's; REST objects call it `hostname`."""
    netmasters: tuple[str, ...]
    """`host:port` each; one is followed at a time."""
    run_dir: Path = Path(DEFAULT_RUN_DIR)
    """Sockets, pidfiles, ExaBGP's configuration: what a boot may empty."""
    state_dir: Path = Path(DEFAULT_STATE_DIR)
    """The journal: what a boot must keep."""
    namespace: str = ""
    """Path of the network namespace that is the host's; empty: the one we are started in."""
    address: str = ""
    """Where others reach this host, as it is shown; empty: its first address."""
    vtep: str = ""
    """Where this host takes VXLAN packets, announced to its BGP peers.

    Empty: `address`, or where that is empty its first address; then nothing is announced.
    """
    vlan_uplink: str = ""
    """The link that is a trunk of VLANs; empty: this host carries none."""
    tls: Tls = Tls()
    log_level: str = "info"
    log_format: LogFormat = "text"
    bgp_user: str = "nobody"
    """Whom ExaBGP runs as."""
    cool_down: float = 30.0
    """Seconds before a released address is given out again: caches of others must have forgotten it."""
    drain: float = 0.3
    """Seconds between a withdrawal having left and the datapath going: the fabric has to have heard of it."""
    cnm_socket: Path | None = None
    """Where Docker finds its plugin; the file's name is the driver's. None: Docker is not served."""
    cnm_scope: Scope = "local"
    """Where Docker keeps its networks: on each host, or in a swarm."""
    audit_interval: float = 8.0
    """Seconds between full readings of the kernel; 30 ms of work each at 500 endpoints."""

    @property
    def cni_socket(self) -> Path:
        """Return where CNI shims connect."""
        return self.run_dir / "cni.sock"

    @property
    def cnm_state(self) -> Path:
        """Return the file of Docker's networks and endpoints."""
        return self.state_dir / "cnm.json"

    @property
    def status_socket(self) -> Path:
        """Return where `netplugin status` connects."""
        return self.run_dir / "status.sock"

    @property
    def journal(self) -> Path:
        """Return the journal's file."""
        return self.state_dir / "journal.db"

    def host_settings(self, software: str, address: str, features: tuple[str, ...]) -> HostSettings:
        """Return what the host's brain has to know; `address` serves where the operator set none."""
        return HostSettings(
            host=self.host,
            software=software,
            address=self.address or address,
            cool_down=self.cool_down,
            drain=self.drain,
            audit_interval=self.audit_interval,
            features=(*features, PLACEMENTS),
            vtep=self._vtep(address),
            vtep_announced=bool(self.vtep),
            vlan_uplink=self.vlan_uplink,
        )

    def _vtep(self, first: str) -> Address | None:
        found = self.vtep or self.address or first
        return ip_address(found) if found else None


def settings_of(given: Mapping[str, Any]) -> Settings:
    """Return the settings that option values make; raise InvalidError."""
    return Settings(
        host=_host(given["host"]),
        netmasters=parse_netmasters(given["netmaster"]),
        run_dir=_run_dir(given["run_dir"]),
        state_dir=Path(given["state_dir"]),
        namespace=given["namespace"],
        address=_address("--address", given["address"]),
        vtep=_address("--vtep", given["vtep"]),
        vlan_uplink=given["vlan_uplink"],
        tls=_tls(given["netmaster_cert"], given["netmaster_key"], given["netmaster_ca"]),
        log_level=given["log_level"],
        log_format=given["log_format"],
        bgp_user=given["bgp_user"],
        cnm_socket=_cnm_socket(given["cnm_socket"]),
        cnm_scope=given["cnm_scope"],
        cool_down=_seconds("--cool-down", given["cool_down"], 0.0),
        drain=_seconds("--drain", given["drain"], 0.0),
        audit_interval=_seconds("--audit-interval", given["audit_interval"], 0.5),
    )


def _host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise InvalidError(
            f"--host {name!r} is no host's name",
            "use 1 to 63 letters, digits, dots, dashes and underscores",
        )
    return name


def parse_netmasters(text: str) -> tuple[str, ...]:
    """Read `HOST:PORT,HOST:PORT`; the port may be missing. Raise InvalidError."""
    found = tuple(_endpoint(part.strip(), text) for part in text.split(",") if part.strip())
    if not found:
        raise InvalidError("--netmaster names none", "write HOST:PORT,HOST:PORT")
    return tuple(dict.fromkeys(found))


def _endpoint(text: str, whole: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(GRPC_PORT)
    bare = host.strip("[]")
    right = port.isascii() and port.isdecimal() and 0 < int(port) < 65536
    if not bare or not right or "/" in bare or (":" in bare and not host.startswith("[")):
        raise InvalidError(
            f"--netmaster {whole!r}: {text!r} is no netmaster", "write HOST:PORT or [IPV6]:PORT"
        )
    return f"{host}:{port}"


def _run_dir(text: str) -> Path:
    if len(os.fsencode(text)) > _SOCKET_PATH_LIMIT:
        raise InvalidError(
            f"--run-dir {text}: too long for the path of a socket in it",
            f"choose one of at most {_SOCKET_PATH_LIMIT} characters",
        )
    return Path(text)


def _cnm_socket(text: str) -> Path | None:
    if text in ("", "none"):
        return None
    if not os.path.isabs(text):
        raise InvalidError(f"--cnm-socket {text}: no absolute path", "write /…, or none")
    return Path(text)


def _address(option: str, text: str) -> str:
    try:
        return str(ip_address(text)) if text else ""
    except ValueError:
        raise InvalidError(f"{option} {text!r} is no address", "write an IP address") from None


def _tls(certificate: str, key: str, ca: str) -> Tls:
    if bool(certificate) != bool(key):
        raise InvalidError(
            "--netmaster-cert and --netmaster-key belong together", "give both, or none"
        )
    for path in (certificate, key, ca):
        if path and not os.access(path, os.R_OK):
            raise InvalidError(f"--netmaster-…: {path}: cannot be read", "name a readable PEM file")
    return Tls(certificate, key, ca)


def _seconds(option: str, value: float, least: float) -> float:
    if not least <= value < 1e6:
        raise InvalidError(f"{option} {value:g}: out of range", f"give seconds, {least:g} or more")
    return value


def read_config(path: str, known: Iterable[str], required: bool) -> Mapping[str, Any]:
    """Return a TOML file's settings by option name with underscores; raise InvalidError.

    Keys are the long options without dashes in front: `host = "host1"`, `netmaster = ["a:50051"]`.
    """
    names = set(known)
    try:
        found = tomllib.loads(Path(path).read_text())
    except FileNotFoundError:
        if required:
            raise InvalidError(f"--config {path}: no such file", "name the TOML file") from None
        return {}
    except OSError as error:
        raise InvalidError(f"--config {path}: {error.strerror}", "make it readable") from None
    except ValueError as error:
        raise InvalidError(f"{path}: not TOML: {error}", 'write lines such as host = "…"') from None
    settings = {name.replace("-", "_"): value for name, value in found.items()}
    for name in settings:
        if name not in names:
            raise InvalidError(
                f"{path}: no setting {name!r}", f"settings are {', '.join(sorted(names))}"
            )
    return {name: _as_text(value) for name, value in settings.items()}


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
