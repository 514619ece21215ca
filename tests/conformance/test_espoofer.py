"""Spoofing: every case of the attack collection, judged as `expect` says, under the shipped policies."""

import asyncio
import base64
import hashlib
import json
from functools import cache
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.checks.canonical import relaxed_field
from gateway.checks.roster import Terms
from gateway.cli.batch import answered
from gateway.cli.examine import Examiner
from gateway.cli.shipped import shipped_policies
from gateway.files import DiskFiles
from gateway.mail.authres import claims
from gateway.mail.message import Message
from gateway.policy.loader import load_policies
from tests.conformance.suites import FOLDER, needs_suites

FILE = FOLDER / "attacks" / "espoofer-facts.yml"
pytestmark = needs_suites


@cache
def attacks() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text("utf-8"))) if FILE.exists() else {"cases": [], "own_cases": []}


def every() -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in [*attacks()["cases"], *attacks()["own_cases"]]]


@cache
def attacker_key() -> tuple[rsa.RSAPrivateKey, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key, f'"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"'


@cache
def examiner() -> Examiner:
    folder = shipped_policies()
    policy = load_policies(folder, folder / "lists", DiskFiles(), today=None)
    return Examiner(policy, Terms("mx.victim.com", ("victim.com",)))


def octets_of(case: dict[str, Any]) -> bytes:
    return case["header_octets"].encode("latin-1") + b"\r\n" + case["body_octets"].encode("latin-1")


def signed(case: dict[str, Any], octets: bytes) -> bytes:
    """The message with the signature that the attacker makes: right in everything but what the case is about."""
    asked = case["attacker_signs"]
    names = [name.encode() for name in asked.get("h", "from:to:subject").split(":")]
    body_hash = base64.b64encode(hashlib.sha256(b"" if asked.get("l") == 0 else case["body_octets"].encode()).digest())
    length = b" l=0;" if asked.get("l") == 0 else b""
    field = b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; t=1699999990;%s d=%s; s=%s; h=%s; bh=%s; b=" % (
        length,
        asked["d"].encode("latin-1"),
        asked["s"].encode("latin-1"),
        b":".join(names),
        body_hash,
    )
    fields = {field.key: field.raw for field in Message.from_octets(octets).fields}
    chosen = b"".join(relaxed_field(fields[name]) + b"\r\n" for name in names)
    signature = attacker_key()[0].sign(chosen + relaxed_field(field), PKCS1v15(), SHA256())
    return field + base64.b64encode(signature) + b"\r\n" + octets


def answer(case: dict[str, Any]) -> dict[str, Any]:
    octets = octets_of(case)
    zone = {name: dict(types) for name, types in attacks()["zone"].items()}
    if "attacker_signs" in case:
        octets = signed(case, octets)
        for owner in ("selector._domainkey.attack.com", "sel._domainkey.legitimate.com", "sel._domainkey.com"):
            zone[owner] = {"TXT": [attacker_key()[1]]}
    line = {
        "id": case["id"],
        "ip": attacks()["client_ip"],
        "helo": case["helo"],
        "mail_from": case["mail_from"],
        "dns": zone,
        "now": 1_700_000_000,
        "message_b64": base64.b64encode(octets).decode(),
    }
    return asyncio.run(answered(examiner(), json.dumps(line).encode()))


@pytest.mark.parametrize("case", every())
def test_attack(case: dict[str, Any]) -> None:
    found, expect = answer(case), case["expect"]
    assert "error" not in found, found
    if "spf" in expect:
        assert found["spf"]["result"] in expect["spf"]
    if "dkim" in expect:
        assert all(signature["result"] in expect["dkim"] for signature in found["dkim"])
        assert found["dkim"]
    if "dmarc" in expect:
        assert found["dmarc"]["result"] in expect["dmarc"]
    action = "accept" if expect.get("action") == "accept" else "reject"
    assert found["disposition"]["action"] == action, found
    if "smtp" in expect and "501/553, or" not in expect["smtp"]:
        assert found["disposition"]["code"] in {501, 553}


@pytest.mark.parametrize("case", [c for c in every() if "relayed" in c.values[0]["expect"]])
def test_forged_results_are_recognised(case: dict[str, Any]) -> None:
    (forged,) = [
        field for field in Message.from_octets(octets_of(case)).fields if field.key == b"authentication-results"
    ]
    assert claims(forged, "mx.victim.com")


def test_the_attacker_signs_well() -> None:
    """Without the flaw of the case the same signature passes: the attacks fail for the right reason."""
    case = next(c.values[0] for c in every() if c.id == "own_dkim_from_unsigned")
    good = {**case, "attacker_signs": {**case["attacker_signs"], "h": "from:to:subject"}}
    found = answer(good)
    assert found["dkim"] == [{"result": "pass", "d": "legitimate.com", "s": "sel"}]
    assert found["dmarc"]["result"] == "pass"
