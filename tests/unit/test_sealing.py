"""ARC seals on relayed mail: what the backend receives verifies, by our own verifier and by dkimpy's."""

import asyncio
import base64
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.checks.arc import Arc, ArcFact
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.files import BundleFiles, RecordingFiles
from gateway.mail.message import Message
from gateway.mail.terms import Result
from gateway.pipeline import House, Pipeline
from gateway.relay.outgoing import Outgoing
from tests.unit.test_pipeline import MAIL, ZONE, Client, Stage, relay_of

SEAL = "seal: {domain: gate.example, selector: arc, key: arc.key}\n"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path)
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "arc.key").write_bytes(key.private_bytes(*form))
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ZONE["arc._domainkey.gate.example"] = {"TXT": [f"v=DKIM1; p={base64.b64encode(public).decode()}"]}
    return made


def got(house: House, octets: bytes) -> bytes:
    """The last mail as the backend got it."""
    _, prepended, removed, _ = relay_of(house).sent[-1]
    message = Message.from_octets(octets)
    pieces = Outgoing(None, (), prepended, message, removed).pieces()  # type: ignore[arg-type] # no envelope is asked
    return b"".join(pieces).removesuffix(b".\r\n")


def through(stage: Stage, octets: bytes, extra: str = SEAL) -> bytes:
    async def run() -> bytes:
        house = stage.house("", extra)
        reply = await Client(Pipeline(house)).whole("a@good.example", "joe@example.com", octets)
        assert reply.startswith("250"), reply
        return got(house, octets)

    return asyncio.run(run())


def verified(octets: bytes) -> ArcFact:
    found = asyncio.run(Arc(Resolver(Zone(ZONE), ManualClock())).verify(Message.from_octets(octets)))

    def ask(name: bytes, timeout: int = 5) -> bytes:
        return str(ZONE[name.decode().rstrip(".")]["TXT"][0]).encode()

    assert str(found.result) == dkim.arc_verify(octets, dnsfunc=ask)[0].decode()
    return found


def test_a_relayed_mail_is_sealed_over_what_is_left_of_it(stage: Stage) -> None:
    forged = b"Authentication-Results: mx.example.com; dmarc=pass\r\n" + MAIL
    octets = through(stage, forged)
    fact = verified(octets)
    assert (fact.result, fact.sealer, fact.sets) == (Result.PASS, "gate.example", 1)
    assert octets.startswith(b"ARC-Seal: i=1; cv=none; a=rsa-sha256; d=gate.example; s=arc;")
    head = octets.partition(b"\r\n\r\n")[0]
    assert head.count(b"dmarc=none") == 2
    assert b"dmarc=pass" not in head


def test_no_key_no_seal(stage: Stage) -> None:
    assert b"ARC-" not in through(stage, MAIL, "")


def test_a_mail_that_comes_back_keeps_what_we_sealed(stage: Stage) -> None:
    """The fields speak in our name, and a chain that passes proves that they are ours."""
    octets = through(stage, through(stage, MAIL))
    assert verified(octets).sets == 2
    assert octets.count(b"ARC-Authentication-Results: i=1; mx.example.com;") == 1
    assert octets.count(b"\r\nAuthentication-Results:") == 1


def test_a_forged_chain_in_our_name_is_torn_and_told(stage: Stage) -> None:
    forged = through(stage, MAIL).replace(b"body", b"bodY")
    octets = through(stage, forged)
    assert octets.count(b"ARC-Authentication-Results:") == 1
    assert octets.startswith(b"ARC-Seal: i=2; cv=fail;")
    assert verified(octets).result is Result.FAIL


def test_the_key_is_in_the_bundle(stage: Stage) -> None:
    from gateway.build import build, plan

    stage.house("", SEAL)
    files = RecordingFiles()
    plan(stage.folder / "gatepost.yaml", files, stage.clock, today=True)
    bundle = BundleFiles(files.bundle())
    (stage.folder / "arc.key").unlink()
    made = plan(stage.folder / "gatepost.yaml", bundle, stage.clock, today=False)
    resolver = Resolver(Zone({}), stage.clock)
    house = build(made, clock=stage.clock, store=stage.store, resolver=resolver, journal=None)
    assert house.sealer is not None
    assert (house.sealer.domain, house.sealer.selector) == ("gate.example", "arc")
