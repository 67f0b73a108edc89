"""The command `netplugin`: its options, out of flags, environment and a TOML file, and its exit statuses."""

import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from netfabric.agent import settings
from netfabric.agent.cni.install import install_cni
from netfabric.agent.settings import Settings, read_config, settings_of
from netfabric.fabric.errors import FabricError, InvalidError

OK, FAILED, INVALID = 0, 1, 22
"""Exit statuses; 22 is Contiv's, for an argument that cannot be right."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_NOT_IN_FILES = ("config", "version", "help")


class _RunByDefault(click.Group):
    """A group whose command is `run` where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click."""
        own = {"-h", "--help", "--version"}
        if not args or (args[0].startswith("-") and args[0] not in own):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def _setting(*flags: str, contiv: str = "", **attributes: Any) -> Decorator:
    """Add an option that NETPLUGIN_<NAME> sets too, and CONTIV_NETPLUGIN_<contiv>."""
    name = flags[0].lstrip("-").replace("-", "_")
    env = [f"NETPLUGIN_{name.upper()}"]
    if contiv:
        env.append(f"CONTIV_NETPLUGIN_{contiv}")
    shown = "default" in attributes
    attributes = {"default": "", "show_default": shown, **attributes}
    return click.option(*flags, name, envvar=env, show_envvar=True, **attributes)


def _read_config(context: click.Context, _: click.Parameter, path: str | None) -> None:
    known = {p.name for p in context.command.params if p.name and p.name not in _NOT_IN_FILES}
    context.default_map = dict(
        read_config(path or settings.DEFAULT_CONFIG, known, required=path is not None)
    )


def _say_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from netfabric.agent.ground import software

        click.echo(f"netplugin {software()}")
        context.exit()


_run_dir = _setting(
    "--run-dir",
    default=settings.DEFAULT_RUN_DIR,
    metavar="DIR",
    help="Sockets, pidfiles and ExaBGP's configuration.",
)


@click.group(
    cls=_RunByDefault,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Without a command: run.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Print the version and exit.",
)
def netplugin() -> None:
    """A host's agent of a netfabric."""


@netplugin.command(
    epilog="A flag counts more than the environment, and that more than the TOML file of --config."
    " Exit status: 0 stopped when told to, 22 an argument or setting that cannot be right,"
    " 1 anything else, such as another agent on the same directories.",
)
@click.option(
    "--config",
    envvar="NETPLUGIN_CONFIG",
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    show_envvar=True,
    help='TOML file of settings, named like the flags: netmaster = ["10.0.0.1:50051"].'
    f"  [default: {settings.DEFAULT_CONFIG}, if there]",
)
@_setting(
    "--host",
    "--host-label",
    contiv="HOST",
    metavar="NAME",
    help="This host's name, unlike any other's.  [default: the system's]",
)
@_setting(
    "--netmaster",
    default="netmaster:50051",
    metavar="HOST:PORT,…",
    help="gRPC addresses of netmasters; one is followed at a time.",
)
@_setting("--netmaster-ca", metavar="FILE", help="Authority of netmaster's certificate, PEM.")
@_setting("--netmaster-cert", metavar="FILE", help="Certificate shown to netmaster, PEM.")
@_setting("--netmaster-key", metavar="FILE", help="Its key, PEM.")
@_run_dir
@_setting(
    "--state-dir",
    default=settings.DEFAULT_STATE_DIR,
    metavar="DIR",
    help="The journal of addresses given out.",
)
@_setting(
    "--cnm-socket",
    default=settings.DEFAULT_CNM_SOCKET,
    metavar="PATH|none",
    help="Where Docker finds its network and IPAM plugin; the file's name is the driver's.",
)
@_setting(
    "--cnm-scope",
    default="local",
    metavar="",
    type=click.Choice(["local", "global"]),
    help="Where Docker keeps such networks: local (on each host) or global (in a swarm).",
)
@_setting(
    "--namespace",
    metavar="PATH",
    help="Network namespace that is the host's.  [default: the one netplugin is started in]",
)
@_setting(
    "--address",
    "--ctrl-ip",
    contiv="CONTROL_IP",
    metavar="IP",
    help="Where others reach this host, as it is shown.  [default: its first address]",
)
@_setting(
    "--vtep",
    metavar="IP",
    help="Where this host takes VXLAN packets: an address of its loopback, announced to its BGP peers."
    "  [default: --address, or its first address, not announced]",
)
@_setting(
    "--vlan-uplink",
    metavar="LINK",
    help="Trunk of the host, on which networks with encap vlan are tagged.  [default: none]",
)
@_setting(
    "--bgp-user", default="nobody", metavar="USER", help="Unprivileged user that ExaBGP runs as."
)
@_setting(
    "--cool-down",
    default=30.0,
    type=float,
    metavar="SECONDS",
    help="Before a released address is given out again.",
)
@_setting(
    "--drain",
    default=0.3,
    type=float,
    metavar="SECONDS",
    help="Between a withdrawal having left and the datapath going.",
)
@_setting(
    "--audit-interval",
    default=8.0,
    type=float,
    metavar="SECONDS",
    help="Between full readings of the kernel, which repair what others changed.",
)
@_setting(
    "--log-level",
    contiv="LOG_LEVEL",
    default="info",
    metavar="",
    type=click.Choice(("debug", "info", "warning", "error"), case_sensitive=False),
    help="Least that is logged: debug, info, warning, error.",
)
@_setting(
    "--log-format",
    default="text",
    metavar="",
    type=click.Choice(["text", "json"]),
    help="text or json, a line an event, on standard error.",
)
def run(**given: Any) -> Settings:
    """Attach containers, program routes, speak BGP, follow netmaster; until SIGTERM."""
    return settings_of({**given, "host": given["host"] or platform.node()})


@netplugin.command("status")
@_run_dir
@click.option(
    "-o", "--output", "form", type=click.Choice(["table", "json", "yaml"]), default="table"
)
def status(run_dir: str, form: str) -> None:
    """Show what the agent of this host knows."""
    from netfabric.agent import show

    show.show(run_dir, form)


netplugin.add_command(install_cni)


def main() -> None:
    """Run netplugin until it is told to stop."""
    sys.exit(execute(sys.argv[1:]))


def execute(words: Sequence[str]) -> int:
    """Carry out one command line; return the exit status, having said on stderr what went wrong."""
    try:
        found = netplugin.main(list(words), prog_name="netplugin", standalone_mode=False)
        if isinstance(found, Settings):
            _work(found)
    except click.ClickException as error:
        return _complain(error.format_message(), INVALID)
    except InvalidError as error:
        return _complain(str(error), INVALID)
    except FabricError as error:
        return _complain(str(error), FAILED)
    except click.Abort:
        return FAILED
    return OK


def _work(found: Settings) -> None:
    """Be an agent."""
    from netfabric.agent import ground

    ground.enter_host(found)
    from netfabric.agent import log, start  # gRPC and its threads, in the right namespace

    log.configure(found.log_level, found.log_format)
    start.start(found)


def _complain(what: str, status: int) -> int:
    click.echo(f"netplugin: {what}", err=True)
    return status
