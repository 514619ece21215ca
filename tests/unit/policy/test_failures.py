"""The matrix of failures: computed over the policy's own tests, or over a base set."""

from policy_folder import policy

from gateway.policy.failures import LOCAL, checks_that_fail, matrix
from gateway.policy.replay import Kind
from gateway.policy.vocabulary import FACTS

RULES = """\
rules:
  - {id: spoof, when: dmarc.result == "fail", then: reject}
  - {id: lax, when: arc.result == "fail", then: reject, on_error: ignore}
  - {id: wait, when: spf.result == "none", then: greylist}
  - {id: listed, when: mail.domain in lists.bad, then: reject}
"""
TESTS = """\
tests:
  - {name: a spoof, given: {dmarc.result: fail}, expect: {action: reject}}
  - {name: broken chain, given: {arc.result: fail}, expect: {action: reject}}
  - {name: stranger, given: {spf.result: none}, expect: {action: greylist}}
  - {name: bad, given: {lists.bad: [b.example], mail.address: a@b.example}, expect: {action: reject}}
  - {name: clean, expect: {action: none}}
"""


def test_over_the_policys_own_tests() -> None:
    found = matrix(policy(RULES + TESTS, bad=""))
    rows = {row.down: row for row in found.rows}
    assert (found.mails, found.own) == (5, True)
    assert rows[""].counts == {Kind.REFUSED: 3, Kind.DEFERRED: 1, Kind.ACCEPTED: 1}
    assert rows["dmarc"].counts == {Kind.DEFERRED: 4, Kind.REFUSED: 1}
    assert rows["dkim"].others == ()
    (chain,) = rows["arc"].others
    assert (chain.name, chain.up.shown(), chain.down.shown()) == ("broken chain", "reject by lax", "accepted")
    (state,) = rows["state"].others
    assert (state.name, state.up.kind, state.down.kind) == ("stranger", Kind.DEFERRED, Kind.ACCEPTED)
    assert rows["every check"].counts == {Kind.DEFERRED: 4, Kind.REFUSED: 1}
    assert list(rows) == ["", *checks_that_fail(), "every check", "state"]


def test_without_the_state_nobody_is_known() -> None:
    rules = """\
rules:
  - {id: new, when: from.known_days < 0, then: defer}
tests:
  - {name: new, given: {from.known_days: -1}, expect: {action: defer}}
  - {name: old, expect: {action: none}}
"""
    rows = {row.down: row for row in matrix(policy(rules)).rows}
    for down in ("history", "state", "every check"):
        (new,) = rows[down].others
        assert (new.name, new.down.kind) == ("new", Kind.ACCEPTED), down


def test_what_rests_on_a_check_fails_with_it() -> None:
    rules = """\
rules:
  - {id: fails, when: dmarc.result != "pass", then: reject}
  - {id: new, when: from.known_days < 0, then: reject, always: true}
tests:
  - {name: by SPF alone, given: {dkim.result: none, dkim.domains: []}, expect: {action: none}}
  - {name: by DKIM, given: {mail.address: x@list.example}, expect: {action: none}}
  - {name: by both, expect: {action: none}}
  - {name: new, given: {from.known_days: -1, dkim.result: none, dkim.domains: []}, expect: {action: reject}}
  - {name: no policy, given: {dmarc.result: none, from.known_days: -1}, expect: {action: reject}}
"""
    rows = {row.down: row for row in matrix(policy(rules)).rows}
    changed = {down: {one.name: one.down.shown() for one in rows[down].others} for down in rows}
    assert changed["spf"] == dict.fromkeys(("by SPF alone", "new"), "defer by fails")
    assert changed["dkim"] == {"by DKIM": "defer by fails"}
    assert {"by SPF alone", "by DKIM", "by both"} < changed["dmarc"].keys()
    lax = {
        row.down: row for row in matrix(policy(rules.replace("then: reject", "on_error: ignore, then: reject"))).rows
    }
    assert [(one.name, one.down.kind) for one in lax["spf"].others] == [("new", Kind.ACCEPTED)]


def test_a_policy_without_tests_has_a_base_set() -> None:
    found = matrix(policy(RULES, bad=""))
    assert not found.own
    assert found.mails >= 5
    assert {row.down: row for row in found.rows}["dmarc"].counts[Kind.DEFERRED] > 0


def test_only_checks_that_ask_others_can_be_down() -> None:
    assert set(checks_that_fail()) | LOCAL == {known.check for known in FACTS.values()} | LOCAL
    assert {"spf", "dkim", "dmarc", "arc", "iprev"} <= set(checks_that_fail())
