"""The objects tenant, network and endpointGroup."""

from netfabric.fabric import formats
from netfabric.fabric.schema import Field, Kind, Link

TENANT_NAME = Field("tenantName", pattern=formats.NAME, max_length=64, remedy=formats.NAME_REMEDY)
TENANT_LINK = Link("Tenant", "tenant", ("tenantName",))
CFGD_TAG = Field("cfgdTag", pattern=formats.NAME_OR_NOTHING, max_length=128)

TENANT = Kind(
    "tenant",
    "tenants",
    "tenants",
    ("tenantName",),
    (Field("defaultNetwork", pattern=formats.PARTIAL_NAME, max_length=64), TENANT_NAME),
    link_sets=(
        Link("AppProfiles", "appProfile", ("tenantName",), backward=True),
        Link("EndpointGroups", "endpointGroup", ("tenantName",), backward=True),
        Link("NetProfiles", "netprofile", ("tenantName",), backward=True),
        Link("Networks", "network", ("tenantName",), backward=True),
        Link("Policies", "policy", ("tenantName",), backward=True),
        Link("Servicelbs", "serviceLB", ("tenantName",), backward=True),
        Link("VolumeProfiles", "volumeProfile"),
        Link("Volumes", "volume"),
    ),
)

NETWORK = Kind(
    "network",
    "networks",
    "networks",
    ("tenantName", "networkName"),
    (
        CFGD_TAG,
        Field(
            "encap",
            pattern="(vlan|vxlan)",
            v2_pattern="(routed|vlan|vxlan)",
            v2_default="routed",
            remedy="choose vlan or vxlan; /api/v2 also knows routed",
        ),
        Field("gateway", pattern=formats.IP4_OR_NOTHING, remedy="write a.b.c.d"),
        Field("ipv6Gateway", pattern=formats.IP6_OR_NOTHING, remedy="write an IPv6 address"),
        Field(
            "ipv6Subnet",
            pattern=formats.IP6_SUBNET,
            v2_pattern=formats.ANY_IP6_SUBNET,
            remedy="write an IPv6 PREFIX/len",
        ),
        Field("networkName", pattern=formats.NAME, max_length=64, remedy=formats.NAME_REMEDY),
        Field("nwType", pattern="(infra|data)", default="data"),
        Field("pktTag", "int", high=16777216),
        Field(
            "subnet",
            pattern=formats.SUBNET,
            v2_pattern=f"({formats.SUBNET})?",
            remedy="write a.b.c.d/len or first-last/len, len from 1 to 31",
        ),
        TENANT_NAME,
        Field("announce", pattern="(host-routes|blocks)?", v2_only=True),
        Field("ready", pattern="(host|fabric)?", v2_only=True),
        Field("blockLength", "int", high=32, v2_only=True),
        Field("blockLength6", "int", high=128, v2_only=True),
        Field("reserved", "strings", v2_only=True),
    ),
    link_sets=(
        Link("EndpointGroups", "endpointGroup", ("networkName",), backward=True),
        Link("Servicelbs", "serviceLB", ("networkName",), backward=True),
        Link("Services", "service"),
    ),
    links=(TENANT_LINK,),
)

ENDPOINT_GROUP = Kind(
    "endpointGroup",
    "endpointGroups",
    "endpoint-groups",
    ("tenantName", "groupName"),
    (
        CFGD_TAG,
        Field("extContractsGrps", "strings"),
        Field("groupName", pattern=formats.NAME, max_length=64, remedy=formats.NAME_REMEDY),
        Field("ipPool", pattern=formats.POOL, remedy="write first-last, both IPv4"),
        Field("netProfile", max_length=64),
        Field("networkName", pattern=formats.NAME, max_length=64, remedy=formats.NAME_REMEDY),
        Field("policies", "strings"),
        TENANT_NAME,
        Field("defaultAction", pattern="(allow|deny)?", v2_only=True),
    ),
    link_sets=(
        Link("ExtContractsGrps", "extContractsGroup", ("extContractsGrps",)),
        Link("MatchRules", "rule", ("fromEndpointGroup", "toEndpointGroup"), backward=True),
        Link("Policies", "policy", ("policies",)),
        Link("Services", "service"),
    ),
    links=(
        Link("AppProfile", "appProfile", ("endpointGroups",), backward=True),
        Link("NetProfile", "netprofile", ("netProfile",)),
        Link("Network", "network", ("networkName",)),
        TENANT_LINK,
    ),
)
