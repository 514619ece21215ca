"""A rule with its compiled condition, and what the judge has to know of it: which checks it rests on. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gateway.checks.check import OnError
from gateway.policy.evaluate import Condition, condition
from gateway.policy.lists import NamedList
from gateway.policy.rules import Rule
from gateway.policy.syntax import Call, Const, Items, Name, Node, walk
from gateway.policy.vocabulary import FACTS, ON_ERROR

#: What may fail for some values: an index out of range, a division by zero, a text that is no number.
_FALLIBLE = frozenset({"_[_]", "_/_", "_%_", "int"})


@dataclass(frozen=True, slots=True)
class Ready:
    """A rule with its compiled condition, and what a failed check means for it."""

    rule: Rule
    when: Condition
    checks: frozenset[str]  # checks whose facts `when` names
    expects_failure: frozenset[str]  # of these: those compared with "temperror"
    fallible: bool  # for some values its condition cannot be computed

    def blind(self, failed: Collection[str]) -> frozenset[str]:
        """The failed checks whose facts are unknown to it."""
        return (self.checks & frozenset(failed)) - self.expects_failure if failed else frozenset()

    def waits(self, blind: Collection[str]) -> bool:
        """True where mail waits because the rule cannot be decided without these checks."""
        return OnError.DEFER in {self.rule.on_error or ON_ERROR[check] for check in blind}


def ready(rule: Rule, lists: Mapping[str, NamedList]) -> Ready:
    """The rule, compiled."""
    checks = frozenset(FACTS[name].check for name in rule.when.facts) - {""}
    expected = frozenset(FACTS[name].check for name in _compared_with_temperror(rule.when.tree))
    fallible = any(isinstance(node, Call) and node.function in _FALLIBLE for node in walk(rule.when.tree))
    return Ready(rule, condition(rule.when.tree, lists), checks, expected, fallible)


def _compared_with_temperror(tree: Node) -> set[str]:
    names = set[str]()
    for node in walk(tree):
        if isinstance(node, Call) and node.function in {"_==_", "_!=_", "@in"}:
            parts = [part for arg in node.args for part in (arg.items if isinstance(arg, Items) else (arg,))]
            if any(isinstance(part, Const) and part.value == "temperror" for part in parts):
                names |= {part.name.lstrip(".") for part in parts if isinstance(part, Name) and part.name in FACTS}
    return names
