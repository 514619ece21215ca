"""What is wrong with rules taken together: ids, exemptions, rules that can never fire, exceptions without an owner.

Errors refuse the policy, warnings do not. Called by `loader` with the rules in order.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from gateway.checks.check import OnError, Value
from gateway.mail.received import HOPS_LIMIT
from gateway.mail.terms import Stage
from gateway.policy import cost
from gateway.policy.evaluate import Condition, Undecided, condition
from gateway.policy.lists import NamedList
from gateway.policy.possible import implies, required, spelt, why_never, witness
from gateway.policy.rules import EXCEPTIONS, Action, Recipients, Rule
from gateway.policy.syntax import Call, Const, Name, walk
from gateway.policy.vocabulary import FACTS, ON_ERROR, SIZE, checks_of
from gateway.yamlfile import Position, Problem, nearest

#: Rules that want no particular value, of one policy: how many of them others are compared with.
_COMPARED = 1000
#: A gateway that is started again after the last day would not start.
_SOON_DAYS = 14
_MEANT = "write 'may be empty' into its comment, if that is meant"


def lint(
    rules: Sequence[Rule], ids: Mapping[str, Position], lists: Mapping[str, NamedList], today: date | None
) -> Iterator[Problem]:
    """All findings. `ids` holds every id that stands in the files, also of rules that are refused for something."""
    order = {rule.id: number for number, rule in enumerate(rules)}
    for rule in rules:
        yield from _exempts(rule, rules, order, ids)
        if rule.action in EXCEPTIONS and not rule.observe:
            missing = [key for key, value in (("owner", rule.owner), ("expires", rule.expires)) if not value]
            if missing:
                what = f"the exception '{rule.id}' has no {' and no '.join(missing)}"
                hint = "say who answers for it, and until when (expires: never, if for good)"
                yield Problem(rule.position, what, hint, "warning")
        if today is not None and 0 <= _days_left(rule, today) <= _SOON_DAYS:
            hint = "from the next day on no start and no reload takes it: renew or remove it before"
            yield Problem(rule.position, f"the rule '{rule.id}' expires on {rule.expires}", hint, "warning")
        if (steps := cost.steps(rule.when.tree, lists)) > cost.LIMIT:
            what = f"the rule '{rule.id}' may take {steps:,} steps for one mail, {cost.LIMIT:,} at most are allowed"
            hint = "do not nest macros; 'in', 'under' and 'in_networks' look into a whole list at once"
            yield Problem(rule.when_position, what, hint)
        yield from _unguarded(rule)
    yield from _never(rules, lists)


def _unguarded(rule: Rule) -> Iterator[Problem]:
    """An entry by its number is asked of a list whose size is not: one that is too short makes the mail wait."""
    counted = [node.args[0] for node in walk(rule.when.tree) if isinstance(node, Call) and node.function == "size"]
    sized = {one.name for one in counted if isinstance(one, Name)}
    for node in walk(rule.when.tree):
        match node:
            case Call(function="_[_]", args=(Name(name=name), _)) if name in FACTS and name not in sized:
                what = f"the rule '{rule.id}' makes mail wait (451) where {name} is too short for its [...]"
                hint = f"write 'text' in {name}, or size({name}) > 0 && before it"
                yield Problem(rule.when_position, what, hint, "warning")
                return


def _days_left(rule: Rule, today: date) -> float:
    try:
        return (date.fromisoformat(rule.expires) - today).days
    except ValueError:  # none, never, or what is refused as no date
        return math.inf


def _exempts(
    rule: Rule, rules: Sequence[Rule], order: Mapping[str, int], ids: Mapping[str, Position]
) -> Iterator[Problem]:
    for name, position in zip(rule.exempts, rule.exempt_positions, strict=True):
        if name not in ids:
            yield Problem(position, f"unknown rule '{name}'", nearest(name, ids))
        elif name == rule.id:
            yield Problem(position, f"'{name}' cannot exempt from itself")
        elif name not in order:
            continue  # refused for something else
        elif order[name] < order[rule.id]:
            what = f"the rule '{name}' stands before this exemption"
            yield Problem(position, what, f"move '{rule.id}' above {ids[name]}")
        elif (first := rules[order[name]].stages[0]) < rule.stages[-1]:
            what = f"the rule '{name}' runs at {first.name.lower()}, before this exemption at {_at(rule)}"
            yield Problem(position, what, "use facts that are known by then")


def _at(rule: Rule) -> str:
    return rule.stages[-1].name.lower()


def _never(rules: Sequence[Rule], lists: Mapping[str, NamedList]) -> Iterator[Problem]:
    """Rules that can never fire: a condition that is never true, or a final rule before them that ends their mails."""
    exempted = {name for rule in rules for name in rule.exempts}
    final = _Final(lists)
    for rule in sorted(rules, key=lambda rule: rule.stages[0]):  # stable: file order within a stage
        if why := why_never(rule.when.tree, lists):
            yield Problem(rule.when_position, f"the rule '{rule.id}' never fires: {why}", _towards(why), "warning")
            continue
        if rule.recipients is not None and (names := _nobody(rule.recipients, lists)):
            what = f"the rule '{rule.id}' never fires: {names} in its 'for' is empty"
            yield Problem(rule.position, what, _MEANT, "warning")
        first = next((one for one in final.candidates(rule) if _takes_all(one, rule, lists)), None)
        if first is not None:
            what = f"the rule '{rule.id}' is never reached: {_reason(first, rule)}"
            yield Problem(rule.position, what, f"see {first.position}", "warning")
            continue
        if rule.final and rule.id not in exempted:
            final.add(rule)


class _Final:
    """Final rules so far, so kept that ten thousand of them are not all compared with each rule."""

    def __init__(self, lists: Mapping[str, NamedList]) -> None:
        self._lists = lists
        self._of_anything: list[tuple[int, Rule, Condition]] = []
        self._of_one_value: dict[tuple[str, Value], list[tuple[int, Rule, Condition]]] = {}
        self._count = 0

    def add(self, rule: Rule) -> None:
        """Files it under the rarest value that it wants of a fact."""
        places = [self._of_one_value.setdefault(key, []) for key in required(rule.when.tree)] or [self._of_anything]
        self._count += 1
        min(places, key=len).append((self._count, rule, condition(rule.when.tree, self._lists)))

    def candidates(self, rule: Rule) -> Iterator[Rule]:
        """Those of which it is not plain that some mail of this rule escapes them, in order."""
        some = witness(rule.when.tree, self._lists)
        found = self._of_anything[:_COMPARED]
        for key in some.items():
            if not isinstance(key[1], list):
                found += self._of_one_value.get(key, [])
        for _, first, when in sorted(found, key=lambda each: each[0]):
            with contextlib.suppress(Undecided):
                if not when(some):
                    continue
            yield first


def _towards(why: str) -> str:
    if "message.hops" in why:
        return f"after {HOPS_LIMIT} Received fields a mail is refused (554 5.4.6) before any rule is asked"
    return _MEANT if why.startswith("the list") else ""


def _nobody(recipients: Recipients, lists: Mapping[str, NamedList]) -> str:
    """The lists without entries, where nobody else is named."""
    if recipients.addresses or recipients.domains:
        return ""
    found = [lists[name] for name in recipients.lists if name in lists]
    if not found or any(listed or listed.may_be_empty for listed in found):
        return ""
    return " and ".join(f"the list '{listed.name}'" for listed in found)


def _takes_all(first: Rule, rule: Rule, lists: Mapping[str, NamedList]) -> bool:
    """True when every mail that the second is about was ended by the first."""
    if rule.always and first.action is Action.ACCEPT:
        return False
    if first.recipients is not None and first.recipients != rule.recipients:
        return False
    if first.recipients is not None and first.stages[0] < Stage.RCPT:
        return False
    if not first.when.facts.keys() <= rule.when.facts.keys():
        return False
    if first.stages != rule.stages:
        # A size is announced at RCPT and counted at DATA: not the same value.
        if SIZE in first.when.facts or first.stages[-1] > rule.stages[0]:
            return False
        if first.action is Action.QUARANTINE and rule.stages[-1] > first.stages[0]:
            return False  # what is held at RCPT may be refused at DATA
    if _names_failure(rule) and first.when.facts:
        return False  # it may be meant for the day when the first cannot be decided
    if OnError.IGNORE in _on_error(first) and OnError.DEFER in _on_error(rule):
        return False  # on that day this one makes the mail wait
    return implies(rule.when.tree, first.when.tree, lists)


def _names_failure(rule: Rule) -> bool:
    return any(isinstance(node, Const) and node.value == "temperror" for node in walk(rule.when.tree))


def _on_error(rule: Rule) -> set[OnError]:
    """What becomes of it when a check fails, by its checks."""
    return {rule.on_error or ON_ERROR[check] for check in checks_of(rule.when.facts)}


def _reason(first: Rule, rule: Rule) -> str:
    if not first.when.facts:
        return f"'{first.id}' always ends the stage before it"
    if spelt(first.when.tree) == spelt(rule.when.tree):
        return f"'{first.id}' has the same condition"
    return f"'{first.id}' ends all the mails that it is about"
