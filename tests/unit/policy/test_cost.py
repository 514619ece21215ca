"""What the macros of a condition cost is known when it is loaded, and bounded."""

import pytest
from policy_folder import policy

from gateway.policy.cost import LIMIT, steps
from gateway.yamlfile import PolicyError

LISTS = {"few": "a.example\nb.example\n", "many": "".join(f"d{n}.example\n" for n in range(2_000))}
FILES = "message.attachments"


def cost(when: str) -> int:
    found = policy(f'rules: [{{id: a, when: "{when}", then: reject}}]\n', **LISTS)
    return steps(found.rules[0].when.tree, found.lists)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("client.tls && spf.result in ['fail', 'none']", 0),
        (f"{FILES}.exists(a, a.kind == 'macro')", 250),
        (f"{FILES}.exists(a, a.name.endsWith('.exe') || ['x', 'y'].exists(e, a.name == e))", 250 * 3),
        (f"{FILES}.filter(a, a.size > 5).exists(a, a.kind == 'macro')", 250 + 62 + 250),
        (f"{FILES}.exists(a, {FILES}.exists(b, a.name == b.name && a.size != b.size))", 250 * 251),
        ("lists.few.exists(d, from.name.contains(d))", 2),
        ("(lists.few + lists.many).exists(d, from.name.contains(d))", 2_002),
        ("lists.many.map(d, d + 'x').size() > 3", 2_000 + 4_000),
        ("[lists.few, lists.many].exists(l, l.exists(d, d == from.domain))", 2 * 2_001),
        ("[lists.few, lists.many][1].exists(d, d == from.domain)", 2_000),
        ("lists.many.exists(d, under(from.domain, d)) && lists.many.all(d, d != mail.domain)", 4_000),
    ],
)
def test_steps(when: str, expected: int) -> None:
    assert cost(when) == expected


@pytest.mark.parametrize(
    "when",
    [
        f"{FILES}.exists(a, {FILES}.exists(b, {FILES}.exists(c, a.name == b.name && b.name == c.name)))",
        f"{FILES}.exists(a, lists.many.exists(d, a.name.endsWith(d)))",
        "lists.many.exists(a, lists.many.exists(b, a == b && a == from.domain))",
        "['a','b','c','d'].all(a, ['a','b','c','d','e'].all(b, lists.many.map(d, d + a + b).size() > 0))",
    ],
)
def test_too_many_are_refused_at_load(when: str) -> None:
    with pytest.raises(PolicyError) as refused:
        cost(when)
    (problem,) = refused.value.problems
    assert problem.what.endswith(f"steps for one mail, {LIMIT:,} at most are allowed")
    assert problem.position.line == 1
