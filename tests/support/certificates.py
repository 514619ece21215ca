"""Certificates that a client must not believe, one for each way to be bad, and chains for DANE."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from gateway.cli.testca import Pair, TestCa

_DAY = datetime.timedelta(days=1)

#: What is wrong with each, beside those that `TestCa.issue` makes (expired, wrong-name, wrong-ca).
KINDS = {
    "self-signed": "its own authority",
    "not-yet-valid": "begins tomorrow",
    "no-name": "the name stands in the subject alone, not in subjectAltName (RFC 9525 section 2)",
    "partial-wildcard": "b*.example, which stands for nothing",
    "for-clients": "extended key usage of a client alone",
    "small-key": "RSA of 1024 bits",
    "issued-by-a-leaf": "signed by a good server certificate that is no authority",
    "no-intermediate": "the certificate between it and the authority is not sent",
}


@dataclass
class Node:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def spki(self) -> bytes:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        octets: bytes = self.key.public_key().public_bytes(serialization.Encoding.DER, form)
        return octets


def make(
    name: str,
    issuer: Node | None = None,
    *,
    ca: bool = False,
    alternative: str | None = "",
    others: Sequence[str] = (),
    start: float = -1,
    end: float = 30,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
    key: Any = None,
    names: bytes = b"",
) -> Node:
    """One certificate: `start` and `end` in days from now; `alternative` "" is the name itself, `None` is none; beside
    it stand the `others`. Or `names` is the whole extension (DER)."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start * _DAY)
        .not_valid_after(now + end * _DAY)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if names:
        odd = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, names)
        builder = builder.add_extension(odd, critical=False)
    elif alternative is not None and not ca:
        listed = x509.SubjectAlternativeName([x509.DNSName(one) for one in (alternative or name, *others)])
        builder = builder.add_extension(listed, critical=False)
    if usage is not None and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    signer = issuer.key if issuer else key
    # RFC 5280 wants both identifiers; newer OpenSSL insists under its strict flag.
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(
        issuer.certificate.public_key() if issuer else key.public_key()  # type: ignore[arg-type]
    )
    builder = builder.add_extension(above, critical=False)
    return Node(builder.sign(signer, hashes.SHA256()), key)


def authority(ca: TestCa) -> Node:
    """A `TestCa` as a node."""
    return Node(x509.load_pem_x509_certificate(ca.file.read_bytes()), ca._key)


def chain_file(directory: Path, stem: str, leaf: Node, *above: Node) -> Pair:
    """The files that a server loads."""
    pair = Pair(directory / f"{stem}.pem", directory / f"{stem}.key")
    pair.certificate.write_bytes(b"".join(node.pem for node in (leaf, *above)))
    form = serialization.PrivateFormat.PKCS8
    private = leaf.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    pair.key.write_bytes(private)
    return pair


def write(directory: Path, kind: str, name: str, ca: TestCa) -> Pair:
    """The bad certificate of that kind."""
    root = authority(ca)
    if kind == "self-signed":
        leaf = make(name)
    elif kind == "not-yet-valid":
        leaf = make(name, root, start=1)
    elif kind == "no-name":
        leaf = make(name, root, alternative=None)
    elif kind == "partial-wildcard":
        leaf = make("x.example", root, alternative=f"{name[0]}*.{name.partition('.')[2]}")
    elif kind == "for-clients":
        leaf = make(name, root, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    elif kind == "small-key":
        leaf = make(name, root, key=rsa.generate_private_key(65537, 1024))
    elif kind == "issued-by-a-leaf":
        above = make(name, root)
        return chain_file(directory, kind, make(name, above), above)
    else:
        leaf = make(name, make("between.example", root, ca=True))
    return chain_file(directory, kind, leaf)


#: Alternative names (RFC 5280 section 4.2.1.6) that OpenSSL takes and `cryptography` does not read: an EDI party.
EDI_NAME = b"\x30\x09\xa5\x07\xa1\x05\x0c\x03abc"
#: Ways to make a certificate unreadable to `cryptography` that OpenSSL lets through a handshake without verification.
UNREADABLE = {"version": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"), "dates": (b"\x17\x0d2", b"\x17\x0dz")}


def unreadable(kind: str, node: Node) -> bytes:
    """The certificate (DER), spoilt in that way; its signature holds no more."""
    good, bad = UNREADABLE[kind]
    assert good in node.der
    return node.der.replace(good, bad, 1)
