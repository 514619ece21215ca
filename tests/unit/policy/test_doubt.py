"""A replay whose facts are not all on record: the verdict is known where no value of what lacks would change it."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_folder import policy

from gateway.checks.check import Value
from gateway.mail.terms import Stage
from gateway.policy.cases import CLEAN
from gateway.policy.explain import explain
from gateway.policy.loader import Policy
from gateway.policy.outcome import PASSED, Word
from gateway.policy.replay import Ending, Kind, again
from gateway.policy.scene import Scene, play
from gateway.policy.scene import given as scene_of
from gateway.yamlfile import ConfigError

#: Small domains, so that every completion can be tried.
DOMAINS: dict[str, list[Value]] = {
    "client.tls": [True, False],
    "dnsbl.score": [0, 5],
    "spf.result": ["pass", "fail"],
    "rcpt.count": [1, 2],
    "dmarc.result": ["pass", "fail"],
    "arc.trusted": [True, False],
}
TERMS = [
    "client.tls", "!client.tls", "dnsbl.score > 3", "dnsbl.score < 3", "spf.result == 'fail'", "spf.result == 'pass'",
    "rcpt.count > 1", "dmarc.result == 'fail'", "arc.trusted", "!arc.trusted", "true",
    "message.size > 5 || dnsbl.score > 3", "10 / dnsbl.score == 2", "[1, 2][rcpt.count] == 2",
]  # fmt: skip
OWNER = "owner: us, expires: never"


def rules(*lines: str) -> Policy:
    return policy("rules:\n" + "".join(f"  - {{{line}}}\n" for line in lines))


def blind(*names: str, **facts: Value) -> Scene:
    """A clean mail without these facts."""
    made = scene_of({**CLEAN, **{name.replace("__", "."): value for name, value in facts.items()}}, PASSED)
    return without(made, names)


def without(made: Scene, names: tuple[str, ...]) -> Scene:
    return replace(
        made,
        facts={name: value for name, value in made.facts.items() if name not in names},
        own={name: value for name, value in made.own.items() if name not in names},
    )


EXEMPT = f"id: let, when: dnsbl.score < 0, then: {{exempt: [refuse]}}, {OWNER}"


def test_an_exemption_that_nobody_can_decide_matters_only_where_its_rule_would_fire() -> None:
    found = rules(EXEMPT, "id: refuse, when: dmarc.result == 'fail', then: reject")
    assert again(found, blind("dnsbl.score")) == Ending(Kind.ACCEPTED, "none")
    either = again(found, blind("dnsbl.score", dmarc__result="fail"))
    assert (either.kind, either.rule, either.unknown) == (Kind.UNKNOWN, "let", ("dnsbl.score",))
    both = again(found, blind("dnsbl.score", "dmarc.result"))
    assert (both.kind, both.rule, both.unknown) == (Kind.UNKNOWN, "let", ("dnsbl.score",))
    sooner = rules(EXEMPT, "id: b, when: client.tls, then: reject", "id: refuse, when: arc.trusted, then: reject")
    assert again(sooner, blind("dnsbl.score", arc__trusted=True)).rule == "b"


def test_what_an_undecided_accept_leaves_alone() -> None:
    accept = f"id: known, when: dnsbl.score < 0, then: accept, {OWNER}"
    assert again(rules(accept), blind("dnsbl.score")) == Ending(Kind.ACCEPTED, "none")
    always = rules(accept, "id: last, when: arc.trusted, then: reject, always: true")
    assert again(always, blind("dnsbl.score", arc__trusted=True)).rule == "last"
    other = again(rules(accept, "id: last, when: arc.trusted, then: reject"), blind("dnsbl.score", arc__trusted=True))
    assert (other.kind, other.rule) == (Kind.UNKNOWN, "known")


def test_an_undecided_quarantine_is_overruled_by_a_refusal_of_the_whole_mail() -> None:
    hold, late = "id: hold, when: dnsbl.score > 3, then: quarantine, stage: rcpt", "id: late, when: arc.trusted"
    assert again(rules(hold, f"{late}, then: reject"), blind("dnsbl.score", arc__trusted=True)).rule == "late"
    assert again(rules(hold, f"{late}, then: accept, {OWNER}"), blind("dnsbl.score")).rule == "hold"
    held = rules("id: first, when: client.tls, then: quarantine, stage: rcpt", hold.replace("rcpt", "data"))
    assert again(held, blind("dnsbl.score")).rule == "first"
    here = rules(hold, "id: next, when: rcpt.count > 0, then: reject")  # of the stage that it may have ended
    assert again(here, blind("dnsbl.score")).kind is Kind.UNKNOWN


def test_an_undecided_greylist_that_would_let_pass_is_no_matter() -> None:
    grey = rules("id: grey, when: dnsbl.score > 0, then: greylist")
    assert again(grey, blind("dnsbl.score")).kind is Kind.ACCEPTED
    waits = replace(blind("dnsbl.score"), otherwise={"greylist": "waiting:9"})
    assert again(grey, waits).unknown == ("dnsbl.score",)
    nobody = replace(waits, otherwise={})
    assert again(grey, nobody).unknown == ("the answer to greylist 300/86400/3110400",)
    limit = rules("id: few, when: client.tls, then: {limit: {key: spf.domain, rate: 1/1m}}, mode: observe")
    assert again(limit, replace(blind("spf.domain"), otherwise={})).kind is Kind.ACCEPTED


def test_fields_that_may_not_be_there_are_left_out() -> None:
    tag = "when: client.tls, then: {tag: {name: X-A, value: b}}"
    found = again(rules(EXEMPT.replace("refuse", "mark"), f"id: mark, {tag}"), blind("dnsbl.score"))
    assert (found.kind, found.tags, found.unknown) == (Kind.ACCEPTED, (), ("dnsbl.score",))
    sure = again(rules(EXEMPT.replace("refuse", "other"), f"id: mark, {tag}", "id: other, when: arc.trusted, then: "
        "reject"), blind("dnsbl.score"))  # fmt: skip
    assert (sure.tags, sure.unknown) == ((("X-A", "b"),), ())


def test_a_fact_is_named_once() -> None:
    tag = "id: mark, when: client.tls, then: {tag: {name: X-A, value: b}}"
    accept = f"id: known, when: dnsbl.score < 0, then: accept, {OWNER}"
    refused = again(
        rules(accept, tag, "id: a, when: arc.trusted, then: reject"), blind("dnsbl.score", arc__trusted=True)
    )
    assert (refused.kind, refused.unknown) == (Kind.UNKNOWN, ("dnsbl.score",))
    here = tag.replace("client.tls", "rcpt.count > 0")
    held = again(rules(accept.replace("accept", "quarantine"), here), blind("dnsbl.score"))
    assert (held.kind, held.unknown) == (Kind.UNKNOWN, ("dnsbl.score",))


def test_a_tag_whose_rule_may_break_or_wait_is_no_trifle() -> None:
    tag = "then: {tag: {name: X-A, value: b}}"
    breaks = rules(f"id: a, when: 10 / dnsbl.score == 2, {tag}")
    assert again(breaks, blind("dnsbl.score")).kind is Kind.UNKNOWN
    waits = rules(f"id: a, when: spf.result == 'fail' && dnsbl.score > 3, {tag}")
    failed = replace(blind("dnsbl.score", spf__result="temperror"), failed=frozenset({"spf"}))
    assert again(waits, failed).kind is Kind.UNKNOWN


def test_the_walk_says_who_may_have_kept_a_rule_from_acting() -> None:
    found = rules(EXEMPT, "id: refuse, when: dmarc.result == 'fail', then: reject")
    told = explain(found, blind("dnsbl.score", dmarc__result="fail"))
    assert [(one.rule.id, one.word, one.why) for one in told.walk] == [
        ("let", Word.UNKNOWN, "dnsbl.score"),
        ("refuse", Word.DOUBTFUL, "let"),
    ]
    assert (told.run.stage, told.run.blocked) == (Stage.DATA, "let")


def test_many_undecided_exemptions_are_no_matter_of_two_to_their_number() -> None:
    many = [f"id: e{n}, when: dnsbl.score < -{n}, then: {{exempt: [r{n}]}}, {OWNER}" for n in range(300)]
    found = rules(*many, *(f"id: r{n}, when: dmarc.result == 'fail', then: reject" for n in range(300)))
    assert again(found, blind("dnsbl.score")).kind is Kind.ACCEPTED
    assert again(found, blind("dnsbl.score", dmarc__result="fail")).rule == "e0"


def written(chance: Random) -> Policy:
    """A policy of a few rules of every kind, the first of those tried that is not refused at load."""
    while True:
        with contextlib.suppress(ConfigError):  # an exemption that comes too late, a fact that is not known yet
            return tried(chance)


def tried(chance: Random) -> Policy:
    lines = []
    count = chance.randint(2, 6)
    for number in range(count):
        when = chance.choice([" && ", " || "]).join(chance.sample(TERMS, chance.choice([1, 1, 2])))
        action = chance.choice(["reject", "defer", "accept", "quarantine", "tag", "greylist", "limit", *["exempt"] * 2])
        extra = OWNER
        if action in {"accept", "exempt"} and number == count - 1:
            action = "reject"
        then = {
            "tag": "{tag: {name: X-A, value: 'a{spf.result}'}}",
            "limit": "{limit: {key: client.network, rate: 1/1m}}",
            "exempt": f"{{exempt: [r{chance.randint(min(number + 1, count - 1), count - 1)}]}}",
        }.get(action, action)
        extra += chance.choice(["", "", ", always: true", ", mode: observe", ", stage: data", ", on_error: ignore"])
        if action == "reject" and chance.random() < 0.3:
            extra += ", reply: '550 5.7.1 of {rcpt.count}'" if "stage" not in extra else ""
        lines.append(f'id: r{number}, when: "{when}", then: {then}, {extra}')
    return rules(*lines)


def completions(made: Scene, lost: tuple[str, ...]) -> Iterator[Scene]:
    """The mail with every value of what lacks."""
    for values in product(*(DOMAINS[name] for name in lost)):
        full = made
        for name, value in zip(lost, values, strict=True):
            full = full.changed(name, value)
        yield full


@given(st.integers(0, 2**32))
@settings(max_examples=400, deadline=None)
def test_a_known_verdict_is_that_of_every_completion(seed: int) -> None:
    chance = Random(seed)
    found = written(chance)
    facts = {name: chance.choice(values) for name, values in DOMAINS.items()}
    made = scene_of({**CLEAN, **facts}, chance.choice([PASSED, "waiting"]), chance.choice([PASSED, "over"]))
    failed = {check for check in ("spf", "arc") if chance.random() < 0.1}
    lost = tuple(name for name in DOMAINS if chance.random() < 0.4 and name.partition(".")[0] not in failed)
    made = replace(made, failed=frozenset(failed), size=chance.choice([1, 10]))
    partial = without(made, lost)
    run = play(found, partial)
    ending = Ending.of(found, run)
    if ending.kind is Kind.UNKNOWN:
        return
    for full in completions(made, lost):
        other = Ending.of(found, play(found, full))
        assert other.kind is ending.kind
        assert set(ending.tags) <= set(other.tags)
        if not ending.unknown and ending.rule:
            assert other.tags == ending.tags
        if ending.kind is not Kind.ACCEPTED:
            assert (other.action, other.rule, other.reply) == (ending.action, ending.rule, ending.reply)


def test_most_of_what_is_the_same_in_every_completion_is_known() -> None:
    chance = Random(5)
    known = same = 0
    while same < 300:
        found = written(chance)
        facts = {name: chance.choice(values) for name, values in DOMAINS.items()}
        made, lost = scene_of({**CLEAN, **facts}, PASSED), ("dnsbl.score",)
        endings = {(one.kind, one.rule, one.reply) for one in (again(found, f) for f in completions(made, lost))}
        if len(endings) == 1:
            same += 1
            known += again(found, without(made, lost)).kind is not Kind.UNKNOWN
    assert known > 0.9 * same
