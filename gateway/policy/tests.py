"""Runs the tests of a policy: each mail through all stages in order, as the pipeline would, then the coverage.

A rule that no test reaches (that never fires in any) fails the run: an untested rule is a guess. Pure; no network, no
clock. Called by `gatepost policy test` and before a reload.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.checks.check import Value
from gateway.policy.cases import Case
from gateway.policy.loader import Policy
from gateway.policy.outcome import PASSED
from gateway.policy.rules import EFFECTS, Action, Rule
from gateway.policy.scene import Run, Scene, given, of_case, play

__all__ = ["Outcome", "Report", "Run", "run", "run_tests"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test and why it failed; "" when it passed."""

    case: Case
    run: Run
    failure: str


@dataclass(frozen=True, slots=True)
class Report:
    """All tests, and the rules that none of them reached."""

    outcomes: tuple[Outcome, ...]
    unreached: tuple[Rule, ...]
    rules: int

    @property
    def passed(self) -> bool:
        """True when every test passed and every rule was reached."""
        return not self.unreached and not any(outcome.failure for outcome in self.outcomes)


def run_tests(policy: Policy) -> Report:
    """Every test of the policy."""
    outcomes: list[Outcome] = []
    reached: set[str] = set()
    for case in policy.cases:
        ran = _run(policy.with_lists(case.lists) if case.lists else policy, of_case(case))
        reached |= set(ran.progress.fired)
        if ran.verdict is not None:
            reached.add(ran.verdict.rule)
        outcomes.append(Outcome(case, ran, _failure(policy, case, ran)))
    unreached = tuple(rule for rule in policy.rules if rule.id not in reached)
    return Report(tuple(outcomes), unreached, len(policy.rules))


def run(policy: Policy, facts: Mapping[str, Value], greylist: str = PASSED) -> Run:
    """One mail to one recipient through all stages. `greylist`: how the greylist answers, "passed" or "waiting"."""
    return _run(policy, given(facts, greylist))


def _run(policy: Policy, scene: Scene) -> Run:
    ran = play(policy, scene)
    if ran.unknown:
        raise ValueError(f"a rule asked for {', '.join(ran.unknown)} at {ran.stage.name}")
    return ran


def _failure(policy: Policy, case: Case, ran: Run) -> str:
    """Why the test failed, or ""."""
    found = _shown(policy, ran)
    if ran.fault:
        return f"a rule failed: {ran.fault}"
    verdict = ran.verdict
    ending = policy.rule(verdict.rule) if verdict else None
    match case.action:
        case "none":
            right = verdict is None
        case "accept":
            right = verdict is None or verdict.action is Action.ACCEPT
        case "greylist" | "limit":
            right = verdict is not None and verdict.final and ending is not None and ending.action.value == case.action
        case "reject" | "defer" | "quarantine":
            right = verdict is not None and verdict.action.value == case.action
        case "observe":
            return "" if case.rule in dict(ran.progress.observed) else f"expected that {case.rule} observes; {found}"
        case _:
            fired = {one.id for one in policy.rules if one.id in ran.progress.fired and one.action == case.action}
            right = case.rule in fired if case.rule else bool(fired)
            if not right:
                return f"expected {case.action} by {case.rule or 'some rule'}; {found}"
            return _details(case, ran)
    rule = verdict.rule if verdict else ""
    if not right or (case.rule and case.rule != rule):
        expected = case.action + (f" by {case.rule}" if case.rule else "")
        return f"expected {expected}; {found}"
    return _details(case, ran)


def _details(case: Case, ran: Run) -> str:
    spoken = ran.verdict.reply if ran.verdict else None
    text = " ".join((str(spoken.code), spoken.status, *spoken.text)) if spoken else ""
    if case.reply and not f"{text} ".startswith(f"{case.reply.strip()} "):
        return f"expected the reply '{case.reply}'; it is '{text}'"
    if case.stage and case.stage != ran.stage.name.lower():
        return f"expected at {case.stage}; it ended at {ran.stage.name.lower()}"
    tags = {tag.name: tag.value for tag in ran.progress.tags}
    for name, value in case.tags.items():
        if tags.get(name) != value:
            return f"expected the field '{name}: {value}'; it is '{tags.get(name, 'absent')}'"
    return ""


def _shown(policy: Policy, ran: Run) -> str:
    if ran.verdict is None:
        return "no rule was final"
    rule = policy.rule(ran.verdict.rule)
    waits = rule is not None and rule.action in EFFECTS and ran.verdict.final
    word = rule.action.value if rule is not None and waits else ran.verdict.action.value
    return f"it was {word} by {ran.verdict.rule} at {ran.stage.name.lower()}"
