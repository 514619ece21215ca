"""Which recipients share a transaction: those of whom DATA will do the same, whatever the message turns out to be."""

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_folder import policy
from test_pure import value

from gateway.checks.check import Value
from gateway.mail.terms import Stage
from gateway.policy import classes
from gateway.policy.loader import Policy
from gateway.policy.outcome import Progress
from gateway.policy.vocabulary import FACTS

ANN, BOB = "ann@example.com", "bob@example.com"
OWN = ", owner: us, expires: never"


def one_rule(when: str, *more: str) -> Policy:
    text = f"rules:\n  - {{id: a, for: {ANN}, when: '{when}', then: reject{''.join(', ' + each for each in more)}}}\n"
    return policy(text, partners="p.example\n")


def share(found: Policy, facts: dict[str, Value], failed: frozenset[str] = frozenset(), announced: int = 0) -> bool:
    """Whether both may share a transaction, as the pipeline asks it."""
    apart = classes.between(found.data_class(ANN), found.data_class(BOB), found.rules)
    return apart is not None and all(
        classes.silent(found.engine, rule, facts, failed, announced) for rule in apart
    )  # fmt: skip


@pytest.mark.parametrize(
    ("when", "together"),
    [
        ('mail.domain == "p.example" && dmarc.result != "pass"', False),
        ('mail.domain == "q.example" && dmarc.result != "pass"', True),
        ('dmarc.result != "pass" && mail.domain == "q.example"', True),
        ('mail.domain == "q.example" || message.hops > 3', False),
        ("message.hops > 3", False),
        ('under(mail.domain, lists.partners) && message.subject == ""', False),
        ('!under(mail.domain, lists.partners) && message.subject == ""', True),
        ('(spf.result == "fail" ? message.hops : 0) > 3', True),
    ],
)
def test_rules_that_are_settled_part_nobody(when: str, together: bool) -> None:
    assert share(one_rule(when), {"mail.domain": "p.example", "spf.result": "pass"}) is together


def test_what_is_not_known_parts() -> None:
    found = one_rule('client.name == "q.example" && message.hops > 3')
    assert not share(found, {})
    assert share(found, {"client.name": ""})


def test_a_failed_check_settles_nothing() -> None:
    found = one_rule('spf.result == "fail" && message.hops > 3')
    facts: dict[str, Value] = {"spf.result": "temperror"}
    assert not share(found, facts, frozenset({"spf"})), "at DATA it makes the mail wait"
    found = one_rule('spf.result in ["fail", "temperror"] && message.hops > 3')
    assert not share(found, facts, frozenset({"spf"}))
    assert share(found, {"spf.result": "pass"})


@pytest.mark.parametrize(
    ("announced", "together"), [(0, False), (100, True), (499, True), (501, False), (900, False), (1500, False)]
)
def test_an_announced_size_settles_with_room_to_spare(announced: int, together: bool) -> None:
    assert share(one_rule("message.size > 1000"), {}, announced=announced) is together
    assert share(one_rule("message.size < 40"), {}, announced=announced) is (announced >= 100)


def test_the_counted_size_is_asked_as_it_is() -> None:
    found = one_rule("message.size > 1000")
    (rule,) = found.rules
    assert classes.silent(found.engine, rule, {"message.size": 1000}, ())
    assert not classes.silent(found.engine, rule, {"message.size": 1001}, ())


@pytest.mark.parametrize(
    ("rule", "divided"),
    [
        ("for: a@example.com, when: message.hops > 1, then: reject", True),
        ("for: filled, when: message.hops > 1, then: reject, mode: observe", True),
        ("for: empty, when: message.hops > 1, then: reject", False),
        ("when: message.hops > 1, then: reject", False),
        ("for: a@example.com, then: reject", False),
        ("for: a@example.com, then: quarantine", True),
        ("for: a@example.com, then: quarantine, mode: observe", False),
        ("when: rcpt.domain == 'example.org', then: {tag: {name: X-A, value: b}}", True),
        ("when: rcpt.domain == 'example.org', then: {note: b}", False),
        ("when: client.tls, stage: rcpt, then: {tag: {name: X-For, value: '{rcpt.address}'}}", True),
        ("when: client.tls, stage: rcpt, then: {note: '{rcpt.address}'}", False),
        ("when: rcpt.domain == 'example.org', then: {exempt: [late]}" + OWN, True),
        ("when: rcpt.domain == 'example.org', then: {exempt: [soon]}" + OWN, False),
        ("when: rcpt.domain == 'example.org', then: accept" + OWN, True),
        ("when: mail.domain == 'example.org', then: accept" + OWN, False),
    ],
)
def test_whether_a_policy_divides_recipients(rule: str, divided: bool) -> None:
    found = policy(
        f"rules:\n  - {{id: one, {rule}}}\n  - {{id: soon, when: rcpt.count > 9, then: reject}}\n"
        "  - {id: late, when: message.hops > 9, then: reject}\n",
        empty="# may be empty\n",
        filled="b@example.com\n",
    )
    assert classes.divides(found.rules, found.lists) is divided


EARLY = ['spf.result == "fail"', 'mail.domain == "a.example"', "client.tls", 'spf.result != "temperror"']
LATE = ['dmarc.result == "fail"', "message.hops > 2", "arc.trusted", "message.size > 1000", "from.is_local"]
ACTIONS = ["reject", "defer", "quarantine", "{tag: {name: X-A, value: b}}", "{exempt: [last]}" + OWN, "accept" + OWN]


def random_policy(chance: Random) -> Policy:
    lines = []
    for number in range(4):
        parts = chance.sample(EARLY, 1) + chance.sample(LATE, 2)
        parts = [f"!({part})" if chance.random() < 0.3 else f"({part})" for part in parts]
        when = f"{parts[0]} {chance.choice(['&&', '||'])} {parts[1]} && {parts[2]}"
        whom = chance.choice([ANN, BOB, "[ann@example.com, bob@example.com]"])
        ignored = ", on_error: ignore" if chance.random() < 0.3 else ""
        rule = f"id: r{number}, for: {whom}, when: '{when}', then: {chance.choice(ACTIONS)}{ignored}"
        lines.append(f"  - {{{rule}}}\n")
    return policy("rules:\n" + "".join(lines) + "  - {id: last, when: message.hops > 0, then: reject}\n")


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_who_shares_a_transaction_gets_the_same_verdict(seed: int) -> None:
    """Whatever the message is, and whichever of the two opens the transaction."""
    chance = Random(seed)
    found = random_policy(chance)
    facts = {name: value(known, chance) for name, known in FACTS.items() if known.stage < Stage.RCPT}
    failed = frozenset({"spf"}) if facts["spf.result"] == "temperror" else frozenset[str]()
    announced = chance.choice([0, 100, 900, 2000])
    if not share(found, facts, failed, announced):
        return
    for hops, dmarc, trusted, local in itertools.product([0, 3], ["pass", "fail"], [True, False], [True, False]):
        whole: dict[str, Value] = {
            **facts, "message.hops": hops, "dmarc.result": dmarc, "arc.trusted": trusted, "from.is_local": local,
            "message.size": announced,
        }  # fmt: skip
        one, other = (found.judge(Stage.DATA, whole, Progress(), recipient, failed) for recipient in (ANN, BOB))
        assert one == other
