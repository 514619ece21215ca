"""From rules and facts to a verdict: a pure function, so that every verdict can be explained and replayed.

`Judge.judge` walks the rules of one stage in order; the first final one wins. Nothing is awaited and nothing is
changed: what a stage did stands in the `Progress` it returns, and what the caller must do first is its outcome:
`Need` (facts that the next rule cannot be decided without) or `Effect` (a greylist to ask); then the caller asks again
from the same progress, with the facts or `progress.with_outcome(...)`.

A fact of a failed check counts as unknown: a rule that is decided without it is not touched; one that compares the
fact with "temperror" has thought of it; any other follows `on_error` (DESIGN section 4). An error of ours inside a
rule is 451 4.3.0: never a pass, never a 5xx.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from gateway.checks.check import OnError, Value
from gateway.mail.reply import Reply
from gateway.mail.terms import Stage
from gateway.policy.doubt import Gap
from gateway.policy.evaluate import Undecided, Unknown
from gateway.policy.lists import NamedList
from gateway.policy.outcome import (
    ERROR,
    PASSED,
    Effect,
    Judgement,
    Need,
    Progress,
    Step,
    Tag,
    Verdict,
    Word,
)
from gateway.policy.ready import Ready, ready
from gateway.policy.rules import Action, Rule
from gateway.policy.vocabulary import FACTS
from gateway.policy.walk import Ask, Deferred, Missing, Walk, answer, bites

__all__ = ["ERROR", "PASSED", "Effect", "Judge", "Judgement", "Need", "Progress", "Step", "Tag", "Verdict"]

_FAULT = Reply(451, "4.3.0", ("Local error; try again later",))
_NO_FACT = Reply(451, "4.4.3", ("Temporary failure of a look-up; try again later",))


class Judge:
    """The rules of all stages, ready to be asked."""

    def __init__(self, rules: Collection[Rule], lists: Mapping[str, NamedList]) -> None:
        self._lists = lists
        compiled = [ready(rule, lists) for rule in rules]
        self._stages = {stage: [one for one in compiled if stage in one.rule.stages] for stage in Stage}
        self._rules = {one.rule.id: one for one in compiled}

    def rules(self, stage: Stage) -> list[Rule]:
        """The rules that are asked at this stage, in order."""
        return [one.rule for one in self._stages[stage]]

    def silent(self, rule: Rule, facts: Mapping[str, Value], failed: Collection[str]) -> bool:
        """True when its condition is false whatever the facts are that are not there."""
        one = self._rules[rule.id]
        blind = one.blind(failed)
        try:
            return not one.when({name: facts[name] for name in facts if FACTS[name].check not in blind})
        except Undecided:
            return False

    def judge(
        self,
        stage: Stage,
        facts: Mapping[str, Value],
        progress: Progress,
        recipient: str | None = None,
        failed: Collection[str] = (),
        steps: list[Step] | None = None,
    ) -> Judgement:
        """The outcome of this stage. `recipient`: the one at RCPT; at DATA any of the transaction's class.

        `failed` are the names of the checks whose fact is an error. `steps`, where given, gets what became of each
        rule that was looked at.
        """
        walk = Walk(stage, facts, frozenset(failed), recipient or "", progress, steps)
        plain = steps is None and not walk.failed
        for one in self._stages[stage]:
            if plain and _plainly_not(one, walk):
                continue
            if not self._asked(one.rule, walk):
                continue
            try:
                judgement = self._one(one, walk)
            except Missing as missing:
                # Asked again from the start of the stage, with the facts; a replay has none.
                return Judgement(Need(missing.facts, missing.rule or one.rule.id), walk.progress)
            except Ask as ask:
                return Judgement(ask.effect, progress)
            if judgement is not None:
                return judgement
        return Judgement(walk.verdict or self._standing(stage, walk.progress), walk.progress, walk.fault)

    def _one(self, one: Ready, walk: Walk) -> Judgement | None:
        """One rule; a judgement where it ends the stage. Where facts lack for good, what it may do is a `Doubt`."""
        rule, doubt, waits = one.rule, walk.progress.doubt, None
        gap = doubt.about(rule, walk.stage) if doubt is not None else None
        try:
            if not self._applies(one, walk):
                return None
            if gap is None:
                return self._fire(rule, walk)
            walk.note(rule, Word.DOUBTFUL, gap.rule)
        except Missing as missing:
            walk.note(rule, Word.UNKNOWN, ", ".join(sorted(missing.facts)))
            gap = gap or Gap(rule.id, missing.facts)
            # Facts could show as well that it cannot be computed, and then the mail waits whatever the action.
            breaks = one.fallible or one.waits(one.blind(walk.failed))
            if doubt is None or (breaks and not rule.observe):
                raise Missing(gap.facts, gap.rule) from None
        except Ask:
            raise
        except Deferred as failure:
            walk.note(rule, Word.WAITED, str(failure))
            waits = self._not_decided(rule, Verdict(Action.DEFER, rule.id, _NO_FACT), "", walk)
        except Undecided as why:
            waits = self._faulty(rule, str(why), walk)
        except Exception as why:
            # A bug here must cost this mail a delay, not the gateway its life nor the sender the mail.
            waits = self._faulty(rule, f"{type(why).__name__}: {why}", walk)
        if gap is None:
            return waits
        if waits is not None:
            raise Missing(gap.facts, gap.rule)
        self._perhaps(rule, gap, walk)
        return None

    def _perhaps(self, rule: Rule, gap: Gap, walk: Walk) -> None:
        """What hangs on a rule that may act and may not. Raises `Missing` where that is the verdict."""
        doubt = walk.progress.doubt
        assert doubt is not None
        match rule.action:
            case _ if rule.observe:
                doubt = doubt.lacking(gap)
            case Action.TAG | Action.NOTE:
                doubt = doubt.lacking(gap)
            case Action.EXEMPT:
                doubt = doubt.exempting(rule.exempts, gap)
            case Action.ACCEPT:
                doubt = doubt.accepting(gap)
            case Action.QUARANTINE:
                doubt = doubt.holding(walk.stage, gap, held=walk.progress.held is not None)
            case Action.GREYLIST | Action.LIMIT if rule.spoken <= walk.facts.keys() and not bites(rule, walk):
                return
            case _:
                raise Missing(gap.facts, gap.rule)
        walk.progress = replace(walk.progress, doubt=doubt)

    def _asked(self, rule: Rule, walk: Walk) -> bool:
        progress = walk.progress
        if progress.accepted and not rule.always:
            walk.note(rule, Word.ACCEPTED, progress.accepted)
            return False
        if rule.id in progress.exempted:
            walk.note(rule, Word.EXEMPTED)
            return False
        if rule.recipients is not None and not rule.recipients.holds(walk.recipient, self._lists):
            walk.note(rule, Word.OTHERS)
            return False
        return True

    def _applies(self, one: Ready, walk: Walk) -> bool:
        """The condition; where checks failed, as if their facts were unknown, unless the rule speaks of failure."""
        blind = one.blind(walk.failed)
        try:
            applies = one.when(walk.without(blind) if blind else walk.facts)
            if not applies:
                walk.note(one.rule, Word.FALSE)
            return applies
        except Unknown:
            absent = frozenset(name for name in one.rule.when.facts if FACTS[name].check not in blind)
            if not absent <= walk.facts.keys():
                raise Missing(one.rule.needs - walk.facts.keys()) from None
        if one.waits(blind):
            raise Deferred(", ".join(sorted(blind)))
        walk.note(one.rule, Word.IGNORED, ", ".join(sorted(blind)))
        skipped = tuple((one.rule.id, check) for check in sorted(blind))
        walk.progress = replace(walk.progress, skipped=tuple(dict.fromkeys((*walk.progress.skipped, *skipped))))
        return False

    def _fire(self, rule: Rule, walk: Walk) -> Judgement | None:
        """Takes the action; a judgement where it ends the stage."""
        if not rule.spoken <= walk.facts.keys():
            raise Missing(rule.spoken - walk.facts.keys())
        if rule.action is Action.LIMIT:
            return self._limit(rule, walk)
        if rule.action is not Action.GREYLIST or rule.observe:
            walk.note(rule, Word.OBSERVED if rule.observe else Word.FIRED)
        if rule.id not in walk.progress.fired:
            if rule.observe:
                observed = (*walk.progress.observed, (rule.id, rule.action.value))
                walk.progress = replace(walk.progress, observed=observed, fired=(*walk.progress.fired, rule.id))
                return None
            if rule.action is not Action.GREYLIST:
                self._mark(rule, walk)
        elif rule.observe:
            return None
        match rule.action:
            case Action.REJECT | Action.DEFER:
                reply = rule.reply.fill(walk.facts) if rule.reply else None
                verdict = Verdict(rule.action, rule.id, reply, rule.because, rule.now)
                return Judgement(verdict, walk.progress, walk.fault)
            case Action.ACCEPT:
                if not walk.progress.accepted:
                    # A quarantine of RCPT came first and stands; what follows is ended all the same.
                    walk.progress = replace(walk.progress, accepted=rule.id)
                    walk.verdict = walk.progress.held or Verdict(Action.ACCEPT, rule.id, None, rule.because)
            case Action.QUARANTINE:
                held = walk.progress.held or Verdict(Action.QUARANTINE, rule.id, None, rule.because)
                walk.progress = replace(walk.progress, held=held)
                return Judgement(held, walk.progress, walk.fault)
            case Action.GREYLIST:
                return self._greylist(rule, walk)
            case _:
                pass
        return None

    def _mark(self, rule: Rule, walk: Walk) -> None:
        """Records the rule, and does what never is final."""
        progress = replace(walk.progress, fired=(*walk.progress.fired, rule.id))
        match rule.action:
            case Action.TAG:
                tag = Tag(rule.tag, rule.text.fill(walk.facts), rule.id)
                progress = replace(progress, tags=(*progress.tags, tag))
            case Action.NOTE:
                text = rule.text.fill(walk.facts) or rule.because
                progress = replace(progress, notes=(*progress.notes, (rule.id, text)))
            case Action.EXEMPT:
                progress = replace(progress, exempted=progress.exempted | set(rule.exempts))
            case _:
                pass
        walk.progress = progress

    def _greylist(self, rule: Rule, walk: Walk) -> Judgement | None:
        outcome = answer(rule, walk)
        walk.note(rule, Word.FIRED, outcome)
        if rule.id not in walk.progress.fired:
            self._mark(rule, walk)
        return self._waits(rule, outcome, walk, f"{rule.greylist.wait:g}")

    def _limit(self, rule: Rule, walk: Walk) -> Judgement | None:
        """A limit counts in `mode: observe`, too: else nobody could tell what it would have done."""
        outcome = answer(rule, walk)
        over = outcome not in {PASSED, ERROR}
        walk.note(rule, Word.OBSERVED if rule.observe and over else Word.FIRED, outcome)
        if rule.id not in walk.progress.fired:
            self._mark(rule, walk)
            if rule.observe and over:
                observed = (*walk.progress.observed, (rule.id, rule.action.value))
                walk.progress = replace(walk.progress, observed=observed)
        return None if rule.observe else self._waits(rule, outcome, walk, "1")

    def _waits(self, rule: Rule, outcome: str, walk: Walk, wait: str) -> Judgement | None:
        """The end of an effect: the sender comes again later, or the mail goes on."""
        if outcome == PASSED:
            return None
        if outcome == ERROR:
            # The state is a nuisance to spammers, not a wall: without it mail flows.
            if rule.on_error is OnError.DEFER:
                return Judgement(Verdict(Action.DEFER, rule.id, _FAULT, rule.because), walk.progress, walk.fault)
            return None
        values = {**walk.facts, f"{rule.action.value}.wait": outcome.partition(":")[2] or wait}
        reply = rule.reply.fill(values) if rule.reply else None
        return Judgement(Verdict(Action.DEFER, rule.id, reply, rule.because), walk.progress, walk.fault)

    def _standing(self, stage: Stage, progress: Progress) -> Verdict | None:
        """What an earlier stage decided and this one did not overrule."""
        if progress.held is not None:
            return progress.held if stage is Stage.DATA else None
        return Verdict(Action.ACCEPT, progress.accepted) if progress.accepted else None

    def _not_decided(self, rule: Rule, verdict: Verdict, fault: str, walk: Walk) -> Judgement | None:
        """A rule that nobody can decide makes the mail wait; one that only observes is noted down."""
        if not rule.observe:
            return Judgement(replace(verdict, because=rule.because), walk.progress, fault)
        observed = dict.fromkeys((*walk.progress.observed, (rule.id, Action.DEFER.value)))
        walk.progress = replace(walk.progress, observed=tuple(observed))
        walk.fault = walk.fault or fault
        return None

    def _faulty(self, rule: Rule, why: str, walk: Walk) -> Judgement | None:
        fault = f"{rule.when_position}: rule '{rule.id}': {why}"
        walk.note(rule, Word.BROKEN, why)
        return self._not_decided(rule, Verdict(Action.DEFER, rule.id, _FAULT), fault, walk)


def _plainly_not(one: Ready, walk: Walk) -> bool:
    """The short way past most rules: nothing failed, nothing is exempted, and the condition is false."""
    progress = walk.progress
    if one.rule.recipients is not None or progress.exempted or progress.accepted:
        return False
    try:
        return not one.when(walk.facts)
    except Exception:
        return False  # the long way says what it is
