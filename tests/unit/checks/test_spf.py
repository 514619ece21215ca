"""The SPF check: whose identity is judged, what policies and Authentication-Results see."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.facts import Facts
from gateway.checks.spf import Spf, SpfFact, check_host
from gateway.clock import ManualClock
from gateway.dns.answer import Response
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.address import Mailbox
from gateway.mail.authres import results
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.message import Message

ZONE: dict[str, Any] = {
    "example.org": {"TXT": ['"v=spf1 ip4:192.0.2.1 -all exp=why.example.org"']},
    "why.example.org": {"TXT": ['"%{r} says %{i} is no host of %{o} at %{t}"']},
    "helo.example.net": {"TXT": ['"v=spf1 a -all"'], "A": ["192.0.2.1"]},
    "xn--bcher-kva.example": {"TXT": ['"v=spf1 ip4:192.0.2.1 -all"']},
    "dead.example": {"TXT": "TIMEOUT"},
}


def resolver() -> Resolver:
    return Resolver(Zone(ZONE), ManualClock())


@pytest.mark.parametrize(
    ("mail_from", "helo", "result", "domain", "identity"),
    [
        ("a@example.org", "x", "pass", "example.org", "mailfrom"),
        ("a@Example.ORG.", "x", "pass", "example.org", "mailfrom"),
        ('"a@b.example"@example.org', "x", "pass", "example.org", "mailfrom"),
        ("a@bücher.example", "x", "pass", "xn--bcher-kva.example", "mailfrom"),
        ("a@dead.example", "x", "temperror", "dead.example", "mailfrom"),
        ("a@none.example", "x", "none", "none.example", "mailfrom"),
        ("a@[192.0.2.1]", "x", "none", "", "mailfrom"),
        ("", "helo.example.net", "pass", "helo.example.net", "helo"),
        ("<>", "HELO.example.net", "pass", "helo.example.net", "helo"),
        ("", "localhost", "none", "", "helo"),
        ("", "[192.0.2.1]", "none", "", "helo"),
        ("", "", "none", "", "helo"),
        ("no at sign", "x", "none", "", "mailfrom"),
    ],
)
def test_who_is_judged(mail_from: str, helo: str, result: str, domain: str, identity: str) -> None:
    fact = asyncio.run(check_host(resolver(), "192.0.2.1", helo, mail_from))
    assert (fact.result.value, fact.domain, fact.identity) == (result, domain, identity)


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_sender_and_helo_have_a_result(mail_from: str, helo: str) -> None:
    fact = asyncio.run(check_host(resolver(), "192.0.2.1", helo, mail_from))
    assert fact.domain.isascii()
    (clause,) = Spf(resolver(), ManualClock()).trace(fact)
    field = Message.from_octets(results("mx.example.com", [clause]) + b"\r\n").fields
    assert [one.key for one in field] == [b"authentication-results"]
    assert clause.count("(") == clause.count(")") == 1
    assert ";" not in clause


@pytest.mark.parametrize(
    ("sender", "ip", "helo", "named", "trace"),
    [
        (Mailbox("a", "example.org"), "192.0.2.1", "x", ("pass", "example.org"),
         "spf=pass smtp.mailfrom=example.org (client-ip=192.0.2.1 mechanism=ip4)"),
        (Mailbox("a", "example.org"), "192.0.2.2", "x", ("fail", "example.org"),
         "spf=fail smtp.mailfrom=example.org (client-ip=192.0.2.2 mechanism=all)"),
        (None, "192.0.2.1", "helo.example.net", ("pass", "helo.example.net"),
         "spf=pass smtp.helo=helo.example.net (client-ip=192.0.2.1 helo=helo.example.net mechanism=a)"),
        (None, "2001:db8::1", "[192.0.2.1]", ("none", ""), "spf=none (client-ip=2001:db8::1 helo=[192.0.2.1])"),
        (None, "192.0.2.1", "localhost", ("none", ""), "spf=none (client-ip=192.0.2.1)"),
    ],
)  # fmt: skip
def test_the_check(sender: Mailbox | None, ip: str, helo: str, named: tuple[str, str], trace: str) -> None:
    clock = ManualClock()
    check = Spf(resolver(), clock, "mx.example.com")
    session = Session("S1", ip, 4711, "192.0.2.25", 25, 0.0, helo=helo)

    async def main() -> SpfFact:
        return await Facts({Spf: check}, Transaction("T1", session, Envelope(sender), 0.0)).get(Spf)

    fact = asyncio.run(main())
    assert check.named(fact) == dict(zip(("spf.result", "spf.domain"), named, strict=True))
    assert set(Spf.provides) == set(check.named(fact))
    assert check.trace(fact) == (trace,)
    if fact.result == "fail":
        assert fact.explanation == "mx.example.com says 192.0.2.2 is no host of example.org at 1700000000"


def test_a_failed_check() -> None:
    check = Spf(resolver(), ManualClock())
    assert check.failed(check.error())
    assert check.named(check.error()) == {"spf.result": "temperror", "spf.domain": ""}


def test_the_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never:
        async def ask(self, name: str, rdtype: str, timeout: float) -> Response:
            await asyncio.Event().wait()
            raise AssertionError

    assert Spf.deadline == 20.0
    monkeypatch.setattr(Spf, "deadline", 0.01)
    resolver = Resolver(Never(), ManualClock())

    async def main() -> None:
        session = Session("S", "192.0.2.1", 4, "192.0.2.2", 25, 0.0, helo="mx.example.net")
        tx = Transaction("T", session, Envelope(Mailbox.parse(b"a@example.org")), 0.0)
        facts = Facts({Spf: Spf(resolver, ManualClock())}, tx)
        assert (await facts.get(Spf)).result == "temperror"
        assert facts.failed == {"spf": "no answer in 0.01 s"}
        await resolver.close()

    asyncio.run(main())
