"""The tests of policies: what they may say, how they run, what they reach."""

import pytest
from policy_folder import policy

from gateway.mail.terms import Stage
from gateway.policy.cases import CLEAN, Case
from gateway.policy.tests import run, run_tests
from gateway.yamlfile import PolicyError, Position

RULES = """\
rules:
  - id: let
    when: mail.domain in lists.partners
    then: {exempt: [out]}
    owner: us
    expires: never
  - id: wait
    when: spf.result == "none"
    then: greylist
  - id: mark
    when: spf.result == "softfail"
    then: {tag: {name: X-Spf, value: "{spf.result}"}}
  - id: say
    when: message.hops > 50
    then: {note: "many"}
  - id: look
    when: message.hops > 60
    then: reject
    mode: observe
  - id: out
    when: dmarc.result == "fail"
    then: reject
    reply: 550 5.7.26 No {dmarc.domain}
  - id: aside
    when: dkim.result == "fail"
    then: quarantine
  - id: in
    when: arc.trusted
    then: accept
    owner: us
    expires: never
tests:
"""


def outcome(given: str, expect: str) -> str:
    found = policy(f"{RULES}  - {{given: {{{given}}}, expect: {{{expect}}}}}\n", partners="")
    (one,) = run_tests(found).outcomes
    return one.failure


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        ("", "action: none"),
        ("", "action: accept"),
        ("arc.trusted: true", "action: accept, rule: in, stage: data"),
        ("spf.result: none", "action: greylist, rule: wait, stage: rcpt, reply: 451 4.7.1"),
        ("spf.result: none", "action: defer, rule: wait"),
        ("spf.result: none, greylist: passed", "action: none"),
        # A test that is not about the greylist is not stopped by it.
        ("spf.result: none", "action: none"),
        ("spf.result: none, dmarc.result: fail", "action: reject, rule: out"),
        ("spf.result: softfail", "action: tag, rule: mark, tags: {X-Spf: softfail}"),
        ("message.hops: 51", "action: note, rule: say"),
        ("message.hops: 61", "action: observe, rule: look"),
        (
            "dmarc.result: fail, from.address: a@bank.example",
            "action: reject, rule: out, reply: 550 5.7.26 No bank.example",
        ),
        ("dmarc.result: fail", "action: reject, reply: 550"),
        ("dmarc.result: temperror", "action: defer, rule: out, reply: 451 4.4.3"),
        ("dmarc.result: fail, lists.partners: [example.net]", "action: exempt, rule: let"),
        ("dmarc.result: fail, lists.partners: [example.net]", "action: none"),
        ("dkim.result: fail", "action: quarantine"),
    ],
)
def test_passes(given: str, expect: str) -> None:
    assert outcome(given, expect) == ""


@pytest.mark.parametrize(
    ("given", "expect", "failure"),
    [
        ("dmarc.result: fail", "action: none", "expected none; it was reject by out at data"),
        ("", "action: reject, rule: out", "expected reject by out; no rule was final"),
        ("dmarc.result: fail", "action: reject, rule: aside", "expected reject by aside; it was reject by out at data"),
        (
            "dmarc.result: fail",
            "action: reject, reply: 550 5.7.2",
            "expected the reply '550 5.7.2'; it is '550 5.7.26 No example.net'",
        ),
        ("spf.result: none", "action: greylist, stage: data", "expected at data; it ended at rcpt"),
        (
            "spf.result: softfail",
            "action: tag, tags: {X-Spf: none}",
            "expected the field 'X-Spf: none'; it is 'softfail'",
        ),
        ("", "action: tag, rule: mark", "expected tag by mark; no rule was final"),
        ("", "action: note", "expected note by some rule; no rule was final"),
        ("", "action: observe, rule: look", "expected that look observes; no rule was final"),
        ("spf.result: none, greylist: waiting", "action: none", "expected none; it was greylist by wait at rcpt"),
    ],
)
def test_fails_and_says_why(given: str, expect: str, failure: str) -> None:
    assert outcome(given, expect) == failure


def test_coverage() -> None:
    report = run_tests(
        policy(f"{RULES}  - {{given: {{dmarc.result: fail}}, expect: {{action: reject}}}}\n", partners="")
    )
    assert not report.passed
    assert [rule.id for rule in report.unreached] == ["let", "wait", "mark", "say", "look", "aside", "in"]
    assert report.rules == 8


def test_a_rule_that_breaks_fails_its_test() -> None:
    text = "rules: [{id: a, when: \"dkim.domains[5] == 'a'\", then: reject, tests: [{expect: {action: defer}}]}]\n"
    (one,) = run_tests(policy(text)).outcomes
    assert one.failure == "a rule failed: policy.yaml:1:23: rule 'a': index 5 in a list of 1"


def test_a_test_under_a_rule_means_that_rule() -> None:
    text = """\
    rules:
      - id: a
        when: spf.result != "pass"
        then: reject
        tests:
          - {given: {spf.result: fail}, expect: {action: reject}}
          - {expect: {action: none}}
      - id: b
        when: spf.result == "fail"
        then: reject
        tests:
          - {given: {spf.result: fail}, expect: {action: reject}}
    """
    report = run_tests(policy(text))
    assert [one.failure for one in report.outcomes] == ["", "", "expected reject by b; it was reject by a at mail"]


def test_what_goes_together_is_derived() -> None:
    def facts(**given: object) -> dict[str, object]:
        named = {name.replace("__", "."): value for name, value in given.items()}
        return dict(Case("x", Position("f", 1, 1), named).facts)  # type: ignore[arg-type]

    assert facts() == CLEAN
    assert facts(mail__address="a@B.example")["mail.domain"] == "b.example"
    assert facts(mail__address="a@b.example")["spf.domain"] == "b.example"
    assert facts(mail__is_null=True)["mail.address"] == facts(mail__is_null=True)["mail.domain"] == ""
    assert facts(mail__address="")["mail.is_null"] is True
    some = facts(from__address="a@m.bank.example", from__org_domain="bank.example")
    assert (some["from.domain"], some["dmarc.domain"]) == ("m.bank.example", "bank.example")
    assert facts(from__valid=False)["from.domain"] == facts(from__valid=False)["from.address"] == ""
    assert facts(client__ip="198.51.100.9")["client.network"] == "198.51.100.0/24"
    assert facts(client__ip="2001:db8:1:2:3::4")["client.network"] == "2001:db8:1:2::/64"
    assert facts(client__iprev="fail")["client.name"] == ""
    assert facts(dkim__result="fail")["dkim.domains"] == []
    assert facts(rcpt__address="x@example.org")["rcpt.domain"] == "example.org"


@pytest.mark.parametrize(
    ("test", "what"),
    [
        ("given: 3, expect: {action: none}", "'given' is a mapping of facts"),
        ("given: {client.tls: yes}, expect: {action: none}", "client.tls is true or false"),
        ("given: {spf.result: passs}, expect: {action: none}", "spf.result is never 'passs'; did you mean 'pass'?"),
        ("given: {helo.name: 3}, expect: {action: none}", "helo.name is a text; write '3'"),
        ("given: {dkim.domains: a.example}, expect: {action: none}", "dkim.domains is a list of texts"),
        (
            "given: {message.attachments: [a.exe]}, expect: {action: none}",
            "message.attachments is a list of attachments",
        ),
        ("given: {message.attachments: [{nam: a}]}, expect: {action: none}", "an attachment has no 'nam'"),
        ("given: {message.attachments: [{kind: exe}]}, expect: {action: none}", "kind of an attachment is never 'exe'"),
        ("given: {message.attachments: [{size: x}]}, expect: {action: none}", "size of an attachment is a number"),
        ("given: {greylist: later}, expect: {action: none}", "'greylist' cannot be 'later'; one of: waiting, passed"),
        (
            "given: {lists.partner: []}, expect: {action: none}",
            "unknown list 'lists.partner'; did you mean 'partners'?",
        ),
        ("given: {lists.partners: a}, expect: {action: none}", "a list is written [entry, entry]"),
        ("given: {lists.partners: [a b]}, expect: {action: none}", "'a b' is no domain, address or network"),
        ("given: {}", "a test needs 'expect'"),
        ("expect: none", "'expect' is a mapping"),
        ("expect: {}", "'expect' needs 'action'"),
        ("expect: {action: none, rul: x}", "unknown key 'rul' in expect; did you mean 'rule'?"),
        ("expect: {action: none, stage: dta}", "'stage' cannot be 'dta'"),
        ("expect: {action: none, rule: [x]}", "'rule' must be a text"),
        ("expect: {action: tag, tags: [x]}", "'tags' are names and values"),
        ("name: x, expects: {action: none}", "unknown key 'expects' in a test; did you mean 'expect'?"),
    ],
)
def test_mistakes_in_tests(test: str, what: str) -> None:
    with pytest.raises(PolicyError) as error:
        policy(f"{RULES}  - {{{test}}}\n", partners="")
    assert what in str(error.value)


def test_size_words_in_given() -> None:
    found = policy(f"{RULES}  - {{given: {{message.size: 3MB}}, expect: {{action: none}}}}\n", partners="")
    assert found.cases[0].facts["message.size"] == 3_000_000


def test_run_ends_at_data() -> None:
    ran = run(policy(f"{RULES}  []\n", partners=""), CLEAN)
    assert (ran.verdict, ran.stage) == (None, Stage.DATA)
