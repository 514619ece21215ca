"""DMARC: records as they are typed, and the check behind the pure parts (the worked examples are in conformance)."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.author import Author
from gateway.checks.dkim import Dkim, DkimFact
from gateway.checks.dmarc import Dmarc, DmarcFact, judge
from gateway.checks.dmarc_record import Record, Word, parse
from gateway.checks.facts import AnyCheck, Facts
from gateway.checks.organization import Method, Organization
from gateway.checks.spf import Spf, SpfFact
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.message import Message
from gateway.mail.terms import Result
from tests.unit.checks.signing import NOW, rsa_record, signed

REJECT = Record(Word.REJECT)


@pytest.mark.parametrize(
    "octets",
    [b"", b"p=reject", b"v=dmarc1; p=reject", b"v=DMARC1x; p=reject", b"v=DMARC1 p=none", b"p=none; v=DMARC1",
     b"v=spf1 -all", b"DMARC1", b"v=DMARC1; " + b"x" * 20_000],
)  # fmt: skip
def test_no_record(octets: bytes) -> None:
    assert parse(octets) is None


@pytest.mark.parametrize(
    ("octets", "record"),
    [
        (b"v=DMARC1; p=reject", REJECT),
        (b"v=DMARC1;p=reject;", REJECT),
        (b"V = DMARC1 ; P = Reject ;", REJECT),
        (b" v=DMARC1; p=reject", REJECT),
        (b"v=DMARC1; p=reject;; x; =; y=z; pct=x; rf=afrf; ri=x", REJECT),
        (b"v=DMARC1; p=reject; pct=0", Record(Word.REJECT, percentage=0)),
        (b"v=DMARC1; p=reject; pct=101", REJECT),
        (b"v=DMARC1; p=reject; pct=-1", REJECT),
        (b"v=DMARC1", Record()),
        (b"v=DMARC1; p=", Record(Word.BAD)),
        (b"v=DMARC1; p=rejekt", Record(Word.BAD)),
        (b"v=DMARC1; p=reject\x80", Record(Word.BAD)),
        (b"v=DMARC1; p=reject; sp=none; np=quarantine", Record(Word.REJECT, Word.NONE, Word.QUARANTINE)),
        (b"v=DMARC1; p=reject; adkim=S; aspf=s", Record(Word.REJECT, strict_dkim=True, strict_spf=True)),
        (b"v=DMARC1; p=reject; adkim=x; aspf=; t=x; psd=x; fo=9", REJECT),
        (b"v=DMARC1; p=reject; psd=Y; t=Y", Record(Word.REJECT, psd="y", testing=True)),
        (b"v=DMARC1; p=none; p=reject", REJECT),
        (b"v=DMARC1; p=reject; rua=mailto:a@example.org!10m", Record(Word.REJECT, reported=True)),
        (b"v=DMARC1; p=reject; rua=nonsense, mailto:a@example.org", Record(Word.REJECT, reported=True)),
        (b"v=DMARC1; p=reject; rua=nonsense, a@example.org", REJECT),
    ],
)
def test_records(octets: bytes, record: Record) -> None:
    assert parse(octets) == record


@given(st.text(alphabet="v=DMARC1;psnrejct \t,:!", max_size=40))
def test_any_text_is_a_record_or_none(text: str) -> None:
    record = parse(text.encode())
    assert record is None or isinstance(record.wanted(at_author=True, exists=True), Word)


def check_of(
    zone: dict[str, Any], octets: bytes, sender: str = "", method: Method = "treewalk"
) -> tuple[DmarcFact, Dmarc]:
    async def run() -> tuple[DmarcFact, Dmarc]:
        clock = ManualClock(NOW)
        resolver = Resolver(Zone(zone), clock)
        session = Session("S", "192.0.2.1", 1, "192.0.2.2", 25, NOW, "mail.example.org")
        path = Mailbox.parse(sender.encode()) if sender else None
        tx = Transaction("T", session, Envelope(path), NOW, Message.from_octets(octets))
        check = Dmarc(resolver, method=method)
        checks: dict[type[AnyCheck], AnyCheck] = {
            Spf: Spf(resolver, clock), Dkim: Dkim(resolver, clock), Author: Author(),
            Organization: Organization(resolver, method=method), Dmarc: check,
        }  # fmt: skip
        return await Facts(checks, tx).get(Dmarc), check

    return asyncio.run(run())


ZONE: dict[str, Any] = {
    "_dmarc.example.org": {"TXT": ["v=DMARC1; p=reject"]},
    "sel._domainkey.example.org": {"TXT": [rsa_record()]},
    "example.org": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]},
}


def test_a_signature_of_the_author_passes() -> None:
    fact, check = check_of(ZONE, signed())
    assert (fact.result, fact.policy, fact.domain) == (Result.PASS, "reject", "example.org")
    assert check.named(fact) == {"dmarc.result": "pass", "dmarc.policy": "reject", "dmarc.domain": "example.org"}
    assert check.trace(fact) == ("dmarc=pass header.from=example.org policy.dmarc=reject",)


def test_spf_of_the_envelope_passes() -> None:
    assert check_of(ZONE, b"From: a@example.org\r\n\r\n", "b@example.org")[0].result is Result.PASS
    assert check_of(ZONE, b"From: a@example.org\r\n\r\n", "b@example.net")[0].result is Result.FAIL


def test_a_key_that_cannot_be_looked_up_is_temperror() -> None:
    zone = {**ZONE, "sel._domainkey.example.org": {"TXT": "SERVFAIL"}}
    assert check_of(zone, signed())[0].result is Result.TEMPERROR


def test_a_failed_check_hides_identifiers() -> None:
    resolver = Resolver(Zone(ZONE), ManualClock())
    none, broken = SpfFact(Result.NONE), SpfFact(Result.TEMPERROR)
    assert asyncio.run(judge(resolver, ["example.org"], broken, DkimFact(Result.NONE))).result is Result.TEMPERROR
    assert asyncio.run(judge(resolver, ["example.org"], none, DkimFact(Result.TEMPERROR))).result is Result.TEMPERROR
    stranger = SpfFact(Result.TEMPERROR, "example.net")
    assert asyncio.run(judge(resolver, ["example.org"], stranger, DkimFact(Result.NONE))).result is Result.FAIL


def test_existence_unknown_is_temperror() -> None:
    zone = {"_dmarc.example.org": {"TXT": ["v=DMARC1; p=none; np=reject"]}, "x.example.org": {"A": "SERVFAIL"}}
    resolver = Resolver(Zone(zone), ManualClock())
    fact = asyncio.run(judge(resolver, ["x.example.org"], SpfFact(Result.NONE), DkimFact(Result.NONE)))
    assert fact.result is Result.TEMPERROR


def test_a_dangling_alias_exists() -> None:
    zone: dict[str, Any] = {
        "_dmarc.example.org": {"TXT": ["v=DMARC1; p=none; np=reject"]},
        "x.example.org": {"CNAME": ["gone.example.net"]},
    }
    resolver = Resolver(Zone(zone), ManualClock())
    fact = asyncio.run(judge(resolver, ["x.example.org"], SpfFact(Result.NONE), DkimFact(Result.NONE)))
    assert (fact.result, fact.policy) == (Result.FAIL, "none")


@pytest.mark.parametrize("domain", ["[192.0.2.1]", "a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 60])
def test_names_without_place_in_the_dns_have_no_record(domain: str) -> None:
    resolver = Resolver(Zone({}), ManualClock())
    fact = asyncio.run(judge(resolver, [domain], SpfFact(Result.NONE), DkimFact(Result.NONE)))
    assert fact.result is Result.NONE


def test_internationalized_domains_are_a_labels() -> None:
    zone = {"_dmarc.xn--bcher-kva.example": {"TXT": ["v=DMARC1; p=reject"]}}
    fact, _ = check_of(zone, "From: a@bücher.example\r\n\r\n".encode())
    assert (fact.result, fact.author_domain) == (Result.FAIL, "xn--bcher-kva.example")


def test_only_the_old_way_samples() -> None:
    octets = b"From: a@example.org\r\n\r\n"
    zone = {**ZONE, "_dmarc.example.org": {"TXT": ["v=DMARC1; p=reject; pct=0"]}}
    assert check_of(zone, octets)[0].policy == "reject"  # RFC 9989 appendix A.6
    assert check_of(zone, octets, method="suffixes")[0].policy == "quarantine"  # RFC 7489 section 6.6.4


@pytest.mark.parametrize(("drawn", "policy"), [(0, "reject"), (29, "reject"), (30, "quarantine"), (99, "quarantine")])
def test_sampling_by_lot(drawn: int, policy: str) -> None:
    resolver = Resolver(Zone({"_dmarc.example.org": {"TXT": ["v=DMARC1; p=reject; pct=30"]}}), ManualClock())
    nothing = SpfFact(Result.NONE), DkimFact(Result.NONE)
    fact = asyncio.run(judge(resolver, ["mail.example.org"], *nothing, "suffixes", drawn))
    assert (fact.result, fact.policy, fact.domain) == (Result.FAIL, policy, "example.org")
