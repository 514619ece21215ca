"""Our DKIM and ARC against dkimpy on generated mail: wherever they differ, the difference is one of a known list.

Mail is generated, signed by dkimpy or sealed by us, and changed on its way; both verifiers must agree whether it
passes. What they do not agree about stands in `DIFFERENCES`, with the clause.
"""

import asyncio
from functools import cache
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.checks.arc import Arc
from gateway.checks.dkim import Dkim
from gateway.checks.seal import Sealer
from gateway.clock import SystemClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.message import Message
from gateway.mail.terms import Result
from tests.unit.checks.signing import ed25519_key, ed25519_record, rsa_key, rsa_record, signed

ZONE: dict[str, Any] = {
    "sel._domainkey.example.org": {"TXT": [rsa_record(1024)]},
    "ed._domainkey.example.org": {"TXT": [ed25519_record()]},
    "dead._domainkey.example.org": {"TXT": "SERVFAIL"},
    "onlysha1._domainkey.example.org": {"TXT": [rsa_record(1024, "v=DKIM1; h=sha1; ")]},
}
SEALER = Sealer("example.org", "sel", rsa_key(1024))
SETTINGS = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

words = st.sampled_from([b"x", b" ", b"\t", b"  ", b"word", b"\r\n", b"\r\n\r\n", b" \r\n", b".", "ü".encode(), b"=20"])
bodies = st.lists(words, max_size=25).map(lambda pieces: b"".join(pieces) + b"\r\n")
fields = st.lists(
    st.tuples(
        st.sampled_from([b"To", b"Subject", b"CC", b"subject", b"X-Odd", b"Date", b"Reply-To"]),
        st.sampled_from([b" x", b"x", b"  two  words ", b"\r\n\tfolded\r\n more", b"", b" \t", " ü".encode()]),
    ),
    max_size=6,
)
mails = st.builds(
    lambda first, header, body: first + b"".join(n + b":" + v + b"\r\n" for n, v in header) + b"\r\n" + body,
    st.sampled_from([b"From: a@example.org\r\n", b"FROM:a@example.org\r\n", b"From: \r\n\ta@example.org  \r\n"]),
    fields,
    bodies,
)
forms = st.sampled_from([b"simple", b"relaxed"])
changes = st.sampled_from(
    [(b"", b""), (b"a@example.org", b"b@example.org"), (b"word", b"Word"), (b"x", b"y"), (b"  ", b" "), (b" ", b"  "),
     (b"\t", b" "), (b"\r\n\r\n", b"\r\n\r\n\r\n"), (b"\r\n", b" \r\n"), (b"To:", b"TO :"), (b"Subject", b"X-Subject"),
     (b"From:", b"From: evil@example.net\r\nFrom:"), (b"; s=", b";\r\n s="), (b"c=relaxed", b"c=simple"),
     (b"bh=", b"bh= "), (b"\r\n\r\n", b"\r\nX: new\r\n\r\n"), (b"d=example.org", b"d=EXAMPLE.org"), (b"v=1;", b"v=2;")]
)  # fmt: skip


@cache
def pem() -> bytes:
    form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    return rsa_key(1024).private_bytes(*form)


def ask(name: bytes, timeout: int = 5) -> bytes | None:
    records = ZONE.get(name.decode().rstrip(".").lower(), {}).get("TXT")
    return str(records[0]).encode() if isinstance(records, list) else None


def resolver() -> Resolver:
    return Resolver(Zone(ZONE), SystemClock())


def our_dkim(octets: bytes) -> bool:
    found = asyncio.run(Dkim(resolver(), SystemClock()).verify(Message.from_octets(octets)))
    return bool(found) and found[0].result is Result.PASS


def its_dkim(octets: bytes) -> bool:
    try:
        return bool(dkim.verify(octets, dnsfunc=ask, minkey=1024))
    except dkim.DKIMException:
        return False


def our_arc(octets: bytes) -> str:
    return str(asyncio.run(Arc(resolver()).verify(Message.from_octets(octets))).result)


def its_arc(octets: bytes) -> str:
    return str(dkim.arc_verify(octets, dnsfunc=ask, minkey=1024)[0].decode())


def is_known(octets: bytes) -> bool:
    """True for what `DIFFERENCES` lists and the generator can hit."""
    message = Message.from_octets(octets)
    head = bytes(message.view(0, message.body_offset))
    several = sum(field.key == b"from" for field in message.fields) != 1
    return bool(message.malformed) or several or b"Subject :" in head or b"TO :" in head


@SETTINGS
@given(mails, forms, forms, changes, st.booleans())
def test_dkim(mail: bytes, header: bytes, body: bytes, change: tuple[bytes, bytes], late: bool) -> None:
    names = [b"from", b"to", b"subject", b"subject", b"cc"]
    signature = dkim.sign(mail, b"sel", b"example.org", pem(), canonicalize=(header, body), include_headers=names)
    octets = bytes(signature) + mail
    if late:
        start, _, end = octets.rpartition(change[0]) if change[0] else (octets, b"", b"")
        octets = start + change[1] + end
    else:
        octets = octets.replace(*change, 1)
    if not is_known(octets):
        assert our_dkim(octets) == its_dkim(octets)


@SETTINGS
@given(mails, changes, st.integers(1, 3))
def test_arc(mail: bytes, change: tuple[bytes, bytes], sets: int) -> None:
    octets = mail
    for _ in range(sets):
        message = Message.from_octets(octets)
        fact = asyncio.run(Arc(resolver()).verify(message))
        clauses = ["spf=pass smtp.mailfrom=example.org", f"arc={fact.result}"]
        octets = asyncio.run(SEALER.seal(message, (), "mx.example.org", clauses, fact, 1_700_000_000)) + octets
    octets = octets.replace(*change, 1)
    if not is_known(octets):
        assert our_arc(octets) == its_arc(octets)


PLAIN = b"From: a@example.org\r\nTo: b@example.com\r\nSubject: c\r\n\r\nbody\r\n"

#: Why we differ, the mail, our word, dkimpy's.
DIFFERENCES: list[tuple[str, bytes, bool, bool]] = [
    ("RFC 8301 section 3.1: rsa-sha1 is no signature", b"sha1", False, True),
    ("RFC 6376 section 8.2, and ours: l= leaves the body open", b"length", False, True),
    ("RFC 6376 section 5.4: From must be signed", b"nofrom", False, True),
    ("RFC 6376 section 3.6.1: a key for another hash", b"onlysha1", False, True),
    ("RFC 5322 section 4.5: Name : is a field", b"space", True, False),
    (
        "RFC 6376 section 5.4.2: the last From is the signed one; that there are two is told by from.valid",
        b"two",
        True,
        False,
    ),
]


def made(kind: bytes) -> bytes:
    match kind:
        case b"sha1":
            signature = dkim.sign(PLAIN, b"sel", b"example.org", pem(), signature_algorithm=b"rsa-sha1")
            return bytes(signature) + PLAIN
        case b"length":
            return bytes(dkim.sign(PLAIN, b"sel", b"example.org", pem(), length=True)) + PLAIN + b"more\r\n"
        case b"nofrom":
            return signed(PLAIN, bits=1024, h="to:subject")
        case b"space":
            return signed(PLAIN, bits=1024, h="from:to:subject").replace(b"\r\nSubject:", b"\r\nSubject :")
        case b"two":
            return signed(PLAIN, bits=1024, h="from:to").replace(b"\r\nFrom:", b"\r\nFrom: x@example.net\r\nFrom:")
        case name:
            return signed(PLAIN, bits=1024, h="from:to", s=name.decode())


@pytest.mark.parametrize(("why", "kind", "ours", "theirs"), DIFFERENCES, ids=[d[1].decode() for d in DIFFERENCES])
def test_known_differences(why: str, kind: bytes, ours: bool, theirs: bool) -> None:
    octets = made(kind)
    assert (our_dkim(octets), its_dkim(octets)) == (ours, theirs)


def test_a_dead_dns_is_temperror_for_us_and_fail_for_dkimpy() -> None:
    octets = signed(PLAIN, bits=1024, h="from:to", s="dead")
    (found,) = asyncio.run(Dkim(resolver(), SystemClock()).verify(Message.from_octets(octets)))
    assert found.result is Result.TEMPERROR
    assert not its_dkim(octets)


def test_dkimpy_has_no_ed25519_for_arc() -> None:
    message = Message.from_octets(PLAIN)
    fact = asyncio.run(Arc(resolver()).verify(message))
    sealer = Sealer("example.org", "ed", ed25519_key())
    octets = asyncio.run(sealer.seal(message, (), "mx.example.org", ["arc=none"], fact, 1_700_000_000)) + PLAIN
    assert (our_arc(octets), its_arc(octets)) == ("pass", "fail")
