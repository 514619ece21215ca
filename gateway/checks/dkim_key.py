"""DKIM key records: what a domain publishes, read strictly, and the one file that does its cryptography.

RFC 6376 section 3.6.1 (the record), RFC 8301 (RSA of 1024 to 4096 bit, no SHA-1), RFC 8463 (Ed25519 over the SHA-256
digest). OpenSSL verifies; before it sees a key we know its size and exponent, because a 16,384-bit key with a huge
exponent costs seconds. Called by `checks/dkim` and `checks/arc`.
"""

import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key

from gateway.checks import taglist
from gateway.mail.terms import Result

MAX_RSA_BITS = 4096
_MAX_EXPONENT = (1 << 32) + 1
#: Octets of the longest key we take (4096 bit need 550); more is not even parsed.
_KEY_OCTETS = 1_200
#: TXT records at one name that are looked at (section 3.6.2.2: one is right, several are undefined).
_RECORD_LIMIT = 4
#: Keys at one name that are tried; a 4,096-bit one costs half a millisecond.
_KEY_LIMIT = 2
_PREHASHED = {"sha256": Prehashed(hashes.SHA256()), "sha1": Prehashed(hashes.SHA1())}  # noqa: S303 - old suites only


class Refused(Exception):  # noqa: N818 - a state of the signature, named after the outcome
    """A signature or its key is not acceptable: the result word and why, in our own words."""

    def __init__(self, result: Result, why: str) -> None:
        super().__init__(why)
        self.result = result
        self.why = why


@dataclass(frozen=True, slots=True)
class Key:
    """A key record that may be used for mail. `strict` is the flag `t=s`: no subdomain in `i=`."""

    key: RSAPublicKey | Ed25519PublicKey
    strict: bool

    def verifies(self, signature: bytes, digest: bytes, hash_name: str) -> bool:
        """True when `signature` over `digest` was made with this key."""
        try:
            if isinstance(self.key, RSAPublicKey):
                self.key.verify(signature, digest, PKCS1v15(), _PREHASHED[hash_name])
            else:
                self.key.verify(signature, digest)
        except InvalidSignature:
            return False
        return True


def usable(records: Iterable[bytes], key_type: str, hash_name: str, min_rsa_bits: int) -> list[Key]:
    """The keys among the TXT records that fit the signature's algorithm. Raises `Refused` when there is none."""
    keys: list[Key] = []
    refusal = Refused(Result.PERMERROR, "no key record")
    for number, record in enumerate(records):
        if number == _RECORD_LIMIT or len(keys) == _KEY_LIMIT:
            break
        try:
            read = _remembered if len(record) <= 2 * _KEY_OCTETS else _read
            keys.append(read(record, key_type, hash_name, min_rsa_bits))
        except Refused as why:
            refusal = why
    if not keys:
        raise refusal
    return keys


def _read(record: bytes, key_type: str, hash_name: str, min_rsa_bits: int) -> Key:
    try:
        tags = taglist.parse(record)
    except taglist.BadTagList:
        raise Refused(Result.PERMERROR, "the key record is no tag list") from None
    # Section 3.6.1: v= is optional; where it stands it stands first and says DKIM1.
    if "v" in tags and (next(iter(tags)) != "v" or tags["v"] != b"DKIM1"):
        raise Refused(Result.PERMERROR, "the key record has another version")
    if "p" not in tags:
        raise Refused(Result.PERMERROR, "the key record has no key")
    if tags.get("k", b"rsa") != key_type.encode("ascii"):
        raise Refused(Result.PERMERROR, "the key is of another type")
    if "h" in tags and hash_name.encode("ascii") not in taglist.listed(tags["h"]):
        raise Refused(Result.PERMERROR, "the key does not allow this hash")
    if "s" in tags and not {b"*", b"email"}.intersection(taglist.listed(tags["s"])):
        raise Refused(Result.PERMERROR, "the key is not for mail")
    octets = taglist.unspaced(tags["p"])
    if not octets:
        raise Refused(Result.PERMERROR, "the key is revoked")
    key = _ed25519(octets) if key_type == "ed25519" else _rsa(octets, min_rsa_bits)
    return Key(key, b"s" in taglist.listed(tags.get("t", b"")))


#: OpenSSL prepares a key at its first use, and the same few sign all day.
_remembered = lru_cache(maxsize=1000)(_read)


def decoded(base64: bytes) -> bytes | None:
    """The octets of strict base64 (already without white space), None when it is none."""
    try:
        return binascii.a2b_base64(base64, strict_mode=True)
    except (ValueError, binascii.Error):
        return None


def _der(base64: bytes) -> bytes:
    if len(base64) > 2 * _KEY_OCTETS:
        raise Refused(Result.POLICY, f"the key is longer than {MAX_RSA_BITS} bit")
    octets = decoded(base64)
    if octets is None:
        raise Refused(Result.PERMERROR, "the key is not base64")
    if len(octets) > _KEY_OCTETS:
        raise Refused(Result.POLICY, f"the key is longer than {MAX_RSA_BITS} bit")
    return octets


def _ed25519(base64: bytes) -> Ed25519PublicKey:
    octets = _der(base64)
    if len(octets) != 32:  # RFC 8463 section 4: the bare 32 octets, no DER
        raise Refused(Result.PERMERROR, "the key is no Ed25519 key")
    return Ed25519PublicKey.from_public_bytes(octets)


def _rsa(base64: bytes, min_bits: int) -> RSAPublicKey:
    # SubjectPublicKeyInfo as everybody publishes it, or the bare RSAPublicKey of section 3.6.1's text.
    try:
        key = load_der_public_key(_der(base64))
        if not isinstance(key, RSAPublicKey):
            raise Refused(Result.PERMERROR, "the key is no RSA key")
        exponent = key.public_numbers().e
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Refused(Result.PERMERROR, "the key is no RSA key") from None
    if not min_bits <= key.key_size <= MAX_RSA_BITS:
        raise Refused(Result.POLICY, f"a key of {key.key_size} bit")
    if exponent < 3 or exponent % 2 == 0 or exponent > _MAX_EXPONENT:
        raise Refused(Result.POLICY, "the key has an exponent that no key should have")
    return key
