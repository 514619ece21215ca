"""DANE: what matches, what does not, and what is no record at all."""

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.relay.dane import matches, usable
from tests.support import certificates

START = datetime(2023, 1, 1, tzinfo=UTC)
NOW = START.timestamp() + 86_400
HOST = "mx.example.org"
Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def issue(
    name: str, issuer: Pair | None = None, *, ca: bool = False, names: tuple[str, ...] = (), days: int = 365,
    path_length: int | None = None,
) -> Pair:  # fmt: skip
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    return builder.sign(issuer[1] if issuer else key, SHA256()), key


@cache
def world() -> dict[str, Pair]:
    root = issue("root", ca=True)
    middle = issue("middle", root, ca=True)
    return {
        "root": root,
        "middle": middle,
        "leaf": issue("leaf", middle, names=(HOST,)),
        "wild": issue("wild", middle, names=("*.example.org",)),
        "common": issue(HOST, middle),
        "expired": issue("expired", middle, names=(HOST,), days=0),
        "stranger": issue("root", ca=True),
        "no-ca": issue("sub", issue("x", middle), names=(HOST,)),
    }


def der(name: str) -> bytes:
    return world()[name][0].public_bytes(Encoding.DER)


def data(name: str, selector: int, matching: int) -> bytes:
    octets = der(name)
    if selector:
        octets = world()[name][0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {0: octets, 1: hashlib.sha256(octets).digest(), 2: hashlib.sha512(octets).digest()}[matching]


CHAIN = ["leaf", "middle", "root"]


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_usage_3_names_the_server(selector: int, matching: int) -> None:
    chain = [der(name) for name in CHAIN]
    assert matches(HOST, [(3, selector, matching, data("leaf", selector, matching))], chain, NOW)
    assert not matches(HOST, [(3, selector, matching, data("middle", selector, matching))], chain, NOW)


def test_usage_3_does_not_look_at_names_and_dates() -> None:
    assert matches("other.example", [(3, 1, 1, data("expired", 1, 1))], [der("expired")], NOW)


@pytest.mark.parametrize("anchor", ["middle", "root"])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_usage_2_names_a_certificate_above(anchor: str, matching: int) -> None:
    chain = [der(name) for name in CHAIN]
    assert matches(HOST, [(2, 0, matching, data(anchor, 0, matching))], chain, NOW)
    assert matches(HOST, [(2, 1, matching, data(anchor, 1, matching))], [chain[0], chain[2], chain[1]], NOW)


def test_usage_2_takes_the_certificate_from_the_record() -> None:
    record = [(2, 0, 0, data("middle", 0, 0))]
    assert matches(HOST, record, [der("leaf")], NOW)
    assert not matches(HOST, [(2, 0, 1, data("middle", 0, 1))], [der("leaf")], NOW)


@pytest.mark.parametrize(
    ("host", "chain", "anchor", "match"),
    [
        ("other.example", CHAIN, "middle", False),
        ("MX.example.org.", CHAIN, "middle", True),
        (HOST, ["wild", "middle"], "middle", True),
        ("a.mx.example.org", ["wild", "middle"], "middle", False),
        ("example.org", ["wild", "middle"], "middle", False),
        (HOST, ["common", "middle"], "middle", True),
        (HOST, ["expired", "middle"], "middle", False),
        (HOST, ["leaf", "stranger"], "stranger", False),
        (HOST, ["leaf", "middle"], "leaf", False),
        (HOST, ["no-ca", "middle"], "middle", False),
        (HOST, ["leaf", "root"], "root", False),
    ],
)
def test_usage_2_needs_name_date_and_path(host: str, chain: list[str], anchor: str, match: bool) -> None:
    assert matches(host, [(2, 1, 1, data(anchor, 1, 1))], [der(name) for name in chain], NOW) is match


def test_later_it_has_expired() -> None:
    chain = [der(name) for name in CHAIN]
    assert not matches(HOST, [(2, 1, 1, data("root", 1, 1))], chain, NOW + 400 * 86_400)


def test_several_names_and_records() -> None:
    chain = [der(name) for name in CHAIN]
    records = [(3, 1, 1, bytes(32)), (2, 1, 1, data("middle", 1, 1))]
    assert matches(["example.org", HOST], records, chain, NOW)


@pytest.mark.parametrize(
    "record",
    [(0, 0, 1, bytes(32)), (1, 1, 1, bytes(32)), (4, 0, 1, bytes(32)), (3, 2, 1, bytes(32)), (3, 1, 3, bytes(32)),
     (3, 1, 1, bytes(31)), (3, 1, 2, bytes(32)), (3, 1, 0, b"")],
)  # fmt: skip
def test_unusable_records(record: tuple[int, int, int, bytes]) -> None:
    assert usable([record]) == []
    assert not matches(HOST, [record], [der("leaf")], NOW)


def test_what_is_no_certificate_matches_nothing() -> None:
    assert not matches(HOST, [(3, 0, 0, b"junk")], [b"junk"], NOW)
    assert not matches(HOST, [(3, 0, 0, b"junk")], [], NOW)
    assert not matches(HOST, [(2, 0, 0, b"junk")], [der("leaf"), b"junk"], NOW)


@pytest.mark.parametrize("kind", certificates.UNREADABLE)
def test_what_cannot_be_read_matches_nothing(kind: str) -> None:
    """`cryptography` says so by errors of many kinds, and of dates and names not until they are asked for."""
    root = certificates.make("root.example", ca=True)
    leaf = certificates.make(HOST, root)
    now = datetime.now(UTC).timestamp()
    anchor = [(2, 0, 0, root.der)]
    assert matches(HOST, anchor, [leaf.der, root.der], now)
    assert not matches(HOST, anchor, [certificates.unreadable(kind, leaf), root.der], now)
    assert not matches(HOST, [(2, 1, 0, root.spki)], [leaf.der, certificates.unreadable(kind, root)], now)
