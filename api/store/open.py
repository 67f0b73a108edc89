"""Which store a netmaster uses: read from a URL."""

from pathlib import Path
from urllib.parse import parse_qs

from netfabric.api.store.base import Store
from netfabric.api.store.etcd import EtcdStore
from netfabric.api.store.etcd_channel import EtcdSettings
from netfabric.api.store.memory import MemoryStore
from netfabric.api.store.sqlite import SqliteStore
from netfabric.fabric.errors import InvalidError

PORT = 2379


def open_store(
    url: str, *, ca: str = "", cert: str = "", key: str = "", user: str = "", password: str = ""
) -> Store:
    """Return the store that a URL names, not connected yet; raise InvalidError.

    `etcd://HOST:PORT,HOST:PORT`, `etcds://…` for TLS with the system's authorities, `sqlite:PATH`, `memory`.
    `ca`, `cert` and `key` are PEM files, and mean TLS. `?server-name=NAME` is the name in the members'
    certificates where it is not the one dialled.
    """
    scheme, _, rest = url.partition(":")
    if scheme in ("etcd", "etcds") and rest.startswith("//"):
        settings = etcd_settings(url, ca=ca, cert=cert, key=key, user=user, password=password)
        return EtcdStore(settings)
    if any((ca, cert, key, user, password)):
        raise InvalidError(f"store {url!r}: TLS files and a user are etcd's", "leave them out")
    if scheme == "sqlite" and rest:
        return SqliteStore(rest)
    if url == "memory":
        return MemoryStore()
    raise InvalidError(
        f"store {url!r}: no such store",
        "write etcd://HOST:PORT,HOST:PORT or sqlite:PATH or memory",
    )


def etcd_settings(
    url: str, *, ca: str = "", cert: str = "", key: str = "", user: str = "", password: str = ""
) -> EtcdSettings:
    """Return what an etcd URL and its options say; raise InvalidError."""
    scheme, _, rest = url.partition("://")
    hosts, _, query = rest.partition("?")
    names = parse_qs(query, keep_blank_values=True)
    if set(names) - {"server-name"}:
        raise InvalidError(f"store {url!r}: unknown option {query!r}", "known is server-name")
    if bool(cert) != bool(key):
        raise InvalidError(
            f"store {url!r}: a certificate and its key belong together", "give both, or none"
        )
    if bool(user) != bool(password):
        raise InvalidError(f"store {url!r}: a user and a password belong together", "give both")
    return EtcdSettings(
        endpoints=tuple(_endpoint(host, url) for host in hosts.rstrip("/").split(",")),
        tls=scheme == "etcds" or bool(ca or cert),
        ca=_pem(ca, url),
        cert=_pem(cert, url),
        key=_pem(key, url),
        server_name=names.get("server-name", [""])[0],
        user=user,
        password=password,
    )


def _endpoint(text: str, url: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(PORT)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    right = bare and not set(bare) & set("[]/@ ") and (":" not in bare or bare != host)
    if not right or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidError(
            f"store {url!r}: {text!r} is no endpoint", "write HOST:PORT, or [IPV6]:PORT"
        )
    return f"{host}:{port}"


def _pem(path: str, url: str) -> bytes | None:
    if not path:
        return None
    try:
        pem = Path(path).read_bytes()
    except OSError as error:
        raise InvalidError(
            f"store {url!r}: {path}: {error.strerror}", "name a readable PEM file"
        ) from None
    if b"-----BEGIN" not in pem:
        raise InvalidError(
            f"store {url!r}: {path}: not PEM", "convert it: openssl x509 -outform pem"
        )
    return pem
