"""Authentication-Results: nothing unvalidated goes out, nothing forged stays in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail.authres import claims, clause, pvalue, results
from gateway.mail.message import Field

OURS = "mx.victim.example"


def field(value: str | bytes, name: bytes = b"Authentication-Results") -> Field:
    octets = value if isinstance(value, bytes) else value.encode()
    return Field(name, name + b":" + octets + b"\r\n")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("example.org", "example.org"),
        ("user@example.org", "user@example.org"),
        ("@example.org", "@example.org"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", '"2001:db8::1"'),
        ("", '""'),
        ("a b", '"a b"'),
        ("user@", '"user@"'),
        ("a@b@c", '"a@b@c"'),
        ('x"; dmarc=pass', '"x\\"; dmarc=pass"'),
        ("x\\", '"x\\\\"'),
        ("x(y", '"x(y"'),
        ("x\r\ny", '"x??y"'),
        ("ü", '"?"'),
        ("a\0b", '"a?b"'),
    ],
)
def test_pvalue(text: str, written: str) -> None:
    assert pvalue(text) == written


def test_clause_leaves_empty_values_out() -> None:
    assert clause("dkim", "pass", [("header.d", "example.org"), ("header.s", "")]) == "dkim=pass header.d=example.org"
    assert clause("dkim", "policy", reason="key too short") == 'dkim=policy reason="key too short"'


def test_results_without_clauses_say_none() -> None:
    assert results(OURS, ()) == b"Authentication-Results: mx.victim.example;\r\n\tnone\r\n"


def test_results_have_one_clause_a_line() -> None:
    assert results(OURS, ["spf=pass smtp.mailfrom=example.org", "dkim=none"]) == (
        b"Authentication-Results: mx.victim.example;\r\n\tspf=pass smtp.mailfrom=example.org;\r\n\tdkim=none\r\n"
    )


def test_long_clauses_are_folded_at_spaces() -> None:
    text = clause("dkim", "pass", [("header.d", "a" * 60 + ".example"), ("header.s", "b" * 60)])
    lines = results(OURS, [text]).split(b"\r\n")
    assert all(len(line) <= 90 for line in lines)
    assert b"".join(lines[1:]).replace(b"\t", b" ").strip() == text.encode()


@given(st.lists(st.text(max_size=40), max_size=4))
def test_whatever_the_words_the_field_is_one_field(words: list[str]) -> None:
    octets = results(OURS, [clause("x", "fail", [("smtp.helo", w)], reason=w) for w in words])
    assert octets.endswith(b"\r\n")
    for line in octets[:-2].split(b"\r\n")[1:]:
        assert line.startswith(b"\t")
        assert not set(line[1:]) - set(range(32, 127))


@pytest.mark.parametrize(
    "value",
    [
        " mx.victim.example; dmarc=pass",
        "mx.victim.example;dmarc=pass",
        " MX.Victim.Example; spf=pass",
        "\r\n (x) MX.Victim.EXAMPLE 1; spf=pass",
        "\r\n (x) MX.Victim.EXAMPLE/1; spf=pass",
        " mx.victim.example (a (nested \\) ) comment) 1 (y) ; spf=pass",
        ' "mx.victim.example"; spf=pass',
        ' "mx.\\victim.example"; spf=pass',
        ' "mx.\r\n victim.example"; spf=pass',
        " mx.victim.example.; spf=pass",
        " mx.victim.example",
        " mx.victim.example 2; spf=pass",
        " other.example 2; spf=pass",
        " (unclosed mx.victim.example; spf=pass",
        " mx.victim.(x)example; spf=pass",
        " mx.victim.example evil; spf=pass",
        " other.example evil; spf=pass",
        " =?utf-8?q?mx.victim.example?=; spf=pass",
        "",
        " ;",
        b" mx.victim.ex\xffample; spf=pass",
        b" mx.victim.example\0; spf=pass",
        " ｍx.victim.example; spf=pass",
        " mx.vic\u200btim.example; spf=pass",
        " mx.victim。example; spf=pass",
        ' "mx.victim.example',
        " spf=pass smtp.mailfrom=a.example",
    ],
)
def test_ours_or_unreadable_is_removed(value: str | bytes) -> None:
    assert claims(field(value), OURS)


@pytest.mark.parametrize(
    "value",
    [
        " mx.other.example; spf=pass smtp.mailfrom=mx.victim.example",
        " mx.other.example (mx.victim.example); spf=pass",
        " mx.other.example 1; none",
        " evil.mx.victim.example; spf=pass",
        " mx.victim.example.org; spf=pass",
        " protection_filter; spf=pass",
        ' "some other id"; spf=pass',
        " bücher.example; spf=pass",
    ],
)
def test_others_stay(value: str) -> None:
    assert not claims(field(value), OURS)


def test_a_label_and_u_label_are_one_name() -> None:
    assert claims(field(" mx.bücher.example; spf=pass"), "mx.xn--bcher-kva.example")
    assert claims(field(" mx.XN--bcher-KVA.example; spf=pass"), "mx.xn--bcher-kva.example")


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        (" i=1; mx.victim.example; spf=pass", True),
        (" i = 1 ; (c) MX.victim.example; spf=pass", True),
        (" i=1; mx.other.example; spf=pass", False),
        (" mx.other.example; spf=pass", True),
        (" i=x; mx.other.example; spf=pass", True),
        (" i=1 mx.other.example", True),
    ],
)
def test_the_arc_field_is_read_behind_its_instance(value: str, ours: bool) -> None:
    assert claims(field(value, b"ARC-Authentication-Results"), OURS) is ours


def test_other_fields_are_never_ours() -> None:
    assert not claims(field(" mx.victim.example; spf=pass", b"X-Authentication-Results"), OURS)


@given(st.binary(max_size=60))
def test_any_octets_get_an_answer(octets: bytes) -> None:
    assert claims(field(octets), OURS) in (True, False)


@pytest.mark.parametrize("piece", ["(", "((", "\\", '"', "a", ".", "1 ", "/"])
def test_long_values_cost_nothing(piece: str) -> None:
    claims(field(piece * 200_000), OURS)
