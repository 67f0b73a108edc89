"""The object port: an existing link of a host that is an endpoint (which only `/api/v2` knows)."""

from netfabric.fabric import formats
from netfabric.fabric.kinds_tenancy import TENANT_NAME
from netfabric.fabric.schema import Field, Kind, Link

PORT = Kind(
    "port",
    "",
    "ports",
    ("hostname", "linkName"),
    (
        Field("groupName", max_length=64),
        Field("hostname", pattern=formats.NAME, max_length=256, remedy=formats.NAME_REMEDY),
        Field("ipAddress", pattern=formats.IP4_OR_NOTHING, remedy="write a.b.c.d"),
        Field("ipv6Address", pattern=formats.IP6_OR_NOTHING, remedy="write an IPv6 address"),
        Field(
            "linkName",
            pattern=r"(?!nf)[A-Za-z0-9][A-Za-z0-9_.@+\-]{0,14}",
            max_length=15,
            remedy="write a link's name, such as tap0; names that begin with nf are netfabric's own",
        ),
        Field(
            "macAddress",
            pattern=r"([0-9a-f][02468ace](:[0-9a-f]{2}){5})?",
            remedy="write 52:54:00:01:02:03, in lower case",
        ),
        Field("networkName", pattern=formats.NAME, max_length=64, remedy=formats.NAME_REMEDY),
        Field("portName", pattern=formats.NAME_OR_NOTHING, max_length=64),
        TENANT_NAME,
    ),
    links=(
        Link("EndpointGroup", "endpointGroup", ("groupName",)),
        Link("Network", "network", ("networkName",)),
    ),
)
