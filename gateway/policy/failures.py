"""What gets in when a check is down: computed by the evaluator over the policy's own tests, never written by hand.

Each mail of the tests is judged as it is, and once more with each check that asks the network failed: its result
"temperror", its other facts empty; and so what rests on it, DMARC on SPF and DKIM, who is known on all three. A policy
without tests is tried on `BASE`. Pure. Called by `gatepost policy check`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.checks.check import Value
from gateway.mail.terms import Result
from gateway.policy.cases import CLEAN
from gateway.policy.functions import under
from gateway.policy.loader import Policy
from gateway.policy.outcome import ERROR
from gateway.policy.replay import Ending, Kind, again
from gateway.policy.scene import PASSES, Scene, given, of_case
from gateway.policy.vocabulary import FACTS

#: Checks that look at what we hold already: they cannot be down.
LOCAL = frozenset({"", "client", "helo", "mail", "author", "content"})
#: Checks that need the state.
STATE = ("history",)
#: Mails for a policy without tests.
BASE: Mapping[str, Mapping[str, Value]] = {
    "a clean mail": {},
    "a stranger": {"spf.result": "none", "client.iprev": "fail", "client.name": "", "dmarc.result": "none"},
    "a spoofed author": {"dmarc.result": "fail", "dmarc.policy": "reject", "dkim.result": "none", "dkim.domains": []},
    "a forged envelope": {"spf.result": "fail", "dmarc.result": "none", "dkim.result": "none", "dkim.domains": []},
    "a mailing list": {"dmarc.result": "fail", "arc.result": "pass", "arc.trusted": True},
}


@dataclass(frozen=True, slots=True)
class Other:
    """A mail that ends otherwise while something is down."""

    name: str
    up: Ending
    down: Ending


@dataclass(frozen=True, slots=True)
class Row:
    """What becomes of all mails while `down` is: a check, "every check", "state", or "" (nothing is down)."""

    down: str
    counts: Mapping[Kind, int]
    others: tuple[Other, ...] = ()


@dataclass(frozen=True, slots=True)
class Matrix:
    """All rows; the first is that of a day without trouble."""

    mails: int
    own: bool  # the mails are those of the policy's tests
    rows: tuple[Row, ...] = field(default_factory=tuple)


def checks_that_fail() -> tuple[str, ...]:
    """The checks that can be down, in the order of the vocabulary."""
    return tuple(dict.fromkeys(known.check for known in FACTS.values() if known.check not in LOCAL))


def matrix(policy: Policy) -> Matrix:
    """The matrix over the policy's tests."""
    mails: list[tuple[str, Policy, Scene]] = [
        (case.name, policy.with_lists(case.lists) if case.lists else policy, of_case(case)) for case in policy.cases
    ]
    own = bool(mails)
    if not own:
        mails = [(name, policy, given({**CLEAN, **facts}, "waiting")) for name, facts in BASE.items()]
    before = [again(one, scene) for _, one, scene in mails]
    rows = [Row("", Counter(ending.kind for ending in before))]
    checks = checks_that_fail()
    for word, failed in [*((check, (check,)) for check in checks), ("every check", checks), ("state", ())]:
        after = [again(one, down(scene, failed) if failed else _stateless(scene)) for _, one, scene in mails]
        others = [
            Other(name, up, now)
            for (name, _, _), up, now in zip(mails, before, after, strict=True)
            if up.kind is not now.kind
        ]
        rows.append(Row(word, Counter(ending.kind for ending in after), tuple(others)))
    return Matrix(len(mails), own, tuple(rows))


def down(scene: Scene, checks: tuple[str, ...]) -> Scene:
    """The same mail while these checks cannot be done, nor what would have needed them."""
    checks = (*checks, *_resting_on(scene.facts, frozenset(checks)))
    empty = {name: _empty(name) for name, known in FACTS.items() if known.check in checks}
    return replace(scene, facts={**scene.facts, **empty}, failed=scene.failed | set(checks))


def _resting_on(facts: Mapping[str, Value], failed: frozenset[str]) -> Iterator[str]:
    """`dmarc` and `history`, where a failed check hides what they would have found (RFC 9989 section 4.4)."""
    author, envelope = str(facts.get("from.org_domain", "")), str(facts.get("mail.domain", ""))
    signed = "dkim" not in failed and any(under(str(each), author) for each in _listed(facts.get("dkim.domains")))
    sent = "spf" not in failed and facts.get("spf.result") == Result.PASS and under(envelope, author)
    hidden = ("dkim" in failed and facts.get("dkim.result") != Result.NONE) or (
        "spf" in failed and under(envelope, author)
    )
    proven, without = signed or sent, facts.get("dmarc.result") == Result.NONE
    dmarc = hidden and not proven and facts.get("dmarc.result") in {Result.PASS, Result.FAIL}
    if dmarc:
        yield "dmarc"
    if dmarc or "dmarc" in failed or (without and not proven and (hidden or "organization" in failed)):
        yield "history"


def _listed(value: Value | None) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _stateless(scene: Scene) -> Scene:
    return replace(down(scene, STATE), outcomes={}, otherwise=dict.fromkeys(PASSES, ERROR))


def _empty(name: str) -> Value:
    known = FACTS[name]
    if "temperror" in known.words:
        return "temperror"
    match known.type:
        case "bool":
            return False
        case "int":
            return 0
        case "string":
            return ""
        case _:
            return []
