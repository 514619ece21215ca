"""DANE for SMTP: does a server's certificate chain match the TLSA records of its name? A pure function.

RFC 6698 section 2.1, RFC 7671 section 5, RFC 7672 section 3.1. Usage 3 (DANE-EE): the server's own certificate or key
is named; its names and dates do not count. Usage 2 (DANE-TA): a certificate above it is named, in the chain or
(selector 0, matching 0) in the record itself; then signatures, dates and the server's name count. Usages 0 and 1 are
unusable with SMTP, as are unknown numbers. Whether the records are to be believed (DNSSEC) is the caller's business.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.config.certificate import UNREADABLE
from gateway.dns.answer import Tlsa

DANE_TA, DANE_EE = 2, 3
_CERTIFICATE, _PUBLIC_KEY = 0, 1
_DIGESTS = {1: "sha256", 2: "sha512"}
_LENGTHS = {1: 32, 2: 64}
#: Certificates of a chain that are looked at, and steps from the server's to the anchor.
_CHAIN_LIMIT = 12


def usable(records: Iterable[Tlsa]) -> list[Tlsa]:
    """The records that can be used with SMTP: usage 2 or 3, selector and matching known, data of the right length."""
    found = []
    for usage, selector, matching, data in records:
        if usage not in {DANE_TA, DANE_EE} or selector not in {_CERTIFICATE, _PUBLIC_KEY}:
            continue
        if (matching == 0 and data) or _LENGTHS.get(matching) == len(data):
            found.append((usage, selector, matching, data))
    return found


def matches(host: str | Sequence[str], records: Iterable[Tlsa], chain: Sequence[bytes], now: float) -> bool:
    """True when the chain (DER, the server's own first) matches a usable record.

    `host` is the TLSA base name, or all names that the server may have (RFC 7672 section 3.2.2); A-labels. Certificates
    that cannot be read match nothing.
    """
    try:
        return bool(chain) and _matches((host,) if isinstance(host, str) else host, usable(records), chain, now)
    except UNREADABLE:
        return False


def _matches(names: Sequence[str], records: Sequence[Tlsa], chain: Sequence[bytes], now: float) -> bool:
    server = _read(chain[0])
    if any(usage == DANE_EE and _is(server, selector, m, data) for usage, selector, m, data in records):
        return True
    anchors = [record for record in records if record[0] == DANE_TA]
    if not anchors or not any(_names(server, name) for name in names):
        return False
    return _anchored(server, _others(chain, anchors), anchors, datetime.fromtimestamp(now, UTC))


def _read(octets: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(octets)


def _others(chain: Sequence[bytes], anchors: Iterable[Tlsa]) -> list[x509.Certificate]:
    """The certificates above the server's: from the chain, and whole ones from the records."""
    found = []
    whole = [data for _, selector, matching, data in anchors if (selector, matching) == (_CERTIFICATE, 0)]
    for octets in [*chain[1:_CHAIN_LIMIT], *whole[:_CHAIN_LIMIT]]:
        try:
            found.append(_read(octets))
        except UNREADABLE:
            continue
    return found


def _is(certificate: x509.Certificate, selector: int, matching: int, data: bytes) -> bool:
    """True when the record's data is this certificate or its key."""
    try:
        if selector == _CERTIFICATE:
            octets = certificate.public_bytes(Encoding.DER)
        else:
            octets = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE:
        return False
    return (hashlib.new(_DIGESTS[matching], octets).digest() if matching else octets) == data


def _anchored(
    server: x509.Certificate, others: Sequence[x509.Certificate], anchors: Sequence[Tlsa], now: datetime
) -> bool:
    """True when a path of good signatures leads from the server's certificate to one that a record names."""
    if not _in_date(server, now):
        return False
    reached, seen = [server], {server}
    for depth in range(_CHAIN_LIMIT):
        above = []
        for certificate in reached:
            for issuer in others:
                if issuer in seen or not _in_date(issuer, now) or not _issued(certificate, issuer, depth):
                    continue
                if any(_is(issuer, selector, matching, data) for _, selector, matching, data in anchors):
                    return True
                seen.add(issuer)
                above.append(issuer)
        reached = above
    return False


def _in_date(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, depth: int) -> bool:
    """True when `issuer` is a CA, may have `depth` CAs below it, and signed `certificate`."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca or (constraints.path_length is not None and constraints.path_length < depth):
            return False
        try:
            if not issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
                return False
        except x509.ExtensionNotFound:
            pass
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, *UNREADABLE):
        return False
    return True


def _names(certificate: x509.Certificate, host: str) -> bool:
    """True when the certificate is for `host`: by its DNS names, by its common name only where it has none."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        patterns = extension.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        patterns = []
    except ValueError:
        return False
    if not patterns:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        patterns = [str(attribute.value) for attribute in common]
    host = host.lower().removesuffix(".")
    return any(_covers(pattern.lower().removesuffix("."), host) for pattern in patterns)


def _covers(pattern: str, host: str) -> bool:
    """RFC 6125 section 6.4: a whole leftmost `*` stands for exactly one label; never for a top-level domain's child."""
    if not pattern.startswith("*."):
        return bool(pattern) and pattern == host
    return pattern.count(".") > 1 and pattern[2:] == host.partition(".")[2]
