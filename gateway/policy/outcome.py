"""What a judgement gives: a verdict, something to do first, and the progress that goes into the next one.

All frozen values: the journal keeps them, `explain` and `replay` compare them. Made by `judge`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.mail.reply import Reply
from gateway.mail.terms import Stage
from gateway.policy.doubt import Doubt
from gateway.policy.rules import Action, Greylist, Limit

#: Words that come back from an effect.
PASSED, ERROR = "passed", "error"
#: In a replay: nobody recorded what the effect answered.
UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A final action. `reply` is None where the mail goes on (accept, quarantine). `now`: not to wait for RCPT."""

    action: Action
    rule: str
    reply: Reply | None = None
    because: str = ""
    now: bool = False

    @property
    def final(self) -> bool:
        """True when the mail does not go on: rejected or deferred."""
        return self.action in {Action.REJECT, Action.DEFER}


@dataclass(frozen=True, slots=True)
class Effect:
    """Something to do before the verdict: ask the greylist or count, then judge again with the outcome."""

    rule: str
    kind: str  # "greylist", "limit"
    parameters: Greylist | Limit
    subject: str = ""  # of a limit: the value of its key

    @property
    def label(self) -> str:
        """The question itself, whichever rule asks it."""
        asked = self.parameters
        if isinstance(asked, Limit):
            return f"{self.kind} {asked.key}={self.subject} {asked.rate}/{asked.per:.12g}"
        return f"{self.kind} {asked.wait:.12g}/{asked.window:.12g}/{asked.keep:.12g}"

    @property
    def entry(self) -> str:
        """Who asked, and what: under this word the journal keeps the outcome. Each rule has a limit of its own."""
        return f"{self.rule} {self.label}"

    def answer(self, outcomes: Mapping[str, str]) -> str:
        """The recorded outcome; "" where there is none, or where others who asked the same heard different things.

        Others, because a rule that has got another id still asks the same.
        """
        if own := outcomes.get(self.entry):
            return own
        others = {found for word, found in outcomes.items() if self.label in {word, word.partition(" ")[2]}}
        return others.pop() if len(others) == 1 else ""


@dataclass(frozen=True, slots=True)
class Need:
    """Facts without which the rule that is next cannot be decided."""

    facts: frozenset[str]
    rule: str


@dataclass(frozen=True, slots=True)
class Tag:
    """A header field to add."""

    name: str
    value: str
    rule: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What the policy did so far: part of every later judgement, never changed in place."""

    accepted: str = ""  # the rule that ended the policy
    held: Verdict | None = None  # a quarantine of RCPT, carried to DATA
    exempted: frozenset[str] = frozenset()
    tags: tuple[Tag, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()  # rule, text
    observed: tuple[tuple[str, str], ...] = ()  # rule in `mode: observe`, the action it would have taken
    fired: tuple[str, ...] = ()  # every rule whose action was taken, in order
    skipped: tuple[tuple[str, str], ...] = ()  # rule, the failed check for which `on_error: ignore` left it out
    outcomes: tuple[tuple[str, str], ...] = ()  # rule, outcome of its effect
    doubt: Doubt | None = None  # in a replay: what may have happened; None: facts that lack can be asked for

    def with_outcome(self, rule: str, outcome: str) -> "Progress":
        """The same after an effect: "passed", "waiting:SECONDS", "error" or "unanswered"."""
        return replace(self, outcomes=(*self.outcomes, (rule, outcome)))


class Word(StrEnum):
    """What became of a rule when its stage was judged."""

    FIRED = "fired"
    OBSERVED = "observed"  # it would have acted
    FALSE = "false"  # its condition is
    OTHERS = "for"  # it is about other recipients
    EXEMPTED = "exempted"  # another rule switched it off
    ACCEPTED = "accepted"  # an accept had ended the policy
    IGNORED = "ignored"  # a check failed, and `on_error` leaves the rule out
    WAITED = "waited"  # a check failed, and the mail must wait
    BROKEN = "broken"  # a fault in the rule: the mail must wait
    UNKNOWN = "unknown"  # it names a fact that nobody gathered
    DOUBTFUL = "doubtful"  # its condition is true, and a rule that nobody can decide may have switched it off
    UNREACHED = "unreached"  # a final rule came first


@dataclass(frozen=True, slots=True)
class Step:
    """One rule at one stage: for explanations."""

    rule: str
    stage: Stage
    word: Word
    why: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome of one stage. None: no rule was final. `fault`: an error of ours in a rule, for the log."""

    outcome: Verdict | Effect | Need | None
    progress: Progress
    fault: str = ""
