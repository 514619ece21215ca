"""Who is believed: MX records that lead to a host with a perfectly good certificate of a public authority, and
certificates that cannot be read.

The trial authority stands in for a public one (`SSL_CERT_FILE`, which OpenSSL reads for the system's store)."""

import hashlib
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.outages.rig import NAME, Rig, run
from tests.outages.test_tls import BLOCKED, ENFORCE, RECORD, ZONE, delivered, policy, refused
from tests.support import certificates

NAMED = ENFORCE
OTHERS = ENFORCE.replace(NAME, "other.example")
NONE = ENFORCE.replace("enforce", "none")
TESTING, TESTING_OTHERS = (text.replace("enforce", "testing") for text in (NAMED, OTHERS))


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a certificate of the rig's authority has one of a public authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("verify", ["pkix", "dane"])
@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (NAMED, {("pkix", True), ("pkix", False), ("dane", True), ("dane", False)}),
        (TESTING, {("pkix", True), ("pkix", False), ("dane", True), ("dane", False)}),
        (OTHERS, set()),
        # A policy on trial forbids nobody, and vouches for those alone that it names: the MX records may be forged.
        (TESTING_OTHERS, {("pkix", True)}),
        (NONE, {("pkix", True)}),
        ("", {("pkix", True)}),  # the policy host is blocked
    ],
)
def test_somebody_vouches_for_the_mx_records(
    tmp_path: Path, text: str, verify: str, secure: bool, fits: set[tuple[str, bool]]
) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        how: dict[str, Any] = {
            "mx": f'"example.net:{backend.port}"',
            "tls": f"{{verify: {verify}}}",
            "zone": {**ZONE, **RECORD},
            "insecure": () if secure else {"example.net", NAME},
            "fetch": policy(text),
        }
        await (delivered if (verify, secure) in fits else refused)(rig, backend, **how)

    run(tmp_path, test)


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("away", [True, False])
def test_a_start_without_the_state_strips_no_protection(tmp_path: Path, away: bool) -> None:
    """RFC 8461 section 10.2: who can block the policy host, forge MX records, and make us begin anew while the state
    is away. Where the policy alone vouched, nobody does then: 451."""

    async def test(rig: Rig) -> None:
        sound, forger = await rig.backend(), await rig.backend()
        how: dict[str, Any] = {"tls": "{verify: pkix}", "insecure": {"example.net", NAME, "forged.example"}}
        mx = f'"example.net:{sound.port}"'
        await delivered(rig, sound, mx=mx, zone={**ZONE, **RECORD}, fetch=policy(ENFORCE), **how)
        rig.store.away = away
        forged = {"example.net": {"MX": ["10 forged.example"]}, "forged.example": {"A": ["127.0.0.1"]}}
        pair = rig.ca.issue("forged.example")
        assert forger.context is not None
        forger.context.load_cert_chain(pair.certificate, pair.key)
        mx = f'"example.net:{forger.port}"'
        await refused(rig, forger, mx=mx, zone={**ZONE, **BLOCKED, **forged}, fetch=policy(""), **how)

    run(tmp_path, test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", certificates.UNREADABLE)
@pytest.mark.parametrize("how", ["key", "certificate", "3 1 1", "2 0 1"])
def test_a_certificate_that_cannot_be_read(tmp_path: Path, how: str, kind: str, loop: str) -> None:
    """Whoever shows it is not believed, and the next host is asked. A pin of its octets is one of its octets."""

    async def test(rig: Rig) -> None:
        leaf = certificates.make(NAME)
        octets = certificates.unreadable(kind, leaf)
        pair = certificates.chain_file(tmp_path, "unreadable", leaf)
        pair.certificate.write_text(ssl.DER_cert_to_PEM_cert(octets))
        backend = await rig.backend()
        backend.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        backend.context.load_cert_chain(pair.certificate, pair.key)
        pin = hashlib.sha256(octets).hexdigest() if how == "certificate" else "0" * 64
        if " " in how:
            records = {f"_{backend.port}._tcp.{NAME}": {"TLSA": [f"{how} {'00' * 32}"]}}
            tls = {"mx": f'"example.net:{backend.port}"', "tls": "{verify: dane}", "zone": {**ZONE, **records}}
        else:
            tls = {"tls": f'{{verify: fingerprint, fingerprints: ["{how}:{pin}"]}}'}
        await (delivered if how == "certificate" else refused)(rig, backend, **tls)

    run(tmp_path, test, loop=loop)
