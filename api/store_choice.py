"""The store that the settings name."""

from pathlib import Path

from netfabric.api.settings import StoreSettings
from netfabric.api.store.base import Store
from netfabric.fabric.errors import InvalidError


def make_store(settings: StoreSettings) -> Store:
    """Return the store, not yet open; each driver is loaded only where it is used."""
    if settings.scheme == "etcd":
        return _etcd(settings)
    if settings.scheme == "sqlite":
        from netfabric.api.store.sqlite import SqliteStore

        return SqliteStore(settings.path)
    from netfabric.api.store.memory import MemoryStore

    return MemoryStore()


def _etcd(settings: StoreSettings) -> Store:
    from netfabric.api.store.etcd import EtcdStore
    from netfabric.api.store.etcd_channel import EtcdSettings

    tls = settings.tls
    return EtcdStore(
        EtcdSettings(
            endpoints=settings.endpoints,
            tls=settings.secure,
            ca=_pem(tls.ca),
            cert=_pem(tls.certificate),
            key=_pem(tls.key),
            server_name=settings.server_name,
            user=settings.user,
            password=settings.password,
        )
    )


def _pem(path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidError(f"{path}: {error.strerror}", "name a readable PEM file") from None
