"""A folder as an operator's: certificates good and bad, policies, lists; for tests of the configuration."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gateway.cli.testca import TestCa

NAME = "mx.example.com"

MINIMAL = """\
hostname: mx.example.com
listeners:
  - bind: "127.0.0.1:25"
    tls: {certificate: mx.pem, key: mx.key}
domains:
  example.com: {backend: main}
backends:
  main:
    hosts: ["mail1.example.com:25"]
    connections: 20
state: sqlite:state.db
"""


def furnish(folder: Path) -> None:
    """Fills `folder` with everything that `MINIMAL` and the files of `bad_config` name."""
    authority = TestCa(folder)
    authority.issue(NAME, file="mx")
    authority.issue(NAME, file="other")
    authority.issue(NAME, file="expired", expired=True)
    authority.issue("www.example.net", file="foreign")
    (folder / "garbage.pem").write_bytes(b"this is no PEM file\n\x00\xff")
    whole = (folder / "mx.pem").read_bytes()
    (folder / "damaged.pem").write_bytes(whole[:200] + whole[300:])
    _rsa(folder, "rsa", 2048)
    _rsa(folder, "weak", 1024)
    _key(folder / "elliptic.key", ec.generate_private_key(ec.SECP256R1()))
    key = serialization.load_pem_private_key((folder / "mx.key").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"sesame")
    (folder / "encrypted.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    )
    (folder / "policies" / "lists").mkdir(parents=True)
    (folder / "policies" / "10-empty.yaml").write_text("rules: []\n")
    (folder / "zone.json").write_text("{}\n")


def _key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(*form))


def _rsa(folder: Path, stem: str, bits: int) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{stem}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (folder / f"{stem}.key").touch(mode=0o600)
    (folder / f"{stem}.key").write_bytes(private)
