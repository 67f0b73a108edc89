"""The packet filter in a host's brain: adopted, changed, repaired, and what happens when the kernel refuses."""

from dataclasses import replace

import pytest

from netfabric.fabric.effects import Audit, Effect, Filter, Warn
from netfabric.fabric.endpoint import AttachRequest, Endpoint
from netfabric.fabric.errors import KernelError
from netfabric.fabric.filter import FilterRule, GroupFilter
from netfabric.fabric.guard import Guard
from netfabric.fabric.ruleset import RulesetReading
from netfabric.fabric.ruleset_plan import Transaction
from tests.fabric.fake_table import FakeTable, same
from tests.fabric.test_ruleset import endpoint

DENY = FilterRule("1", "red:p", "in", "deny")
FILTERS = {"red:web": GroupFilter("red:web", "allow", (DENY,))}
REFUSED = KernelError("told to fail", "")


class Kernel:
    """Carries effects out on a table that can refuse; every outcome goes back to the guard."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.out: list[Effect] = []
        self.guard = Guard(self.out, enabled)
        self.table = FakeTable()
        self.number = 0
        self.refusing = False
        self.rounds = 0
        self.warnings: list[str] = []

    def carry_out(self) -> None:
        while self.out:
            effect = self.out.pop(0)
            match effect:
                case Filter(rules):
                    self.filter(rules)
                case Audit():
                    self.rounds += 1
                    assert self.rounds < 10, "it spins"
                    self.audit()
                case Warn(_, text):
                    self.warnings.append(text)

    def filter(self, rules: Transaction) -> None:
        self.number = rules.number
        if self.refusing and rules.steps:
            self.guard.failed(REFUSED)
        elif rules.steps:
            self.table.apply(rules)

    def audit(self) -> None:
        self.guard.audit(RulesetReading(dict(self.table.objects), self.number))

    def start(self) -> None:
        self.guard.start(RulesetReading(dict(self.table.objects)))
        self.guard.intent((), FILTERS)
        self.guard.activate()
        self.carry_out()

    def agrees(self) -> bool:
        return same(self.table.objects, self.guard.desired.objects)

    def admit(self, made: Endpoint) -> None:
        step = self.guard.admit(made)
        if step is not None:
            self.filter(step)
        self.carry_out()


@pytest.fixture
def kernel() -> Kernel:
    made = Kernel()
    made.start()
    made.admit(endpoint(1, "red:web"))
    assert made.agrees()
    return made


def _request(made: Endpoint) -> AttachRequest:
    return AttachRequest(made.key, made.namespace, made.tenant, made.network, made.group)


def test_nothing_is_said_before_all_is_known() -> None:
    kernel = Kernel()
    kernel.guard.start(RulesetReading({}))
    kernel.guard.adopt(endpoint(1, "red:web"))
    kernel.guard.intent((), FILTERS)
    assert kernel.out == []
    kernel.guard.activate()
    kernel.carry_out()
    assert kernel.agrees()


def test_a_restart_adopts(kernel: Kernel) -> None:
    again = Kernel()
    again.table = kernel.table
    again.guard.adopt(endpoint(1, "red:web"))
    again.guard.start(RulesetReading(dict(kernel.table.objects)))
    again.guard.intent((), FILTERS)
    again.guard.activate()
    assert again.out == []


def test_a_refused_transaction_is_made_good_by_a_reading(kernel: Kernel) -> None:
    kernel.refusing = True
    made = endpoint(2, "red:db")
    kernel.admit(made)
    assert kernel.rounds == 1, "one reading at once; after that, audits at their pace"
    with pytest.raises(KernelError, match="being repaired"):
        kernel.guard.require(_request(made))
    kernel.refusing = False
    kernel.audit()
    kernel.carry_out()
    assert kernel.agrees()
    kernel.guard.audit(None)
    kernel.carry_out()
    assert kernel.warnings[-1] == ""
    kernel.guard.require(_request(made))


def test_a_reading_from_before_the_last_transaction_says_nothing(kernel: Kernel) -> None:
    before = RulesetReading(dict(kernel.table.objects), kernel.number)
    kernel.admit(endpoint(2, "red:web"))
    kernel.guard.audit(before)
    assert [type(e) for e in kernel.out] == [Filter, Audit]
    kernel.carry_out()
    assert kernel.agrees()


def test_what_others_removed_comes_back(kernel: Kernel) -> None:
    chain = next(k for k in kernel.table.objects if k[0] == "chain" and k[1].startswith("in_"))
    kernel.table.objects[chain] = replace(kernel.table.objects[chain], rules=())  # type: ignore[arg-type]
    kernel.audit()
    kernel.carry_out()
    assert kernel.agrees()


def test_a_released_endpoint_leaves_nothing(kernel: Kernel) -> None:
    before = dict(kernel.table.objects)
    kernel.admit(endpoint(2, "red:db"))
    kernel.guard.release(endpoint(2, "red:db").link)
    kernel.carry_out()
    assert kernel.table.objects == before


def test_without_nftables_what_has_a_policy_is_refused() -> None:
    kernel = Kernel(enabled=False)
    kernel.start()
    with pytest.raises(KernelError, match="lacks nftables"):
        kernel.guard.require(_request(endpoint(1, "red:web")))
    kernel.guard.require(_request(endpoint(2, "red:db")))
    assert kernel.guard.admit(endpoint(2, "red:db")) is None
    assert kernel.out == []
