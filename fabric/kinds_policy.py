"""The objects policy, rule and netprofile."""

from netfabric.fabric import formats
from netfabric.fabric.kinds_tenancy import TENANT_LINK, TENANT_NAME
from netfabric.fabric.schema import Field, Kind, Link

_POLICY_NAME = Field("policyName", pattern=formats.NAME, max_length=64, remedy=formats.NAME_REMEDY)


def _partial(name: str) -> Field:
    return Field(name, pattern=formats.PARTIAL_NAME, max_length=64)


def _peer_group(name: str) -> Field:
    return Field(
        name,
        pattern=formats.PARTIAL_NAME,
        max_length=64,
        v2_pattern=formats.GROUP_OF_ANY_TENANT,
        v2_max_length=129,
        remedy="write the name of a group; in /api/v2 also TENANT:GROUP",
    )


def _peer_address(name: str) -> Field:
    return Field(
        name,
        pattern=formats.PEER_ADDRESS,
        v2_pattern=formats.PEER_ADDRESS2,
        remedy="write a.b.c.d or a.b.c.d/len; in /api/v2 also IPv6",
    )


POLICY = Kind(
    "policy",
    "policys",
    "policies",
    ("tenantName", "policyName"),
    (_POLICY_NAME, TENANT_NAME),
    link_sets=(
        Link("EndpointGroups", "endpointGroup", ("policies",), backward=True),
        Link("Rules", "rule", ("policyName",), backward=True),
    ),
    links=(TENANT_LINK,),
)

RULE = Kind(
    "rule",
    "rules",
    "rules",
    ("tenantName", "policyName", "ruleId"),
    (
        Field("action", pattern="(allow|deny)"),
        Field("direction", pattern="(in|out)"),
        _peer_group("fromEndpointGroup"),
        _peer_address("fromIpAddress"),
        _partial("fromNetwork"),
        _POLICY_NAME,
        Field("port", "int", high=65535),
        Field("priority", "int", low=1, high=100, default=1),
        Field("protocol", pattern=formats.PROTOCOL, remedy="choose tcp, udp, icmp or a number"),
        Field("ruleId", pattern=formats.NAME, max_length=64, remedy=formats.NAME_REMEDY),
        TENANT_NAME,
        _peer_group("toEndpointGroup"),
        _peer_address("toIpAddress"),
        _partial("toNetwork"),
        Field(
            "ports",
            "strings",
            pattern=formats.PORTS,
            v2_only=True,
            remedy="write ports and ranges, such as 80 and 8000-8080",
        ),
        Field("icmpTypes", "ints", high=255, v2_only=True),
        Field("log", "bool", v2_only=True),
    ),
    link_sets=(Link("Policies", "policy", ("policyName",)),),
    links=(Link("MatchEndpointGroup", "endpointGroup", ("fromEndpointGroup", "toEndpointGroup")),),
)

NETPROFILE = Kind(
    "netprofile",
    "netprofiles",
    "netprofiles",
    ("tenantName", "profileName"),
    (
        Field("DSCP", "int", low=0, high=63),
        Field(
            "bandwidth",
            pattern=formats.BANDWIDTH,
            max_length=64,
            remedy="write a number and kbps, mbps or gbps, such as 10 mbps",
        ),
        Field("burst", "int", high=10486),
        Field("profileName", pattern=".+", max_length=64),
        Field("tenantName"),
    ),
    link_sets=(Link("EndpointGroups", "endpointGroup", ("netProfile",), backward=True),),
    links=(TENANT_LINK,),
)
