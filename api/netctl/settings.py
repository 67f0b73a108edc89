"""netctl global, version, endpoint: what there is one of, and looking things up."""

from typing import Any

import click

from netfabric.api.netctl import output
from netfabric.api.netctl.client import Netmaster
from netfabric.api.netctl.kind import Words, filled, form_options
from netfabric.fabric.errors import FabricError

LINES = (
    ("Fabric mode: ", "networkInfraType"),
    ("Forward mode: ", "fwdMode"),
    ("ARP mode: ", "arpMode"),
    ("Vlan Range: ", "vlans"),
    ("Vxlan range: ", "vxlans"),
    ("Private subnet: ", "pvtSubnet"),
)
ENDPOINTS: list[output.Column] = [
    ("Tenant", "tenant"),
    ("Network", "network"),
    ("Group", "group"),
    ("Host", "host"),
    ("Container", lambda item: item.get("name") or item.get("container")),
    ("Interface", "interface"),
    ("Addresses", lambda item: " ".join(item.get("addresses", []))),
]


@click.group("global", cls=Words)
def global_() -> None:
    """Settings of the whole fabric."""


@click.group(cls=Words)
def endpoint() -> None:
    """Attached containers."""


@global_.command("info")
@form_options
@click.pass_obj
def global_info(netmaster: Netmaster, form: str) -> None:
    """Show the settings."""
    found = netmaster.items("globals")
    if form != "table":
        output.dump(found, form)
        return
    for item in found:
        for label, field in LINES:
            click.echo(label + str(item.get(field, "")))


@global_.command("inspect")
@form_options
@click.pass_obj
def global_inspect(netmaster: Netmaster, form: str) -> None:
    """Show the settings with their state."""
    output.dump(netmaster.inspect("globals", "global"), form)


@global_.command("set")
@click.option("--fabric-mode", "-f", default="", help="default, aci or aci-opflex.")
@click.option("--vlan-range", "-v", default="", help="Such as 1-4094.")
@click.option("--vxlan-range", "-x", default="", help="Such as 1-10000.")
@click.option("--fwd-mode", "-b", default="", help="bridge or routing.")
@click.option("--arp-mode", "-a", default="", help="proxy or flood.")
@click.option("--private-subnet", "-s", default="", help="Such as 172.19.0.0/16.")
@click.pass_obj
def global_set(netmaster: Netmaster, /, **given: Any) -> None:
    """Change what is given, and nothing else."""
    body = filled(
        networkInfraType=given["fabric_mode"],
        vlans=given["vlan_range"],
        vxlans=given["vxlan_range"],
        fwdMode=given["fwd_mode"],
        arpMode=given["arp_mode"],
        pvtSubnet=given["private_subnet"],
    )
    if body:
        netmaster.patch("globals", "global", body)


@endpoint.command("inspect")
@click.argument("name")
@form_options
@click.pass_obj
def endpoint_inspect(netmaster: Netmaster, name: str, form: str) -> None:
    """Show the endpoint whose id, container or name contains NAME."""
    output.dump(netmaster.inspect("endpoints", name), form)


@endpoint.command("ls")
@click.option("--host", "hostname", default="", help="Only of this host.")
@click.option("--quiet", "-q", is_flag=True, help="Container ids only.")
@form_options
@click.pass_obj
def endpoint_ls(netmaster: Netmaster, hostname: str, quiet: bool, form: str) -> None:
    """List attached containers."""
    items = netmaster.items("endpoints", host=hostname)
    output.show(items, ENDPOINTS, form, "container", quiet)


@click.command("version")
@click.pass_obj
def version(netmaster: Netmaster) -> None:
    """Show netctl's version and netmaster's."""
    from netfabric.api.version import version_info

    _block("Client", version_info())
    try:
        _block("Server", netmaster.get("/version"))
    except FabricError:
        click.echo("Unable to fetch version information")
        raise


def _block(title: str, found: Any) -> None:
    click.echo(f"{title} Version:")
    for name in ("Version", "GitCommit", "BuildTime"):
        click.echo(f"{name}: {found.get(name, '')}")
