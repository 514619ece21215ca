"""iprev by table (RFC 8601 section 3), and the check over a transaction."""

import asyncio
from typing import Any

import pytest

from gateway.checks.check import OnError
from gateway.checks.facts import Facts
from gateway.checks.iprev import MAX_NAMES, Iprev, IprevFact, verify
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.terms import Result

REVERSE = "1.2.0.192.in-addr.arpa"
REVERSE6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"


def resolver(zone: dict[str, Any]) -> Resolver:
    return Resolver(Zone(zone), ManualClock())


MX = {REVERSE: {"PTR": ["Mx.Example.Org."]}}
FOUR = {"A": ["192.0.2.1"]}


@pytest.mark.parametrize(
    ("zone", "ip", "result", "name"),
    [
        (MX | {"mx.example.org": FOUR}, "192.0.2.1", "pass", "mx.example.org"),
        (MX | {"mx.example.org": FOUR}, "::ffff:192.0.2.1", "pass", "mx.example.org"),
        (
            {REVERSE6: {"PTR": ["mx.example.org."]}, "mx.example.org": {"AAAA": ["2001:DB8:0::1"]}},
            "2001:db8::1",
            "pass",
            "mx.example.org",
        ),
        (MX | {"mx.example.org": {"A": ["192.0.2.2"]}}, "192.0.2.1", "fail", ""),
        (MX, "192.0.2.1", "fail", ""),
        ({}, "192.0.2.1", "permerror", ""),
        ({REVERSE: {"PTR": []}}, "192.0.2.1", "permerror", ""),
        ({REVERSE: {"PTR": "SERVFAIL"}}, "192.0.2.1", "temperror", ""),
        (MX | {"mx.example.org": {"A": "TIMEOUT"}}, "192.0.2.1", "temperror", ""),
        (
            {REVERSE: {"PTR": ["dead.example.", "mx.example."]}, "dead.example": {"A": "SERVFAIL"}, "mx.example": FOUR},
            "192.0.2.1",
            "pass",
            "mx.example",
        ),
        ({REVERSE: {"PTR": ["_not.a host.example."]}, "_not.a host.example": FOUR}, "192.0.2.1", "fail", ""),
        ({REVERSE: {"PTR": ["192.0.2.1."]}, "192.0.2.1": FOUR}, "192.0.2.1", "fail", ""),
        (
            {
                REVERSE: {"CNAME": ["1.0/25.2.0.192.in-addr.arpa."]},
                "1.0/25.2.0.192.in-addr.arpa": {"PTR": ["mx.example."]},
                "mx.example": FOUR,
            },
            "192.0.2.1",
            "pass",
            "mx.example",
        ),
    ],
)
def test_results(zone: dict[str, Any], ip: str, result: str, name: str) -> None:
    fact = asyncio.run(verify(resolver(zone), ip))
    assert (fact.result.value, fact.name) == (result, name)


def test_only_so_many_names_are_looked_at() -> None:
    names = [f"n{number}.example" for number in range(MAX_NAMES + 1)]
    zone = {REVERSE: {"PTR": [n + "." for n in names]}, names[-1]: {"A": ["192.0.2.1"]}}
    assert asyncio.run(verify(resolver(zone), "192.0.2.1")).result is Result.FAIL


def test_the_check() -> None:
    zone = {REVERSE: {"PTR": ["mx.example.org."]}, "mx.example.org": {"A": ["192.0.2.1"]}}
    check = Iprev(resolver(zone))
    session = Session("S1", "192.0.2.1", 4711, "192.0.2.25", 25, 0.0)
    tx = Transaction("T1", session, Envelope(None), 0.0)

    async def main() -> IprevFact:
        return await Facts({Iprev: check}, tx).get(Iprev)

    fact = asyncio.run(main())
    assert check.named(fact) == {"client.iprev": "pass", "client.name": "mx.example.org"}
    assert set(check.named(fact)) == set(Iprev.provides)
    assert check.trace(fact) == ("iprev=pass policy.iprev=192.0.2.1",)
    assert not check.failed(fact)
    assert check.failed(check.error())
    assert check.named(check.error()) == {"client.iprev": "temperror", "client.name": ""}
    assert Iprev.on_error is OnError.IGNORE
