"""To whom a domain belongs: by the walk, and by the list where it is asked for."""

import asyncio
from typing import Any

import pytest

from gateway.checks.author import Author
from gateway.checks.facts import AnyCheck, Facts
from gateway.checks.organization import Found, Method, Organization, OrganizationFact, discover, same
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.message import Message

OWN = {"_dmarc.m.example.org": {"TXT": ["v=DMARC1; p=reject"]}}
ABOVE = {"_dmarc.example.org": {"TXT": ["v=DMARC1; p=none"]}}
TWO = {"_dmarc.example.org": {"TXT": ["v=DMARC1; p=none", "v=DMARC1; p=reject"]}}
SUFFIX = {"_dmarc.org": {"TXT": ["v=DMARC1; p=reject"]}}


def resolver(zone: dict[str, Any]) -> Resolver:
    return Resolver(Zone(zone), ManualClock())


def fact(header: bytes, zone: dict[str, Any], method: Method = "treewalk") -> tuple[OrganizationFact, dict[str, str]]:
    async def run() -> tuple[OrganizationFact, dict[str, str]]:
        check = Organization(resolver(zone), method=method)
        checks: dict[type[AnyCheck], AnyCheck] = {Author: Author(), Organization: check}
        session = Session("S", "192.0.2.1", 1, "192.0.2.2", 25, 0)
        tx = Transaction("T", session, Envelope(None), 0, Message.from_octets(header + b"\r\n"))
        facts = Facts(checks, tx)
        found = await facts.get(Organization)
        assert check.named(found).keys() == check.provides.keys()
        assert (await facts.get(Author)).result == "pass"
        return found, facts.failed

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "zone", "domain"),
    [
        ("treewalk", ABOVE, "example.org"),
        ("treewalk", OWN, "m.example.org"),
        ("suffixes", OWN, "example.org"),
        ("suffixes", {}, "example.org"),
    ],
)
def test_its_name(method: Method, zone: dict[str, Any], domain: str) -> None:
    assert fact(b"From: a@m.example.org\r\n", zone, method)[0].domain == domain


def test_dns_trouble_fails_this_check_and_not_the_author() -> None:
    trouble = {"_dmarc.org": {"TXT": "SERVFAIL"}}
    found, failed = fact(b"From: a@example.org\r\n", trouble)
    assert (found.domain, list(failed)) == ("", ["organization"])
    assert fact(b"From: a@example.org\r\n", trouble, "suffixes")[1] == {}
    assert Organization(resolver({})).error().result == "temperror"


def test_no_author_has_no_organization() -> None:
    found, failed = fact(b"To: a@example.org\r\n", {"_dmarc.org": {"TXT": "SERVFAIL"}})
    assert (found.domain, failed) == ("", {})


@pytest.mark.parametrize(
    ("zone", "author", "policy_domain", "trouble"),
    [
        ({**OWN, **ABOVE}, "m.example.org", "m.example.org", False),
        (ABOVE, "a.b.m.example.org", "example.org", False),
        # RFC 7489 section 6.6.3: what stands between or above is not asked, two records are none.
        (OWN, "a.m.example.org", "", False),
        (SUFFIX, "example.org", "", False),
        (TWO, "m.example.org", "", False),
        ({"_dmarc.example.org": {"TXT": "SERVFAIL"}}, "m.example.org", "", True),
        ({**OWN, "_dmarc.example.org": {"TXT": "SERVFAIL"}}, "m.example.org", "m.example.org", False),
        ({}, "[192.0.2.1]", "", False),
    ],
)
def test_the_record_of_the_old_way(zone: dict[str, Any], author: str, policy_domain: str, trouble: bool) -> None:
    found = asyncio.run(discover(resolver(zone), author, "suffixes"))
    assert (found.policy_domain, found.trouble) == (policy_domain, trouble)
    assert (found.record is not None) == bool(policy_domain)


def test_the_walk_says_the_same_in_its_own_way() -> None:
    found = asyncio.run(discover(resolver(SUFFIX), "example.org", "treewalk"))
    assert (found.policy_domain, found.organization) == ("org", "org")
    assert asyncio.run(discover(resolver({}), "example.org", "treewalk")) == Found("example.org")


@pytest.mark.parametrize(
    ("domain", "other", "aligned"),
    [("a.example.org", "b.example.org", True), ("example.org", "m.example.org", True), ("co.uk", "co.uk", True),
     ("a.co.uk", "b.co.uk", False), ("example.com", "example.org", False)],
)  # fmt: skip
def test_same_by_the_list(domain: str, other: str, aligned: bool) -> None:
    async def run() -> bool | None:
        ours = (await discover(resolver({}), other, "suffixes")).organization
        return await same(resolver({}), domain, other, ours, "suffixes")

    assert asyncio.run(run()) is aligned
