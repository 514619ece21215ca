"""Which recipients may share a transaction: those of whom DATA will do the same.

One reply answers all recipients of a transaction, so what DATA does must be the same for all. The class of a recipient
are the rules of DATA that are left for it, and what RCPT gave it. Two classes are alike all the same where the rules
in which they differ are known not to fire, by what is known before DATA; the fewer are split, the fewer wait for the
next attempt of their sender. Pure; called by the pipeline at RCPT, and at a start for what EHLO offers.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from gateway.checks.check import Value
from gateway.mail.terms import Stage
from gateway.policy.judge import Judge
from gateway.policy.lists import NamedList
from gateway.policy.outcome import Tag
from gateway.policy.rules import Action, Recipients, Rule
from gateway.policy.vocabulary import FACTS, RECIPIENT_FACTS, SIZE

#: What a rule of RCPT leaves behind for DATA.
_CARRIED = frozenset({Action.ACCEPT, Action.QUARANTINE, Action.TAG})


class DataClass(NamedTuple):
    """What DATA will do with a recipient; recipients that differ in it never share a transaction (452 4.5.3)."""

    rules: frozenset[int]  # the DATA rules that will be asked, by number
    tags: frozenset[Tag]
    held: bool


def between(one: DataClass, other: DataClass, rules: Collection[Rule]) -> list[Rule] | None:
    """The rules in which they differ; None where they differ in what RCPT did, which no rule takes back."""
    if (one.tags, one.held) != (other.tags, other.held):
        return None
    apart = one.rules ^ other.rules
    return [rule for number, rule in enumerate(rules) if number in apart]


def early(rule: Rule) -> frozenset[str]:
    """The facts in its condition that are known before there is a recipient: what may settle it before DATA."""
    return frozenset(name for name in rule.when.facts if FACTS[name].stage < Stage.RCPT)


def silent(
    engine: Judge, rule: Rule, facts: Mapping[str, Value], failed: Collection[str], announced: int | None = None
) -> bool:
    """True when it is certain that DATA will not see this rule fire.

    Of a size only an announcement is known: a rule that names it must be silent for half of it and twice as much, too.
    Estimates of honest senders are closer, and what was counted is asked again when it is known (`announced` None).
    """
    known = {name: facts[name] for name in early(rule) if name in facts}
    if SIZE not in rule.when.facts:
        return engine.silent(rule, known, failed)
    if announced is None:
        return engine.silent(rule, {**known, SIZE: facts[SIZE]}, failed)
    sizes = (announced // 2, announced, announced * 2)
    return announced > 0 and all(engine.silent(rule, {**known, SIZE: size}, failed) for size in sizes)


def divides(rules: Iterable[Rule], lists: Mapping[str, NamedList]) -> bool:
    """True when there may be recipients of different classes."""
    found = list(rules)
    asked = {rule.id for rule in found if Stage.DATA in rule.stages}
    return any(
        Stage.DATA in rule.stages or (not rule.observe and (rule.action in _CARRIED or asked & set(rule.exempts)))
        for rule in found
        if RECIPIENT_FACTS & rule.needs or _named(rule.recipients, lists)
    )


def _named(recipients: Recipients | None, lists: Mapping[str, NamedList]) -> bool:
    """True when somebody is: a list may still wait for its entries."""
    if recipients is None:
        return False
    return bool(recipients.addresses or recipients.domains or any(lists[name] for name in recipients.lists))
