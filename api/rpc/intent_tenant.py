"""Which objects live in a tenant, as their keys say."""

from netfabric.fabric.errors import InvalidError
from netfabric.fabric.schema import Kind


def in_tenant(kind: Kind, key: str, tenant: str) -> bool:
    """Return whether an object is a tenant's, or that tenant; every object is where `tenant` is empty."""
    return not tenant or (_has_tenants(kind) and key.partition(":")[0] == tenant)


def require_tenant_in(kind: Kind) -> None:
    """Raise InvalidError for a kind whose objects live in no tenant."""
    if not _has_tenants(kind):
        raise InvalidError(f"{kind.type} objects live in no tenant", "leave tenant out")


def _has_tenants(kind: Kind) -> bool:
    return kind.key[0] == "tenantName"
