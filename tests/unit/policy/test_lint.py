"""Rules that are never reached, and that looking for them stays cheap where there are thousands of rules."""

import pytest
from policy_folder import policy

from gateway.policy import lint
from gateway.policy.lists import NamedList
from gateway.policy.rules import Rule
from gateway.yamlfile import PolicyError


@pytest.mark.parametrize(
    ("first", "second", "shadowed"),
    [
        ("spf.result == 'fail'", "spf.result == 'fail' && client.tls", True),
        ("client.tls && spf.result == 'fail'", "spf.result == 'fail'", False),
        ("spf.result != 'pass'", "spf.result == 'fail'", True),
        ("spf.result in ['fail', 'softfail']", "spf.result == 'fail'", True),
        ("spf.result == 'fail'", "spf.result in ['fail', 'softfail']", False),
        ("message.hops > 3", "message.hops > 7", True),
        ("message.hops > 7", "message.hops > 3", False),
        ("message.hops == 7", "message.hops > 6 && message.hops < 8", True),
        ("mail.address in lists.x", "mail.address in lists.x && client.tls", True),
        ("mail.address in lists.x", "mail.address in lists.y", False),
        ("mail.domain == 'a.example'", "mail.domain == 'a.example' && mail.address in lists.x", True),
        ("mail.domain == 'a.example'", "mail.domain == 'b.example' && mail.address in lists.x", False),
        ("mail.domain == helo.name", "mail.domain == helo.name && client.tls", True),
        ("client.tls == true", "client.tls == true && mail.is_null", True),
    ],
)
def test_a_rule_behind_another(first: str, second: str, shadowed: bool) -> None:
    found = policy(
        f'rules:\n  - {{id: one, when: "{first}", then: reject}}\n  - {{id: two, when: "{second}", then: reject}}\n',
        x="a.example\n",
        y="b.example\n",
    )
    assert ["never reached" in problem.what for problem in found.warnings] == [True] * shadowed


@pytest.mark.parametrize(
    ("expires", "told"), [("2026-11-22", True), ("2026-12-06", True), ("2026-12-07", False), ("never", False)]
)
def test_a_rule_that_ends_soon(expires: str, told: bool) -> None:
    found = policy(f"rules:\n  - {{id: one, when: client.tls, then: accept, owner: us, expires: {expires}}}\n")
    what = f"policy.yaml:2:10: warning: the rule 'one' expires on {expires}; from the next day on no start"
    assert [str(problem).startswith(what) for problem in found.warnings] == [True] * told


@pytest.mark.parametrize("expires", ["2026-W52-1", "20271231x", "2027-1-1", "31.12.2027", "2026-02-30"])
def test_a_date_is_written_in_one_way(expires: str) -> None:
    with pytest.raises(PolicyError, match=f"'{expires}' is no date"):
        policy(f"rules: [{{id: one, when: client.tls, then: accept, owner: us, expires: {expires}}}]\n")


@pytest.mark.parametrize(
    ("when", "first", "second", "shadowed"),
    [
        ("spf.result == 'fail'", ", on_error: ignore", ", on_error: defer", False),
        ("dnsbl.score > 5", "", ", on_error: defer", False),  # it is ignored by default
        ("dnsbl.score > 5", ", on_error: defer", ", on_error: defer", True),
        ("spf.result == 'fail'", "", ", on_error: defer", True),
        ("spf.result == 'fail'", ", on_error: ignore", "", False),
        ("spf.result == 'fail'", ", on_error: ignore", ", on_error: ignore", True),
    ],
)
def test_a_rule_for_the_day_when_the_first_is_left_out(when: str, first: str, second: str, shadowed: bool) -> None:
    found = policy(
        f'rules:\n  - {{id: one, when: "{when}", then: reject{first}}}\n'
        f'  - {{id: two, when: "{when}", then: reject{second}}}\n'
    )
    assert ["never reached" in problem.what for problem in found.warnings] == [True] * shadowed


@pytest.mark.parametrize("condition", ["spf.result == 'fail' && mail.domain == 'd{}.example'", "rcpt.count > {}"])
def test_thousands_of_rules_are_not_all_compared(condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def counted(first: Rule, rule: Rule, lists: dict[str, NamedList]) -> bool:
        nonlocal compared
        compared += 1
        return takes_all(first, rule, lists)

    takes_all = lint._takes_all
    monkeypatch.setattr(lint, "_takes_all", counted)
    count = 1500
    rules = (f'  - {{id: r{n}, when: "{condition.format(count - n)}", then: reject}}\n' for n in range(count))
    found = policy("rules:\n" + "".join(rules))
    assert found.warnings == ()
    assert compared < 5 * count
