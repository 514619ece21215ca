"""DKIM: what passes, what is refused before any cryptography, and what hostile signatures cost."""

import asyncio
import base64
import time
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.checks.author import Author
from gateway.checks.dkim import Dkim, DkimFact, Signature
from gateway.checks.dkim_key import Key
from gateway.checks.facts import AnyCheck, Facts
from gateway.checks.organization import Organization
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.message import Message
from gateway.mail.terms import Result
from tests.support.work import lines
from tests.unit.checks.signing import MAIL, NOW, der, ed25519_record, rsa_key, rsa_record, signed

Records = dict[str, Any]
KEY: Records = {"sel._domainkey.example.org": {"TXT": [rsa_record()]}}


def verify(octets: bytes, records: Records | None = None, *, now: float = NOW, **options: Any) -> list[Signature]:
    clock = ManualClock(now)
    resolver = Resolver(Zone(KEY if records is None else records), clock)
    return list(asyncio.run(Dkim(resolver, clock, **options).verify(Message.from_octets(octets))))


def only(octets: bytes, records: Records | None = None, **options: Any) -> Signature:
    (signature,) = verify(octets, records, **options)
    return signature


def key(*texts: str) -> Records:
    return {"sel._domainkey.example.org": {"TXT": list(texts)}}


def test_a_good_signature_passes() -> None:
    assert only(signed()) == Signature(Result.PASS, "example.org", "sel")


def test_ed25519_passes() -> None:
    assert only(signed(a="ed25519-sha256"), key(ed25519_record())).result is Result.PASS


def test_no_signature_is_no_result() -> None:
    assert verify(MAIL) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"a body", b"A body"),
        (b"a  subject", b"another subject"),
        (b"From: A User", b"From: B User"),
        (b"\r\n\r\nHello", b"\r\nX: y\r\n\r\nX: y\r\nHello"),
    ],
)
def test_a_change_fails(old: bytes, new: bytes) -> None:
    assert only(signed().replace(old, new)).result is Result.FAIL


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject: a  subject\r\n\twith", b"SUBJECT :  a subject with"),
        (b"a body. \r\n\r\n", b"a\tbody.\r\n\r\n\r\n"),
        (b"To: friend", b"To:\r\n friend"),
        (b"a body. \r\n\r\n", b"a body."),
    ],
)
def test_relaxed_forgives_white_space(old: bytes, new: bytes) -> None:
    octets = signed()
    assert old in octets
    assert only(octets.replace(old, new)).result is Result.PASS


@pytest.mark.parametrize(
    ("options", "result"),
    [
        ({"h": "to:subject"}, "permerror"),
        ({"h": ""}, "permerror"),
        ({"h": "from:su bject"}, "permerror"),
        ({"h": "from : to: FROM :subject"}, "pass"),  # oversigned: a second From would break it
        ({"h": "from:x-none:to"}, "pass"),
        ({"tags": "l=10; "}, "policy"),
        ({"tags": "l=0; "}, "policy"),
        ({"tags": "l=x; "}, "permerror"),
        ({"a": "rsa-sha1", "body_hash": bytes(20)}, "policy"),
        ({"a": "rsa-md5"}, "permerror"),
        ({"a": "RSA-SHA256"}, "permerror"),
        ({"v": ""}, "permerror"),
        ({"v": "v=2; "}, "permerror"),
        ({"v": "v=1; v=1; "}, "permerror"),
        ({"tags": "t=1699999999; x=1700000001; "}, "pass"),
        ({"tags": "x=1699999701; "}, "pass"),  # within the skew of five minutes
        ({"tags": "x=1699999699; "}, "fail"),
        ({"tags": "t=1700000299; "}, "pass"),
        ({"tags": "t=1700000301; "}, "policy"),
        ({"tags": "t=1700000000; x=1700000000; "}, "permerror"),
        ({"tags": "t=x; "}, "permerror"),
        ({"tags": "t=-1; "}, "permerror"),
        ({"tags": "t=; "}, "permerror"),
        ({"tags": "x=99999999999999999999999999; "}, "permerror"),
        ({"tags": "q=dns/txt; "}, "pass"),
        ({"tags": "q=http : dns/txt; "}, "pass"),
        ({"tags": "q=http; "}, "permerror"),
        ({"tags": "i=user@example.org; "}, "pass"),
        ({"tags": "i=@mail.example.org; "}, "pass"),
        ({"tags": "i=us=65r@ex=61mple.org; "}, "pass"),
        ({"tags": "i=@example.com; "}, "permerror"),
        ({"tags": "i=@notexample.org; "}, "permerror"),
        ({"tags": "i=example.org; "}, "permerror"),
        ({"tags": "i=u=ZZ@example.org; "}, "permerror"),
        ({"tags": "unknown=1; "}, "pass"),
        ({"tags": "; "}, "permerror"),
        ({"form": "c=relaxed/nofws; "}, "permerror"),
        ({"form": "c=/; "}, "permerror"),
        ({"body_hash": b"short"}, "permerror"),
        ({"body_hash": bytes(32)}, "fail"),
        ({"d": "EXAMPLE.org"}, "pass"),
        ({"d": "org"}, "permerror"),
        ({"d": "example.org."}, "permerror"),
        ({"d": "exam ple.org"}, "permerror"),
        ({"d": "example.org'a.attack.example"}, "permerror"),
        ({"d": "example.org(x)"}, "permerror"),
        ({"d": "-" * 64 + ".org"}, "permerror"),
        ({"s": "sel.\x01.any"}, "permerror"),
        ({"s": "sel.\xff.any"}, "permerror"),
        ({"s": "*"}, "permerror"),
        ({"s": "a." * 125 + "a"}, "permerror"),
        ({"s": "other"}, "permerror"),
    ],
)
def test_tags(options: dict[str, Any], result: str) -> None:
    assert only(signed(**options)).result == result


@pytest.mark.parametrize(
    ("records", "result"),
    [
        (key(rsa_record(tags="")), "pass"),
        (key(rsa_record(tags="k=rsa; h=sha1:sha256; s=email; t=y:s; n=note; g=; x=1; ")), "pass"),
        (key(rsa_record(tags="v=DKIM1; s=other:*; ")), "pass"),
        (key(rsa_record(tags="k=rsa; v=DKIM1; ")), "permerror"),
        (key(rsa_record(tags="v=DKIM2; ")), "permerror"),
        (key(rsa_record(tags="v=dkim1; ")), "permerror"),
        (key(rsa_record(tags="k=ed25519; ")), "permerror"),
        (key(rsa_record(tags="h=sha1; ")), "permerror"),
        (key(rsa_record(tags="s=tlsrpt; ")), "permerror"),
        (key(rsa_record(tags="n=a; n=b; ")), "permerror"),
        (key("v=DKIM1; p="), "permerror"),
        (key("v=DKIM1"), "permerror"),
        (key("v=DKIM1; p=!"), "permerror"),
        (key("v=DKIM1; p=AAAA"), "permerror"),
        (key("v=spf1 -all"), "permerror"),
        (key(), "permerror"),
        (key("v=spf1 -all", rsa_record()), "pass"),
        (key(rsa_record(1024), rsa_record()), "pass"),
        (key('"' + rsa_record()[:200] + '" "' + rsa_record()[200:] + '"'), "pass"),
        (key(rsa_record().replace("p=", "p= ").replace("A", "A ", 3)), "pass"),
        ({}, "permerror"),
        ({"sel._domainkey.example.org": {"TXT": "SERVFAIL"}}, "temperror"),
        ({"sel._domainkey.example.org": {"*": "TIMEOUT"}}, "temperror"),
        ({"sel._domainkey.example.org": {"CNAME": ["sel._domainkey.example.org"]}}, "temperror"),
        (
            {"sel._domainkey.example.org": {"CNAME": ["k.example.net"]}, "k.example.net": {"TXT": [rsa_record()]}},
            "pass",
        ),
    ],
)
def test_key_records(records: Records, result: str) -> None:
    assert only(signed(), records).result == result


def test_a_bare_rsa_public_key_is_taken() -> None:
    octets = rsa_key(2048).public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    assert only(signed(), key(f"p={base64.b64encode(octets).decode()}")).result is Result.PASS


def test_t_s_forbids_subdomains_in_i() -> None:
    records = key(rsa_record(tags="t=s; "))
    assert only(signed(tags="i=@mail.example.org; "), records).result is Result.PERMERROR
    assert only(signed(tags="i=user@example.org; "), records).result is Result.PASS


def test_short_and_long_keys_are_refused() -> None:
    assert only(signed(bits=1024), key(rsa_record(1024))).result is Result.PASS
    assert only(signed(bits=1024), key(rsa_record(1024)), min_rsa_bits=2048).result is Result.POLICY


def test_sha1_is_for_old_suites_only() -> None:
    octets = signed(a="rsa-sha1", body_hash=bytes(20))
    assert only(octets).result is Result.POLICY
    assert only(octets, {"sel._domainkey.example.org": {"TXT": "SERVFAIL"}}).result is Result.TEMPERROR


def fake_key(modulus: int, exponent: int) -> str:
    def integer(number: int) -> bytes:
        octets = number.to_bytes(number.bit_length() // 8 + 1, "big")
        return b"\x02" + length(len(octets)) + octets

    def length(count: int) -> bytes:
        return bytes([count]) if count < 128 else b"\x82" + count.to_bytes(2, "big")

    numbers = integer(modulus) + integer(exponent)
    return "p=" + base64.b64encode(b"\x30" + length(len(numbers)) + numbers).decode()


@pytest.mark.parametrize(
    ("bits", "exponent"),
    [
        (16_384, "(1 << 16_000) + 1"), (16_384, "65_537"), (4_096, "(1 << 4_000) + 1"), (2_048, "(1 << 32) + 3"),
        (2_048, "4"), (2_048, "1"), (2_048, "2"), (1_023, "65_537"), (512, "3"),
    ],
)  # fmt: skip
def test_hostile_keys_are_refused_before_any_cryptography(
    bits: int, exponent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Key, "verifies", lambda *_: pytest.fail("a hostile key was used"))
    found = only(signed(), key(fake_key((1 << bits) - 159, eval(exponent))))
    assert found.result in {Result.POLICY, Result.PERMERROR}


def test_more_than_ten_signatures_are_not_looked_at() -> None:
    one = signed()[: -len(MAIL)]
    found = verify(one * 12 + MAIL)
    assert [s.result for s in found] == [Result.PASS] * 10 + [Result.POLICY] * 2


def test_every_signature_is_judged_alone_top_first() -> None:
    octets = b"DKIM-Signature: nonsense\r\n" + signed(signed(s="none"))
    assert [(s.result, s.selector) for s in verify(octets)] == [
        ("permerror", ""),
        ("pass", "sel"),
        ("permerror", "none"),
    ]


def test_signing_another_signature() -> None:
    octets = signed(signed(), h="from:dkim-signature")
    assert [s.result for s in verify(octets)] == [Result.PASS, Result.PASS]
    broken = octets[: octets.rindex(b"bh=")] + b"x" + octets[octets.rindex(b"bh=") :]
    assert verify(broken)[0].result is Result.FAIL


def test_a_malformed_header_is_signed_by_nobody() -> None:
    octets = signed().replace(b"To: friend", b"no field\r\nTo: friend")
    assert {s.result for s in verify(octets)} == {Result.PERMERROR}


@pytest.mark.parametrize(
    "field",
    [
        b"DKIM-Signature: " + b"a=b;" * 16_000,
        b"DKIM-Signature: " + b";" * 60_000,
        b"DKIM-Signature: " + b"=" * 60_000,
        b"DKIM-Signature: v=1; h=" + b"a:" * 30_000,
        b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=sel; bh=" + b"A" * 43 + b"=; b=AAAA; h=" + b"from:" * 999,
        b"DKIM-Signature: v=1; i=" + b"=41" * 20_000 + b"@example.org",
        b"DKIM-Signature: v=1; d=" + b"a." * 30_000,
        b"DKIM-Signature: " + b" \r\n" * 20_000 + b" v=1",
    ],
)
def test_hostile_signatures_cost_little(field: bytes) -> None:
    octets = (field + b"\r\n") * 3 + MAIL
    found = verify(octets)
    assert len(found) == 3
    assert Result.PASS not in {s.result for s in found}
    assert lines(lambda: verify(octets)) < 60_000  # a good one takes 3,500


def test_a_header_of_many_fields() -> None:
    octets = signed()[: -len(MAIL)] + b"X: y\r\n" * 100_000 + MAIL
    assert lines(lambda: verify(octets)) < 30_000


# The best aligned result stands for all


def fact(octets: bytes, records: Records) -> DkimFact:
    async def run() -> DkimFact:
        clock = ManualClock(NOW)
        resolver = Resolver(Zone(records), clock)
        session = Session("S", "192.0.2.1", 1, "192.0.2.2", 25, NOW)
        tx = Transaction("T", session, Envelope(None), NOW, Message.from_octets(octets))
        checks: dict[type[AnyCheck], AnyCheck] = {
            Dkim: Dkim(resolver, clock), Author: Author(), Organization: Organization(resolver),
        }  # fmt: skip
        facts = Facts(checks, tx)
        return await facts.get(Dkim)

    return asyncio.run(run())


def test_the_best_aligned_signature_stands_for_all() -> None:
    records = {**KEY, "sel._domainkey.example.net": {"TXT": [rsa_record()]}}
    stranger, ours = signed(d="example.net"), signed()
    changed = signed(body_hash=bytes(32))
    both = stranger[: -len(MAIL)] + changed
    assert fact(both, records).result is Result.FAIL
    assert fact(both, records).domains == ("example.net",)
    assert fact(stranger, records).result is Result.PASS
    assert fact(stranger[: -len(MAIL)] + ours, records).result is Result.PASS
    assert fact(MAIL, records).result is Result.NONE


def test_aligned_means_the_same_organization() -> None:
    mail = signed(d="mail.example.org", body_hash=bytes(32))
    records = {**KEY, "sel._domainkey.mail.example.org": {"TXT": [rsa_record()]}, "mail.example.org": {"A": []}}
    records["sel._domainkey.example.net"] = {"TXT": [rsa_record()]}
    records["_dmarc.example.org"] = {"TXT": ["v=DMARC1; p=none"]}
    both = signed(d="example.net")[: -len(MAIL)] + mail
    assert fact(both, records).result is Result.FAIL


def test_names_and_traces() -> None:
    check = Dkim(Resolver(Zone({}), ManualClock()), ManualClock())
    found = DkimFact(
        Result.PASS,
        (Signature(Result.PASS, "example.org", "sel"), Signature(Result.PERMERROR, why="v= is not 1")),
    )
    assert check.named(found) == {"dkim.result": "pass", "dkim.domains": ["example.org"]}
    assert check.trace(found) == (
        "dkim=pass header.d=example.org header.s=sel",
        'dkim=permerror reason="v= is not 1"',
    )
    assert check.trace(DkimFact(Result.NONE)) == ("dkim=none",)
    assert check.failed(check.error())


# Against dkimpy, which signs and verifies the same mails


_LINE = st.binary(max_size=20).map(lambda octets: octets.replace(b"\r", b" ").replace(b"\n", b"\t"))
_BODY = st.lists(st.one_of(_LINE, st.sampled_from([b"", b" ", b"\t \t", b"a  b ", b"."])), max_size=8).map(b"\r\n".join)
_VALUE = st.text(alphabet="ab \t:;=", max_size=12).map(str.encode)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    _BODY,
    st.lists(_VALUE, max_size=3),
    st.sampled_from([b"simple", b"relaxed"]),
    st.sampled_from([b"simple", b"relaxed"]),
    st.booleans(),
)
def test_what_dkimpy_signs_passes(body: bytes, subjects: list[bytes], header: bytes, form: bytes, crlf: bool) -> None:
    fields = b"From: user@example.org\r\n" + b"".join(b"Subject: " + value + b"\r\n" for value in subjects)
    # Where we differ: white space before the end of a body without CRLF ends a line for us (RFC 6376 3.4.4 a), not for
    # dkimpy 1.1.8. No such body comes by DATA.
    octets = fields + b"\r\n" + (body + b"\r\n" if crlf else body.rstrip(b" \t"))
    pem = rsa_key(1024).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    field = dkim.sign(
        octets, b"sel", b"example.org", pem, canonicalize=(header, form), include_headers=[b"from", b"subject"]
    )
    found = only(field + octets, key(rsa_record(1024)), now=time.time())
    assert found.result is Result.PASS, found
    assert der(rsa_key(1024).public_key())


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0), st.binary(min_size=1, max_size=2), st.booleans())
def test_what_passes_here_passes_with_dkimpy(place: int, octets: bytes, insert: bool) -> None:
    """A mail changed at random: where we find the signature right, so does the other verifier."""
    whole = signed(bits=1024)
    octets = octets.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    at = place % len(whole)
    changed = whole[:at] + octets + whole[at + (0 if insert else len(octets)) :]
    found = verify(changed, key(rsa_record(1024)))
    if any(signature.result is Result.PASS for signature in found):
        assert dkim.verify(changed, dnsfunc=lambda name, timeout=5: rsa_record(1024).encode())
