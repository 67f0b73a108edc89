"""A packet filter that executes transactions with nftables' own strictness, whole or not at all."""

from dataclasses import dataclass, field, replace

from netfabric.fabric.ruleset import (
    Chain,
    Element,
    Goto,
    In,
    Jump,
    NamedSet,
    Ruleset,
    RulesetKey,
    RulesetObject,
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


@dataclass
class FakeTable:
    """Asserts what the kernel would refuse."""

    objects: dict[RulesetKey, RulesetObject] = field(default_factory=dict)

    def apply(self, wanted: Transaction) -> None:
        if wanted.anew:
            self.objects = {}
        for step in wanted.steps:
            self._apply(step)
        for thing in self.objects.values():
            self._refers(thing)

    def _apply(self, step: RulesetStep) -> None:
        match step:
            case PutSet(thing):
                assert ruleset_key(thing) not in self.objects
                self.objects[ruleset_key(thing)] = thing
            case RemoveSet(thing):
                del self.objects[ruleset_key(thing)]
                for key in [k for k in self.objects if k[0] == "element" and k[1] == thing.name]:
                    del self.objects[key]
            case PutChain(chain):
                assert ruleset_key(chain) not in self.objects
                self.objects[ruleset_key(chain)] = replace(chain, rules=())
            case RemoveChain(chain):
                assert not self._chain(chain.name).rules, "a chain goes empty"
                self._nothing_leads_to(chain.name)
                del self.objects[ruleset_key(chain)]
            case PutElement(element, of):
                assert self.objects[("set", element.set, "")] == of
                assert ruleset_key(element) not in self.objects
                self._refers(element)
                self.objects[ruleset_key(element)] = element
            case RemoveElement(element, of):
                assert self.objects[("set", element.set, "")] == of
                del self.objects[ruleset_key(element)]
            case PutRule(name, rule, behind, last):
                chain = self._chain(name)
                labels = [one.label for one in chain.rules]
                at = labels.index(behind) + 1 if behind else 0
                assert not last or at == len(labels), "last, and it is not"
                self._put(name, (*chain.rules[:at], rule, *chain.rules[at:]))
                self._refers(self._chain(name))
            case RemoveRule(name, label):
                chain = self._chain(name)
                assert label in [one.label for one in chain.rules]
                self._put(name, tuple(one for one in chain.rules if one.label != label))

    def _chain(self, name: str) -> Chain:
        chain = self.objects[("chain", name, "")]
        assert isinstance(chain, Chain)
        return chain

    def _put(self, name: str, rules: tuple[object, ...]) -> None:
        self.objects[("chain", name, "")] = replace(self._chain(name), rules=rules)  # type: ignore[arg-type]

    def _refers(self, thing: RulesetObject) -> None:
        """Everything referred to must be there."""
        match thing:
            case Element(set=name):
                assert ("set", name, "") in self.objects
            case Chain(rules=rules):
                for rule in rules:
                    for match in rule.matches:
                        if isinstance(match, In):
                            assert ("set", match.set, "") in self.objects
                    if isinstance(rule.verdict, Jump | Goto):
                        assert ("chain", rule.verdict.chain, "") in self.objects
            case NamedSet():
                pass

    def _nothing_leads_to(self, name: str) -> None:
        for thing in self.objects.values():
            if isinstance(thing, Chain):
                for rule in thing.rules:
                    if isinstance(rule.verdict, Jump | Goto):
                        assert rule.verdict.chain != name


def same(one: Ruleset, other: Ruleset) -> bool:
    """Return whether two rulesets say the same, each rule word by word."""
    if dict(one) != dict(other):
        return False
    return all(
        [(r.matches, r.verdict, r.log) for r in thing.rules]
        == [(r.matches, r.verdict, r.log) for r in other[key].rules]  # type: ignore[union-attr]
        for key, thing in one.items()
        if isinstance(thing, Chain)
    )
