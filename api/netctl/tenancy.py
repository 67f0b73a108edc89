"""netctl tenant, network, group: who has which addresses."""

from ipaddress import IPv4Address, IPv6Address

import click

from netfabric.api.netctl.client import Netmaster
from netfabric.api.netctl.kind import Kind, Words, filled, tenant_option
from netfabric.fabric.errors import InvalidError

TENANT = Kind(
    "tenants",
    "tenantName",
    [("Name", "tenantName")],
    lambda _, name: f"Deleting tenant {name}",
    in_tenant=False,
)
NETWORK = Kind(
    "networks",
    "networkName",
    [
        ("Tenant", "tenantName"),
        ("Network", "networkName"),
        ("Nw Type", "nwType"),
        ("Encap type", "encap"),
        ("Packet tag", lambda item: item.get("pktTag", 0)),
        ("Subnet", "subnet"),
        ("Gateway", "gateway"),
        ("IPv6Subnet", "ipv6Subnet"),
        ("IPv6Gateway", "ipv6Gateway"),
        ("Cfgd Tag", "cfgdTag"),
    ],
    lambda tenant, name: f"Deleting network {tenant}:{name}",
)
GROUP = Kind(
    "endpoint-groups",
    "groupName",
    [
        ("Tenant", "tenantName"),
        ("Group", "groupName"),
        ("Network", "networkName"),
        ("IP Pool", "ipPool"),
        ("CfgdTag", "cfgdTag"),
        ("Policies", lambda item: ",".join(item.get("policies", []))),
        ("Network profile", "netProfile"),
    ],
    lambda tenant, name: "",
)


@click.group(cls=Words)
def tenant() -> None:
    """Name spaces for everything else."""


@click.group(cls=Words)
def network() -> None:
    """Prefixes that containers get addresses of."""


@click.group(cls=Words)
def group() -> None:
    """Endpoint groups: what policies apply to."""


for _kind, _group in ((TENANT, tenant), (NETWORK, network), (GROUP, group)):
    _kind.add_to(_group)


@tenant.command("create")
@click.argument("name")
@click.pass_obj
def tenant_create(netmaster: Netmaster, name: str) -> None:
    """Create a tenant."""
    click.echo(f"Creating tenant: {name}")
    netmaster.put("tenants", name, {"tenantName": name})


@network.command("create")
@click.argument("name")
@tenant_option
@click.option("--nw-type", "-n", default="data", show_default=True, help="data or infra.")
@click.option("--encap", "-e", default="routed", show_default=True, help="routed, vxlan or vlan.")
@click.option("--pkt-tag", "-p", type=int, default=0, help="VLAN id or VNI; 0 takes a free one.")
@click.option("--subnet", "-s", default="", help="IPv4: a.b.c.d/len or first-last/len.")
@click.option("--gateway", "-g", default="", help="IPv4 gateway, inside the subnet.")
@click.option("--subnetv6", "-s6", default="", help="IPv6 prefix.")
@click.option("--gatewayv6", "-g6", default="", help="IPv6 gateway.")
@click.option("--nw-tag", "-tag", default="", help="Tag for Docker's options.")
@click.option(
    "--announce",
    type=click.Choice(["host-routes", "blocks"]),
    help="What hosts tell their switches.",
)
@click.option(
    "--ready", type=click.Choice(["host", "fabric"]), help="When ADD answers: fabric waits for BGP."
)
@click.option("--block-length", type=int, default=0, help="Length of a host's IPv4 block (26).")
@click.option("--block-length6", type=int, default=0, help="Length of a host's IPv6 block (122).")
@click.option("--reserve", multiple=True, help="A prefix that is never given out; may be repeated.")
@click.pass_obj
def network_create(
    netmaster: Netmaster,
    name: str,
    tenant: str,
    nw_type: str,
    encap: str,
    pkt_tag: int,
    subnet: str,
    gateway: str,
    subnetv6: str,
    gatewayv6: str,
    nw_tag: str,
    announce: str | None,
    ready: str | None,
    block_length: int,
    block_length6: int,
    reserve: tuple[str, ...],
) -> None:
    """Create a network."""
    if not subnet and not subnetv6:
        raise InvalidError("Subnet is required", "give --subnet, --subnetv6 or both")
    _check_address(gateway, IPv4Address, "Invalid gateway - Enter in A.B.C.D format")
    _check_address(gatewayv6, IPv6Address, "Invalid IPv6 gateway ")
    click.echo(f"Creating network {tenant}:{name}")
    body = filled(
        tenantName=tenant,
        networkName=name,
        nwType=nw_type,
        encap=encap,
        pktTag=pkt_tag,
        subnet=subnet,
        gateway=gateway,
        ipv6Subnet=subnetv6,
        ipv6Gateway=gatewayv6,
        cfgdTag=nw_tag,
        announce=announce,
        ready=ready,
        blockLength=block_length,
        blockLength6=block_length6,
        reserved=list(reserve),
    )
    netmaster.put("networks", f"{tenant}:{name}", body)


def _check_address(text: str, form: type[IPv4Address] | type[IPv6Address], complaint: str) -> None:
    try:
        if text:
            form(text)
    except ValueError:
        raise InvalidError(complaint) from None


@group.command("create")
@click.argument("network")
@click.argument("name")
@tenant_option
@click.option("--policy", "-p", "policies", multiple=True, help="May be repeated.")
@click.option("--networkprofile", "-n", default="", help="Bandwidth and DSCP.")
@click.option("--external-contract", "-e", "contracts", multiple=True, help="May be repeated.")
@click.option("--ip-pool", "-r", default="", help="first-last, inside the network's subnet.")
@click.option("--epg-tag", "-tag", default="", help="Tag for Docker's options.")
@click.option("--default-action", default="", help="Of what no rule matches: allow or deny.")
@click.pass_obj
def group_create(
    netmaster: Netmaster,
    network: str,
    name: str,
    tenant: str,
    policies: tuple[str, ...],
    networkprofile: str,
    contracts: tuple[str, ...],
    ip_pool: str,
    epg_tag: str,
    default_action: str,
) -> None:
    """Create an endpoint group in a network, or change its policies and profile."""
    click.echo(f"Creating EndpointGroup {tenant}:{name}")
    body = filled(
        tenantName=tenant,
        groupName=name,
        networkName=network,
        policies=list(policies),
        netProfile=networkprofile,
        extContractsGrps=list(contracts),
        ipPool=ip_pool,
        cfgdTag=epg_tag,
        defaultAction=default_action,
    )
    netmaster.put("endpoint-groups", f"{tenant}:{name}", body)
