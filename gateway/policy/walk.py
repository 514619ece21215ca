"""One walk through the rules of a stage: what changes while `judge` works, and the ways in which it has to stop.

`Missing`, `Ask` and `Deferred` are control flow between here and `judge`; none of them leaves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.checks.check import OnError, Value
from gateway.mail.terms import Stage
from gateway.policy.outcome import ERROR, PASSED, UNANSWERED, Effect, Progress, Step, Verdict, Word
from gateway.policy.rules import Action, Rule
from gateway.policy.vocabulary import FACTS


@dataclass(slots=True)
class Walk:
    """One walk through the rules of a stage; the only thing here that changes, and it does not outlive `judge`."""

    stage: Stage
    facts: Mapping[str, Value]
    failed: frozenset[str]
    recipient: str
    progress: Progress
    steps: list[Step] | None
    verdict: Verdict | None = None
    fault: str = ""
    reduced: dict[frozenset[str], dict[str, Value]] = field(default_factory=dict)

    def note(self, rule: Rule, word: Word, why: str = "") -> None:
        """One more step, where somebody wants to know."""
        if self.steps is not None:
            self.steps.append(Step(rule.id, self.stage, word, why))

    def without(self, checks: frozenset[str]) -> dict[str, Value]:
        """The facts but those of these checks."""
        if checks not in self.reduced:
            self.reduced[checks] = {
                n: v for n, v in self.facts.items() if n not in FACTS or FACTS[n].check not in checks
            }
        return self.reduced[checks]


def answer(rule: Rule, walk: Walk) -> str:
    """What the greylist or the count said; raises `Ask` where nobody has asked yet."""
    effect = Effect(rule.id, "greylist", rule.greylist)
    if rule.action is Action.LIMIT:
        subject = str(walk.facts[rule.limit.key])
        if not subject:
            return PASSED  # who has no name shares nothing with others who have none
        effect = Effect(rule.id, "limit", rule.limit, subject)
    outcome = dict(walk.progress.outcomes).get(rule.id)
    if outcome is None:
        raise Ask(effect)
    if outcome == UNANSWERED:
        raise Missing(frozenset({f"the answer to {effect.label}"}), rule.id)
    return outcome


def bites(rule: Rule, walk: Walk) -> bool:
    """True where the sender would have to come again."""
    outcome = answer(rule, walk)
    return rule.on_error is OnError.DEFER if outcome == ERROR else outcome != PASSED


class Missing(Exception):  # noqa: N818 - control flow
    """Facts that nobody has asked for yet; `rule`: another than the one at hand needs them."""

    def __init__(self, facts: frozenset[str], rule: str = "") -> None:
        super().__init__()
        self.facts = facts
        self.rule = rule


class Ask(Exception):  # noqa: N818 - control flow
    """The state has to be asked."""

    def __init__(self, effect: Effect) -> None:
        super().__init__()
        self.effect = effect


class Deferred(Exception):  # noqa: N818 - control flow
    """A check failed, the rule cannot be decided without it, and such mail waits."""
