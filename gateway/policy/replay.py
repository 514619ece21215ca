"""The past judged again: recorded transactions, or the tests of policies, under another policy.

A transaction is taken apart into one `Hearing` a recipient that the policy was asked about: its scene, and what the
policy said then. What the frame refuses (relaying, syntax, limits, loops) is no policy's and is left out. Verdicts are
compared by what the sender meets: accepted, refused, deferred, quarantined; that another rule says the same is counted
and is no difference. What the old policy did not gather makes a verdict unknown, with the names of the facts. Pure;
called by `gatepost policy replay` and `policy diff`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from gateway.checks.check import Value
from gateway.journal.entry import Asked, Entry, whole
from gateway.mail.received import HOPS_LIMIT
from gateway.mail.terms import Stage
from gateway.policy.loader import Policy
from gateway.policy.rules import EFFECTS
from gateway.policy.scene import Run, Scene, play
from gateway.policy.vocabulary import RECIPIENT_FACTS, SIZE

#: Examples kept of each kind of difference.
EXAMPLES = 5


class Kind(StrEnum):
    """What a sender meets."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    DEFERRED = "deferred"
    QUARANTINED = "quarantined"
    UNKNOWN = "unknown"


_KINDS = {
    "reject": Kind.REFUSED,
    "defer": Kind.DEFERRED,
    "greylist": Kind.DEFERRED,
    "limit": Kind.DEFERRED,
    "quarantine": Kind.QUARANTINED,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a mail ended, then or now."""

    kind: Kind
    action: str = ""  # "none": no rule was final
    rule: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    reply: str = ""
    unknown: tuple[str, ...] = ()
    open: bool = False  # recorded: the policy let a recipient pass, and the whole mail never came before it

    @classmethod
    def of(cls, policy: Policy, run: Run) -> "Ending":
        """The ending of a play."""
        verdict = run.verdict
        tags = tuple((tag.name, tag.value) for tag in run.progress.tags)
        if run.blocked:
            return cls(Kind.UNKNOWN, "unknown", run.blocked, tags, unknown=run.unknown)
        if verdict is None:
            return cls(Kind.ACCEPTED, "none", "", tags, unknown=run.unknown)
        rule = policy.rule(verdict.rule)
        waits = verdict.final and rule is not None and rule.action in EFFECTS
        word = rule.action.value if rule is not None and waits else verdict.action.value
        reply = " ".join((str(verdict.reply.code), verdict.reply.status, *verdict.reply.text)) if verdict.reply else ""
        return cls(_KINDS.get(word, Kind.ACCEPTED), word, verdict.rule, tags, reply, run.unknown)

    def shown(self) -> str:
        """In words."""
        if self.open:
            return "let pass at RCPT"
        if self.kind is Kind.UNKNOWN:
            return f"unknown: '{self.rule}' needs {', '.join(self.unknown)}"
        if not self.rule:
            return "accepted" if self.kind is Kind.ACCEPTED else self.action
        return f"{self.action} by {self.rule}"


@dataclass(frozen=True, slots=True)
class Hearing:
    """One recipient of a recorded transaction: what there was to judge, and what the policy said."""

    scene: Scene
    then: Ending


def hearings(entry: Entry) -> Iterator[Hearing]:
    """All that a policy was asked about this transaction."""
    facts = {
        name: cast(Value, value)
        for name, value in entry.facts.items()
        if name not in RECIPIENT_FACTS and name != SIZE and whole(value)
    }
    failed = frozenset(entry.failed)
    hops = facts.get("message.hops", 0)
    judged = bool(entry.judged.action) and not (isinstance(hops, int) and hops > HOPS_LIMIT)
    until: Stage
    for asked in entry.asked:
        if asked.action:
            # Refused before DATA. Whoever lets it pass may need the message, which may have come for others; and where
            # it was spoken before RCPT (`speak: now`), there is no recipient to go on with.
            spoken = Stage[asked.stage.upper()]
            then, until = _then(asked.action, asked.rule), Stage.DATA if spoken is Stage.RCPT else spoken
        elif judged and asked.taken:
            then, until = _then(entry.judged.action, entry.judged.rule, entry.judged.tags), Stage.DATA
        else:  # it passed RCPT, and then came the frame, the backend, or the end of the connection
            then, until = Ending(Kind.ACCEPTED, "none", open=True), Stage.RCPT
        scene = Scene(
            facts,
            _own(asked),
            entry.size if judged and until is Stage.DATA else None,
            failed,
            {**entry.judged.outcomes, **asked.outcomes},
            until=until,
        )
        yield Hearing(scene, then)


def _own(asked: Asked) -> dict[str, Value]:
    return {name: cast(Value, value) for name, value in asked.facts.items() if whole(value)}


def _then(action: str, rule: str, tags: tuple[tuple[str, str], ...] = ()) -> Ending:
    return Ending(_KINDS.get(action, Kind.ACCEPTED), action if rule else "none", rule, tags)


def again(policy: Policy, scene: Scene) -> Ending:
    """The ending under this policy."""
    return Ending.of(policy, play(policy, scene))


@dataclass(frozen=True, slots=True)
class Example:
    """One case that ends otherwise."""

    case: str  # a transaction's id, or the place of a test
    about: str  # who sent what to whom, or the name of the test
    before: Ending
    after: Ending


@dataclass(slots=True)
class Tally:
    """Cases compared, and what differs."""

    cases: int = 0
    same: int = 0
    other_rule: int = 0  # the same by another rule: no difference
    counts: Counter[str] = field(default_factory=Counter)  # "newly refused" ... to how many
    examples: dict[str, list[Example]] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)  # fact to how many cases need it
    rules: Counter[str] = field(default_factory=Counter)  # rule that decides now, of those that differ

    def add(self, case: str, about: str, before: Ending, after: Ending) -> None:
        """Compares one case."""
        self.cases += 1
        self.unknown.update((*before.unknown, *after.unknown))
        if before.open and after.kind in {Kind.ACCEPTED, Kind.QUARANTINED}:
            self.same += 1  # what would be added to the mail, and where it would go, nobody knows: it never came
            return
        if Kind.UNKNOWN in {before.kind, after.kind}:
            word = "unknown"
        elif before.kind is not after.kind:
            word = f"newly {after.kind}"
        elif after.kind in {Kind.ACCEPTED, Kind.QUARANTINED} and _other_tags(before, after):
            word = "newly tagged"
        else:
            self.same += 1
            self.other_rule += before.rule != after.rule
            return
        self.counts[word] += 1
        self.rules[after.rule or before.rule] += word != "unknown"
        kept = self.examples.setdefault(word, [])
        if len(kept) < EXAMPLES:
            kept.append(Example(case, about, before, after))

    @property
    def differs(self) -> bool:
        """True when some case ends otherwise; what is unknown is none."""
        return any(count for word, count in self.counts.items() if word != "unknown")

    def plain(self) -> Mapping[str, object]:
        """For programs."""
        words = ("newly refused", "newly accepted", "newly deferred", "newly quarantined", "newly tagged", "unknown")
        return {
            "cases": self.cases,
            "same": self.same,
            "by_another_rule": self.other_rule,
            **{word.replace(" ", "_"): self.counts[word] for word in words},
            "unknown_facts": dict(self.unknown.most_common()),
            "examples": {
                word.replace(" ", "_"): [
                    {"case": one.case, "about": one.about, "before": _plain(one.before), "after": _plain(one.after)}
                    for one in found
                ]
                for word, found in self.examples.items()
            },
        }


def _other_tags(before: Ending, after: Ending) -> bool:
    """True when other fields are added for certain: one that lacks may belong to a rule that could not be decided."""
    one, two = set(before.tags), set(after.tags)
    return bool((two - one and not before.unknown) or (one - two and not after.unknown))


def _plain(ending: Ending) -> dict[str, object]:
    return {
        "outcome": ending.kind.value,
        "action": ending.action,
        "rule": ending.rule or None,
        "tags": [list(tag) for tag in ending.tags],
        "unknown": list(ending.unknown),
    }
