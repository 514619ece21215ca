"""Verdicts: order, stages, exemptions, effects, failed checks, faults of ours."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_folder import policy

from gateway.mail.terms import Stage
from gateway.policy.cases import CLEAN
from gateway.policy.judge import Effect, Judgement, Need, Progress, Tag, Verdict
from gateway.policy.loader import Policy
from gateway.policy.rules import Action, Greylist
from gateway.policy.vocabulary import FACTS

CONNECT, HELO, MAIL, RCPT, DATA = Stage
START = Progress()


def rules(*lines: str) -> Policy:
    """Rules written on one line each: `id: a, when: ..., then: ...`."""
    keys = "id|when|then|reply|because|mode|on_error|owner|expires|always|speak|stage"
    return policy(
        "rules:\n" + "".join("  - " + re.sub(rf", (?=(?:{keys}): )", "\n    ", line) + "\n" for line in lines)
    )


def judge(
    found: Policy, stage: Stage, progress: Progress = START, failed: tuple[str, ...] = (), **given: Any
) -> Judgement:
    facts = {**CLEAN, **{name.replace("__", "."): value for name, value in given.items()}}
    return found.judge(stage, facts, progress, "user@example.com", failed)


def verdict(judgement: Judgement) -> Verdict:
    assert isinstance(judgement.outcome, Verdict), judgement
    return judgement.outcome


def test_first_final_action_wins_in_file_order() -> None:
    found = rules(
        "id: a, when: spf.result == 'fail', then: reject",
        "id: b, when: spf.result != 'pass', then: defer, because: why not",
        "id: c, when: spf.result != 'pass', then: reject",
    )
    assert verdict(judge(found, MAIL, spf__result="fail")).rule == "a"
    second = verdict(judge(found, MAIL, spf__result="none"))
    assert (second.action, second.rule, second.because) == (Action.DEFER, "b", "why not")
    assert second.final
    assert judge(found, MAIL).outcome is None
    assert judge(found, DATA, spf__result="fail").outcome is None  # asked once, at its stage


def test_default_replies_and_filled_ones() -> None:
    found = rules(
        "id: a, when: spf.result == 'fail', then: reject",
        "id: b, when: spf.result == 'none', then: defer",
        'id: c, when: mail.is_null, then: reject, reply: "550 5.7.9 {mail.address} {{x}} {client.tls}"',
        "id: d, when: spf.result == 'softfail', then: reject, reply: 551 5.7.2",
    )
    assert verdict(judge(found, MAIL, spf__result="fail")).reply.encode() == b"550 5.7.1 Refused by policy\r\n"  # type: ignore[union-attr]
    assert verdict(judge(found, MAIL, spf__result="none")).reply.encode() == b"451 4.7.1 Try again later\r\n"  # type: ignore[union-attr]
    assert verdict(judge(found, MAIL, spf__result="softfail")).reply.encode() == b"551 5.7.2 Refused by policy\r\n"  # type: ignore[union-attr]
    hostile = 'a\r\n250 ok\x00\u2028"' + "x" * 1000
    said = verdict(judge(found, MAIL, mail__is_null=True, mail__address=hostile)).reply
    assert said is not None
    assert said.encode().startswith(b'550 5.7.9 a??250 ok??"xxx')
    assert said.encode().endswith(b"... {x} true\r\n")
    assert len(said.encode()) < 300


def test_accept_ends_the_policy_but_for_always() -> None:
    found = rules(
        "id: in, when: client.tls, then: accept, owner: us, expires: never",
        "id: out, when: spf.result == 'fail', then: reject",
        "id: mark, when: client.tls, always: true, then: {tag: {name: X-A, value: b}}",
        "id: never, when: message.hops > 100, always: true, then: reject",
        "id: later, when: message.hops > 1, then: reject",
    )
    first = judge(found, CONNECT)
    assert verdict(first).action is Action.ACCEPT
    assert not verdict(first).final
    assert first.progress.tags == (Tag("X-A", "b", "mark"),)
    second = judge(found, MAIL, first.progress, spf__result="fail")
    assert verdict(second).rule == "in"
    assert verdict(judge(found, DATA, second.progress)).action is Action.ACCEPT
    assert verdict(judge(found, DATA, second.progress, message__hops=101)).rule == "never"
    assert found.needs(DATA, second.progress) == {"message.hops"}


def test_exempt_is_narrow() -> None:
    found = rules(
        "id: let, when: client.name == 'mail.example.net', then: {exempt: [a]}, owner: us, expires: never",
        "id: a, when: message.hops > 1, then: reject",
        "id: b, when: message.hops > 5, then: reject",
    )
    progress = judge(found, CONNECT).progress
    assert progress.exempted == {"a"}
    assert judge(found, DATA, progress).outcome is None
    assert verdict(judge(found, DATA, progress, message__hops=6)).rule == "b"
    assert verdict(judge(found, DATA)).rule == "a"


def test_size_is_judged_twice_and_lets_nothing_in_early() -> None:
    found = rules(
        "id: big, when: message.size > 1 * MB, then: reject, reply: 552 5.3.4 Too big",
        "id: small, when: message.size < 1 * KB, then: accept, owner: us, expires: never",
        "id: tag, when: message.size < 5 * KB, then: {tag: {name: X-Small, value: '{message.size}'}}",
    )
    assert verdict(judge(found, RCPT, message__size=1_000_001)).rule == "big"
    early = judge(found, RCPT, message__size=0)  # no SIZE declared: a word that costs nothing
    assert early == Judgement(None, Progress())
    assert verdict(judge(found, DATA, message__size=1_000_001)).rule == "big"
    assert verdict(judge(found, DATA, message__size=900)).rule == "small"
    assert judge(found, DATA, message__size=2000).progress.tags == (Tag("X-Small", "2000", "tag"),)


def test_recipients() -> None:
    found = policy(
        """\
        rules:
          - {id: a, for: [User@example.com, "@sub.example.org"], when: message.hops > 0, then: reject}
          - {id: b, for: vips, when: message.hops > 0, then: defer}
          - {id: c, for: vips, then: {note: "a vip"}}
        """,
        vips="boss@example.com\nvip.example\n",
    )

    def at_data(recipient: str) -> str:
        outcome = found.judge(DATA, CLEAN, Progress(), recipient).outcome
        return outcome.rule if isinstance(outcome, Verdict) else ""

    assert [at_data(r) for r in ("USER@example.com", "x@Sub.example.org", "x@example.org")] == ["a", "a", ""]
    assert [at_data(r) for r in ("boss@EXAMPLE.com", "any@vip.example", "x@example.com")] == ["b", "b", ""]
    assert found.judge(RCPT, CLEAN, Progress(), "boss@example.com").progress.notes == (("c", "a vip"),)
    assert found.data_class("user@example.com") == found.data_class("a@sub.example.org")
    assert found.data_class("boss@example.com") != found.data_class("user@example.com")
    assert found.data_class("x@example.com") == found.data_class("y@example.net")
    assert found.needs(DATA, recipient="x@example.com") == frozenset()


def test_what_rcpt_did_splits_classes() -> None:
    found = rules(
        "id: let, when: rcpt.address == 'a@example.com', then: {exempt: [x]}, owner: us, expires: never",
        "id: mark, when: rcpt.address == 'b@example.com', then: {tag: {name: X-A, value: b}}",
        "id: aside, when: rcpt.address == 'c@example.com', then: quarantine",
        "id: in, when: rcpt.address == 'd@example.com', then: accept, owner: us, expires: never",
        "id: x, when: message.hops > 1, then: reject",
    )
    classes = set()
    for name in "abcde":
        recipient = f"{name}@example.com"
        facts = {**CLEAN, "rcpt.address": recipient}
        progress = found.judge(RCPT, facts, Progress(), recipient).progress
        classes.add(found.data_class(recipient, progress))
    assert len(classes) == 4  # a and d: for both no rule of DATA is left


def test_quarantine_at_rcpt_stands_unless_refused() -> None:
    found = rules(
        "id: aside, when: spf.result == 'none', then: quarantine",
        "id: out, when: message.hops > 9, then: reject",
        "id: in, when: message.hops > 1, then: accept, owner: us, expires: never",
        "id: late, when: message.hops > 1, then: reject",
    )
    first = judge(found, RCPT, spf__result="none")
    assert verdict(first).action is Action.QUARANTINE
    assert not verdict(first).final
    assert verdict(judge(found, DATA, first.progress, message__hops=10)).rule == "out"
    assert verdict(judge(found, DATA, first.progress, message__hops=3)).rule == "aside"
    assert verdict(judge(found, DATA, first.progress, message__hops=0)).rule == "aside"


def test_greylist_is_an_effect() -> None:
    found = rules(
        "id: wait, when: spf.result == 'none', then: {greylist: {wait: 1m, window: 1h, keep: 2d}}",
        "id: next, when: rcpt.known == 'no', then: reject",
    )
    asked = judge(found, RCPT, spf__result="none")
    assert asked.outcome == Effect("wait", "greylist", Greylist(60, 3600, 172_800))
    waiting = judge(found, RCPT, asked.progress.with_outcome("wait", "waiting:42"), spf__result="none")
    assert verdict(waiting).reply.encode() == b"451 4.7.1 Greylisted; try again in 42 seconds\r\n"  # type: ignore[union-attr]
    passed = judge(found, RCPT, asked.progress.with_outcome("wait", "passed"), spf__result="none", rcpt__known="no")
    assert verdict(passed).rule == "next"
    assert passed.progress.fired == ("wait", "next")
    assert judge(found, RCPT, asked.progress.with_outcome("wait", "error"), spf__result="none").outcome is None
    strict = rules("id: wait, when: spf.result == 'none', then: greylist, on_error: defer")
    lost = judge(strict, RCPT, Progress().with_outcome("wait", "error"), spf__result="none")
    assert verdict(lost).reply.encode().startswith(b"451 4.3.0 ")  # type: ignore[union-attr]


def test_observe_is_never_final() -> None:
    found = rules(
        "id: o, when: spf.result == 'none', then: reject, mode: observe",
        "id: g, when: spf.result == 'none', then: greylist, mode: observe",
        "id: t, when: spf.result == 'none', then: {tag: {name: X-A, value: b}}, mode: observe",
        "id: i, when: dkim.domains[9] == 'x', then: reject, mode: observe",
        "id: last, when: message.hops > 1, then: defer",
    )
    progress = Progress()
    for stage in Stage:
        judgement = judge(found, stage, progress, spf__result="none")
        progress = judgement.progress
    assert progress.observed == (("o", "reject"), ("t", "tag"), ("g", "greylist"), ("i", "defer"))
    assert progress.tags == ()
    assert verdict(judgement).rule == "last"
    assert "rule 'i': index 9" in judgement.fault


def test_a_size_rule_observes_once() -> None:
    found = rules("id: o, when: message.size > 5, then: reject, mode: observe")
    progress = judge(found, DATA, judge(found, RCPT).progress).progress
    assert progress.observed == (("o", "reject"),)
    assert progress.fired == ("o",)


def test_it_asks_for_what_it_needs() -> None:
    found = rules(
        'id: a, when: message.hops > 100 || dmarc.result == "fail" && dmarc.policy == "reject", '
        'then: reject, reply: "550 5.7.1 {dmarc.domain}"',
        "id: b, when: dkim.result == 'fail', then: reject",
    )
    first = found.judge(DATA, {"message.hops": 3}, Progress(), "u@example.com")
    assert first.outcome == Need(frozenset({"dmarc.result", "dmarc.policy", "dmarc.domain"}), "a")
    loop = found.judge(DATA, {"message.hops": 101}, Progress(), "u@example.com")
    assert loop.outcome == Need(frozenset({"dmarc.domain"}), "a")  # decided, and the reply names a fact
    second = found.judge(DATA, {"message.hops": 3, "dmarc.result": "pass"}, Progress(), "u@example.com")
    assert second.outcome == Need(frozenset({"dkim.result"}), "b")
    assert found.needs(DATA) == {"message.hops", "dmarc.result", "dmarc.policy", "dmarc.domain", "dkim.result"}


def test_failed_checks() -> None:
    found = rules("id: a, when: dmarc.result == 'fail' && message.hops > 1, then: reject")
    down = {"dmarc__result": "temperror"}
    waits = judge(found, DATA, failed=("dmarc",), **down)
    assert verdict(waits).reply.encode().startswith(b"451 4.4.3 ")  # type: ignore[union-attr]
    assert verdict(waits).rule == "a"
    assert judge(found, DATA, failed=("dmarc",), message__hops=1, **down).outcome is None  # decided without it
    lax = rules("id: a, when: dmarc.result == 'fail', then: reject, on_error: ignore")
    skipped = judge(lax, DATA, failed=("dmarc",), **down)
    assert (skipped.outcome, skipped.progress.skipped) == (None, (("a", "dmarc"),))
    name = rules("id: a, when: client.iprev == 'fail', then: reject")
    assert judge(name, CONNECT, failed=("iprev",), client__iprev="temperror").outcome is None  # ignored by default
    aware = rules("id: a, when: spf.result in ['none', 'temperror'], then: reject")
    assert verdict(judge(aware, MAIL, failed=("spf",), spf__result="temperror")).action is Action.REJECT
    both = rules("id: a, when: dmarc.result == 'temperror' && spf.result == 'pass', then: reject, stage: data")
    assert verdict(judge(both, DATA, failed=("dmarc", "spf"), spf__result="temperror", **down)).action is Action.DEFER
    need = found.judge(DATA, {"dmarc.result": "temperror"}, Progress(), "u@example.com", ("dmarc",))
    assert need.outcome == Need(frozenset({"message.hops"}), "a")
    watched = rules("id: a, when: dmarc.result == 'fail', then: reject, mode: observe")
    assert judge(watched, DATA, failed=("dmarc",), **down).progress.observed == (("a", "defer"),)


@pytest.mark.parametrize("when", ["dkim.domains[7] == 'a'", "1 / (message.hops - 2) == 1"])
def test_a_rule_that_breaks_defers(when: str) -> None:
    judgement = judge(rules(f'id: a, when: "{when}", then: reject'), DATA)
    assert verdict(judgement).reply.encode() == b"451 4.3.0 Local error; try again later\r\n"  # type: ignore[union-attr]
    assert judgement.fault.startswith("policy.yaml:3:11: rule 'a': ")


def test_a_wrong_type_from_a_check_is_our_fault_not_theirs() -> None:
    judgement = judge(rules("id: a, when: message.hops > 3, then: reject"), DATA, message__hops=None)
    assert verdict(judgement).action is Action.DEFER
    assert "TypeError" in judgement.fault


def test_speak_now() -> None:
    found = rules(
        "id: a, when: client.early_talker, then: reject, speak: now", "id: b, when: mail.is_null, then: defer"
    )
    assert verdict(judge(found, CONNECT, client__early_talker=True)).now
    assert [found.speaks_now(stage) for stage in Stage] == [True, False, False, False, False]


MANY = rules(
    "id: r1, when: client.iprev == 'pass' && spf.result == 'fail', then: {exempt: [r4, r6]}, owner: us, expires: never",
    "id: r2, when: rcpt.known == 'no' || client.tls, then: reject",
    "id: r3, when: spf.result == 'none', then: greylist",
    "id: r4, when: dmarc.result == 'fail' && dmarc.policy == 'reject' && !arc.trusted, then: reject",
    'id: r5, when: "dkim.domains.exists(d, under(from.domain, d)) && message.size > 5", then: accept, '
    "owner: us, expires: never",
    "id: r6, when: message.hops > 2, then: quarantine",
    "id: r7, when: dkim.result != 'pass', always: true, then: {tag: {name: X-A, value: '{dkim.result}'}}",
)
_VALUES = {
    "bool": st.booleans(),
    "int": st.sampled_from([0, 1, 3, 30_000]),
    "list<string>": st.lists(st.sampled_from(["a.example", "b.example"]), max_size=2),
}
_FACTS = st.fixed_dictionaries(
    {
        name: st.sampled_from(sorted(known.words))
        if known.words
        else _VALUES.get(known.type, st.sampled_from(["a.example", "b.example", ""]))
        for name, known in FACTS.items()
    }
)


@given(_FACTS, st.sets(st.sampled_from(["spf", "dkim", "dmarc", "iprev", "arc"])), st.randoms())
@settings(max_examples=200, deadline=None)
def test_a_verdict_is_a_pure_function(facts: dict[str, Any], failed: set[str], chance: Any) -> None:
    shuffled = list(facts.items())
    chance.shuffle(shuffled)
    for stage in Stage:
        once = MANY.judge(stage, facts, Progress(), "u@example.com", failed)
        assert once == MANY.judge(stage, dict(shuffled), Progress(), "u@example.com", frozenset(failed))
        # Lazily, asking fact by fact, the verdict is the same.
        some: dict[str, Any] = {}
        while isinstance((lazy := MANY.judge(stage, some, Progress(), "u@example.com", failed)).outcome, Need):
            assert not lazy.outcome.facts & some.keys()
            some.update({name: facts[name] for name in lazy.outcome.facts})
        assert lazy.outcome == once.outcome
        assert lazy.progress.tags == once.progress.tags
