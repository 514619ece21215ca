"""Scenes: played as the pipeline would; what is not there is named, and stands in the way only where it decides."""

from dataclasses import replace

import pytest
from policy_folder import policy

from gateway.mail.terms import Stage
from gateway.policy.cases import CLEAN
from gateway.policy.outcome import Step, Word
from gateway.policy.rules import Action
from gateway.policy.scene import Scene, given, play
from gateway.policy.tests import run

RULES = policy(
    """\
    rules:
      - {id: watch, when: arc.trusted, then: reject, mode: observe}
      - {id: wait, when: spf.result == "none", then: {greylist: {wait: 1m, window: 1h, keep: 2d}}}
      - {id: mark, when: message.list_id != "", then: {tag: {name: X-List, value: "yes"}}}
      - {id: big, when: message.size > 5, then: reject, reply: 552 5.3.4 Too big}
      - {id: end, when: dmarc.result == "fail", then: defer}
    """
)
LABEL = "greylist 60/3600/172800"


def scene(**changes: object) -> Scene:
    facts = {**CLEAN, "message.size": 1, **{name.replace("__", "."): value for name, value in changes.items()}}
    return given(facts, "passed")  # type: ignore[arg-type]


def without(found: Scene, *names: str) -> Scene:
    return replace(found, facts={name: value for name, value in found.facts.items() if name not in names})


def test_the_answer_of_an_effect_comes_from_the_scene() -> None:
    stranger = replace(scene(spf__result="none"), otherwise={})
    unknown = play(RULES, stranger)
    assert (unknown.verdict, unknown.unknown, unknown.blocked) == (None, (f"the answer to {LABEL}",), "wait")
    waits = play(RULES, replace(stranger, outcomes={LABEL: "waiting:7"}))
    assert waits.verdict is not None
    assert (waits.verdict.rule, waits.stage) == ("wait", Stage.RCPT)
    assert play(RULES, replace(stranger, outcomes={LABEL: "passed"})).verdict is None


def test_what_is_not_known_stands_in_the_way_only_where_it_decides() -> None:
    marked = play(RULES, without(scene(), "arc.trusted", "message.list_id"))
    assert (marked.verdict, marked.unknown, marked.blocked) == (None, ("arc.trusted", "message.list_id"), "")
    blind = play(RULES, without(scene(), "dmarc.result"))
    assert (blind.verdict, blind.unknown, blind.blocked, blind.stage) == (None, ("dmarc.result",), "end", Stage.DATA)
    first = play(RULES, without(scene(message__size=6), "dmarc.result"))
    assert first.verdict is not None
    assert (first.verdict.rule, first.unknown) == ("big", ())


def test_announced_and_counted_size() -> None:
    lied = replace(scene(message__size=1), size=9)
    ran = play(RULES, lied)
    assert ran.verdict is not None
    assert (ran.verdict.rule, ran.stage) == ("big", Stage.DATA)
    assert lied.values["message.size"] == 9
    early = replace(lied, until=Stage.RCPT, size=None)
    assert (play(RULES, early).verdict, play(RULES, early).stage) == (None, Stage.RCPT)
    assert early.values["message.size"] == 1


def test_a_changed_fact() -> None:
    one = scene(dmarc__result="temperror")
    assert one.failed == {"dmarc"}
    assert one.changed("dmarc.result", "fail").failed == frozenset()
    assert one.changed("spf.result", "temperror").failed == {"dmarc", "spf"}
    assert one.changed("message.size", 6).size == 6
    assert one.changed("rcpt.known", "no").own["rcpt.known"] == "no"
    assert one.changed("arc.trusted", True).facts["arc.trusted"] is True
    assert replace(one, size=None).changed("message.size", 6).size is None
    assert one.recipient == "user@example.com"


def test_a_test_gives_every_fact() -> None:
    with pytest.raises(ValueError, match=r"asked for spf.result at RCPT"):
        run(RULES, {}, "waiting")


def test_steps() -> None:
    walked: list[Step] = []
    ran = play(RULES, scene(spf__result="none", dmarc__result="fail", arc__trusted=True), walked)
    assert ran.verdict is not None
    assert ran.verdict.action is Action.DEFER
    assert [(step.rule, step.stage, step.word, step.why) for step in walked] == [
        ("wait", Stage.RCPT, Word.FIRED, "passed"),
        ("big", Stage.RCPT, Word.FALSE, ""),
        ("watch", Stage.DATA, Word.OBSERVED, ""),
        ("mark", Stage.DATA, Word.FALSE, ""),
        ("big", Stage.DATA, Word.FALSE, ""),
        ("end", Stage.DATA, Word.FIRED, ""),
    ]
