"""Explanations: each rule with its facts and its word; the nearest fact that would have changed the verdict."""

from dataclasses import replace
from typing import Any

import pytest
from policy_folder import policy

from gateway.mail.terms import Stage
from gateway.policy.cases import CLEAN
from gateway.policy.explain import explain
from gateway.policy.outcome import Word
from gateway.policy.replay import Kind
from gateway.policy.scene import Scene, given
from gateway.policy.vocabulary import FACTS

RULES = policy(
    """\
    rules:
      - {id: let, when: client.name == "relay.example", then: {exempt: [block]}, owner: us, expires: never}
      - {id: block, when: 'in_networks(client.ip, ["198.51.100.0/24"])', then: reject}
      - {id: vip, for: boss@example.com, when: client.tls, then: {note: x}}
      - {id: grey, when: spf.result != "pass", then: greylist}
      - {id: spoof, when: dmarc.result == "fail" && dmarc.policy == "reject" && !arc.trusted, then: reject}
      - {id: hint, when: dkim.result == "fail", then: defer, on_error: ignore}
      - {id: big, when: message.size > 10 * MB, then: defer}
    """
)


def scene(**changes: Any) -> Scene:
    return given({**CLEAN, **{name.replace("__", "."): value for name, value in changes.items()}}, "passed")


def words(found: Scene) -> dict[tuple[str, str], Word]:
    return {(one.rule.id, one.stage.name): one.word for one in explain(RULES, found).walk}


def test_the_walk() -> None:
    found = explain(RULES, scene(dmarc__result="fail", dmarc__policy="reject"))
    assert [(one.rule.id, one.stage.name, one.word.value) for one in found.walk] == [
        ("let", "CONNECT", "false"),
        ("block", "CONNECT", "false"),
        ("vip", "RCPT", "for"),
        ("grey", "RCPT", "false"),
        ("big", "RCPT", "false"),
        ("spoof", "DATA", "fired"),
        ("hint", "DATA", "unreached"),
        ("big", "DATA", "unreached"),
    ]
    spoof = next(one for one in found.walk if one.rule.id == "spoof")
    assert spoof.facts == {"dmarc.result": "fail", "dmarc.policy": "reject", "arc.trusted": False}
    assert str(spoof.rule.position) == "policy.yaml:6:10"
    assert found.walk[-1].why == "'spoof' had decided"
    assert found.ending.shown() == "reject by spoof"


def test_what_was_skipped_and_why() -> None:
    exempted = explain(RULES, scene(client__name="relay.example", client__ip="198.51.100.9"))
    block = next(one for one in exempted.walk if one.rule.id == "block")
    assert (block.word, block.why) == (Word.EXEMPTED, "let")
    failed = scene(dkim__result="temperror", dmarc__result="temperror")
    assert words(failed)["spoof", "DATA"] is Word.WAITED
    assert words(scene(dkim__result="temperror"))["hint", "DATA"] is Word.IGNORED
    waits = replace(scene(spf__result="none"), otherwise={"greylist": "waiting:60"})
    assert words(waits)["grey", "RCPT"] is Word.FIRED
    assert words(waits)["spoof", "DATA"] is Word.UNREACHED
    blind = scene()
    blind = replace(blind, facts={n: v for n, v in blind.facts.items() if not n.startswith("arc.")})
    assert words(blind)["spoof", "DATA"] is Word.FALSE  # decided without it
    blind = replace(blind, facts={**blind.facts, "dmarc.result": "fail", "dmarc.policy": "reject"})
    told = explain(RULES, blind)
    assert (told.run.blocked, told.ending.unknown, told.changes) == ("spoof", ("arc.trusted",), ())
    spoof = next(one for one in told.walk if one.rule.id == "spoof")
    assert (spoof.word, spoof.unknown, spoof.why) == (Word.UNKNOWN, ("arc.trusted",), "arc.trusted")
    early = replace(scene(), until=Stage.RCPT, size=None)
    assert explain(RULES, early).walk[-1].why == "the mail never came past RCPT"
    accepted = policy(
        "rules: [{id: in, when: client.tls, then: accept, owner: us, expires: never}, "
        "{id: late, when: arc.trusted, then: reject}]\n"
    )
    late = explain(accepted, scene()).walk[1]
    assert (late.word, late.why) == (Word.ACCEPTED, "in")


@pytest.mark.parametrize(
    ("changes", "fact", "value", "kind"),
    [
        ({"dmarc__result": "fail", "dmarc__policy": "reject"}, "dmarc.result", "pass", Kind.ACCEPTED),
        ({"client__ip": "198.51.100.9"}, "client.ip", "", Kind.ACCEPTED),
        ({"message__size": 10_000_001}, "message.size", 10_000_000, Kind.ACCEPTED),
        ({}, "client.ip", "198.51.100.0", Kind.REFUSED),
        ({"dmarc__result": "temperror"}, "dmarc.result", "pass", Kind.ACCEPTED),
    ],
)
def test_the_nearest_change(changes: dict[str, Any], fact: str, value: object, kind: Kind) -> None:
    nearest = explain(RULES, scene(**changes)).changes[0]
    assert (nearest.fact, nearest.value, nearest.ending.kind) == (fact, value, kind)


def test_all_single_facts_are_told() -> None:
    found = explain(RULES, scene(dmarc__result="fail", dmarc__policy="reject")).changes
    assert [change.fact for change in found][:3] == ["dmarc.result", "dmarc.policy", "arc.trusted"]
    assert "client.ip" not in [change.fact for change in found]  # refused all the same


def test_a_later_attempt_is_the_nearest_change_of_who_waits() -> None:
    waits = replace(scene(spf__result="none"), otherwise={"greylist": "waiting:60"})
    first, second = explain(RULES, waits).changes[:2]
    assert (first.fact, first.ending.kind) == ("a later attempt", Kind.ACCEPTED)
    assert (second.fact, second.value) == ("spf.result", "pass")


def test_who_was_refused_early_would_have_gone_further() -> None:
    facts = {name: value for name, value in scene(spf__result="none").facts.items() if FACTS[name].stage <= Stage.MAIL}
    waits = replace(scene(), facts={**facts, "spf.result": "none"}, size=None, otherwise={"greylist": "waiting:60"})
    first, second = explain(RULES, waits).changes[:2]
    assert (first.fact, first.ending.kind, first.ending.unknown) == (
        "a later attempt",
        Kind.UNKNOWN,
        ("arc.trusted", "dmarc.policy", "dmarc.result"),
    )
    assert (second.fact, second.value) == ("spf.result", "pass")


def test_values_come_from_what_the_rules_compare_with() -> None:
    found = policy(
        """\
        rules:
          - {id: a, when: mail.address in lists.bad, then: reject}
          - {id: b, when: 'glob(message.subject, "*win?r*")', then: reject}
          - {id: c, when: 'dkim.domains.exists(d, under(d, "evil.example"))', then: reject}
          - {id: d, when: 'under(spf.domain, from.domain) && message.hops > 9', then: reject}
          - {id: e, when: 'in_networks(client.ip, lists.nets)', then: reject}
          - {id: f, when: helo.name == mail.domain, then: reject}
        """,
        bad="joe@bad.example\n",
        nets="203.0.113.0/24\n",
    )
    changes = {change.fact: change.value for change in explain(found, scene()).changes}
    assert changes == {
        "mail.address": "joe@bad.example",
        "message.subject": "winxr",
        "dkim.domains": ["evil.example"],
        "message.hops": 10,
        "client.ip": "203.0.113.0",
        "helo.name": "example.net",
        "mail.domain": "mail.example.net",
    }


def test_the_recipient_is_what_a_for_names() -> None:
    found = policy(
        """\
        rules:
          - {id: a, for: fax@example.com, then: reject}
          - {id: b, for: ["@example.org", few], when: message.hops < 9, then: quarantine}
        """,
        few="ann@example.com\n",
    )
    fax = scene(rcpt__address="fax@example.com")
    (change,) = explain(found, fax).changes
    assert (change.fact, change.was, change.value) == ("rcpt.address", "fax@example.com", "anybody-else@example.com")
    assert change.ending.kind is Kind.ACCEPTED
    (other,) = explain(found, scene()).changes
    assert (other.value, other.ending.kind) == ("fax@example.com", Kind.REFUSED)
    held = [one.value for one in explain(found, scene(rcpt__address="ann@example.com")).changes]
    assert held == [9, "anybody-else@example.com"]
    domain = policy('rules: [{id: a, for: "@example.org", then: defer}]')
    assert explain(domain, scene()).changes[0].value == "anybody-else@example.org"


def test_no_change_where_nothing_would() -> None:
    assert explain(policy("rules: [{id: a, when: true, then: reject}]\n"), scene()).changes == ()


def test_the_same_twice() -> None:
    one = scene(dmarc__result="fail", dmarc__policy="reject")
    assert explain(RULES, one) == explain(RULES, one)
    assert explain(RULES, one, search=False).changes == ()
