"""Compiling expressions: what is accepted, what is refused, and that our evaluation is CEL's."""

from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.cases import CLEAN
from gateway.policy.evaluate import Failed, Unknown, condition
from gateway.policy.expression import Compiler, Expression, matcher
from gateway.policy.lists import NamedList, entry
from gateway.policy.syntax import Name, decode, walk
from gateway.policy.vocabulary import FACTS, UNITS

LISTS = {
    "partners": NamedList("partners", [entry(text) for text in ("a.example", "192.0.2.0/24", "Boss@x.example")]),
    "empty": NamedList("empty", []),
}
COMPILER = Compiler(LISTS)
FACTS_HERE: dict[str, Any] = {**CLEAN, "dkim.domains": ["a.example", "b.example"], "from.domain": "m.a.example"}


def value(text: str, facts: dict[str, Any] | None = None) -> bool:
    compiled = COMPILER.compile(text)
    assert isinstance(compiled, Expression), compiled
    return condition(compiled.tree, LISTS)(FACTS_HERE if facts is None else facts)


@pytest.mark.parametrize(
    "text",
    [
        "true",
        'spf.result == "pass"',
        '"pass" == spf.result',
        'spf.result != "fail" && !arc.trusted',
        'spf.result in ["pass", "none"]',
        "message.size < 5 * MB",
        "message.size >= 10 * KB && message.size <= 1 * GB",
        "-message.size < 0 && message.size % 3 == 1 && message.size / 3 == 3333 && message.size - 1 > message.hops",
        "-7 / 2 == -3 && -7 % 2 == -1 && 7 / -2 == -3",
        '"b.example" in dkim.domains',
        'dkim.domains[0] == "a.example"',
        'dkim.domains.exists(d, d == "b.example")',
        'dkim.domains.all(d, d.endsWith(".example"))',
        'dkim.domains.exists_one(d, d == "b.example")',
        'dkim.domains.filter(d, d != "a.example").size() == 1',
        'dkim.domains.map(d, d + "!") == ["a.example!", "b.example!"]',
        "size(dkim.domains) == 2 && size(from.name) > 3",
        'message.subject.startsWith("He") && message.subject.contains("ll") && message.subject.matches("^H.*o$")',
        'string(message.hops) == "2" && int("3") == 3 && string(arc.trusted) == "false"',
        'arc.trusted ? false : spf.result == "pass"',
        "under(from.domain, 'a.example') && under('a.example', 'a.example') && !under('aa.example', 'a.example')",
        "!under(from.domain, arc.sealer)",
        "under(from.domain, lists.partners) && !(from.domain in lists.partners)",
        "'a.example' in lists.partners && 'x@a.example' in lists.partners && 'boss@X.example' in lists.partners",
        "!('x.example' in lists.partners) && !('a' in lists.empty) && size(lists.partners) == 3",
        "in_networks(client.ip, lists.partners) && in_networks('::ffff:192.0.2.1', lists.partners)",
        "in_networks(client.ip, ['192.0.2.0/28', '2001:db8::/32']) && !in_networks('', ['0.0.0.0/0'])",
        "lists.partners.exists(p, p == 'a.example')",
        "glob(from.domain, '*.A.example') && glob(mail.address, 'sender@*') && !glob(mail.address, '*@example.com')",
        ".spf.result == 'pass'",
    ],
)
def test_true(text: str) -> None:
    assert value(text) is True


@pytest.mark.parametrize("text", ["dkim.domains[2] == 'a'", "1 / (message.hops - 2) == 1", "int(from.name) == 1"])
def test_errors_are_no_values(text: str) -> None:
    with pytest.raises(Failed):
        value(text)
    assert value(f"({text}) || true") is True
    assert value(f"false && ({text})") is False
    assert value(f"({text}) && false") is False


def test_unknown_facts_are_absorbed_where_they_do_not_matter() -> None:
    facts = {name: found for name, found in FACTS_HERE.items() if name != "dmarc.result"}
    with pytest.raises(Unknown):
        value('dmarc.result == "fail"', facts)
    assert value('dmarc.result == "fail" || spf.result == "pass"', facts) is True
    assert value('dmarc.result == "fail" && spf.result == "fail"', facts) is False
    assert value('spf.result == "fail" && dmarc.result == "fail"', facts) is False
    with pytest.raises(Unknown):
        value('dkim.domains[9] == "a" || dmarc.result == "fail"', facts)
    with pytest.raises(Unknown):
        value('!(dmarc.result == "fail")', facts)
    assert value('dkim.domains.exists(d, d == "b.example" || dmarc.result == "fail" && d == "x")', facts) is True
    with pytest.raises(Unknown):
        value('dkim.domains.exists(d, dmarc.result == "fail")', facts)
    assert value('dkim.domains.all(d, dmarc.result == "fail" && d == "b.example")', facts) is False


def test_names_their_facts_and_lists() -> None:
    compiled = COMPILER.compile('spf.result == "pass" && (under(mail.domain, lists.partners) || spf.result == "none")')
    assert isinstance(compiled, Expression)
    assert dict(compiled.facts) == {"spf.result": 0, "mail.domain": 31}
    assert compiled.lists == {"partners"}


@pytest.mark.parametrize(
    "text",
    [
        "has(spf.result)",
        "spf.result == null",
        "message.size > 1.5",
        "1.5 == 1.5",
        "1u == 1u",
        'b"a" == b"a"',
        '{"a": 1}.a == 1',
        'timestamp("2023-01-01T00:00:00Z") > timestamp("2022-01-01T00:00:00Z")',
        "dyn(1) == 1",
        "type(1) == int",
        "dkim.domains.exists(KB, KB == 'a')",
        "from.name.matches(mail.address)",
        "x" * 9000,
        "(" * 500 + "true" + ")" * 500,
        "dkim.domains.map(d, {'a': d}).size() == 1",
        "message.size == 'é' && ünknown",
    ],
)
def test_refused(text: str) -> None:
    assert not isinstance(COMPILER.compile(text), Expression)


def test_all_mistakes_of_an_expression() -> None:
    mistakes = COMPILER.compile("dmarc.reslut == 'fail' && spf.rezult == 'pass' && bnder(client.ip)")
    assert isinstance(mistakes, list)
    assert [mistake.offset for mistake in mistakes] == [0, 26, 50]


@given(st.text(alphabet="abdmrcspf.lut ()[]\"'=!&|<>+-*/%?:,0123 \n\\é{}", max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_text_compiles_or_is_told_why(text: str) -> None:
    compiled = COMPILER.compile(text)
    if isinstance(compiled, list):
        assert compiled
        assert all(0 <= mistake.offset <= len(text) and mistake.what for mistake in compiled)


def test_matcher_is_linear_and_false_on_error() -> None:
    assert matcher("^(a+)+$")("a" * 40 + "b") is False
    assert matcher('quo"te\n\\d')('quo"te\n7') is True
    with pytest.raises(ValueError, match="missing"):
        matcher("a(b")


# --- our evaluation against CEL's own engine -------------------------------------------------------------------

_NAMES = st.sampled_from(["spf.result", "dmarc.result", "from.domain", "mail.domain"])
_TEXTS = st.one_of(_NAMES, st.sampled_from(["'pass'", "'fail'", "'a'", "''", "dkim.domains[0]", "dkim.domains[1]"]))
_NUMBERS = st.one_of(
    st.sampled_from(["message.size", "message.hops", "0", "3", "KB", "size(dkim.domains)", "size(from.domain)"]),
    st.tuples(
        st.sampled_from(["message.size", "7", "-5"]),
        st.sampled_from("+-*/%"),
        st.sampled_from(["2", "0", "message.hops"]),
    ).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
)
_ATOMS = st.one_of(
    st.tuples(_TEXTS, st.sampled_from(["==", "!=", "<", ">="]), _TEXTS).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
    st.tuples(_NUMBERS, st.sampled_from(["==", "!=", "<", ">="]), _NUMBERS).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
    st.sampled_from(["arc.trusted", "client.tls", "true", "false"]),
    _TEXTS.map(lambda text: f"({text} in dkim.domains)"),
    _TEXTS.map(lambda text: f"dkim.domains.exists(d, d == {text})"),
    _TEXTS.map(lambda text: f"dkim.domains.all(d, d == {text})"),
    _TEXTS.map(lambda text: f"{text}.startsWith('p')" if "[" not in text else f"({text}).contains('a')"),
)
_BOOLS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda text: f"!{text}"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} ? {p[1]} : {p[2]})"),
    ),
    max_leaves=6,
)
_SOME_FACTS = st.fixed_dictionaries(
    {},
    optional={
        "spf.result": st.sampled_from(["pass", "fail"]),
        "dmarc.result": st.sampled_from(["pass", "none"]),
        "from.domain": st.sampled_from(["a", "", "pass"]),
        "mail.domain": st.sampled_from(["a", "b"]),
        "message.size": st.sampled_from([0, 1000, 7]),
        "message.hops": st.sampled_from([0, 2]),
        "dkim.domains": st.lists(st.sampled_from(["a", "pass"]), max_size=3),
        "arc.trusted": st.booleans(),
        "client.tls": st.booleans(),
    },
)
_CEL_TYPES = {"string": cel.Type.STRING, "bool": cel.Type.BOOL, "int": cel.Type.INT}
_ENGINE = cel.NewEnv(
    variables={name: _CEL_TYPES.get(known.type, cel.Type.List(cel.Type.STRING)) for name, known in FACTS.items()}
    | dict.fromkeys(UNITS, cel.Type.INT)
)


@given(_BOOLS, _SOME_FACTS)
@settings(max_examples=500, deadline=None)
def test_our_evaluation_is_cels(text: str, facts: dict[str, Any]) -> None:
    compiled = COMPILER.compile(text)
    if isinstance(compiled, list):  # a result compared with no result word, a division by 0 itself
        expected = ("is never", "domain", "divided by 0")
        assert all(any(word in mistake.what for word in expected) for mistake in compiled), compiled
        return
    theirs = _ENGINE.compile(text).eval(data={**facts, **UNITS})
    try:
        ours: bool | None = condition(compiled.tree, LISTS)(facts)
    except (Unknown, Failed):
        ours = None
    assert ours == (theirs.value() if theirs.type() == cel.Type.BOOL else None)


def test_parsed_only_trees_are_read_too() -> None:
    tree = decode(_ENGINE.compile("nobody.knows == 3", disable_check=True).serialize())
    assert [node.name for node in walk(tree) if isinstance(node, Name)] == ["nobody.knows"]
