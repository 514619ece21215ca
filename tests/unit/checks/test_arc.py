"""ARC: chains that hold, chains that do not, and what a long one costs."""

import asyncio
import base64
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.checks.arc import Arc, ArcFact
from gateway.checks.canonical import relaxed_field
from gateway.checks.facts import Facts
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.message import Message
from gateway.mail.terms import Result
from tests.support.work import lines
from tests.unit.checks.signing import MAIL, NOW, ed25519_key, ed25519_record, rsa_key, rsa_record, signed

RECORDS: dict[str, Any] = {
    "sel._domainkey.example.org": {"TXT": [rsa_record()]},
    "ed._domainkey.example.org": {"TXT": [ed25519_record()]},
}


def sealed(mail: bytes, instance: int, *, cv: str = "", ed25519: bool = False, tags: str = "") -> bytes:
    """`mail` with one more ARC set, as a sealer adds it."""
    results = f"ARC-Authentication-Results: i={instance}; mx.example.org; spf=pass\r\n".encode()
    s, a = ("ed", "ed25519-sha256") if ed25519 else ("sel", "rsa-sha256")
    with_message = signed(mail, name="ARC-Message-Signature", v=f"i={instance}; ", s=s, a=a, tags=tags)
    cv = cv or ("none" if instance == 1 else "pass")
    seal = f"ARC-Seal: i={instance}; a={a}; cv={cv}; d=example.org; s={s}; t={NOW}; b=".encode()
    octets = b""
    message = Message.from_octets(results + with_message)
    fields = {(field.key, field.value.partition(b";")[0].strip()): field.raw for field in message.fields}
    for number in range(1, instance + 1):
        for kind in (b"arc-authentication-results", b"arc-message-signature", b"arc-seal"):
            found = fields.get((kind, b"i=%d" % number))
            if found is not None:
                octets += relaxed_field(found) + b"\r\n"
    octets += relaxed_field(seal)
    if ed25519:
        signature = ed25519_key().sign(hashlib.sha256(octets).digest())
    else:
        signature = rsa_key(2048).sign(octets, PKCS1v15(), SHA256())
    return seal + base64.b64encode(signature) + b"\r\n" + results + with_message


def chain(length: int) -> bytes:
    mail = MAIL
    for instance in range(1, length + 1):
        mail = sealed(mail, instance)
    return mail


def verify(octets: bytes, records: dict[str, Any] | None = None) -> ArcFact:
    resolver = Resolver(Zone(RECORDS if records is None else records), ManualClock(NOW))
    return asyncio.run(Arc(resolver).verify(Message.from_octets(octets)))


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_good_chain_passes(length: int) -> None:
    found = verify(chain(length))
    assert found == ArcFact(Result.PASS, "example.org", sets=length, proven=found.proven)
    assert [domain for _, domain in found.proven] == ["example.org"] * length


def test_ed25519_seals_pass() -> None:
    assert verify(sealed(sealed(MAIL, 1), 2, ed25519=True)).result is Result.PASS


def test_no_chain() -> None:
    assert verify(MAIL).result is Result.NONE


@pytest.mark.parametrize(
    "octets",
    [
        chain(2).replace(b"this is", b"that is"),
        chain(2).replace(b"spf=pass", b"spf=none", 1),
        chain(2).replace(b"cv=pass", b"cv=none"),
        chain(2).replace(b"i=1;", b"i=3;"),
        chain(1).replace(b"ARC-Seal:", b"X-Seal:"),
        chain(1).replace(b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results: x; i=1;"),
        sealed(MAIL, 1, cv="pass"),
        sealed(MAIL, 1, cv="fail"),
        sealed(sealed(MAIL, 1), 2, cv="fail"),
        sealed(MAIL, 1, tags="l=3; "),
        sealed(MAIL, 2),
        chain(1) + b"",
    ][:-1],
)
def test_a_broken_chain_fails(octets: bytes) -> None:
    assert verify(octets).result is Result.FAIL


def test_a_key_that_cannot_be_looked_up_is_no_failure() -> None:
    assert verify(chain(1), {"sel._domainkey.example.org": {"TXT": "SERVFAIL"}}).result is Result.TEMPERROR
    assert verify(chain(1), {}).result is Result.FAIL


def test_trust_needs_the_last_sealer_on_the_list() -> None:
    async def run(sealers: Any) -> ArcFact:
        check = Arc(Resolver(Zone(RECORDS), ManualClock(NOW)), sealers)
        session = Session("S", "192.0.2.1", 1, "192.0.2.2", 25, NOW)
        tx = Transaction("T", session, Envelope(None), NOW, Message.from_octets(chain(1)))
        fact = await Facts({Arc: check}, tx).get(Arc)
        assert check.named(fact) == {"arc.result": "pass", "arc.sealer": "example.org", "arc.trusted": fact.trusted}
        assert check.trace(fact) == ("arc=pass",)
        return fact

    assert asyncio.run(run({"example.org"})).trusted
    assert asyncio.run(run(lambda: frozenset({"example.org"}))).trusted
    assert not asyncio.run(run({"example.net"})).trusted


def test_fifty_sets_are_the_most_and_cost_little() -> None:
    octets = chain(50)
    assert verify(octets).result is Result.PASS
    half, whole = chain(25), octets
    assert lines(lambda: verify(whole)) < 2.2 * lines(lambda: verify(half))
    assert verify(octets.replace(b"i=50;", b"i=51;")).result is Result.FAIL
    assert verify(b"ARC-Seal: i=1\r\n" * 900 + MAIL).result is Result.FAIL
