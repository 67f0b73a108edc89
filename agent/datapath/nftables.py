"""Our nftables table in one namespace: changed by transactions, read when something may have changed it."""

from collections.abc import Iterator, Sequence
from itertools import count, groupby
from typing import Final

from netfabric.agent.datapath import nftables_answer as answer
from netfabric.agent.datapath import nftables_message as message
from netfabric.agent.datapath.message import Message
from netfabric.agent.datapath.netlink import Netlink, Refusal
from netfabric.fabric.errors import KernelError
from netfabric.fabric.ruleset import (
    TABLE,
    Chain,
    Element,
    NamedSet,
    RulesetKey,
    RulesetObject,
    RulesetReading,
    ruleset_key,
)
from netfabric.fabric.ruleset_plan import (
    PutChain,
    PutElement,
    PutRule,
    PutSet,
    RemoveChain,
    RemoveElement,
    RemoveRule,
    RemoveSet,
    RulesetStep,
    Transaction,
)

_NETLINK_NETFILTER: Final = 12
_LARGEST = 64 << 20
"""Octets of a transaction at most: some 100,000 rules."""
_TOGETHER = 500
"""Elements in one message: its length has 16 bits, and one element takes up to 100 octets."""


class Nftables:
    """Not to be used by two threads at once."""

    def __init__(self) -> None:
        """Work in the namespace that the thread is in."""
        self._netlink = Netlink(_NETLINK_NETFILTER)
        self._netlink.enlarge(_LARGEST)
        self._handles: dict[str, dict[str, int]] = {}
        """By chain and label: rules seen or looked up since the chain last changed."""
        self.number = 0
        """Of the last transaction, whatever became of it."""
        self._generation = 0
        """Of the last reading, moved on with each change of our own: another means a change by others."""

    def close(self) -> None:
        """Close the socket; what was put stays and filters."""
        self._netlink.close()

    def apply(self, wanted: Transaction) -> None:
        """Carry a transaction out, whole or not at all; raise KernelError."""
        self.number = wanted.number
        before, trusted = self._read_generation(), self._generation
        self._generation = 0
        if wanted.distrust:
            return
        requests = [message.begin(), *self._requests(wanted), message.end()]
        refused = self._netlink.transact(requests)
        changed = {s.chain for s in wanted.steps if isinstance(s, PutRule | RemoveRule)}
        for chain in self._handles.keys() & changed:
            del self._handles[chain]
        if refused:
            self._handles.clear()
            position, refusal = min(refused.items())
            raise _error(refusal, position)
        if before == trusted:
            self._generation = before + 1

    def _requests(self, wanted: Transaction) -> Iterator[Message]:
        yield message.put_table()
        if wanted.anew:
            self._handles.clear()
            yield message.remove_table()
            yield message.put_table()
        identities: dict[tuple[str, str], int] = {}
        numbers = count(1)
        for kind, steps in groupby(wanted.steps, _batch):
            if kind is None:
                for step in steps:
                    yield self._request(step, next(numbers), identities)
            else:
                yield from _elements(list(steps))

    def _request(
        self, step: RulesetStep, number: int, identities: dict[tuple[str, str], int]
    ) -> Message:
        match step:
            case PutSet(wanted):
                return message.put_set(wanted, number)
            case RemoveSet(gone):
                return message.remove_set(gone.name)
            case PutChain(chain):
                return message.put_chain(chain)
            case RemoveChain(chain):
                return message.remove_chain(chain.name)
            case RemoveRule(chain_name, label):
                return message.remove_rule(chain_name, self._handle(chain_name, label))
            case PutRule(chain_name, rule, behind, last):
                identities[chain_name, rule.label] = number
                place = message.Place(last=last)
                if not last and behind:
                    before = identities.get((chain_name, behind), 0)
                    handle = 0 if before else self._handle(chain_name, behind)
                    place = message.Place(handle=handle, identity=before)
                return message.put_rule(chain_name, rule, place, number)
            case _:
                raise AssertionError(step)

    def _handle(self, chain: str, label: str) -> int:
        if chain not in self._handles:
            bodies = self._netlink.dump(message.get_all(message.GETRULE, chain=chain))
            found = (answer.rule_of(body) for body in bodies)
            self._handles[chain] = {one.rule.label: one.handle for one in found}
        try:
            return self._handles[chain][label]
        except KeyError:
            raise KernelError(
                f"nftables: rule {label!r} of chain {chain} is gone",
                f"let nothing else change the table inet {TABLE}; it is being repaired",
            ) from None

    # reading

    def read(self) -> RulesetReading | None:
        """Return all of our table; None where nothing but ourselves has changed any since the last reading."""
        now = self._read_generation()
        if now == self._generation:
            return None
        found: dict[RulesetKey, RulesetObject] = {}
        if isinstance(self._netlink.ask(message.get_table()), bytes):
            found = {ruleset_key(thing): thing for thing in self._things()}
        # What changes meanwhile is seen by the next reading.
        self._generation = now
        return RulesetReading(found, self.number)

    def has(self, wanted: Element) -> bool:
        """Return whether an element is in its set."""
        request = message.elements(message.GETELEMENT, NamedSet(wanted.set, "ip"), [wanted])
        return isinstance(self._netlink.ask(request), bytes)

    def _read_generation(self) -> int:
        body = self._netlink.ask(message.generation())
        if isinstance(body, Refusal):
            raise _error(body, 0)
        return answer.generation_of(body)

    def _things(self) -> Iterator[RulesetObject]:
        for body in self._netlink.dump(message.get_all(message.GETSET)):
            found = answer.set_of(body)
            # A foreign set in our table has a name that we may need: it is removed like any other.
            yield found or NamedSet(answer.name_of(body), "ip")
            if found is not None:
                yield from self._elements_of(found)
        rules = self._rules()
        for body in self._netlink.dump(message.get_all(message.GETCHAIN)):
            chain = answer.chain_of(body)
            if chain.name:
                labelled = tuple(one.rule for one in rules.get(chain.name, ()))
                yield Chain(chain.name, labelled, chain.hook, chain.priority)

    def _elements_of(self, found: NamedSet) -> list[Element]:
        bodies = self._netlink.dump(message.get_all(message.GETELEMENT, set_name=found.name))
        return answer.elements_of(found, bodies)

    def _rules(self) -> dict[str, list[answer.KernelRule]]:
        found: dict[str, list[answer.KernelRule]] = {}
        for one in self.rules():
            found.setdefault(one.chain, []).append(one)
        self._handles = {
            chain: {one.rule.label: one.handle for one in rules} for chain, rules in found.items()
        }
        return found

    def rules(self, chain: str = "") -> list[answer.KernelRule]:
        """Return the rules of a chain, or of all, in order, with what they counted."""
        bodies = self._netlink.dump(message.get_all(message.GETRULE, chain=chain))
        return [answer.rule_of(body) for body in bodies]


def _batch(step: RulesetStep) -> tuple[int, str] | None:
    """Return what steps go into one message together, None for those that go alone."""
    match step:
        case PutElement(element):
            return (message.NEWELEMENT, element.set)
        case RemoveElement(element):
            return (message.DELELEMENT, element.set)
        case _:
            return None


def _elements(steps: Sequence[RulesetStep]) -> Iterator[Message]:
    first = steps[0]
    assert isinstance(first, PutElement | RemoveElement)
    kind = message.NEWELEMENT if isinstance(first, PutElement) else message.DELELEMENT
    things = [s.element for s in steps if isinstance(s, PutElement | RemoveElement)]
    for start in range(0, len(things), _TOGETHER):
        yield message.elements(kind, first.set, things[start : start + _TOGETHER])


def _error(refusal: Refusal, position: int) -> KernelError:
    return refusal.error(f"nftables table inet {TABLE}, request {position}")
