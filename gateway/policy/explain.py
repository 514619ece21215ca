"""Why a mail was judged as it was: the walk through the rules, and what would have changed the verdict.

Every rule appears at each of its stages with its place, the facts it names and their values, and what became of it. A
fact that nobody gathered has no value here. Pure: the same policy and scene give the same explanation. Called by
`gatepost policy explain`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.checks.check import Value
from gateway.mail.terms import Stage
from gateway.policy.loader import Policy
from gateway.policy.nearest import Change, changes
from gateway.policy.outcome import Step, Word
from gateway.policy.replay import Ending
from gateway.policy.rules import Rule
from gateway.policy.scene import Run, Scene, play
from gateway.policy.vocabulary import SIZE


@dataclass(frozen=True, slots=True)
class Told:
    """One rule at one stage. A fact that is not in `facts` but in the rule's condition is unknown."""

    rule: Rule
    stage: Stage
    word: Word
    why: str
    facts: Mapping[str, Value]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict explained."""

    ending: Ending
    run: Run
    walk: tuple[Told, ...]
    changes: tuple[Change, ...]  # nearest first


def explain(policy: Policy, scene: Scene, *, search: bool = True) -> Explanation:
    """The walk, and (`search`) what would have changed its end."""
    steps: list[Step] = []
    run = play(policy, scene, steps)
    told = [_told(policy, scene, run, step) for step in steps]
    seen = {(step.rule, step.stage) for step in steps}
    for stage in Stage:
        for rule in policy.engine.rules(stage):
            if (rule.id, stage) not in seen:
                told.append(_told(policy, scene, run, Step(rule.id, stage, Word.UNREACHED, _ended(run, scene))))
    place = {rule.id: number for number, rule in enumerate(policy.rules)}
    told.sort(key=lambda one: (one.stage, place[one.rule.id]))
    found = tuple(changes(policy, scene, run)) if search and not run.blocked else ()
    return Explanation(Ending.of(policy, run), run, tuple(told), found)


def _ended(run: Run, scene: Scene) -> str:
    if run.blocked:
        return f"'{run.blocked}' could not be decided"
    if run.verdict is not None and (run.verdict.final or run.stage is Stage.DATA):
        return f"'{run.verdict.rule}' had decided"
    return f"the mail never came past {scene.until.name}"


def _told(policy: Policy, scene: Scene, run: Run, step: Step) -> Told:
    rule = policy.rule(step.rule)
    assert rule is not None
    values = {**scene.facts, **scene.own}
    if step.stage is Stage.DATA:
        values.pop(SIZE, None)
        if scene.size is not None:
            values[SIZE] = scene.size
    facts = {name: values[name] for name in rule.when.facts if name in values}
    unknown = tuple(name for name in rule.when.facts if name not in values)
    return Told(rule, step.stage, step.word, step.why or _why(policy, run, rule, step.word), facts, unknown)


def _why(policy: Policy, run: Run, rule: Rule, word: Word) -> str:
    match word:
        case Word.EXEMPTED:
            by = [one.id for one in policy.rules if rule.id in one.exempts and one.id in run.progress.fired]
            return ", ".join(by)
        case Word.FIRED | Word.OBSERVED:
            return rule.action.value
        case _:
            return ""
