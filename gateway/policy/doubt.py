"""What a replay cannot know: what rules may have done that nobody can decide, for their facts were not recorded.

A live judgement asks for the facts that a rule lacks. Where nobody can give them, `judge` goes on with a `Doubt` in
its `Progress`: the rule may have fired, and may not. What that would have changed (others switched off, the policy
ended, the mail held) is noted with its cause, and counts where a rule that hangs on it would act. So a verdict is
unknown where the facts that lack can change it, and one walk is enough however many rules are undecided.

A fact is unknown anew wherever it is named: of two rules that exclude each other both count as possible. So "unknown"
may be said of a verdict that is known, never the other way round. That a check which was not made could have failed is
not counted. Values; made by `judge`, begun by `scene`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gateway.mail.terms import Stage
from gateway.policy.rules import Rule


@dataclass(frozen=True, slots=True)
class Gap:
    """A rule that cannot be decided, and what it lacks."""

    rule: str
    facts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Doubt:
    """All that may have happened; never changed in place."""

    missing: tuple[str, ...] = ()  # facts for which a tag, a remark or an observation is left out
    exempted: Mapping[str, Gap] = field(default_factory=dict)  # rules that may be switched off
    accepted: Gap | None = None  # the policy may have ended
    held: Gap | None = None  # the mail may be held for the quarantine,
    ended: tuple[Stage, Gap] | None = None  # and with that this stage have ended

    def about(self, rule: Rule, stage: Stage) -> Gap | None:
        """Why it is not certain that this rule is asked; None where it is."""
        if self.ended is not None and self.ended[0] is stage:
            return self.ended[1]
        if self.accepted is not None and not rule.always:
            return self.accepted
        return self.exempted.get(rule.id)

    def lacking(self, gap: Gap) -> "Doubt":
        """What the rule does is left out; the verdict stands without it."""
        return replace(self, missing=tuple(dict.fromkeys((*self.missing, *sorted(gap.facts)))))

    def exempting(self, rules: Iterable[str], gap: Gap) -> "Doubt":
        """These may be switched off."""
        return replace(self, exempted={**dict.fromkeys(rules, gap), **self.exempted})

    def accepting(self, gap: Gap) -> "Doubt":
        """The policy may end here."""
        return replace(self, accepted=self.accepted or gap)

    def holding(self, stage: Stage, gap: Gap, *, held: bool) -> "Doubt":
        """The mail may be held, and the stage end here; `held`: it is held already, for certain."""
        return replace(self, held=self.held if held else self.held or gap, ended=(stage, gap))
