"""From one ruleset to another in one transaction: element by element, rule by rule."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from netfabric.fabric.reconcile import Difference, difference
from netfabric.fabric.ruleset import (
    Chain,
    Element,
    NamedSet,
    Rule,
    Ruleset,
    RulesetKey,
    RulesetObject,
)


@dataclass(frozen=True, slots=True)
class PutSet:
    """Make a set."""

    set: NamedSet


@dataclass(frozen=True, slots=True)
class RemoveSet:
    """Remove a set that no rule looks into any more, with what is in it."""

    set: NamedSet


@dataclass(frozen=True, slots=True)
class PutChain:
    """Make a chain, without its rules."""

    chain: Chain


@dataclass(frozen=True, slots=True)
class RemoveChain:
    """Remove a chain that nothing leads to any more, with its rules."""

    chain: Chain


@dataclass(frozen=True, slots=True)
class PutElement:
    """Put a thing into a set of this kind."""

    element: Element
    set: NamedSet


@dataclass(frozen=True, slots=True)
class RemoveElement:
    """Take a thing out of a set of this kind."""

    element: Element
    set: NamedSet


@dataclass(frozen=True, slots=True)
class PutRule:
    """Add a rule behind another of the chain, or first; `last` where nothing that stays comes behind it."""

    chain: str
    rule: Rule
    behind: str
    """The other's label; "": first."""
    last: bool


@dataclass(frozen=True, slots=True)
class RemoveRule:
    """Remove a rule."""

    chain: str
    label: str


RulesetStep: TypeAlias = (
    PutSet | RemoveSet | PutChain | RemoveChain | PutElement | RemoveElement | PutRule | RemoveRule
)


@dataclass(frozen=True, slots=True)
class Transaction:
    """Steps that take effect together, or not at all."""

    steps: tuple[RulesetStep, ...]
    anew: bool = False
    """Remove the whole table first: what is there cannot become what is wanted."""
    number: int = 0
    """A reading tells the last one's that it has seen."""
    distrust: bool = False
    """Let the next audit read everything, whoever was the last to change it."""

    def __bool__(self) -> bool:
        return self.anew or self.distrust or bool(self.steps)


def transaction(
    desired: Ruleset, actual: Ruleset, keys: Iterable[RulesetKey] | None = None
) -> Transaction:
    """Return what makes `actual` like `desired`, over some keys or all.

    Sets and chains come before what refers to them, and go after it. Nothing but what differs is touched.
    """
    found = difference(desired, actual, keys)
    spoilt = any(_nameless(thing, actual) for thing in found.remove)
    if spoilt or any(_unlike(thing, actual) for thing in found.put):
        return Transaction(_steps(difference(desired, {}), desired, {}), anew=True)
    return Transaction(_steps(found, desired, actual))


def _unlike(thing: RulesetObject, actual: Ruleset) -> bool:
    """Return whether something else has the name of a set or of a hooked chain."""
    match thing:
        case NamedSet(name=name):
            return ("set", name, "") in actual
        case Chain(name=name, hook=hook, priority=priority):
            old = actual.get(("chain", name, ""))
            return isinstance(old, Chain) and (old.hook, old.priority) != (hook, priority)
        case Element():
            return False


def _nameless(thing: RulesetObject, actual: Ruleset) -> bool:
    """Return whether a thing cannot be removed by itself: something else put an interval there that is no prefix."""
    return (
        isinstance(thing, Element)
        and isinstance(thing.item, str)
        and _set(actual, thing.set).kind != "links"
    )


def _steps(
    found: Difference[RulesetObject], desired: Ruleset, actual: Ruleset
) -> tuple[RulesetStep, ...]:
    put_chains = [thing for thing in found.put if isinstance(thing, Chain)]
    gone_chains = [thing for thing in found.remove if isinstance(thing, Chain)]
    gone_sets = [thing for thing in found.remove if isinstance(thing, NamedSet)]
    put = [thing for thing in found.put if isinstance(thing, Element)]
    gone = [thing for thing in found.remove if isinstance(thing, Element)]
    doomed = {thing.name for thing in gone_sets}
    leaving = [e for e in gone if e.set not in doomed]
    return (
        *(PutSet(thing) for thing in found.put if isinstance(thing, NamedSet)),
        *(PutChain(c) for c in put_chains if ("chain", c.name, "") not in actual),
        *(RemoveElement(e, _set(actual, e.set)) for e in leaving),
        *(PutElement(e, _set(desired, e.set)) for e in put),
        *(step for c in put_chains for step in _rules(c, actual.get(("chain", c.name, "")))),
        *(RemoveRule(c.name, r.label) for c in gone_chains for r in c.rules),
        *(RemoveChain(c) for c in gone_chains),
        *(RemoveSet(s) for s in gone_sets),
    )


def _set(ruleset: Ruleset, name: str) -> NamedSet:
    thing = ruleset[("set", name, "")]
    assert isinstance(thing, NamedSet)
    return thing


def _rules(chain: Chain, old: RulesetObject | None) -> list[RulesetStep]:
    """Return the steps from a chain's old rules to its new ones; those that stay are not touched."""
    before = [rule.label for rule in old.rules] if isinstance(old, Chain) else []
    after = [rule.label for rule in chain.rules]
    wanted = set(after)
    kept = [label for label in before if label in wanted]
    if kept != [label for label in after if label in set(before)]:
        kept = []  # the order has changed: this chain anew
    staying = set(kept)
    steps: list[RulesetStep] = [
        RemoveRule(chain.name, label) for label in before if label not in staying
    ]
    left, behind = len(kept), ""
    for rule in chain.rules:
        if rule.label in staying:
            left -= 1
        else:
            steps.append(PutRule(chain.name, rule, behind, last=not left))
        behind = rule.label
    return steps
