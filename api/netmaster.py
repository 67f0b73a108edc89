"""The command `netmaster`: its options, out of flags, environment and a TOML file, and its exit statuses."""

import asyncio
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from netfabric.api import log
from netfabric.api.settings import (
    DEFAULT_CONFIG,
    Settings,
    client_tls,
    kubernetes_of,
    parse_listen,
    parse_store,
    read_config,
    server_tls,
)
from netfabric.api.version import version_info
from netfabric.fabric.errors import FabricError, InvalidError

OK, FAILED, INVALID = 0, 1, 22
"""Exit statuses; 22 is Contiv's, for an argument that cannot be right."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _setting(*flags: str, contiv: str = "", **attributes: Any) -> Decorator:
    """Add an option that NETMASTER_<NAME> sets too, and CONTIV_NETMASTER_<contiv>."""
    name = flags[0].lstrip("-").replace("-", "_")
    env = [f"NETMASTER_{name.upper()}"]
    if contiv:
        env.append(f"CONTIV_NETMASTER_{contiv}")
    if "is_flag" not in attributes:
        attributes = {"default": "", "show_default": "default" in attributes, **attributes}
    return click.option(*flags, name, envvar=env, show_envvar=True, **attributes)


def _read_config(context: click.Context, _: click.Parameter, path: str | None) -> None:
    known = {p.name for p in context.command.params if p.name and p.name not in _NOT_IN_FILES}
    found = read_config(path or DEFAULT_CONFIG, known, required=path is not None)
    context.default_map = {name: _as_text(value) for name, value in found.items()}


_NOT_IN_FILES = ("config", "version", "help")


def _as_text(value: object) -> object:
    return value if isinstance(value, bool) else str(value)


def _say_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"netmaster {version_info()['Version']}")
        context.exit()


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="A flag counts more than the environment, and that more than the TOML file of --config."
    " Exit status: 0 stopped when told to, 22 an argument or setting that cannot be right,"
    " 1 anything else, such as a port in use.",
)
@click.option(
    "--config",
    envvar="NETMASTER_CONFIG",
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    show_envvar=True,
    help='TOML file of settings, named like the flags: rest = "0.0.0.0:9999".'
    f"  [default: {DEFAULT_CONFIG}, if there]",
)
@_setting(
    "--store",
    "--etcd-endpoints",
    "--etcd",
    contiv="ETCD_ENDPOINTS",
    default="etcd://127.0.0.1:2379",
    metavar="URL",
    help="Where state is kept: etcd://HOST:PORT,HOST:PORT, or sqlite:PATH (one netmaster only),"
    " or memory (forgets).",
)
@_setting("--store-ca", metavar="FILE", help="Authority that etcd's certificates come from, PEM.")
@_setting("--store-cert", metavar="FILE", help="Certificate shown to etcd, PEM.")
@_setting("--store-key", metavar="FILE", help="Its key, PEM.")
@_setting(
    "--store-tls-name", metavar="NAME", help="Name in etcd's certificates, if not as dialled."
)
@_setting("--store-user", metavar="NAME", help="User at etcd.")
@_setting("--store-password-file", metavar="FILE", help="File whose first line is the password.")
@_setting(
    "--rest",
    "--external-address",
    "--listen-url",
    contiv="EXTERNAL_ADDRESS",
    default="0.0.0.0:9999",
    metavar="ADDR:PORT",
    help="Where REST clients reach us.",
)
@_setting("--rest-cert", metavar="FILE", help="Certificate for https, PEM; without it plain http.")
@_setting("--rest-key", metavar="FILE", help="Its key, PEM.")
@_setting("--rest-client-ca", metavar="FILE", help="Only clients with a certificate from it, PEM.")
@_setting(
    "--grpc",
    "--internal-address",
    "--control-url",
    contiv="INTERNAL_ADDRESS",
    default="0.0.0.0:50051",
    metavar="ADDR:PORT",
    help="Where agents (netplugin) and gRPC clients reach us.",
)
@_setting("--grpc-cert", metavar="FILE", help="Certificate for gRPC, PEM; without it plain text.")
@_setting("--grpc-key", metavar="FILE", help="Its key, PEM.")
@_setting("--grpc-client-ca", metavar="FILE", help="Only agents with a certificate from it, PEM.")
@_setting(
    "--name",
    metavar="NAME",
    help="This netmaster's name, unlike any other's on the store.  [default: the host's name]",
)
@_setting(
    "--log-level",
    contiv="LOG_LEVEL",
    default="info",
    metavar="",
    type=click.Choice(log.LEVELS, case_sensitive=False),
    help=f"Least that is logged: {', '.join(log.LEVELS)}.",
)
@_setting(
    "--log-format",
    default="text",
    metavar="",
    type=click.Choice(["text", "json"]),
    help="text or json, a line an event, on standard error.",
)
@_setting("--use-json-log", contiv="USE_JSON_LOG", is_flag=True, help="Same as --log-format json.")
@_setting(
    "--fwdmode",
    "--forward-mode",
    contiv="FORWARD_MODE",
    metavar="",
    type=click.Choice(["", "bridge", "routing"]),
    help="fwdMode of a new fabric, bridge or routing; one that exists keeps its own."
    "  [default: routing]",
)
@_setting(
    "--infra",
    "--infra-type",
    contiv="INFRA",
    metavar="",
    type=click.Choice(["", "default", "aci", "aci-opflex"]),
    help="networkInfraType of a new fabric: default, aci or aci-opflex.  [default: default]",
)
@_setting(
    "--netmode",
    "--network-mode",
    contiv="NET_MODE",
    metavar="",
    type=click.Choice(["", "vlan", "vxlan"]),
    help="Taken for Contiv's sake: every network chooses its own encap here.",
)
@_setting(
    "--cluster-mode",
    "--mode",
    "--plugin-mode",
    contiv="MODE",
    metavar="",
    type=click.Choice(["", "docker", "kubernetes", "swarm-mode"]),
    help="What clusterMode says: docker, kubernetes or swarm-mode.",
)
@_setting(
    "--kubernetes",
    metavar="WHERE",
    help="Follow a Kubernetes cluster: in-cluster (as a pod, by its service account), or the path of a"
    " KUBECONFIG.  [default: none is followed]",
)
@_setting("--plugin-name", contiv="PLUGIN_NAME", hidden=True)
@_setting("--consul-endpoints", "--consul", contiv="CONSUL_ENDPOINTS", hidden=True)
@_setting("--use-syslog", contiv="USE_SYSLOG", is_flag=True, hidden=True)
@_setting("--syslog-url", contiv="SYSLOG_URL", hidden=True)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Print the version and exit.",
)
def netmaster(**given: Any) -> Settings:
    """Serve a netfabric: REST for people and orchestrators, gRPC for the hosts' agents."""
    return settings_of(given)


def settings_of(given: dict[str, Any]) -> Settings:
    """Return the settings that option values make; raise InvalidError."""
    _refuse_foreign(given)
    return Settings(
        store=parse_store(
            given["store"],
            client_tls("store", given["store_cert"], given["store_key"], given["store_ca"]),
            given["store_tls_name"],
            given["store_user"],
            _first_line(given["store_password_file"]),
        ),
        rest=parse_listen(given["rest"], "--rest", _server(given, "rest")),
        grpc=parse_listen(given["grpc"], "--grpc", _server(given, "grpc")),
        name=given["name"] or platform.node(),
        log_level=given["log_level"],
        log_format="json" if given["use_json_log"] else given["log_format"],
        fwd_mode=given["fwdmode"],
        infra=given["infra"],
        cluster_mode=given["cluster_mode"] or ("kubernetes" if given["kubernetes"] else ""),
        kubernetes=kubernetes_of(given["kubernetes"]),
        notes=_notes(given),
    )


def _server(given: dict[str, Any], what: str) -> Any:
    return server_tls(what, given[f"{what}_cert"], given[f"{what}_key"], given[f"{what}_client_ca"])


def _first_line(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text().partition("\n")[0]
    except OSError as error:
        raise InvalidError(
            f"--store-password-file {path}: {error.strerror}", "make it readable"
        ) from None


_FOREIGN = (
    ("consul_endpoints", "--consul-endpoints: Consul is not supported", "use --etcd-endpoints"),
    ("use_syslog", "--use-syslog is not supported", "standard error goes to journald or a pipe"),
    ("syslog_url", "--syslog-url is not supported", "standard error goes to journald or a pipe"),
)


def _refuse_foreign(given: dict[str, Any]) -> None:
    """Refuse what Contiv's netmaster knows and this one has nothing for."""
    for name, what, remedy in _FOREIGN:
        if given[name]:
            raise InvalidError(what, remedy)
    if given["netmode"] == "vxlan" and given["fwdmode"] == "bridge":
        raise InvalidError(
            "--netmode vxlan with --fwdmode bridge is not supported", "choose --fwdmode routing"
        )


def _notes(given: dict[str, Any]) -> tuple[str, ...]:
    notes = []
    if given["netmode"]:
        notes.append("--netmode has no effect: every network chooses its own encap")
    if given["plugin_name"]:
        notes.append("--plugin-name has no effect here: netplugin has it on the hosts")
    return tuple(notes)


def main() -> None:
    """Run netmaster until it is told to stop."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Carry out one command line; return the exit status, having said on stderr what went wrong."""
    try:
        settings = netmaster.main(list(words), prog_name="netmaster", standalone_mode=False)
    except click.ClickException as error:
        return _complain(error.format_message(), INVALID)
    except InvalidError as error:
        return _complain(str(error), INVALID)
    if not isinstance(settings, Settings):  # --help, --version
        return OK
    log.configure(settings.log_level, settings.log_format)
    from netfabric.api.daemon import serve  # the servers take their time to load

    try:
        asyncio.run(serve(settings))
    except InvalidError as error:
        return _complain(str(error), INVALID)
    except FabricError as error:
        return _complain(str(error), FAILED)
    return OK


def _complain(what: str, status: int) -> int:
    click.echo(f"netmaster: {what}", err=True)
    return status
