"""Whatever happens in whatever order, and wherever an agent dies: the laws hold, and all agree in the end."""

from collections.abc import Sequence
from ipaddress import ip_address
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from netfabric.fabric.effects import AttachAnswer, Refuse
from netfabric.fabric.errors import KernelError
from netfabric.fabric.prefix import Address
from tests.fabric.simulation import QUEUES, SUBNET, World

HOSTS = st.sampled_from(["h1", "h2"])
NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
ADDRESSES: list[Address] = [ip_address(int(SUBNET[n])) for n in range(1, 18)]
WANTED = st.one_of(st.none(), st.sampled_from(ADDRESSES))


class Fabric(RuleBasedStateMachine):
    """Two hosts and a netmaster; every queue moves on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule()
    def begin(self) -> None:
        for sim in self.world.hosts.values():
            sim.connect()
        self.world.drain()

    @rule(host=HOSTS, name=NAMES, wanted=WANTED)
    def add(self, host: str, name: str, wanted: Address | None) -> None:
        self.world.hosts[host].add(f"{host}{name}", *([wanted] if wanted else []))

    @rule(host=HOSTS, name=NAMES)
    def add_and_wait(self, host: str, name: str) -> None:
        self.world.hosts[host].add(f"{host}{name}")
        self.world.drain()

    @rule(host=HOSTS, name=NAMES)
    def delete(self, host: str, name: str) -> None:
        self.world.hosts[host].delete(f"{host}{name}")

    @rule(host=HOSTS, queue=st.sampled_from(QUEUES), times=st.integers(1, 4))
    def carry_out(self, host: str, queue: str, times: int) -> None:
        for _ in range(times):
            self.world.hosts[host].step(queue)

    @rule()
    def drain(self) -> None:
        self.world.drain()

    @precondition(lambda self: self.world.may_wait())
    @rule(seconds=st.sampled_from([0.1, 1.0, 2.5, 5.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(host=HOSTS)
    def crash(self, host: str) -> None:
        self.world.hosts[host].crash()

    @rule(host=HOSTS)
    def lose_journal(self, host: str) -> None:
        self.world.hosts[host].crash(journal_lost=True)

    @rule(host=HOSTS, times=st.integers(1, 2))
    def kernel_fails(self, host: str, times: int) -> None:
        self.world.hosts[host].kernel.fail_next(*[KernelError("told to fail")] * times)

    @rule(host=HOSTS)
    def reboot(self, host: str) -> None:
        self.world.hosts[host].reboot()

    @rule(host=HOSTS)
    def crowd(self, host: str) -> None:
        """Use up what the host holds, so that it borrows."""
        for number in range(7):
            self.world.hosts[host].add(f"{host}-{number}")
        self.world.drain()

    @rule(host=HOSTS)
    def connect(self, host: str) -> None:
        self.world.hosts[host].connect()

    @rule(host=HOSTS)
    def disconnect(self, host: str) -> None:
        self.world.hosts[host].disconnect()

    @rule(host=HOSTS, name=NAMES, ends=st.booleans())
    def break_(self, host: str, name: str, ends: bool) -> None:
        self.world.hosts[host].break_(f"{host}{name}", namespace_too=ends)

    @rule(
        mode=st.sampled_from(["host-routes", "blocks"]), ready=st.sampled_from(["host", "fabric"])
    )
    def change_network(self, mode: str, ready: str) -> None:
        self.world.master.change_network(announce=mode, ready=ready)

    def teardown(self) -> None:
        self.world.settle()
        self.world.check()


TestFabric = Fabric.TestCase
TestFabric.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)


WHAT = (
    *("add", "add", "delete", "step", "step", "step", "step", "drain", "drain", "wait", "crash"),
    *("connect", "connect", "connect", "disconnect", "crowd", "crowd", "break", "reboot"),
    *("lose", "fail", "change"),
)


class Chaos:
    """The same as the machine above, by dice: longer and denser than what shrinks well."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.world = World()

    def live(self, steps: int = 120) -> None:
        for _ in range(steps):
            self._happen(self.dice.choice(WHAT))
        self.world.settle()
        self.world.check()

    def _happen(self, what: str) -> None:
        dice, world = self.dice, self.world
        sim = dice.choice([*world.hosts.values()])
        name = f"{sim.name}{dice.choice('abcde')}"
        match what:
            case "add":
                sim.add(name)
            case "delete":
                sim.delete(dice.choice([name, f"{sim.name}-{dice.randrange(7)}"]))
            case "step":
                for _ in range(4):
                    sim.step(dice.choice(QUEUES))
            case "drain":
                world.drain()
            case "wait" if world.may_wait():
                world.wait(dice.choice([0.1, 1.0, 2.5, 5.0]))
            case "crash":
                sim.crash()
            case "connect":
                sim.connect()
            case "disconnect":
                sim.disconnect()
            case "crowd":
                for number in range(7):
                    sim.add(f"{sim.name}-{number}")
                world.drain()
            case "break":
                sim.break_(name, namespace_too=dice.random() < 0.5)
            case "reboot" | "lose" if dice.random() < 0.3:
                sim.reboot() if what == "reboot" else sim.crash(journal_lost=True)
            case "fail":
                sim.kernel.fail_next(KernelError("told to fail"))
            case "change":
                mode, ready = (
                    dice.choice(["host-routes", "blocks"]),
                    dice.choice(["host", "fabric"]),
                )
                world.master.change_network(announce=mode, ready=ready)


@pytest.mark.parametrize("seed", range(60))
def test_chaos(seed: int) -> None:
    Chaos(seed).live()


class Doomed(World):
    """A day on which h1 lends and h2 borrows and gives back, and one of them dies after so many effects."""

    def __init__(self, order: Sequence[str], victim: str, effects: int) -> None:
        super().__init__()
        self.order, self.victim, self.left = order, victim, effects

    def drain(self) -> None:
        """Carry out what waits, one queue before the other on every host, until the victim's hour."""
        while any(sim.step(name) for name in self.order for sim in self.hosts.values()):
            self.left -= 1
            if self.left == 0:
                self._die()

    def _die(self) -> None:
        """Die; then both hosts give out all they can, the victim before netmaster can say anything."""
        sim = self.hosts[self.victim]
        sim.crash()
        for host in self.hosts.values():
            for number in range(20):
                host.add(f"{host.name}-after-{number}")

    def live(self) -> None:
        one, two = self.hosts.values()
        self.pass_time(1)
        for number in range(18):
            one.add(f"one{number}")
        self.pass_time(1)
        for number in range(9):
            two.add(f"two{number}")
        self.pass_time(3)
        for number in range(9):
            two.delete(f"two{number}")
        for number in range(4, 18):
            one.delete(f"one{number}")
        self.pass_time(8)
        self.settle(8)
        self.check()

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds * 2):
            for sim in self.hosts.values():
                if sim.name != self.victim or self.left > 0:
                    sim.connect()
            self.drain()
            self.wait(0.5)


ORDERS = [QUEUES[n:] + QUEUES[:n] for n in range(len(QUEUES))]
LATE_JOURNAL = ("up", "down", "kernel", "bgp", "journal")


@pytest.mark.parametrize("victim", ["h1", "h2"])
@pytest.mark.parametrize("order", [LATE_JOURNAL, *ORDERS], ids="-".join)
def test_a_crash_after_any_effect(order: Sequence[str], victim: str) -> None:
    day = Doomed(order, victim, 1 << 30)
    day.live()
    effects = (1 << 30) - day.left
    for number in range(1, effects, 41):
        Doomed(order, victim, number).live()


def test_a_quiet_day() -> None:
    world = World()
    world.settle(1)
    one, two = world.hosts.values()
    tokens = [one.add(f"one{n}") for n in range(6)] + [two.add(f"two{n}") for n in range(6)]
    world.settle(1)
    tokens += [one.delete("one3")]
    world.settle()
    world.check()
    assert not [t for t in tokens for h in (one, two) if isinstance(h.answers.get(t), Refuse)]


def test_addresses_run_out_only_when_all_are_in_use() -> None:
    world = World()
    world.settle(1)
    tokens = [sim.add(f"{name}-{n}") for n in range(16) for name, sim in world.hosts.items()]
    world.settle(15)
    answers = [a for sim in world.hosts.values() for t, a in sim.answers.items() if t in tokens]
    assert sum(isinstance(a, AttachAnswer) for a in answers) == 29  # of 32: two edges, the gateway
    world.check()
