"""The objects global, Bgp and our own peer (which only `/api/v2` knows)."""

from netfabric.fabric import formats
from netfabric.fabric.schema import Field, Kind

_HOST = Field("hostname", pattern=formats.NAME, max_length=256, remedy=formats.NAME_REMEDY)

GLOBAL = Kind(
    "global",
    "globals",
    "globals",
    ("name",),
    (
        Field("arpMode", pattern="(proxy|flood)?", max_length=64),
        Field("fwdMode", pattern="(bridge|routing)?", max_length=64),
        Field("name", pattern="(global)", max_length=64),
        Field("networkInfraType", pattern="(aci|aci-opflex|default)?", max_length=64),
        Field("pvtSubnet", pattern=formats.PRIVATE_SUBNET, remedy="write a.b.c.d/16"),
        Field("vlans", pattern=formats.VLANS, remedy="write first-last, such as 1-4094"),
        Field("vxlans", pattern=formats.VXLANS, remedy="write first-last, such as 1-10000"),
    ),
)

BGP = Kind(
    "Bgp",
    "Bgps",
    "bgps",
    ("hostname",),
    (
        Field("as", max_length=64),
        _HOST,
        Field("neighbor", pattern=formats.IP4_OR_NOTHING, max_length=15, remedy="write a.b.c.d"),
        Field("neighbor-as", max_length=64),
        Field(
            "routerip",
            pattern=formats.ROUTER_IP,
            v2_pattern=r"([0-9a-fA-F.:]+(-[0-9]{1,3})?/[0-9]{1,3})?",
            remedy="write the host's address towards its switches, ADDRESS/len",
        ),
        Field("routerId", pattern=formats.IP4_OR_NOTHING, v2_only=True, remedy="write a.b.c.d"),
    ),
)

PEER = Kind(
    "peer",
    "",
    "peers",
    ("hostname", "peerName"),
    (
        Field("address"),
        Field("as", "int", keeps_zero=True),
        Field("communities", "strings", formats.COMMUNITY, remedy="write AS:NUMBER"),
        Field("families", "ints", low=4, high=6),
        Field("gracefulRestart", "int", high=4095, keeps_zero=True),
        Field("holdTime", "int", low=3, high=65535, keeps_zero=True),
        _HOST,
        Field("importPrefixes", "strings"),
        Field("importWithin", "strings"),
        Field(
            "largeCommunities", "strings", formats.LARGE_COMMUNITY, remedy="write AS:NUMBER:NUMBER"
        ),
        Field("localAddress"),
        Field("localPreference", "int", high=(1 << 32) - 1, keeps_zero=True),
        Field("maxPrefixes", "int", low=1, high=10_000_000, keeps_zero=True),
        Field("med", "int", high=(1 << 32) - 1, keeps_zero=True),
        Field("multihop", "int", low=1, high=255, keeps_zero=True),
        Field(
            "password",
            pattern=formats.PASSWORD,
            max_length=80,
            remedy="use printable ASCII without blanks, quotes, backslashes, semicolons and braces",
            secret=True,
        ),
        Field("peerName", pattern=formats.NAME, max_length=64, remedy=formats.NAME_REMEDY),
        Field("prepend", "int", high=10),
        Field("ttlSecurity", "bool"),
    ),
)
