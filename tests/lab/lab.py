"""A whole fabric on one machine: brought up, used, broken on purpose, taken down."""

import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self, TypeVar

from netfabric.fabric.errors import ConflictError, FabricError, NotFoundError
from netfabric.fabric.prefix import Prefix, host_prefix
from netfabric.lab import probe, sweep, wiring
from netfabric.lab.container import Container
from netfabric.lab.errors import LabError
from netfabric.lab.files import Files
from netfabric.lab.intent import intent
from netfabric.lab.machines import Controller, Machine
from netfabric.lab.namespace import Namespace
from netfabric.lab.plan import NETWORK, TENANT, Node, Plan, namespace_prefix, plan
from netfabric.lab.process import Process, gone
from netfabric.lab.settings import Settings
from netfabric.lab.switch import Switch, SwitchPeer, SwitchSettings, make_switch

DEFAULT_NETWORK = f"{TENANT}:{NETWORK}"
PATIENCE = 30.0
"""Seconds that any one step may take."""
LARGEST_FULL = 256
"""Containers up to which everyone pings everyone."""
_WORKERS = 8
A = TypeVar("A")
B = TypeVar("B")


class Lab:
    """A lab of given settings; whether it is up is another matter, and another process may have made it."""

    def __init__(
        self, settings: Settings, on_step: Callable[[str], None] = lambda step: None
    ) -> None:
        self.settings = settings
        self.plan: Plan = plan(settings)
        self.files = Files(settings.name)
        self._on_step = on_step
        self.step = ""
        """What `up` is doing, for whoever has to say where it ended."""

    @classmethod
    def existing(cls, name: str) -> Self:
        """Return the lab of that name; raise NotFoundError where it is not up."""
        return cls(Files(name).settings())

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # parts

    @cached_property
    def controller(self) -> Controller:
        """Return the machine of netmaster and the store."""
        return Controller(self.files, self.plan.node("netmaster"), self.settings.store)

    @cached_property
    def machines(self) -> dict[str, Machine]:
        """Return the hosts by name."""
        return {node.name: Machine(self.files, node) for node in self.plan.hosts}

    @cached_property
    def switches(self) -> dict[str, Switch]:
        """Return spines and ToRs by name."""
        return {node.name: self._switch(node) for node in self.plan.switches}

    def switch(self, name: str) -> Switch:
        """Return a spine or ToR; raise NotFoundError."""
        return _named(self.switches, name, "switch")

    def machine(self, name: str) -> Machine:
        """Return a host; raise NotFoundError."""
        return _named(self.machines, name, "host")

    def _switch(self, node: Node) -> Switch:
        assert node.kind and node.router_id
        peers = []
        for own, other in self.plan.peerings(node.name):
            there = self.plan.node(other.node)
            role = "host" if there.role == "host" else "fabric"
            for suffix, here, remote in (("", own.v4, other.v4), ("-v6", own.v6, other.v6)):
                assert here and remote
                name = there.name + suffix
                peers.append(SwitchPeer(name, remote.ip, there.asn, here.ip, role))  # type: ignore[arg-type]
        return make_switch(
            node.kind,
            SwitchSettings(
                node.name,
                node.namespace,
                node.asn,
                str(node.router_id),
                tuple(peers),
                self.files.run,
            ),
        )

    # up and down

    def up(self) -> None:
        """Bring everything up; raise a FabricError that names node, cause and log, leaving what there is."""
        self._refuse_twice()
        with self.files.locked():
            self.files.write(self.settings)
            self._step("namespaces and wires")
            wiring.build(self.plan)
            self._step("netmaster, agents and switches")
            self.controller.start()
            for machine in self.machines.values():
                machine.start()
            _each(lambda switch: switch.start(), self.switches.values())
            self._step("netmaster serves")
            self._wait_for_netmaster()
            self._step("the operator's intent")
            self._tell()
            self._step("agents serve")
            for machine in self.machines.values():
                self._wait("the agent does not serve CNI", machine.answers, machine.netplugin)
            self._step("BGP sessions")
            self.wait_for_sessions()
            self._step("containers")
            self._attach_first()
            self._step("routes at every switch")
            self.wait_for_routes(self.containers())
        self.step = ""

    def _step(self, step: str) -> None:
        self.step = step
        self._on_step(step)

    def _refuse_twice(self) -> None:
        name = self.settings.name
        if self.files.run.exists() or sweep.namespaces(name):
            option = "" if name == "lab" else f" --name {name}"
            raise ConflictError(
                f"lab {name}: is there already",
                f"netlab status{option} shows it, netlab down{option} removes it",
            )

    def down(self) -> sweep.Swept:
        """Remove every process, namespace and file, however much of it there is."""
        return sweep.sweep(self.settings.name)

    def _tell(self) -> None:
        for put in intent(self.plan):
            self.controller.ask(lambda netmaster, put=put: netmaster.put(*put))  # type: ignore[misc]

    def _attach_first(self) -> None:
        def fill(host: str) -> None:
            for number in range(1, self.settings.containers + 1):
                self.attach(host, f"c{number}")

        _each(fill, self.machines)

    # waiting

    def _wait(self, complaint: str, condition: Callable[[], bool], process: Process) -> None:
        if not _until(condition, PATIENCE):
            process.check()
            raise LabError(process.node, f"{complaint} after {PATIENCE:.0f} s", process.log)

    def _wait_for_netmaster(self) -> None:
        self._wait("netmaster does not serve", self.controller.answers, self.controller.netmaster)

    def wait_for_sessions(self, timeout: float = PATIENCE) -> None:
        """Wait until every BGP session of every switch is up; raise LabError naming those that are not."""
        end = time.monotonic() + timeout
        for name, switch in self.switches.items():
            if not _until(lambda s=switch: all(s.sessions().values()), end - time.monotonic()):  # type: ignore[misc]
                raise self._session_down(name, switch)

    def _session_down(self, name: str, switch: Switch) -> LabError:
        states = switch.sessions()
        peers = switch.settings.peers
        peer = next((peer for peer in peers if not states.get(peer.address)), peers[0])
        cause = f"no BGP session with {peer.name} ({peer.address}, AS {peer.asn})"
        other = peer.name.removesuffix("-v6")
        if other in self.machines:
            log = self.machines[other].netplugin.log
            return LabError(name, f"{cause}; {self._session_reason(other, name)}", log)
        logs = self.log_files(name)
        return LabError(name, cause, logs[0] if logs else None)

    def _session_reason(self, host: str, switch: str) -> str:
        try:
            sessions = self.sessions(host)
        except FabricError as error:
            return str(error)
        said = [
            f"{item['peer']} {item.get('state', '')} {item.get('reason', '')}".strip()
            for item in sessions
            if switch in str(item["peer"]) and item.get("state") != "established"
        ]
        return f"{host} says: {'; '.join(said)}" if said else f"{host} has told netmaster of none"

    def wait_for_routes(
        self, containers: Collection[Container], timeout: float = PATIENCE, present: bool = True
    ) -> None:
        """Wait until every switch has (or has no more) the containers' /32 and /128; raise LabError."""
        prefixes = {host_prefix(a): c for c in containers for a in c.addresses}
        end = time.monotonic() + timeout
        for name, switch in self.switches.items():

            def wrong(switch: Switch = switch) -> list[Prefix]:
                rib = switch.rib()
                return [prefix for prefix in prefixes if (prefix in rib) != present]

            if not _until(lambda wrong=wrong: not wrong(), end - time.monotonic()):  # type: ignore[misc]
                some = wrong()
                container = prefixes[some[0]]
                log = self.machines[container.host].netplugin.log
                state = "does not know" if present else "still has"
                raise LabError(
                    name, f"{state} {some[0]} of {container.title}, {len(some)} in all", log
                )

    # containers

    def attach(
        self,
        host: str,
        name: str,
        network: str = DEFAULT_NETWORK,
        addresses: Iterable[str] = (),
        group: str = "",
    ) -> Container:
        """Make a container's namespace and attach it by the CNI plugin; nothing stays of one that fails."""
        machine = self.machine(host)
        _check_name(host, name)
        where = Namespace(f"{namespace_prefix(self.settings.name)}{host}-{name}")
        if where.path.exists():
            raise ConflictError(
                f"{host}: container {name} exists", "choose another name, or detach it"
            )
        wanted = tuple(ip_address(address) for address in addresses)
        where.create()
        try:
            return machine.engine.add(name, where, network, wanted, group)
        except BaseException:
            where.delete()
            raise

    def detach(self, host: str, name: str) -> None:
        """Detach a container and remove its namespace."""
        engine = self.machine(host).engine
        container = engine.container(name)
        engine.delete(name)
        container.namespace.delete()

    def containers(self) -> list[Container]:
        """Return what is attached on all hosts, in order."""
        return [c for machine in self.machines.values() for c in machine.engine.containers()]

    def container(self, title: str) -> Container:
        """Return the container that is called `host/name`; raise NotFoundError."""
        found = {c.title: c for c in self.containers()}
        return _named(found, title, "container")

    def ping(
        self,
        sources: Collection[Container] | None = None,
        targets: Collection[Container] | None = None,
        timeout: float = 5.0,
    ) -> probe.Matrix:
        """Ping between containers (all of them, where not given), over both families.

        Of very many, all ping only the last one of each host.
        """
        everyone = self.containers()
        if targets is None and len(everyone) > LARGEST_FULL:
            targets = list({c.host: c for c in everyone}.values())
        return probe.ping(
            {c.title: c.namespace for c in (everyone if sources is None else sources)},
            {c.title: c.addresses for c in (everyone if targets is None else targets)},
            timeout,
        )

    # looking and breaking

    def sessions(self, host: str = "") -> list[dict[str, Any]]:
        """Return the BGP sessions as the hosts see them, from netmaster."""
        return self.controller.ask(lambda netmaster: netmaster.items("sessions", host=host))

    def namespace(self, name: str) -> Namespace:
        """Return the namespace of a node or of a container `host/name`; raise NotFoundError."""
        if "/" in name:
            return self.container(name).namespace
        return Namespace(self.plan.node(name).namespace)

    def log_files(self, node: str) -> list[Path]:
        """Return a node's logs; raise NotFoundError for a node that does not exist."""
        frr = Path("/var/run/frr") / self.plan.node(node).namespace
        places = (self.files.run / node, self.files.state / node, frr)
        return sorted(path for place in places if place.exists() for path in place.rglob("*.log"))

    def kill(self, node: str, process: str = "", number: int = signal.SIGKILL) -> None:
        """Send a signal (by default the one that nothing can catch) and wait until the process is gone.

        A switch is killed as a whole, `process` is not looked at.
        """
        if node not in self.switches:
            self._process(node, process).stop(number)
            return
        pids = self.switches[node].pids()
        for pid in pids:
            os.kill(pid, number)
        if not gone(pids, PATIENCE):
            raise LabError(node, f"processes {pids} do not end")

    def restart(self, node: str, process: str = "") -> None:
        """Start a process of a node again, and wait until it serves. A switch starts as a whole."""
        if node in self.switches:
            self.switches[node].stop()
            self.switches[node].start()
        elif node == "netmaster":
            self.controller.restart(process)
            if process == "netmaster":
                self._wait_for_netmaster()
        elif process == "netplugin":
            machine = self.machine(node)
            machine.start()
            self._wait("the agent does not serve CNI", machine.answers, machine.netplugin)
        else:  # ExaBGP: the agent brings it back
            known = self._process(node, process)
            self._wait("the agent does not start ExaBGP", lambda: bool(known.pid()), known)

    def _process(self, node: str, name: str) -> Process:
        machine = self.controller if node == "netmaster" else self.machine(node)
        return _named({process.name: process for process in machine.processes}, name, "process")


def _check_name(host: str, name: str) -> None:
    if not (
        name.isascii() and name.replace("-", "").isalnum() and name[0] != "-" and len(name) <= 60
    ):
        raise LabError(host, f"container name {name!r}: use letters, digits and dashes")


def _named(found: Mapping[str, A], name: str, what: str) -> A:
    try:
        return found[name]
    except KeyError:
        raise NotFoundError(f"no {what} {name!r}", f"there are: {', '.join(found)}") from None


def _each(work: Callable[[A], B], things: Iterable[A]) -> list[B]:
    """Do it for all of them side by side; raise the first error when all are done."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(work, things))


def _until(condition: Callable[[], bool], timeout: float) -> bool:
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)
    return True
