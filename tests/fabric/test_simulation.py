"""Whatever happens in whatever order, and wherever an agent dies: the laws hold, and all agree in the end."""

from ipaddress import ip_address

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from netfabric.fabric.effects import AttachAnswer, Refuse
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
