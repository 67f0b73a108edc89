"""The command line `netctl`: Contiv's words, and ours."""

import sys

import click

from netfabric.api.netctl import login, pods, policy, routing, services, settings, tenancy, whole
from netfabric.api.netctl.client import Netmaster, read_token
from netfabric.api.netctl.kind import Words
from netfabric.fabric.errors import FabricError, InvalidError, UnavailableError

OK, USAGE, REFUSED, INVALID, IO_ERROR = 0, 1, 2, 3, 4
"""Contiv's exit statuses."""


@click.group(cls=Words, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--netmaster",
    "url",
    envvar="NETMASTER",
    default="http://netmaster:9999",
    show_default=True,
    show_envvar=True,
    help="netmaster's URL.",
)
@click.option(
    "--insecure", is_flag=True, envvar="INSECURE", help="Do not verify an https certificate."
)
@click.pass_context
def netctl(context: click.Context, url: str, insecure: bool) -> None:
    """Command a netfabric: networks, peers, policies, routes.

    Exit status: 0 done, 1 usage, 2 refused by netmaster, 3 invalid, 4 netmaster not reachable, 5 denied (policy test).
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidError(f"--netmaster {url!r} is no URL", "write http://HOST:9999")
    context.obj = Netmaster(url, insecure, read_token())


@netctl.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print completion code: eval "$(netctl completion bash)"."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(netctl, {}, "netctl", "_NETCTL_COMPLETE").source())


@netctl.command("man")
def man() -> None:
    """Print the manual page netctl(1): netctl man | man -l -"""
    from netfabric.api.netctl.man import manual

    click.echo(manual(netctl), nl=False)


for _command in (
    tenancy.tenant,
    tenancy.network,
    tenancy.group,
    policy.policy,
    policy.netprofile,
    routing.bgp,
    routing.peer,
    routing.route,
    routing.host,
    settings.global_,
    settings.endpoint,
    pods.pod,
    settings.version,
    services.service,
    services.app_profile,
    services.external_contracts,
    services.aci_gw,
    login.login,
    whole.apply,
    whole.diff,
    whole.export,
    whole.watch,
):
    netctl.add_command(_command)


def main() -> None:
    """Run netctl, with Contiv's exit statuses."""
    sys.exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Carry out one command line; return the exit status, having said on stderr what went wrong."""
    try:
        netctl.main(words, prog_name="netctl", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return USAGE
    except click.Abort:
        return USAGE
    except InvalidError as error:
        return _complain(error, INVALID)
    except UnavailableError as error:
        return _complain(error, IO_ERROR)
    except FabricError as error:
        return _complain(error, REFUSED)
    return OK


def _complain(error: FabricError, status: int) -> int:
    click.echo(f"netctl: {error}", err=True)
    return status
