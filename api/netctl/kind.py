"""Commands that every kind of object has: ls, rm, inspect; and the options they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

import click

from netfabric.api.netctl import output
from netfabric.api.netctl.client import Netmaster
from netfabric.fabric.errors import FabricError

SHELL_WAITS = 2.0
"""Seconds that completing a name may take."""

Command = TypeVar("Command", bound=Callable[..., Any])


class Words(click.Group):
    """A group whose commands have Contiv's second names: `list` for `ls`, `delete` for `rm`, …"""

    aliases: ClassVar[dict[str, str]] = {
        "list": "ls",
        "delete": "rm",
        "net": "network",
        "ep": "endpoint",
        "peers": "peer",
        "routes": "route",
        "hosts": "host",
        "rule-list": "rule-ls",
        "rule-delete": "rule-rm",
    }

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name or second name."""
        found = super().get_command(ctx, cmd_name)
        return found or super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the command by its first name in errors and help."""
        _, command, rest = super().resolve_command(ctx, args)
        return (command.name if command else None), command, rest


def tenant_option(command: Command) -> Command:
    """Add `--tenant`."""
    return click.option("--tenant", "-t", default="default", show_default=True, help="Tenant.")(
        command
    )


def form_options(command: Command) -> Command:
    """Add `-o`, and Contiv's `--json` as another way to say `-o json`."""
    add_form = click.option(
        "--output",
        "-o",
        "form",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="How to print.",
    )
    add_json = click.option("--json", "-j", "form", flag_value="json", help="Same as -o json.")
    return add_json(add_form(command))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object on the command line."""

    plural: str
    """In `/api/v2`."""
    name: str
    """The field that `-q` prints."""
    columns: Sequence[output.Column]
    removing: Callable[[str, str], str]
    """What `rm` says, of (tenant, name)."""
    in_tenant: bool = True

    def key(self, tenant: str, name: str) -> str:
        """Return the object's key."""
        return f"{tenant}:{name}" if self.in_tenant else name

    def add_to(self, group: click.Group) -> None:
        """Add ls, rm and inspect to a group."""
        group.add_command(self._ls())
        group.add_command(self._rm())
        group.add_command(self._inspect())

    def _ls(self) -> click.Command:
        @click.command("ls", help=f"List {self.plural.replace('-', ' ')}.")
        @click.option("--quiet", "-q", is_flag=True, help="Names only.")
        @form_options
        @click.pass_obj
        def ls(
            netmaster: Netmaster,
            quiet: bool,
            form: str,
            tenant: str = "",
            everything: bool = True,
        ) -> None:
            if not everything:
                netmaster.get(f"/api/v2/tenants/{quote(tenant)}")
            items = netmaster.items(self.plural)
            if not everything:
                items = [item for item in items if item.get("tenantName") == tenant]
            output.show(items, self.columns, form, self.name, quiet)

        if not self.in_tenant:
            return ls
        with_all = click.option("--all", "-a", "everything", is_flag=True, help="Of every tenant.")(
            ls
        )
        return tenant_option(with_all)

    def _complete(self, ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
        """Return the names that begin so, for the shell; none where netmaster does not answer soon."""
        root = ctx.find_root().params
        netmaster = Netmaster(root["url"], root["insecure"], timeout=SHELL_WAITS)
        tenant = {"tenantName": str(ctx.params.get("tenant"))} if self.in_tenant else {}
        try:
            items = netmaster.items(self.plural, **tenant)
        except FabricError:
            return []
        return [name for name in (str(i[self.name]) for i in items) if name.startswith(begun)]

    def _rm(self) -> click.Command:
        @click.command("rm", help="Remove one.")
        @click.argument("name", shell_complete=self._complete)
        @click.pass_obj
        def rm(netmaster: Netmaster, name: str, tenant: str = "") -> None:
            if saying := self.removing(tenant, name):
                click.echo(saying)
            netmaster.delete(self.plural, self.key(tenant, name))

        return tenant_option(rm) if self.in_tenant else rm

    def _inspect(self) -> click.Command:
        @click.command("inspect", help="Show one with its state.")
        @click.argument("name", shell_complete=self._complete)
        @form_options
        @click.pass_obj
        def inspect(netmaster: Netmaster, name: str, form: str, tenant: str = "") -> None:
            output.dump(netmaster.inspect(self.plural, self.key(tenant, name)), form)

        return tenant_option(inspect) if self.in_tenant else inspect


def filled(**fields: object) -> dict[str, object]:
    """Return the fields that say something: no empty strings, lists, zeroes or Nones."""
    return {name: value for name, value in fields.items() if value not in ("", None, 0, (), [])}
