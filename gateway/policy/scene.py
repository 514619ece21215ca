"""One mail to one recipient, as a policy sees it, and the play of all stages over it.

A `Scene` is everything that a verdict rests on: facts, failed checks, the answers of effects. It comes from a test
(`tests`), from the journal (`replay`), or from a mail that `gatepost` examined (`explain`). `play` is pure: what the
scene does not hold is named as unknown, never guessed; where the verdict is the same whatever it was, it is found all
the same (`doubt`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.checks.check import Value
from gateway.mail.terms import Stage
from gateway.policy.cases import Case
from gateway.policy.doubt import Doubt, Gap
from gateway.policy.loader import Policy
from gateway.policy.outcome import PASSED, UNANSWERED, Effect, Need, Progress, Step, Verdict
from gateway.policy.vocabulary import FACTS, RECIPIENT_FACTS, SIZE

#: Every effect lets the mail go on.
PASSES = {"greylist": PASSED, "limit": PASSED}


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that the verdict on one mail to one recipient rests on."""

    facts: Mapping[str, Value]  # all but the recipient's own
    own: Mapping[str, Value] = field(default_factory=dict)  # `rcpt.*`, and the announced size
    size: int | None = None  # as counted; None where the message never came
    failed: frozenset[str] = frozenset()  # checks
    outcomes: Mapping[str, str] = field(default_factory=dict)  # who asked what (`Effect.entry`) to the answer
    otherwise: Mapping[str, str] = field(default_factory=dict)  # of other effects, by kind; absent is not known
    until: Stage = Stage.DATA

    @property
    def recipient(self) -> str:
        """Whom the mail is for."""
        return str(self.own.get("rcpt.address", ""))

    @property
    def values(self) -> dict[str, Value]:
        """All facts in one, the counted size before the announced one."""
        counted: dict[str, Value] = {} if self.size is None else {SIZE: self.size}
        return {**self.facts, **self.own, **counted}

    def changed(self, name: str, value: Value) -> "Scene":
        """The same scene but for one fact; a check whose result is given anew has not failed."""
        failed = self.failed
        check = FACTS[name].check
        if check and FACTS[name].words:
            failed = failed | {check} if value == "temperror" else failed - {check}
        if name == SIZE and isinstance(value, int):
            size = None if self.size is None else value
            return replace(self, own={**self.own, name: value}, size=size)
        if name in RECIPIENT_FACTS:
            return replace(self, own={**self.own, name: value})
        return replace(self, facts={**self.facts, name: value}, failed=failed)


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one mail: the verdict that ended it (None: no rule was final), where, and the progress.

    `unknown` is what the verdict would need and the scene does not hold; "" in `blocked` means that the verdict stands
    all the same, else it is the rule that could not be decided.
    """

    verdict: Verdict | None
    stage: Stage
    progress: Progress
    fault: str = ""
    unknown: tuple[str, ...] = ()
    blocked: str = ""


def given(facts: Mapping[str, Value], greylist: str, limit: str = PASSED) -> Scene:
    """The scene of a test: every fact in one mapping, failed checks by their result; "passed", or effects bite."""
    failed = frozenset(FACTS[name].check for name in facts if FACTS[name].check and facts[name] == "temperror")
    own = {name: value for name, value in facts.items() if name in RECIPIENT_FACTS or name == SIZE}
    size = facts.get(SIZE)
    return Scene(
        {name: value for name, value in facts.items() if name not in own},
        own,
        size if isinstance(size, int) else None,
        failed,
        otherwise={
            "greylist": PASSED if greylist == PASSED else "waiting:300",
            "limit": PASSED if limit == PASSED else "waiting:60",
        },
    )


def of_case(case: Case) -> Scene:
    """The scene of a test that stands in a policy file."""
    return given(case.facts, case.greylist, case.limit)


def play(policy: Policy, scene: Scene, steps: list[Step] | None = None) -> Run:
    """All stages in order, as the pipeline would ask them. `steps` gets the walk through the rules."""
    doubt = Doubt()
    progress, fault = Progress(doubt=doubt), ""
    verdict: Verdict | None = None
    early: Mapping[str, Value] = {**scene.facts, **scene.own}
    late: Mapping[str, Value] = scene.facts if scene.size is None else {**scene.facts, SIZE: scene.size}
    stage = Stage.CONNECT
    for stage in Stage:
        if stage > scene.until:
            break
        facts = late if stage is Stage.DATA else early
        recipient = scene.recipient if stage >= Stage.RCPT else None
        while True:
            walk: list[Step] | None = None if steps is None else []
            judged = policy.judge(stage, facts, progress, recipient, scene.failed, walk)
            if not isinstance(judged.outcome, Effect):
                break
            effect = judged.outcome
            answer = effect.answer(scene.outcomes) or scene.otherwise.get(effect.kind) or UNANSWERED
            progress = progress.with_outcome(effect.rule, answer)
        if steps is not None and walk is not None:
            steps += walk
        progress, fault = judged.progress, fault or judged.fault
        doubt = progress.doubt or doubt
        match judged.outcome:
            case Need(facts=names, rule=rule):
                return Run(verdict, stage, progress, fault, doubt.lacking(Gap(rule, names)).missing, rule)
            case Verdict() as found:
                verdict = found
                if found.final:
                    return Run(verdict, stage, progress, fault, doubt.missing)
    stage = min(stage, scene.until)
    if doubt.held is not None:
        return Run(verdict, stage, progress, fault, doubt.lacking(doubt.held).missing, doubt.held.rule)
    return Run(verdict, stage, progress, fault, doubt.missing)
