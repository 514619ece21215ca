"""A real gateway seals, and what a real backend received over TLS verifies: a small mail and one that is spooled."""

import asyncio
import base64
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.checks.arc import Arc
from gateway.cli.testca import Pair, TestCa
from gateway.clock import SystemClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.message import Message
from tests.support.gateway import serving, site
from tests.support.recorder import recorder


@pytest.mark.parametrize("lines", [1, 40_000], ids=["small", "spooled"])
def test_what_the_backend_received_verifies(tmp_path: Path, authority: TestCa, leaf: Pair, lines: int) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = tmp_path / "arc.key"
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(*form))
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    record = f"v=DKIM1; p={base64.b64encode(public).decode()}"
    header = b"X-Test-Id: seal\r\nFrom: <sue@sender.example>\r\nSubject: sealed\r\n\r\n"
    mail = header + b"a  line \t of text.\r\n" * lines
    seal = {"domain": "gate.example", "selector": "arc", "key": str(file)}
    with (
        recorder(leaf, tmp_path / "taken") as backend,
        serving(site(tmp_path / "site", backend.port, authority, seal=seal)) as gateway,
        gateway.client() as client,
    ):
        client.ehlo()
        assert client.deliver("sue@sender.example", ["alice@example.com"], mail).code == 250
        (taken,) = backend.records()
    octets = str(taken["head"]).encode() + mail
    zone = Zone({"arc._domainkey.gate.example": {"TXT": [record]}})
    found = asyncio.run(Arc(Resolver(zone, SystemClock())).verify(Message.from_octets(octets)))
    assert (found.result, found.sealer, found.sets) == ("pass", "gate.example", 1)
    assert dkim.arc_verify(octets, dnsfunc=lambda name, timeout=5: record.encode())[0] == b"pass"
