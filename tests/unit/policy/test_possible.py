"""Conditions that are never true, and rules that others leave nothing for: certain ones only."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_folder import policy

from gateway.policy.evaluate import Undecided, condition
from gateway.policy.expression import Compiler, Expression
from gateway.policy.lists import NamedList
from gateway.policy.possible import implies, why_never
from gateway.policy.syntax import Node

LISTS = {"full": NamedList("full", ["a.example"]), "none": NamedList("none", [], may_be_empty=False)}
LISTS["waits"] = NamedList("waits", [])
COMPILER = Compiler(LISTS)


def tree(text: str) -> Node:
    found = COMPILER.compile(text)
    assert isinstance(found, Expression), found
    return found.tree


@pytest.mark.parametrize(
    "text",
    [
        'spf.result == "pass" && spf.result == "fail"',
        'spf.result == "pass" && spf.result != "pass"',
        'spf.result == "pass" && client.tls && !(spf.result in ["pass", "none"])',
        'mail.address == "a@x.example" && mail.address == "b@x.example"',
        'mail.domain == "x.example" && !under(mail.domain, "example")',
        'under(mail.domain, "a.example") && under(mail.domain, "b.example")',
        "client.tls && !client.tls",
        "message.size > 10 * MB && message.size < 5 * MB",
        "message.size > 5 && message.size < 6",
        "message.hops < 0",
        "message.hops > 100",
        "message.hops >= 101 && client.tls",
        "message.hops == 200",
        "rcpt.count == 3 && rcpt.count > 4",
        "1 > 2",
        'client.tls && (spf.result == "pass" || spf.result == "none") && spf.result == "fail"',
        'helo.kind == "fqdn" && helo.kind == "literal" || message.hops < 0',
        "mail.domain in lists.none",
        "in_networks(client.ip, lists.none) && client.tls",
        "mail.domain in []",
        "under(client.name, lists.none)",
        "mail.domain in lists.full && !(mail.domain in lists.full)",
        'mail.domain == "x.example" && mail.domain.startsWith("y")',
        'mail.is_null && mail.address == "a@x.example"',
        'mail.is_null && under(mail.domain, "x.example") && client.tls',
        'mail.is_null && mail.domain != ""',
        'mail.address == "a@x.example" && mail.domain == "y.example"',
        'rcpt.address == "a@x.example" && !under(rcpt.domain, "x.example")',
        'from.address == "a@x.example" && (from.domain == "y.example" || from.domain == "z.example")',
    ],
)
def test_never(text: str) -> None:
    assert why_never(tree(text), LISTS)


@pytest.mark.parametrize(
    "text",
    [
        'spf.result == "pass" || spf.result == "fail"',
        'spf.result != "pass" && spf.result != "fail"',
        'mail.domain == "x.example" && under(mail.domain, "example")',
        'under(mail.domain, "a.example") && !(mail.domain == "a.example")',
        'under(mail.domain, "a.b.example") && under(mail.domain, "b.example")',
        'under(mail.domain, "a.example") && mail.domain.startsWith("b")',
        'mail.domain != "a.example" && mail.domain != "b.example"',
        "message.size > 5 && message.size < 7",
        "message.hops % 2 == 1 && message.hops > 4",
        "dnsbl.score < 0",
        "mail.domain in lists.none || client.tls",
        "!(mail.domain in lists.none)",
        "mail.domain in lists.waits",
        "mail.domain in lists.full",
        'mail.domain == "b.example" && mail.domain in lists.full',
        'mail.domain == from.domain && from.domain == "a.example" && mail.domain == "b.example" || client.tls',
        'client.tls ? spf.result == "pass" : spf.result == "fail"',
        'dkim.domains.exists(d, under(d, "a.example")) && !dkim.domains.exists(d, under(d, "b.example"))',
        'glob(mail.address, "a*") && glob(mail.address, "*b")',
        'mail.is_null && mail.address == ""',
        'mail.is_null && from.address == "a@x.example"',
        '!mail.is_null && mail.address == "a@x.example" && mail.domain == "x.example"',
        'mail.is_null || mail.address == "a@x.example"',
        'from.address == "a@x.example" && under(from.org_domain, "y.example")',
    ],
)
def test_maybe(text: str) -> None:
    assert why_never(tree(text), LISTS) == ""


def test_too_many_alternatives_are_left_alone() -> None:
    pairs = [f'(message.subject == "a{n}" || message.subject == "b{n}")' for n in range(12)]
    assert why_never(tree(" && ".join(pairs)), LISTS) == ""


@pytest.mark.parametrize(
    ("one", "other", "certain"),
    [
        ('spf.result == "fail" && client.tls', 'spf.result == "fail"', True),
        ('spf.result == "fail"', 'spf.result in ["fail", "softfail"]', True),
        ('spf.result == "fail"', 'spf.result != "pass"', True),
        ('spf.result != "pass"', 'spf.result == "fail"', False),
        ("message.size > 10", "message.size > 5", True),
        ("message.size > 5", "message.size > 10", False),
        ('under(mail.domain, "a.b.example")', 'under(mail.domain, "b.example")', True),
        ("mail.domain in lists.full && client.tls", "mail.domain in lists.full", True),
        ("mail.domain in lists.none", "mail.domain in lists.full", False),
        ('client.tls && client.iprev == "pass"', 'client.tls || client.iprev == "none"', True),
    ],
)
def test_implies(one: str, other: str, certain: bool) -> None:
    assert implies(tree(one), tree(other), LISTS) is certain


def warnings(*rules: str, **lists: str) -> list[str]:
    lines = "".join(f"  - {{{rule}}}\n" for rule in rules)
    return [found.what for found in policy(f"rules:\n{lines}", today=date(2026, 11, 22), **lists).warnings]


REJECT = 'id: a, when: spf.result == "fail", then: reject'
EXEMPT = "id: x, when: client.tls, then: {exempt: a}, owner: us, expires: never"
HOLD = REJECT.replace("reject", "quarantine")


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ((REJECT, 'id: b, when: spf.result == "fail" && client.tls, then: defer'), "'a' ends all the mails"),
        ((REJECT, 'id: b, when: spf.result == "fail" && message.hops > 5, then: defer'), "'a' ends all the mails"),
        ((REJECT + ", mode: observe", 'id: b, when: spf.result == "fail" && client.tls, then: defer'), ""),
        ((REJECT, 'id: b, when: spf.result == "fail" || client.tls, then: defer'), ""),
        ((EXEMPT, REJECT, REJECT.replace("a,", "b,")), ""),
        ((HOLD, 'id: b, when: spf.result == "fail" && message.hops > 5, then: defer'), ""),
        ((REJECT, 'id: b, when: spf.result == "fail", then: defer, for: ["@example.com"]'), "same condition"),
        ((REJECT + ', for: ["@example.com"]', 'id: b, when: arc.trusted && spf.result == "fail", then: defer'), ""),
        ((REJECT + ', for: ["@example.com"]', 'id: b, when: spf.result == "fail", then: defer'), "'b' has the same"),
        (("id: a, when: message.size > 5, then: reject", "id: b, when: message.size > 6, then: defer"), "ends all"),
        (("id: a, when: 'spf.result in [\"fail\", \"temperror\"]', then: reject",
          "id: b, when: spf.result == \"temperror\", then: defer"), ""),
    ],
)  # fmt: skip
def test_rules_that_leave_nothing(rules: tuple[str, ...], told: str) -> None:
    found = warnings(*rules)
    assert (told in found[0]) if told else found == [], found


def test_empty_lists() -> None:
    rule = "id: a, when: client.tls, for: vips, then: reject"
    assert warnings(rule, vips="") == ["the rule 'a' never fires: the list 'vips' in its 'for' is empty"]
    assert warnings(rule, vips="# VIPs; may be empty\n") == []
    assert warnings(rule, vips="a.example\n") == []
    assert warnings("id: a, when: mail.domain in lists.vips, then: reject", vips="#\n") == [
        "the rule 'a' never fires: the list 'vips' is empty"
    ]


PARTS = st.sampled_from(
    ['spf.result == "pass"', 'spf.result != "fail"', "client.tls", "message.hops > 2", "message.hops < 2",
     'spf.result in ["none", "pass"]', 'mail.domain == "a.example"', 'under(mail.domain, "example")', "rcpt.count == 1"]
)  # fmt: skip
TREES = st.recursive(
    PARTS,
    lambda inner: st.one_of(
        inner.map(lambda one: f"!({one})"), st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
    ),
    max_leaves=6,
)  # fmt: skip
FACTS = st.fixed_dictionaries(
    {
        "spf.result": st.sampled_from(["pass", "fail", "none", "softfail"]),
        "client.tls": st.booleans(),
        "message.hops": st.integers(0, 4),
        "rcpt.count": st.integers(0, 2),
        "mail.domain": st.sampled_from(["a.example", "b.example", "example", "c.test"]),
    }
)


@given(TREES, TREES, st.lists(FACTS, min_size=5, max_size=5))
@settings(max_examples=150, deadline=None)
def test_what_is_said_is_certain(one: str, other: str, found: list[dict[str, str | bool | int]]) -> None:
    first, second = tree(one), tree(other)
    never, follows = why_never(first, LISTS), implies(first, second, LISTS)
    for facts in found:
        try:
            true = condition(first, LISTS)(facts)  # type: ignore[arg-type]
        except Undecided:  # no fact is missing
            raise AssertionError from None
        assert not (true and never)
        assert not (true and follows) or condition(second, LISTS)(facts)  # type: ignore[arg-type]
