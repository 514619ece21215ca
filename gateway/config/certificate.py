"""Certificates and keys of the configuration: do they load, do they belong together, until when are they good.

The octets come through `Files` and are judged as they were read; OpenSSL gets them through memory (`load_pair`), so
that a renewal on disk in the middle of a reload cannot pair a new certificate with an old key.
"""

import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.yamlfile import Fault

T = TypeVar("T")
_OID = x509.oid.PublicKeyAlgorithmOID
_KEY_TYPES = {
    _OID.RSAES_PKCS1_v1_5: "RSA",
    _OID.RSASSA_PSS: "RSA-PSS",
    _OID.EC_PUBLIC_KEY: "ECDSA",
    _OID.ED25519: "Ed25519",
}
#: What `cryptography` raises over what it cannot read, some of it late, when a date or a name is looked at.
UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def load_pair(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Adds a PEM certificate chain and its unencrypted PEM key to `context`. Raises `ssl.SSLError`."""
    descriptor = os.memfd_create("gatepost-tls", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(key + b"\n" + chain)
        file.flush()
        # Without a password OpenSSL would ask the terminal for one.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: b"")


def certificates(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file. Raises `Fault` where there is none."""
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        hint = "give the PEM file, with -----BEGIN CERTIFICATE-----"
        if b"PRIVATE KEY-----" in pem:
            hint = "this is a key; are certificate and key exchanged?"
        raise Fault("the file holds no certificate", hint)
    try:
        return x509.load_pem_x509_certificates(pem)
    except UNREADABLE:
        raise Fault("the certificate is damaged", "copy the PEM file again, whole") from None


def check_pair(chain: bytes, key: bytes) -> None:
    """Raises `Fault` where `chain` and `key` cannot serve TLS together; never shows any of the key."""
    leaf = certificates(chain)[0]
    private = _private(key)
    if _public(private.public_key()) != _public(leaf.public_key()):
        hint = "give the key it was issued for, and put the server's certificate first in its file"
        raise Fault("the key does not belong to the certificate", hint, at=("key",))
    try:
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), chain, key)
    except ssl.SSLError as error:
        reason = (error.reason or "unknown reason").lower().replace("_", " ")
        raise Fault(
            f"OpenSSL refuses the certificate: {reason}", "have a new one issued", at=("certificate",)
        ) from None


def _private(key: bytes) -> PrivateKeyTypes:
    """The key of a PEM file. Raises `Fault` at `key`."""
    if b"PRIVATE KEY-----" not in key:
        hint = "this is a certificate" if b"-----BEGIN CERTIFICATE" in key else "give the PEM file of the key"
        raise Fault("the file holds no private key", hint, at=("key",))
    try:
        return load_pem_private_key(key, password=None)
    except TypeError:
        hint = "remove the passphrase (openssl pkey -in KEY -out NEW) and protect the file by its permissions"
        raise Fault("the key is encrypted", hint, at=("key",)) from None
    except (ValueError, UnsupportedAlgorithm):
        raise Fault("the key is damaged", "copy the PEM file again, whole", at=("key",)) from None


def _public(key: object) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, form)  # type: ignore[attr-defined]
    return encoded


def signing_key(key: bytes) -> rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey:
    """The private key of a PEM file, for signatures that others verify by DNS. Raises `Fault` at `key`."""
    private = _private(key)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private
    if not isinstance(private, rsa.RSAPrivateKey):
        raise Fault("the key is neither RSA nor Ed25519", "openssl genrsa -out KEY 2048", at=("key",))
    if not 1024 <= private.key_size <= 4096:  # RFC 8301 section 3.2: verifiers need not take others
        what = f"an RSA key of {private.key_size} bit is refused by verifiers"
        raise Fault(what, "make one of 2048 bit: openssl genrsa -out KEY 2048", at=("key",))
    return private


def lifetime(pem: bytes, now: float) -> str:
    """What is to be said about the time of the first certificate, or ""."""
    leaf = certificates(pem)[0]
    moment = datetime.fromtimestamp(now, UTC)
    if moment > leaf.not_valid_after_utc:
        return f"the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}"
    if moment < leaf.not_valid_before_utc:
        return f"the certificate is valid only from {leaf.not_valid_before_utc:%Y-%m-%d}"
    days = (leaf.not_valid_after_utc - moment).days
    return f"the certificate expires in {days} days" if days < 8 else ""


def names(pem: bytes, hostname: str) -> bool:
    """True when the first certificate is for `hostname` (RFC 6125 section 6.4: a wildcard stands for one label)."""
    return covered(dns_names(pem), hostname)


def dns_names(pem: bytes) -> frozenset[str]:
    """The names of the first certificate, in lower case, without final dots; none where they cannot be read."""
    try:
        return frozenset(alternative_names(certificates(pem)[0]))
    except UNREADABLE:
        return frozenset()


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names of a certificate, in lower case, without final dots. Raises one of `UNREADABLE`."""
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower().rstrip(".") for name in alternative.get_values_for_type(x509.DNSName)]


def key_type(pem: bytes) -> str:
    """The type of the first certificate's key: RSA, RSA-PSS, ECDSA, or an identifier of its own."""
    identifier = certificates(pem)[0].public_key_algorithm_oid
    return _KEY_TYPES.get(identifier, identifier.dotted_string)


def covered(listed: frozenset[str], hostname: str) -> bool:
    """True when one of the names of a certificate is `hostname`, or a wildcard for it."""
    return hostname in listed or "*." + hostname.partition(".")[2] in listed


def chosen(groups: Sequence[tuple[frozenset[str], T]], name: str) -> T | None:
    """What stands beside the first names that `name` (SNI, RFC 6066 section 3) is one of."""
    wanted = name.lower().rstrip(".")
    return next((shown for names, shown in groups if wanted and covered(names, wanted)), None)
