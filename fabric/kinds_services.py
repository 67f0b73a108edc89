"""The objects serviceLB, extContractsGroup, appProfile, aciGw, and the volumes that nobody may make."""

from netfabric.fabric import formats
from netfabric.fabric.kinds_tenancy import TENANT_LINK, TENANT_NAME
from netfabric.fabric.schema import Field, Kind, Link

_YES_NO = "(yes|no)"

SERVICE_LB = Kind(
    "serviceLB",
    "serviceLBs",
    "services",
    ("tenantName", "serviceName"),
    (
        Field("ipAddress", pattern=formats.IP4_OR_NOTHING, max_length=15, remedy="write a.b.c.d"),
        Field("networkName", pattern=formats.NAME, max_length=64, remedy=formats.NAME_REMEDY),
        Field("ports", "strings"),
        Field("selectors", "strings"),
        Field("serviceName", pattern=formats.NAME, max_length=256, remedy=formats.NAME_REMEDY),
        TENANT_NAME,
    ),
    links=(Link("Network", "network", ("networkName",)), TENANT_LINK),
)

EXT_CONTRACTS_GROUP = Kind(
    "extContractsGroup",
    "extContractsGroups",
    "ext-contracts-groups",
    ("tenantName", "contractsGroupName"),
    (
        Field("contracts", "strings"),
        Field(
            "contractsGroupName", pattern=formats.NAME, max_length=64, remedy=formats.NAME_REMEDY
        ),
        Field("contractsType"),
        TENANT_NAME,
    ),
    link_sets=(Link("EndpointGroups", "endpointGroup", ("extContractsGrps",), backward=True),),
)

APP_PROFILE = Kind(
    "appProfile",
    "appProfiles",
    "app-profiles",
    ("tenantName", "appProfileName"),
    (
        Field("appProfileName", pattern=formats.NAME, max_length=64, remedy=formats.NAME_REMEDY),
        Field("endpointGroups", "strings"),
        TENANT_NAME,
    ),
    link_sets=(Link("EndpointGroups", "endpointGroup", ("endpointGroups",)),),
    links=(TENANT_LINK,),
)

ACI_GW = Kind(
    "aciGw",
    "aciGws",
    "aci-gws",
    ("name",),
    (
        Field("enforcePolicies", pattern=_YES_NO, max_length=64, v2_default="yes"),
        Field("includeCommonTenant", pattern=_YES_NO, max_length=64, v2_default="no"),
        Field("name", pattern="(aciGw)", max_length=64),
        Field("nodeBindings", pattern=formats.NODES, max_length=2048),
        Field("pathBindings", pattern=formats.PATHS, max_length=2048),
        Field("physicalDomain", pattern=formats.NAME, max_length=128, remedy=formats.NAME_REMEDY),
    ),
)


def _volume(type_: str, key: str, link_set: str, linked: str) -> Kind:
    names = ("datastoreType", "mountPoint", "poolName", "size", "tenantName", key)
    return Kind(
        type_,
        f"{type_}s",
        "",
        ("tenantName", key),
        tuple(Field(name) for name in names),
        link_sets=(Link(link_set, linked),),
        links=(TENANT_LINK,),
    )


VOLUME = _volume("volume", "volumeName", "ServiceInstances", "serviceInstance")
VOLUME_PROFILE = _volume("volumeProfile", "volumeProfileName", "Services", "service")
