"""What a netmaster is told at its start: which store, where to listen, whose certificates, how to log."""

import os
import ssl
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, TypeAlias

from netfabric.fabric.errors import InvalidError

LogFormat: TypeAlias = Literal["text", "json"]

DEFAULT_CONFIG = "/etc/netfabric/netmaster.toml"
ETCD_PORT = 2379
IN_CLUSTER = "in-cluster"


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of one end of TLS; all empty means plain text."""

    certificate: str = ""
    key: str = ""
    ca: str = ""
    """Whom we believe: a server asks its clients for certificates only where this is given."""

    def __bool__(self) -> bool:
        return bool(self.certificate or self.ca)


@dataclass(frozen=True, slots=True)
class Listen:
    """An address and port to listen on; port 0 takes any free one."""

    host: str
    port: int
    tls: Tls = Tls()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Which store. `scheme` is `etcd`, `sqlite` or `memory`."""

    scheme: str
    endpoints: tuple[str, ...] = ()
    """Of etcd: `host:port`, each."""
    path: str = ""
    """Of SQLite: the file."""
    tls: Tls = Tls()
    secure: bool = False
    """TLS, also where no files are given."""
    server_name: str = ""
    """The name in the members' certificates, where it is not the one that we dial."""
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        if self.scheme == "etcd":
            return f"etcd://{','.join(self.endpoints)}"
        return f"sqlite:{self.path}" if self.scheme == "sqlite" else self.scheme


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a netmaster is told."""

    store: StoreSettings
    rest: Listen
    grpc: Listen
    name: str
    """Of this netmaster, unlike that of any other on the same store."""
    log_level: str = "info"
    log_format: LogFormat = "text"
    fwd_mode: str = ""
    """`fwdMode` of a new fabric; "" is `routing`."""
    infra: str = ""
    """`networkInfraType` of a new fabric; "" is `default`."""
    cluster_mode: str = ""
    """What `clusterMode` says: docker, kubernetes, swarm-mode."""
    kubernetes: str = ""
    """`in-cluster`, or a KUBECONFIG file; empty: no Kubernetes."""
    notes: tuple[str, ...] = ()
    """What was accepted and has no effect here, in words for the log."""


def parse_listen(text: str, option: str, tls: Tls = Tls()) -> Listen:
    """Read `ADDRESS:PORT`, `[IPV6]:PORT` or `:PORT`; raise InvalidError naming the option."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]") if host.startswith("[") else host
    if not (colon and port.isascii() and port.isdecimal() and int(port) < 65536):
        raise InvalidError(
            f"{option} {text!r}: no port", "write ADDRESS:PORT, such as 0.0.0.0:9999"
        )
    try:
        ip_address(host or "0.0.0.0")
    except ValueError:
        raise InvalidError(
            f"{option} {text!r}: {host!r} is no address of this host",
            "write an IP address, 0.0.0.0 or [::]",
        ) from None
    return Listen(host or "0.0.0.0", int(port), tls)


def parse_store(
    text: str, tls: Tls = Tls(), server_name: str = "", user: str = "", password: str = ""
) -> StoreSettings:
    """Read `etcd://h:p,h:p`, `sqlite:PATH`, `memory`, or Contiv's `http://h:p`; raise InvalidError."""
    scheme, _, rest = text.partition(":")
    if text == "memory":
        return StoreSettings("memory")
    if scheme == "sqlite" and rest:
        return StoreSettings("sqlite", path=rest)
    if scheme in ("etcd", "http", "https") and rest.startswith("//"):
        parts = (part.removeprefix(f"{scheme}://").rstrip("/") for part in text.split(","))
        endpoints = tuple(_endpoint(part, text) for part in parts)
        secure = scheme == "https" or bool(tls)
        return StoreSettings("etcd", endpoints, "", tls, secure, server_name, user, password)
    raise InvalidError(
        f"--store {text!r} is no store", "write etcd://HOST:PORT,HOST:PORT, sqlite:PATH or memory"
    )


def _endpoint(text: str, whole: str) -> str:
    host, colon, port = text.rpartition(":")
    if text and not colon:
        return f"{text}:{ETCD_PORT}"
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidError(f"--store {whole!r}: {text!r} is no endpoint", "write HOST:PORT")
    return text


def server_tls(option: str, certificate: str, key: str, client_ca: str) -> Tls:
    """Return a server's TLS files; raise InvalidError where they are incomplete or unreadable."""
    if bool(certificate) != bool(key):
        raise InvalidError(
            f"--{option}-cert and --{option}-key belong together", "give both, or none"
        )
    if client_ca and not certificate:
        raise InvalidError(
            f"--{option}-client-ca without --{option}-cert", "clients are only asked over TLS"
        )
    return _readable(Tls(certificate, key, client_ca), option)


def client_tls(option: str, certificate: str, key: str, ca: str) -> Tls:
    """Return a client's TLS files; raise InvalidError where they are incomplete or unreadable."""
    if bool(certificate) != bool(key):
        raise InvalidError(
            f"--{option}-cert and --{option}-key belong together", "give both, or none"
        )
    return _readable(Tls(certificate, key, ca), option)


def _readable(tls: Tls, option: str) -> Tls:
    for path in (tls.certificate, tls.key, tls.ca):
        if path and not os.access(path, os.R_OK):
            raise InvalidError(f"--{option}-…: {path}: cannot be read", "name a readable PEM file")
    return tls


def kubernetes_of(text: str) -> str:
    """Return where a Kubernetes cluster is found, as it is given; raise InvalidError where no file is there."""
    if text and text != IN_CLUSTER and not os.access(text, os.R_OK):
        raise InvalidError(
            f"--kubernetes {text}: cannot be read", f"name a KUBECONFIG file, or {IN_CLUSTER}"
        )
    return text


def server_context(tls: Tls) -> ssl.SSLContext | None:
    """Return what a server needs to speak TLS, or None for plain text; raise InvalidError."""
    if not tls.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.ca:
            context.load_verify_locations(tls.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise InvalidError(
            f"{tls.certificate}: {error}", "give a PEM certificate and its unencrypted key"
        ) from None
    return context


def read_config(path: str, known: Iterable[str], required: bool) -> Mapping[str, Any]:
    """Return a TOML file's settings by option name with underscores; raise InvalidError.

    Keys are the long options without dashes in front: `rest = "0.0.0.0:9999"`, `log-level = "debug"`.
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
        raise InvalidError(
            f"{path}: not TOML: {error}", 'write lines such as store = "…"'
        ) from None
    settings = {name.replace("-", "_"): value for name, value in found.items()}
    for name, value in settings.items():
        if name not in names:
            raise InvalidError(
                f"{path}: unknown setting {name.replace('_', '-')!r}",
                f"known are {', '.join(sorted(n.replace('_', '-') for n in names))}",
            )
        if isinstance(value, dict | list):
            raise InvalidError(f"{path}: {name.replace('_', '-')} is no single value", "write one")
    return settings
