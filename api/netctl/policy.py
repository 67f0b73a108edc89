"""netctl policy and netprofile: who may talk to whom, and how much."""

from string import ascii_letters
from typing import Any

import click

from netfabric.api.netctl import output
from netfabric.api.netctl.client import Netmaster
from netfabric.api.netctl.kind import Kind, Words, filled, form_options, tenant_option
from netfabric.fabric.errors import InvalidError

POLICY = Kind(
    "policies",
    "policyName",
    [("Tenant", "tenantName"), ("Policy", "policyName")],
    lambda tenant, name: f"Deleting policy {tenant}:{name}",
)


def bandwidth(text: str) -> str:
    """Return a bandwidth as Contiv prints it: `10 Gbps`, however it was written."""
    number = text.rstrip(ascii_letters + " ")
    unit = text[len(number) :].strip()[:1].upper()
    return f"{number} {unit}bps" if unit else text


NETPROFILE = Kind(
    "netprofiles",
    "profileName",
    [
        ("Name", "profileName"),
        ("Tenant", "tenantName"),
        ("Bandwidth", lambda item: bandwidth(item.get("bandwidth", ""))),
        ("DSCP", lambda item: item.get("DSCP", 0)),
        ("burst size", lambda item: item.get("burst", 0)),
    ],
    lambda tenant, name: f"Deleting netprofile {tenant}:{name}",
)
INCOMING: list[output.Column] = [
    ("Rule", "ruleId"),
    ("Priority", "priority"),
    ("From EndpointGroup", "fromEndpointGroup"),
    ("From Network", "fromNetwork"),
    ("From IpAddress", "fromIpAddress"),
    ("To IpAddress", "toIpAddress"),
    ("Protocol", "protocol"),
    ("Port", lambda rule: ",".join(rule.get("ports", ())) or rule.get("port", 0)),
    ("Action", "action"),
]
OUTGOING: list[output.Column] = [
    ("Rule", "ruleId"),
    ("Priority", "priority"),
    ("To EndpointGroup", "toEndpointGroup"),
    ("To Network", "toNetwork"),
    ("To IpAddress", "toIpAddress"),
    ("Protocol", "protocol"),
    ("Port", lambda rule: ",".join(rule.get("ports", ())) or rule.get("port", 0)),
    ("Action", "action"),
]
HITS: list[output.Column] = [("Packets", "packets"), ("Bytes", "bytes")]
"""Beside Contiv's columns, where they were asked for."""


@click.group(cls=Words)
def policy() -> None:
    """Rules between groups."""


@click.group(cls=Words)
def netprofile() -> None:
    """Bandwidth and DSCP of groups."""


POLICY.add_to(policy)
NETPROFILE.add_to(netprofile)


@policy.command("create")
@click.argument("name")
@tenant_option
@click.pass_obj
def policy_create(netmaster: Netmaster, name: str, tenant: str) -> None:
    """Create a policy."""
    click.echo(f"Creating policy {tenant}:{name}")
    body = {"tenantName": tenant, "policyName": name}
    netmaster.put("policies", f"{tenant}:{name}", body)


@policy.command("rule-add")
@click.argument("policy_name", metavar="POLICY")
@click.argument("rule")
@tenant_option
@click.option(
    "--priority", "-p", type=int, default=1, show_default=True, help="1 to 100; higher wins."
)
@click.option("--direction", "-d", default="in", show_default=True, help="in or out.")
@click.option("--from-group", "-g", default="", help="Incoming: the sender's group.")
@click.option("--to-group", "-e", default="", help="Outgoing: the receiver's group.")
@click.option("--from-network", "-n", default="", help="Incoming: the sender's network.")
@click.option("--to-network", "-o", default="", help="Outgoing: the receiver's network.")
@click.option("--from-ip-address", "-i", default="", help="Incoming: address or prefix.")
@click.option("--to-ip-address", "-s", default="", help="Outgoing: address or prefix.")
@click.option("--protocol", "-l", default="", help="tcp, udp, icmp or a number.")
@click.option("--port", "-P", type=int, default=0, help="Destination port.")
@click.option("--ports", default="", help="Several of them: 80,443,8000-8080.")
@click.option("--icmp-types", default="", help="With protocol icmp, such as 8,0.")
@click.option("--log", is_flag=True, help="Have hosts log the first packet of what it decides.")
@click.option("--action", "-j", default="allow", show_default=True, help="allow or deny.")
@click.pass_obj
def rule_add(
    netmaster: Netmaster, /, policy_name: str, rule: str, tenant: str, **given: Any
) -> None:
    """Add a rule to a policy."""
    check_direction(given)
    body = filled(
        tenantName=tenant,
        policyName=policy_name,
        ruleId=rule,
        priority=given["priority"],
        direction=given["direction"],
        fromEndpointGroup=given["from_group"],
        toEndpointGroup=given["to_group"],
        fromNetwork=given["from_network"],
        toNetwork=given["to_network"],
        fromIpAddress=given["from_ip_address"],
        toIpAddress=given["to_ip_address"],
        protocol=given["protocol"],
        port=given["port"],
        ports=[part for part in given["ports"].replace(" ", "").split(",") if part],
        icmpTypes=_numbers(given["icmp_types"]),
        log=given["log"],
        action=given["action"],
    )
    netmaster.put("rules", f"{tenant}:{policy_name}:{rule}", body)


def _numbers(text: str) -> list[int]:
    parts = [part for part in text.replace(" ", "").split(",") if part]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise InvalidError(f"ICMP types {text!r}: no list of numbers", "write 8 or 3,8")
    return [int(part) for part in parts]


def check_direction(given: dict[str, Any]) -> None:
    """Refuse, before anything is sent, what makes no sense in a rule's direction."""
    wrong = {
        "in": ("to_group", "to_network"),
        "out": ("from_group", "from_network", "from_ip_address"),
    }
    words = {"in": "incoming", "out": "outgoing"}
    direction = given["direction"]
    if direction not in wrong:
        raise InvalidError(f"Unknown direction {direction}", "say in or out")
    for option in wrong[direction]:
        if given[option]:
            raise InvalidError(
                f"Cant specify {option.replace('_', '-')} for {words[direction]} rule"
            )


DENIED = 5
"""Exit status of `policy test`: asked and answered, and the answer is no."""
CONSIDERED: list[output.Column] = [
    ("Rule", "rule"),
    ("Group", "group"),
    ("Direction", "direction"),
    ("Priority", "priority"),
    ("Action", "action"),
    ("Matches", lambda item: "yes" if item["matches"] else ""),
    ("Decides", lambda item: "yes" if item["decides"] else ""),
]


@policy.command("test")
@click.option("--from", "source", required=True, help="Container, TENANT:GROUP, or address.")
@click.option("--to", "target", required=True, help="Container, TENANT:GROUP, or address.")
@click.option("--port", default="icmp", help="Such as 80/tcp or 53/udp; or icmp, for a ping.")
@click.option("--explain", is_flag=True, help="Every rule that was considered.")
@form_options
@click.pass_obj
def policy_test(
    netmaster: Netmaster, source: str, target: str, port: str, explain: bool, form: str
) -> None:
    """May one talk to the other, and which rule says so? Ends with status 5 where it may not."""
    number, _, protocol = port.rpartition("/")
    query = {"from": source, "to": target, "protocol": protocol, "port": number}
    if protocol.isdecimal() and not number:
        query |= {"protocol": "tcp", "port": protocol}
    found = netmaster.items("verdicts", **query)
    if form != "table":
        output.dump(found, form)
    for item in found if form == "table" else ():
        click.echo(f"{item['key']}: {item['action']}, by {item['reason']}")
        if explain:
            output.show(item["considered"], CONSIDERED, "table")
    if any(item["action"] == "deny" for item in found):
        raise SystemExit(DENIED)


@policy.command("rule-rm")
@click.argument("policy_name", metavar="POLICY")
@click.argument("rule")
@tenant_option
@click.pass_obj
def rule_rm(netmaster: Netmaster, policy_name: str, rule: str, tenant: str) -> None:
    """Remove a rule."""
    netmaster.delete("rules", f"{tenant}:{policy_name}:{rule}")


@policy.command("rule-ls")
@click.argument("policy_name", metavar="POLICY")
@tenant_option
@click.option("--quiet", "-q", is_flag=True, help="Rule ids only.")
@click.option("--hits", is_flag=True, help="With the packets that each has decided about.")
@form_options
@click.pass_obj
def rule_ls(
    netmaster: Netmaster, policy_name: str, tenant: str, quiet: bool, hits: bool, form: str
) -> None:
    """List a policy's rules by priority.

    A hit is a packet that opens a connection; hosts count from when they have the rule, and tell about every 10 s.
    """
    netmaster.get(f"/api/v2/policies/{tenant}:{policy_name}")
    rules = [
        rule
        for rule in netmaster.items("rules")
        if (rule.get("tenantName"), rule.get("policyName")) == (tenant, policy_name)
    ]
    rules.sort(key=lambda rule: int(rule.get("priority", 1)))
    if hits:
        counted = _hits(netmaster, f"{tenant}:{policy_name}")
        rules = [rule | counted.get(rule["ruleId"], {"packets": 0, "bytes": 0}) for rule in rules]
    if quiet or form != "table":
        output.show(rules, INCOMING, form, "ruleId", quiet)
        return
    for heading, direction, columns in (
        ("Incoming Rules:", "in", INCOMING),
        ("Outgoing Rules:", "out", OUTGOING),
    ):
        click.echo(heading)
        shown = [rule for rule in rules if rule.get("direction") == direction]
        output.show(shown, columns + HITS if hits else columns, form)


def _hits(netmaster: Netmaster, policy_name: str) -> dict[str, dict[str, int]]:
    """Return the packets and bytes of each rule of a policy that has any."""
    oper = netmaster.inspect("policies", policy_name).get("Oper", {})
    return {
        one["rule"]: {"packets": one["packets"], "bytes": one["bytes"]}
        for one in oper.get("rules", ())
        if one.get("packets")
    }


@netprofile.command("create")
@click.argument("name")
@tenant_option
@click.option("--bandwidth", "-b", default="", help="Such as 10mbps or 2Gb.")
@click.option("--dscp", "-d", type=int, default=0, help="0 to 63.")
@click.option("--burst", "-s", type=int, default=0, help="Kilobytes.")
@click.pass_obj
def netprofile_create(
    netmaster: Netmaster, name: str, tenant: str, bandwidth: str, dscp: int, burst: int
) -> None:
    """Create a profile, or change it."""
    click.echo(f"Creating netprofile {tenant}:{name}")
    body = filled(tenantName=tenant, profileName=name, bandwidth=bandwidth, DSCP=dscp, burst=burst)
    netmaster.put("netprofiles", f"{tenant}:{name}", body)
