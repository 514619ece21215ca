"""What is wrong with rules taken together: ids, exemptions, rules that can never fire, exceptions without an owner.

Errors refuse the policy, warnings do not. Called by `loader` with the rules in order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from gateway.mail.terms import Stage
from gateway.policy.evaluate import Undecided, condition
from gateway.policy.lists import NamedList
from gateway.policy.rules import EXCEPTIONS, Action, Rule
from gateway.yamlfile import Position, Problem, nearest


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
    yield from _shadowed(rules, lists)


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


def _shadowed(rules: Sequence[Rule], lists: Mapping[str, NamedList]) -> Iterator[Problem]:
    """Rules that can never fire: behind an always-true final one, or behind one with the same condition."""
    closed: dict[Stage, Rule] = {}  # stage -> the rule that ends it for everybody
    seen: dict[tuple[object, ...], Rule] = {}
    for rule in sorted(rules, key=lambda rule: rule.stages[0]):  # stable: file order within a stage
        if _constant(rule, lists) is False:
            yield Problem(
                rule.when_position, f"the rule '{rule.id}' never fires: its condition is false", "", "warning"
            )
            continue
        ended = closed.get(rule.stages[-1])
        if ended is not None and not (rule.always and ended.action is Action.ACCEPT):
            what = f"the rule '{rule.id}' is never reached: '{ended.id}' always ends the stage before it"
            yield Problem(rule.position, what, f"see {ended.position}", "warning")
            continue
        twin = seen.get(_condition(rule))
        if twin is not None and not (rule.always and twin.action is Action.ACCEPT):
            what = f"the rule '{rule.id}' is never reached: '{twin.id}' has the same condition"
            yield Problem(rule.position, what, f"see {twin.position}", "warning")
        if rule.final:
            seen.setdefault(_condition(rule), rule)
            if rule.recipients is None and _constant(rule, lists):
                until = Stage.RCPT if rule.action is Action.QUARANTINE else Stage.DATA
                first = rule.stages[0]
                for stage in Stage:
                    if first <= stage <= max(first, until):
                        closed.setdefault(stage, rule)


def _condition(rule: Rule) -> tuple[object, ...]:
    tree = re.sub(r"\bat=\d+", "", repr(rule.when.tree))  # equal but for white space and quotes
    return (tree, rule.recipients, rule.stages)


def _constant(rule: Rule, lists: Mapping[str, NamedList]) -> bool | None:
    """The value of a condition that no fact can change; None where facts decide."""
    if rule.when.lists:  # a list is empty today and is not tomorrow
        return None
    try:
        return condition(rule.when.tree, lists)({})
    except Undecided:
        return None
