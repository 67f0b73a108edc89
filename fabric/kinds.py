"""Every kind of object, by type, by v1 plural and by v2 plural."""

from netfabric.fabric.kinds_policy import NETPROFILE, POLICY, RULE
from netfabric.fabric.kinds_ports import PORT
from netfabric.fabric.kinds_routing import BGP, GLOBAL, PEER
from netfabric.fabric.kinds_services import (
    ACI_GW,
    APP_PROFILE,
    EXT_CONTRACTS_GROUP,
    SERVICE_LB,
    VOLUME,
    VOLUME_PROFILE,
)
from netfabric.fabric.kinds_tenancy import ENDPOINT_GROUP, NETWORK, TENANT

ALL = (
    TENANT,
    NETWORK,
    ENDPOINT_GROUP,
    POLICY,
    RULE,
    NETPROFILE,
    GLOBAL,
    BGP,
    PEER,
    PORT,
    SERVICE_LB,
    EXT_CONTRACTS_GROUP,
    APP_PROFILE,
    ACI_GW,
    VOLUME,
    VOLUME_PROFILE,
)
KINDS = {kind.type: kind for kind in ALL}
V1 = {kind.plural: kind for kind in ALL if kind.plural}
V2 = {kind.plural2: kind for kind in ALL if kind.plural2}
