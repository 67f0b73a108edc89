"""The command line `netlab`: a whole fabric in network namespaces on this machine."""

import os
import shutil
import signal
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console
from rich.table import Table

from netfabric.fabric.errors import FabricError, InvalidError
from netfabric.lab import measure, report
from netfabric.lab.container import Container
from netfabric.lab.errors import LabError
from netfabric.lab.lab import DEFAULT_NETWORK, Lab
from netfabric.lab.machines import COMMANDS, URL
from netfabric.lab.probe import Matrix
from netfabric.lab.progress import Steps
from netfabric.lab.settings import KINDS, Settings, StoreKind, VtepKind
from netfabric.lab.sweep import sweep

OK, FAILED, USAGE = 0, 1, 2
_DEFAULT = Settings()
_WIDE = 130
"""Columns where the output is no terminal."""

console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
complaints = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDE, highlight=False)

name_option = click.option(
    "--name",
    envvar="NETLAB",
    default=_DEFAULT.name,
    show_default=True,
    show_envvar=True,
    help="Which lab: several may be up, side by side.",
)
_PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def netlab() -> None:
    """A whole fabric on this machine: spine and ToR switches, hosts, containers, netmaster.

    Every machine of it is a network namespace, every process the real one: FRR, BIRD or GoBGP on the
    switches, netplugin and ExaBGP on the hosts, netmaster on etcd. Needs root; touches nothing of the
    machine's own network. Begin with: netlab up

    Exit status: 0 done, 1 something does not work (said on stderr), 2 usage.
    """


@netlab.command()
@name_option
@click.option("--racks", default=_DEFAULT.racks, show_default=True, help="Racks.")
@click.option("--hosts", default=_DEFAULT.hosts, show_default=True, help="Hosts in each rack.")
@click.option(
    "--tors",
    default=_DEFAULT.tors,
    show_default=True,
    help="ToRs in each rack; hosts are wired to all.",
)
@click.option(
    "--spines", default=_DEFAULT.spines, show_default=True, help="Spines; ToRs are wired to all."
)
@click.option(
    "--tor",
    type=click.Choice([*KINDS, "mixed"]),
    default=_DEFAULT.tor,
    show_default=True,
    help="What the switches run; mixed takes turns.",
)
@click.option(
    "--store",
    type=click.Choice(get_args(StoreKind)),
    default=_DEFAULT.store,
    show_default=True,
    help="Where netmaster keeps its state.",
)
@click.option(
    "--containers", default=_DEFAULT.containers, show_default=True, help="Containers on each host."
)
@click.option(
    "--vteps",
    type=click.Choice(get_args(VtepKind)),
    default=_DEFAULT.vteps,
    show_default=True,
    help="Hosts' loopback addresses for VXLAN networks, announced to the ToRs.",
)
@click.option("--clean-on-failure", is_flag=True, help="Take down what there is where up fails.")
def up(clean_on_failure: bool, **wanted: Any) -> None:
    """Bring a fabric up, attach containers, show that all reach all."""
    settings = Settings(**wanted)
    lab = Lab(settings, steps := Steps(console))
    try:
        lab.up()
        steps.done()
    except (Exception, KeyboardInterrupt) as error:
        steps.failed()
        _not_up(lab, error, clean_on_failure)
        raise
    whole = _show(lab)
    if settings.containers:
        console.print(report.reaching(measure.reach(lab)))
    console.print(f"Up in {steps.total():.0f} s.\n")
    console.print(_around(lab))
    if not whole:
        raise LabError("ping", "not every pair of containers reaches each other")


def _not_up(lab: Lab, error: BaseException, clean: bool) -> None:
    """Say what to look at after a failed or interrupted `up`, and offer to remove it."""
    if lab.step == "":
        return  # refused before anything was made
    what = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    complaints.print(f"netlab: up {what} at: {lab.step}", style="bold red")
    down = f"{_command()} down{_option(lab)}"
    if clean:
        sweep(lab.settings.name)
        complaints.print("Everything that was there is removed again (--clean-on-failure).")
        return
    complaints.print(
        f"Logs: {lab.files.run}; {_command()} logs NODE{_option(lab)} shows those of a node."
    )
    complaints.print(f"What there is stays for you to look at; remove it with: {down}")
    if sys.stdin.isatty() and sys.stderr.isatty() and click.confirm("Remove it now?", err=True):
        sweep(lab.settings.name)


def _command() -> str:
    """Return what to type for netlab, from here: its name alone only where the shell finds it."""
    called = Path(sys.argv[0]).absolute()
    found = shutil.which("netlab")
    if found and Path(found).samefile(called):
        return "netlab"
    here = Path.cwd()
    return str(called.relative_to(here) if called.is_relative_to(here) else called)


def _option(lab: Lab) -> str:
    return "" if lab.settings.name == _DEFAULT.name else f" --name {lab.settings.name}"


def _show(lab: Lab) -> bool:
    """Print all tables; return whether every pair reaches each other."""
    matrix = lab.ping()
    for part in report.everything(lab, matrix):
        console.print(part)
    return all(trip is not None for trip in matrix.values())


def _around(lab: Lab) -> Table:
    option = _option(lab)
    tor, last = lab.plan.tors[0], lab.plan.hosts[-1].name
    ask = {"frr": "show bgp summary", "bird": "show protocols", "gobgp": "neighbor"}[str(tor.kind)]
    table = Table.grid(padding=(0, 2))
    table.add_row("Look around:")
    for words, what in (
        (f"status{option}", "all of this again, as it is now"),
        (f"attach{option} host1 web", "one more container; detach is the reverse"),
        (f"ping{option} host1/c1 {last}/c1", "or without arguments: all pairs"),
        (f"exec{option} host1/c1 -- ip route", "any command, in a container, host or switch"),
        (f"switch{option} {tor.name} {ask}", "the switch's own command line"),
        (f"netctl{option} route ls", "the operator's command line"),
        (f"logs{option} host1", "what a node's processes say"),
        (f"kill{option} host1 netplugin", "and restart: containers do not notice"),
        (f"down{option}", "remove all of it"),
    ):
        table.add_row(f"  {_command()} {words}", what)
    return table


@netlab.command()
@name_option
def status(name: str) -> None:
    """Show hosts, sessions, containers, routes and who reaches whom, as they are now."""
    lab = Lab.existing(name)
    if not _show(lab):
        raise LabError("ping", "not every pair of containers reaches each other")


@netlab.command()
@name_option
@click.argument("host")
@click.argument("container")
@click.option("--network", default=DEFAULT_NETWORK, show_default=True, help="TENANT:NETWORK.")
@click.option("--ip", "addresses", multiple=True, help="Ask for an address; one a family.")
def attach(name: str, host: str, container: str, network: str, addresses: tuple[str, ...]) -> None:
    """Attach a new container to a HOST, by the CNI plugin."""
    for address in addresses:
        _checked_address(address)
    lab = Lab.existing(name)
    console.print(report.attached([lab.attach(host, container, network, addresses)]))


@netlab.command()
@name_option
@click.argument("host")
@click.argument("container")
def detach(name: str, host: str, container: str) -> None:
    """Detach a CONTAINER from its HOST, and remove it."""
    Lab.existing(name).detach(host, container)
    console.print(f"{host}/{container} is gone")


@netlab.command()
@name_option
@click.argument("source", metavar="[FROM]", default="")
@click.argument("target", metavar="[TO]", default="")
def ping(name: str, source: str, target: str) -> None:
    """Ping TO (HOST/NAME, or an address) from a container FROM (HOST/NAME); all pairs without arguments."""
    lab = Lab.existing(name)
    if not source:
        containers = lab.containers()
        matrix = lab.ping()
        console.print(report.pings(containers, matrix))
    else:
        if not target:
            raise click.UsageError("ping FROM TO, or neither")
        matrix = _ping_one(lab, source, target)
    if not all(trip is not None for trip in matrix.values()):
        raise LabError("ping", "no answer")


def _ping_one(lab: Lab, source: str, target: str) -> Matrix:
    sender = lab.container(source)
    if "/" in target:
        receiver = lab.container(target)
    else:
        address = _checked_address(target)
        receiver = Container("", target, sender.namespace, (address,), "")
    matrix = lab.ping([sender], [receiver])
    for address in receiver.addresses:
        trip = next(t for pair, t in matrix.items() if pair.family == address.version)
        said = "no answer" if trip is None else f"{trip * 1e3:.2f} ms"
        console.print(f"{source} to {target} ({address}): {said}")
    return matrix


def _checked_address(text: str) -> Any:
    try:
        return ip_address(text)
    except ValueError:
        raise InvalidError(
            f"{text!r} is no address", "write an IPv4 or IPv6 address, or HOST/NAME"
        ) from None


@netlab.command("exec", context_settings=_PASSED_ON)
@name_option
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, node: str, command: tuple[str, ...]) -> None:
    """Run COMMAND in the network namespace of NODE: a switch, host1, host1/c1, netmaster, mgmt."""
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("exec NODE -- COMMAND")
    inside = Lab.existing(name).namespace(node).command(*words)
    try:
        os.execvp(inside[0], inside)
    except OSError as error:
        raise LabError(node, f"{inside[0]}: {error.strerror}") from None


@netlab.command("switch", context_settings=_PASSED_ON)
@name_option
@click.argument("node")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
def switch(name: str, node: str, words: tuple[str, ...]) -> None:
    """Ask a switch's own command line (vtysh, birdc, gobgp): netlab switch tor1a show bgp summary."""
    click.echo(Lab.existing(name).switch(node).show(" ".join(words)), nl=False)


@netlab.command(context_settings={**_PASSED_ON, "help_option_names": []})
@name_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def netctl(name: str, words: tuple[str, ...]) -> None:
    """Run netctl against the lab's netmaster: netlab netctl route ls."""
    lab = Lab.existing(name)
    command = lab.controller.namespace.command(str(COMMANDS / "netctl"), "--netmaster", URL, *words)
    os.execvp(command[0], command)


@netlab.command()
@name_option
@click.argument("node")
@click.option("--lines", "-n", default=20, show_default=True, help="How many, of each log.")
@click.option("--follow", "-f", is_flag=True, help="And go on with what comes.")
def logs(name: str, node: str, lines: int, follow: bool) -> None:
    """Show the logs of NODE's processes."""
    found = Lab.existing(name).log_files(node)
    if not found:
        raise LabError(node, "has no logs")
    command = ["tail", "-v", "-n", str(lines), *(["-F"] if follow else []), *map(str, found)]
    os.execvp(command[0], command)


@netlab.command()
@name_option
@click.argument("node")
@click.argument("process", default="")
def kill(name: str, node: str, process: str) -> None:
    """Kill a PROCESS of NODE with -9: netplugin or exabgp, netmaster or etcd; a switch as a whole."""
    Lab.existing(name).kill(node, process)
    console.print(f"{node}: {process or 'the switch'} is dead; netlab restart brings it back")


@netlab.command()
@name_option
@click.argument("node")
@click.argument("process", default="")
def restart(name: str, node: str, process: str) -> None:
    """Start a PROCESS of NODE again: netplugin, netmaster or etcd; a switch as a whole."""
    lab = Lab.existing(name)
    lab.kill(node, process, signal.SIGTERM)
    lab.restart(node, process)
    console.print(f"{node}: {process or 'the switch'} runs")


@netlab.command()
@name_option
def down(name: str) -> None:
    """Remove every process, namespace and file of a lab, also of a broken or half-made one."""
    swept = sweep(Settings(name=name).name)
    if swept:
        console.print(
            f"lab {name}: {swept.processes} processes, {swept.namespaces} namespaces and "
            f"{swept.directories} directories removed"
        )
    else:
        console.print(f"lab {name}: there was nothing")


def main() -> None:
    """Run netlab; say on stderr what went wrong."""
    sys.exit(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Carry out one command line; return the exit status."""
    try:
        netlab.main(words, prog_name="netlab", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return FAILED
    except PermissionError as error:
        return _complain(LabError("this machine", f"{error}; netlab needs root"))
    except FabricError as error:
        return _complain(error)
    return OK


def _complain(error: FabricError) -> int:
    complaints.print(f"netlab: {error}", style="red", markup=False, soft_wrap=True)
    return FAILED
