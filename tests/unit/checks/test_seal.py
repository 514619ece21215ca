"""ARC sealing: what we seal passes by our own verifier and by dkimpy's, on the octets that the backend gets."""

import asyncio
import hashlib
import re
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.checks.arc import Arc, ArcFact
from gateway.checks.seal import Sealer
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.message import Message
from gateway.mail.terms import Result
from tests.unit.checks.signing import MAIL, NOW, ed25519_key, ed25519_record, rsa_key, rsa_record, signed

HOST = "mx.example.com"
CLAUSES = ["spf=pass smtp.mailfrom=example.org", "dkim=pass header.d=example.org header.s=sel", "arc=none"]
RSA = Sealer("example.com", "arc", rsa_key(2048))
OTHER = Sealer("example.org", "sel", rsa_key(1024))
ED25519 = Sealer("example.net", "ed", ed25519_key())
ZONE: dict[str, Any] = {
    "arc._domainkey.example.com": {"TXT": [rsa_record()]},
    "sel._domainkey.example.org": {"TXT": [rsa_record(1024)]},
    "ed._domainkey.example.net": {"TXT": [ed25519_record()]},
}


def found(octets: bytes, zone: dict[str, Any] | None = None) -> ArcFact:
    resolver = Resolver(Zone(ZONE if zone is None else zone), ManualClock(NOW))
    return asyncio.run(Arc(resolver).verify(Message.from_octets(octets)))


def sealed(octets: bytes, sealer: Sealer = RSA, *, removed: frozenset[int] = frozenset(), arc: Any = None) -> bytes:
    """The mail as the backend gets it: our set and its other fields on top, `removed` left out."""
    message = Message.from_octets(octets)
    fact = arc or found(octets)
    fields = asyncio.run(sealer.seal(message, removed, HOST, CLAUSES, fact, NOW))
    rest = b"".join(field.raw for n, field in enumerate(message.fields) if n not in removed)
    return fields + b"Received: from a by b; now\r\n" + rest + b"\r\n" + bytes(message.view(message.body_offset))


def theirs(octets: bytes) -> str:
    """dkimpy's word on the chain."""

    def ask(name: bytes, timeout: int = 5) -> bytes:
        return str(ZONE[name.decode().rstrip(".")]["TXT"][0]).encode()

    return str(dkim.arc_verify(octets, dnsfunc=ask)[0].decode())


@pytest.mark.parametrize("sealer", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_a_first_seal_passes_by_two_verifiers(sealer: Sealer) -> None:
    octets = sealed(signed(), sealer)
    assert found(octets).result is Result.PASS
    assert found(octets).sealer == sealer.domain
    if sealer is RSA:
        assert theirs(octets) == "pass"  # dkimpy 1.1.8 has no Ed25519 for ARC
    head = octets.partition(b"Received:")[0]
    assert b"cv=none" in head
    assert b"ARC-Authentication-Results: i=1; mx.example.com;\r\n\tspf=pass" in head
    assert max(map(len, head.split(b"\r\n"))) < 100


def test_chains_grow_and_stay_whole() -> None:
    octets = MAIL
    for number in range(1, 6):
        octets = sealed(octets, RSA if number % 2 else OTHER)
        fact = found(octets)
        assert (fact.result, fact.sets) == (Result.PASS, number)
        assert theirs(octets) == "pass"
    assert [domain for _, domain in fact.proven] == ["example.com", "example.org"] * 2 + ["example.com"]


def test_what_the_backend_does_not_get_is_not_sealed() -> None:
    forged = b"Subject: other\r\nAuthentication-Results: mx.example.com; dmarc=pass\r\n" + MAIL
    octets = sealed(forged, removed=frozenset({0, 1}))
    assert b"dmarc=pass" not in octets
    assert found(octets).result is Result.PASS
    assert theirs(octets) == "pass"


@pytest.mark.parametrize(
    "change",
    [(b"Subject: a", b"Subject: b"), (b"Hello", b"Hallo"), (b"user@example.org", b"user@example.net"),
     (b"spf=pass", b"spf=fail"), (b"From: A", b"From: B <b@example.org>\r\nFrom: A"), (b"cv=none", b"cv=pass")],
)  # fmt: skip
def test_a_change_behind_us_shows(change: tuple[bytes, bytes]) -> None:
    octets = sealed(MAIL)
    assert change[0] in octets
    changed = octets.replace(*change, 1)
    assert found(changed).result is Result.FAIL
    assert theirs(changed) == "fail"


def test_a_broken_chain_is_sealed_as_broken_once() -> None:
    """RFC 8617 section 5.1.2: our set alone is covered; a chain that somebody marked so is not sealed again."""
    broken = sealed(MAIL).replace(b"Hello", b"Hallo")
    assert found(broken).result is Result.FAIL
    octets = sealed(broken, ED25519)
    assert b"ARC-Seal: i=2; cv=fail" in octets
    assert found(octets).result is Result.FAIL
    own = octets[: octets.index(b"Received:")]
    seal = Message.from_octets(own + b"\r\n").fields
    assert [field.key for field in seal] == [b"arc-seal", b"arc-message-signature", b"arc-authentication-results"]
    relaxed = b"".join(
        re.sub(rb"[ \t\r\n]+", b" ", f.raw.replace(b": ", b":", 1)).strip() + b"\r\n" for f in seal[:0:-1]
    )
    head, _, value = seal[0].raw.rpartition(b"b=")
    scope = relaxed.replace(b"ARC-Authentication-Results", b"arc-authentication-results").replace(
        b"ARC-Message-Signature", b"arc-message-signature"
    )
    scope += re.sub(rb"[ \t\r\n]+", b" ", head.replace(b"ARC-Seal: ", b"arc-seal:")) + b"b="
    ed25519_key().public_key().verify(dkim.base64.b64decode(value), hashlib.sha256(scope).digest())
    assert sealed(octets).startswith(b"Received:")


def test_a_chain_that_we_tore_is_sealed_as_broken() -> None:
    octets = sealed(MAIL)
    message = Message.from_octets(octets)
    places = frozenset(n for n, f in enumerate(message.fields) if f.key == b"arc-authentication-results")
    assert b"ARC-Seal: i=2; cv=fail" in sealed(octets, removed=places)


def test_nothing_is_said_of_a_chain_that_cannot_be_looked_up() -> None:
    octets = sealed(MAIL)
    fact = found(octets, {"arc._domainkey.example.com": {"TXT": "SERVFAIL"}})
    assert fact.result is Result.TEMPERROR
    assert sealed(octets, arc=fact).startswith(b"Received:")


def test_the_fiftieth_set_is_the_last() -> None:
    octets = MAIL
    for _ in range(50):
        octets = sealed(octets, ED25519)
    assert found(octets).sets == 50
    assert sealed(octets, ED25519).startswith(b"Received:")
    broken = octets.replace(b"Hello", b"Hallo")
    assert sealed(broken, ED25519).startswith(b"Received:")


def test_unreadable_instances_do_not_hinder() -> None:
    odd = b"ARC-Seal: i=x; cv=none\r\nARC-Seal: rubbish\r\nARC-Message-Signature: i=7; a=b\r\n" + MAIL
    assert b"ARC-Seal: i=8; cv=fail" in sealed(odd)


def test_large_bodies_are_hashed_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[object] = []
    real = asyncio.to_thread

    async def noted(function: Any, *given: Any, **named: Any) -> Any:
        threads.append(function)
        return await real(function, *given, **named)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    octets = sealed(MAIL + b"a line\r\n" * 40_000, ED25519)
    assert len(threads) == 1
    assert found(octets).result is Result.PASS


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    st.lists(st.sampled_from([b"x", b" ", b"\t", b"\r\n", b"word", b"  ", "ü".encode()]), max_size=30).map(b"".join),
    st.lists(
        st.tuples(
            st.sampled_from([b"Subject", b"To", b"Reply-To", b"DKIM-Signature", b"X-Any", b"From"]),
            st.sampled_from([b" x", b"x  y", b"\r\n\tfolded ", b"", b" \t", "ü".encode()]),
        ),
        max_size=6,
    ),
)
def test_any_mail_is_sealed_so_that_both_agree(body: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    header = b"".join(name + b":" + value + b"\r\n" for name, value in fields)
    octets = sealed(b"From: a@example.org\r\n" + header + b"\r\n" + body + b"\r\n", OTHER)
    assert found(octets).result is Result.PASS
    assert theirs(octets) == "pass"


def test_keys_are_of_the_right_kind() -> None:
    assert isinstance(RSA.key, RSAPrivateKey)
    assert isinstance(ED25519.key, Ed25519PrivateKey)
