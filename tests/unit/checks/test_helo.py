"""What kind of name a client gives itself."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.facts import Facts
from gateway.checks.helo import Helo, HeloFact, classify
from gateway.mail.envelope import Envelope, Session, Transaction


@pytest.mark.parametrize(
    ("helo", "name", "kind"),
    [
        ("mx.example.org", "mx.example.org", "fqdn"),
        ("MX.Example.ORG.", "mx.example.org", "fqdn"),
        ("bücher.example", "xn--bcher-kva.example", "fqdn"),
        ("[192.0.2.1]", "[192.0.2.1]", "literal"),
        ("[ipv6:2001:DB8::1]", "[IPv6:2001:db8::1]", "literal"),
        ("localhost", "localhost", "invalid"),
        ("192.0.2.1", "192.0.2.1", "invalid"),
        ("[192.0.2]", "[192.0.2]", "invalid"),
        ("under_score.example", "under_score.example", "invalid"),
        ("-x.example", "-x.example", "invalid"),
        ("a..example", "a..example", "invalid"),
        ("", "", "invalid"),
        ("x\r\n250 ok", "x??250 ok", "invalid"),
        ("a" * 64 + ".example", "a" * 64 + ".example", "invalid"),
    ],
)
def test_kinds(helo: str, name: str, kind: str) -> None:
    fact = classify(helo)
    assert (fact.name, fact.kind) == (name, kind)


@given(st.text(max_size=600))
def test_any_text_has_a_kind_and_a_printable_name(helo: str) -> None:
    fact = classify(helo)
    assert fact.name.isascii()
    assert fact.name.isprintable()
    assert len(fact.name) <= 255


def test_the_check() -> None:
    check = Helo()
    session = Session("S1", "192.0.2.1", 4711, "192.0.2.25", 25, 0.0, helo="MX.example.org")

    async def main() -> HeloFact:
        return await Facts({Helo: check}, Transaction("T1", session, Envelope(None), 0.0)).get(Helo)

    fact = asyncio.run(main())
    assert check.named(fact) == {"helo.name": "mx.example.org", "helo.kind": "fqdn"}
    assert set(check.named(fact)) == set(Helo.provides)
    assert check.error().kind == "invalid"
    assert check.trace(fact) == ()
