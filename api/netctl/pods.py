"""`netctl pod`: pods of Kubernetes as the fabric knows them."""

import click

from netfabric.api.netctl import output
from netfabric.api.netctl.client import Netmaster
from netfabric.api.netctl.kind import Words, form_options

PODS: list[output.Column] = [
    ("Pod", "key"),
    ("Host", "host"),
    ("State", "state"),
    ("Tenant", "tenant"),
    ("Network", "network"),
    ("Group", "group"),
    ("Filter", "filter"),
    ("Addresses", lambda item: " ".join(item.get("addresses", []))),
]


@click.group(cls=Words)
def pod() -> None:
    """Pods of a Kubernetes cluster that netmaster follows."""


@pod.command("ls")
@click.option("--host", "hostname", default="", help="Only those of this host (node).")
@click.option("--namespace", default="", help="Only those of this namespace.")
@form_options
@click.pass_obj
def pod_ls(netmaster: Netmaster, hostname: str, namespace: str, form: str) -> None:
    """List pods: where they belong, and the filter that network policies made for them."""
    output.show(netmaster.items("pods", host=hostname, namespace=namespace), PODS, form)
