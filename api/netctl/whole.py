"""netctl apply, diff, export and watch: intent as a whole."""

import json
from collections import Counter
from typing import Any

import click

from netfabric.api.netctl import output
from netfabric.api.netctl.client import Netmaster
from netfabric.fabric.errors import FabricError, InvalidError

_PAST = {"create": "created", "change": "changed", "same": "unchanged", "remove": "removed"}
_MARK = {"create": "+", "change": "~", "remove": "-"}
_COLOUR = {"+": "green", "-": "red", "~": "yellow"}

_file = click.option(
    "--file", "-f", "path", required=True, help="YAML or JSON, as export writes it; - is stdin."
)
_prune = click.option(
    "--prune", is_flag=True, help="Remove objects of the file's kinds that it does not name."
)


def _steps(netmaster: Netmaster, path: str, prune: bool) -> list[Any]:
    """Return what has to be done; nothing is sent while anything in the file is wrong."""
    from netfabric.api.netctl import declared

    wanted = declared.read_file(path, declared.read_path(path))
    there = {plural: netmaster.items(plural) for plural in wanted}
    return list(declared.steps(wanted, there, prune))


@click.command("apply")
@_file
@_prune
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--quiet", "-q", is_flag=True, help="Only the last line.")
@click.pass_obj
def apply(netmaster: Netmaster, path: str, prune: bool, dry_run: bool, quiet: bool) -> None:
    """Make the fabric as a file says: create, change, and with --prune remove.

    Objects are made in the order in which they need each other. What is right already is left alone.
    """
    done: Counter[str] = Counter()
    try:
        for step in _steps(netmaster, path, prune):
            action = step.action if dry_run else _carry_out(netmaster, step)
            done[action] += 1
            if not quiet and action != "same":
                click.echo(f"{step} {'would be ' if dry_run else ''}{_PAST[action]}")
    except FabricError:
        click.echo(_summary(done, dry_run) if done else "nothing was done")
        raise
    click.echo(_summary(done, dry_run))


def _summary(done: Counter[str], dry_run: bool) -> str:
    told = [f"{done[action]} {past}" for action, past in _PAST.items() if done[action]]
    return ", ".join(told or ["nothing to do"]) + (" (dry run)" if dry_run else "")


def _carry_out(netmaster: Netmaster, step: Any) -> str:
    if step.action == "remove":
        netmaster.delete(step.plural, step.key)
    elif step.secret and step.action != "create":
        return _with_secret(netmaster, step)
    elif step.action != "same":
        netmaster.put(step.plural, step.key, step.body)
    return str(step.action)


def _with_secret(netmaster: Netmaster, step: Any) -> str:
    """A password is never shown: ask the server whether it would change."""
    if not netmaster.plan(step.plural, step.key, step.body):
        return "same"
    netmaster.put(step.plural, step.key, step.body)
    return "change"


@click.command("diff")
@_file
@_prune
@click.pass_obj
def diff(netmaster: Netmaster, path: str, prune: bool) -> None:
    """Show how a file differs from the fabric, field by field; nothing is changed."""
    from netfabric.api.netctl.declared import differences

    for step in _steps(netmaster, path, prune):
        if step.action == "same":
            continue
        _echo(f"{_MARK[step.action]} {step}")
        if step.action == "change":
            for line in differences(step):
                _echo(f"    {line}")


def _echo(line: str) -> None:
    """Colour is for terminals: click takes it away elsewhere."""
    click.secho(line, fg=_COLOUR[line.strip()[0]])


@click.command("export")
@click.option(
    "--output", "-o", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True
)
@click.pass_obj
def export(netmaster: Netmaster, form: str) -> None:
    """Write the whole intent as a file that apply restores. Passwords are not in it: they are never told."""
    from netfabric.api.netctl.declared import ORDER, exported

    output.dump(exported({plural: netmaster.items(plural) for plural in ORDER}), form)


@click.command("watch")
@click.argument("plural", metavar="KIND")
@click.option("--tenant", "-t", default="", help="Only of this tenant.")
@click.option("--output", "-o", "form", type=click.Choice(["text", "json"]), default="text")
@click.pass_obj
def watch(netmaster: Netmaster, plural: str, tenant: str, form: str) -> None:
    """Follow the objects of a kind (networks, peers, rules, …) until interrupted."""
    from netfabric.api.netctl.declared import ORDER

    if plural not in ORDER:
        raise InvalidError(f"unknown kind {plural!r}", f"known are {', '.join(ORDER)}")
    for event, data in netmaster.watch(plural, tenantName=tenant):
        if form == "json":
            click.echo(json.dumps({"event": event, "object": data}, ensure_ascii=False))
        elif event != "listed":
            fields = " ".join(f"{n}={v}" for n, v in data.items() if n != "key")
            click.echo(f"{event:<6}  {data['key']}  {fields}".rstrip())
