"""netctl service, app-profile, external-contracts, aci-gw."""

from typing import Any

import click

from netfabric.api.netctl import output
from netfabric.api.netctl.client import Netmaster
from netfabric.api.netctl.kind import Kind, Words, filled, form_options, tenant_option
from netfabric.fabric.errors import InvalidError


def bracketed(field: str) -> Any:
    """Return a column of a list, printed as Go prints a slice."""
    return lambda item: "[" + " ".join(item.get(field, [])) + "]"


SERVICE = Kind(
    "services",
    "serviceName",
    [
        ("ServiceName", "serviceName"),
        ("Tenant", "tenantName"),
        ("Network", "networkName"),
        ("Selectors", bracketed("selectors")),
    ],
    lambda tenant, name: f"Deleting Service  {name},{tenant}",
)
APP_PROFILE = Kind(
    "app-profiles",
    "appProfileName",
    [
        ("Tenant", "tenantName"),
        ("AppProfile", "appProfileName"),
        ("Groups", lambda item: ",".join(item.get("endpointGroups", []))),
    ],
    lambda tenant, name: f"Deleting AppProfile {tenant}:{name}",
)
CONTRACTS = Kind(
    "ext-contracts-groups",
    "contractsGroupName",
    [
        ("Tenant", "tenantName"),
        ("Name", "contractsGroupName"),
        ("Type", "contractsType"),
        ("Contracts", bracketed("contracts")),
    ],
    lambda tenant, name: f"Deleting external contracts group {name} in tenant {tenant}",
)
ACI_LINES = (
    ("Path bindings: ", "pathBindings"),
    ("Node bindings: ", "nodeBindings"),
    ("Physical domain: ", "physicalDomain"),
    ("Enforce policies: ", "enforcePolicies"),
    ("Include Common-Tenant: ", "includeCommonTenant"),
)


@click.group(cls=Words)
def service() -> None:
    """Virtual addresses in front of containers."""


@click.group("app-profile", cls=Words)
def app_profile() -> None:
    """Groups that make one application (ACI)."""


@click.group("external-contracts", cls=Words)
def external_contracts() -> None:
    """Contracts kept elsewhere (ACI)."""


@click.group("aci-gw", cls=Words)
def aci_gw() -> None:
    """The ACI gateway's settings."""


for _kind, _group in (
    (SERVICE, service),
    (APP_PROFILE, app_profile),
    (CONTRACTS, external_contracts),
):
    _kind.add_to(_group)


@service.command("create")
@click.argument("name")
@tenant_option
@click.option("--network", "-s", "network_name", default="", help="Whose pool the address is of.")
@click.option("--selector", "-l", "selectors", multiple=True, help="key=value; may be repeated.")
@click.option("--port", "-p", "ports", multiple=True, help="svc:prov:protocol; may be repeated.")
@click.option("--preferred-ip", "-ip", default="", help="The virtual address.")
@click.pass_obj
def service_create(
    netmaster: Netmaster,
    name: str,
    tenant: str,
    network_name: str,
    selectors: tuple[str, ...],
    ports: tuple[str, ...],
    preferred_ip: str,
) -> None:
    """Create a service, or change it."""
    click.echo(f"Creating ServiceLB {tenant}:{name}")
    body = filled(
        tenantName=tenant,
        serviceName=name,
        networkName=network_name,
        selectors=list(selectors),
        ports=list(ports),
        ipAddress=preferred_ip,
    )
    netmaster.put("services", f"{tenant}:{name}", body)


def _profile(netmaster: Netmaster, tenant: str, name: str, groups: str) -> None:
    body = filled(
        tenantName=tenant,
        appProfileName=name,
        endpointGroups=[g for g in groups.split(",") if g],
    )
    netmaster.put("app-profiles", f"{tenant}:{name}", body)


@app_profile.command("create")
@click.argument("name")
@tenant_option
@click.option("--group", "-g", "groups", default="", help="Group names, separated by commas.")
@click.pass_obj
def app_profile_create(netmaster: Netmaster, name: str, tenant: str, groups: str) -> None:
    """Create a profile."""
    click.echo(f"Creating AppProfile {tenant}:{name}")
    _profile(netmaster, tenant, name, groups)


@app_profile.command("update")
@click.argument("name")
@tenant_option
@click.option("--group", "-g", "groups", default="", help="Group names, separated by commas.")
@click.pass_obj
def app_profile_update(netmaster: Netmaster, name: str, tenant: str, groups: str) -> None:
    """Replace a profile's groups."""
    click.echo(f"Updating AppProfile {tenant}:{name}")
    _profile(netmaster, tenant, name, groups)


@app_profile.command("group-ls")
@click.argument("name")
@tenant_option
@click.pass_obj
def app_profile_groups(netmaster: Netmaster, name: str, tenant: str) -> None:
    """List a profile's groups."""
    found = netmaster.get(f"/api/v2/app-profiles/{tenant}:{name}")
    for group in found.get("endpointGroups", []):
        click.echo(group)


@external_contracts.command("create")
@click.argument("name")
@tenant_option
@click.option("--consumed", "-c", "sort", flag_value="consumed", help="Contracts we use.")
@click.option("--provided", "-p", "sort", flag_value="provided", help="Contracts we offer.")
@click.option("--contract", "-a", "contracts", multiple=True, help="A DN; may be repeated.")
@click.pass_obj
def external_contracts_create(
    netmaster: Netmaster, name: str, tenant: str, sort: str | None, contracts: tuple[str, ...]
) -> None:
    """Create a group of external contracts."""
    if sort is None:
        raise InvalidError("the kind of contracts is missing", "give --consumed or --provided")
    click.echo(f"Creating ExternalContracts {tenant}:{name}")
    body = filled(
        tenantName=tenant,
        contractsGroupName=name,
        contractsType=sort,
        contracts=list(contracts),
    )
    netmaster.put("ext-contracts-groups", f"{tenant}:{name}", body)


@aci_gw.command("set")
@click.option("--path-bindings", "-p", default="", help="topology/pod-…/paths-…/pathep-[…],…")
@click.option("--node-bindings", "-n", default="", help="topology/pod-…/node-…,…")
@click.option("--phys-dom", "-d", default="", help="Physical domain.")
@click.option("--enforce-policies", "-e", default="yes", show_default=True, help="yes or no.")
@click.option("--include-common-tenant", "-i", default="no", show_default=True, help="yes or no.")
@click.pass_obj
def aci_gw_set(netmaster: Netmaster, /, **given: Any) -> None:
    """Set how the ACI gateway binds."""
    body = filled(
        name="aciGw",
        pathBindings=given["path_bindings"],
        nodeBindings=given["node_bindings"],
        physicalDomain=given["phys_dom"],
        enforcePolicies=given["enforce_policies"],
        includeCommonTenant=given["include_common_tenant"],
    )
    netmaster.put("aci-gws", "aciGw", body)


@aci_gw.command("info")
@form_options
@click.pass_obj
def aci_gw_info(netmaster: Netmaster, form: str) -> None:
    """Show the gateway's settings."""
    found = netmaster.get("/api/v2/aci-gws/aciGw")
    if form != "table":
        output.dump(found, form)
        return
    for label, field in ACI_LINES:
        click.echo(label + str(found.get(field, "")))


@aci_gw.command("inspect")
@form_options
@click.pass_obj
def aci_gw_inspect(netmaster: Netmaster, form: str) -> None:
    """Show the gateway's settings with their state."""
    output.dump(netmaster.inspect("aci-gws", "aciGw"), form)
