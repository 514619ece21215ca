"""`limit`: an effect with a typed key; what it counts, when it bites, what it says."""

import pytest
from policy_folder import policy

from gateway.mail.terms import Stage
from gateway.policy.cases import CLEAN
from gateway.policy.judge import Effect, Need, Progress, Verdict
from gateway.policy.loader import Policy
from gateway.policy.rules import Action, Limit
from gateway.policy.tests import run_tests


def one(then: str = "{limit: {key: client.network, rate: 60/1m}}", more: str = "", when: str = "true") -> Policy:
    return policy(f'rules:\n  - id: a\n    when: "{when}"\n    then: {then}\n{more}')


def test_it_counts_by_the_value_of_its_key() -> None:
    found = one()
    assert found.rules[0].stages == (Stage.MAIL,)
    asked = found.judge(Stage.MAIL, CLEAN, Progress()).outcome
    assert asked == Effect("a", "limit", Limit("client.network", 60, 60.0), "192.0.2.0/24")
    assert isinstance(asked, Effect)
    assert asked.label == "limit client.network=192.0.2.0/24 60/60"
    assert found.judge(Stage.MAIL, {}, Progress()).outcome == Need(frozenset({"client.network"}), "a")


@pytest.mark.parametrize(
    ("key", "when", "stages"),
    [
        ("client.ip", "true", (Stage.MAIL,)),
        ("rcpt.address", "true", (Stage.RCPT,)),
        ("from.domain", "client.tls", (Stage.DATA,)),
        ("mail.domain", "message.size > 5", (Stage.DATA,)),
    ],
)
def test_stage(key: str, when: str, stages: tuple[Stage, ...]) -> None:
    assert one(f"{{limit: {{key: {key}, rate: 5/1h}}}}", when=when).rules[0].stages == stages


def test_it_bites_only_over_the_rate() -> None:
    found = one()
    assert found.judge(Stage.MAIL, CLEAN, Progress().with_outcome("a", "passed")).outcome is None
    over = found.judge(Stage.MAIL, CLEAN, Progress().with_outcome("a", "waiting:7"))
    assert isinstance(over.outcome, Verdict)
    assert over.outcome.reply is not None
    assert over.outcome.reply.encode() == b"451 4.7.1 Too many at once; try again in 7 seconds\r\n"
    assert over.progress.fired == ("a",)
    assert found.judge(Stage.MAIL, CLEAN, Progress().with_outcome("a", "error")).outcome is None
    strict = one(more="    on_error: defer\n").judge(Stage.MAIL, CLEAN, Progress().with_outcome("a", "error"))
    assert isinstance(strict.outcome, Verdict)
    assert strict.outcome.action is Action.DEFER


def test_its_own_reply() -> None:
    found = one(more='    reply: "450 4.7.1 {client.network} waits {limit.wait} s"\n')
    over = found.judge(Stage.MAIL, CLEAN, Progress().with_outcome("a", "waiting:7")).outcome
    assert isinstance(over, Verdict)
    assert over.reply is not None
    assert over.reply.encode() == b"450 4.7.1 192.0.2.0/24 waits 7 s\r\n"


def test_who_has_no_key_is_not_counted() -> None:
    found = one("{limit: {key: client.name, rate: 5/1m}}")
    assert found.judge(Stage.MAIL, {**CLEAN, "client.name": ""}, Progress()).outcome is None


def test_watched_it_counts_and_notes_only_what_would_have_waited() -> None:
    found = one(more="    mode: observe\n")
    assert isinstance(found.judge(Stage.MAIL, CLEAN, Progress()).outcome, Effect)
    passed = found.judge(Stage.MAIL, CLEAN, Progress().with_outcome("a", "passed"))
    assert (passed.outcome, passed.progress.observed) == (None, ())
    over = found.judge(Stage.MAIL, CLEAN, Progress().with_outcome("a", "waiting:7"))
    assert (over.outcome, over.progress.observed) == (None, (("a", "limit"),))


def test_in_tests_a_limit_passes_unless_it_is_said_to_be_over() -> None:
    found = one(
        more="    tests:\n"
        "      - {given: {limit: over}, expect: {action: limit, reply: 451 4.7.1, stage: mail}}\n"
        "      - {expect: {action: none}}\n"
    )
    report = run_tests(found)
    assert [outcome.failure for outcome in report.outcomes] == ["", ""]
    assert report.passed
