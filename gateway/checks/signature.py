"""One DKIM-Signature or ARC-Message-Signature field: its tags read, and refused before any cryptography.

RFC 6376 sections 3.5 and 6.1.1, RFC 8301, RFC 8463, RFC 8616, RFC 8617 section 4.1.2. What is wrong is told as
`Refused` with a result word: `permerror` where the standard calls the signature invalid, `policy` where it is we who
do not take it (`l=`, from the future). Nothing here asks the DNS; a name that is none is refused first, so no
resolver ever sees a stranger's NUL or quote. Called by `checks/dkim` and `checks/arc`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.checks import taglist
from gateway.checks.dkim_key import Refused, decoded
from gateway.mail.address import to_ascii
from gateway.mail.terms import Result

#: Seconds by which clocks may differ: a signature a little from the future or just expired is still taken.
CLOCK_SKEW = 300
#: Names in h=; real signers stay under a hundred.
_H_LIMIT = 1_000
#: An address of 320 octets, each of them quoted.
_IDENTITY_OCTETS = 1_000
_LABEL = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
_NAME_OCTETS = frozenset(range(33, 127)) - {0x3A, 0x3B}
_NUMBER_DIGITS = 12  # section 3.5: t= and x= are decimal, at least 10^12 must be understood
_ALGORITHMS = {b"rsa-sha256": ("rsa", "sha256"), b"ed25519-sha256": ("ed25519", "sha256"), b"rsa-sha1": ("rsa", "sha1")}
_DIGEST_SIZE = {"sha256": 32, "sha1": 20}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a signature says about itself, all of it checked."""

    domain: str  # A-labels, lower case
    selector: str
    key_type: str  # rsa | ed25519
    hash_name: str  # sha256 | sha1
    signature: bytes
    body_hash: bytes
    header_relaxed: bool
    body_relaxed: bool
    names: tuple[bytes, ...]  # h=, lower case
    identity_domain: str  # of i=, else d=

    @property
    def key_name(self) -> str:
        """Where the key record is (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


def names_of(tags: Mapping[str, bytes]) -> tuple[str, str]:
    """(d=, s=) as far as they are names, for the report on a signature that is refused; "" where not."""
    found = []
    for tag in ("d", "s"):
        try:
            found.append(domain_name(tags.get(tag, b"")))
        except Refused:
            found.append("")
    return found[0], found[1]


def domain_name(octets: bytes, what: str = "name") -> str:
    """`octets` as lower-case A-labels; `Refused` (permerror) when they are no name of LDH or underscore labels."""
    name = octets.lower()
    if len(name) > 253 * 4 or not name:
        raise Refused(Result.PERMERROR, f"{what} is no domain name")
    if any(octet > 0x7F for octet in name):  # RFC 8616 section 3: U-labels stand for their A-labels
        try:
            return to_ascii(name.decode("utf-8"))
        except ValueError:
            raise Refused(Result.PERMERROR, f"{what} is no domain name") from None
    if len(name) > 253 or any(not 0 < len(x) <= 63 or not _LABEL.issuperset(x) for x in name.split(b".")):
        raise Refused(Result.PERMERROR, f"{what} is no domain name")
    return name.decode("ascii")


def number(tags: Mapping[str, bytes], tag: str) -> int | None:
    """A decimal tag; None where it is absent, `Refused` where it is no number."""
    if tag not in tags:
        return None
    value = tags[tag]
    if not value.isdigit() or len(value) > 2 * _NUMBER_DIGITS:
        raise Refused(Result.PERMERROR, f"{tag}= is no number")
    return int(value)


def algorithm(tags: Mapping[str, bytes]) -> tuple[str, str]:
    """(key type, hash) of a=."""
    found = _ALGORITHMS.get(required(tags, "a"))
    if found is None:
        raise Refused(Result.PERMERROR, "an unknown algorithm")
    return found


def required(tags: Mapping[str, bytes], tag: str) -> bytes:
    """A tag that must be there and not be empty."""
    value = tags.get(tag)
    if not value:
        raise Refused(Result.PERMERROR, f"no {tag}=")
    return value


def base64_tag(tags: Mapping[str, bytes], tag: str) -> bytes:
    """The octets of a base64 tag."""
    octets = decoded(taglist.unspaced(required(tags, tag)))
    if not octets:
        raise Refused(Result.PERMERROR, f"{tag}= is not base64")
    return octets


def terms(tags: Mapping[str, bytes]) -> Terms:
    """The common part of DKIM-Signature and ARC-Message-Signature; `Refused` where it breaks the rules."""
    domain = domain_name(required(tags, "d"), "d=")
    selector = domain_name(required(tags, "s"), "s=")
    if "." not in domain:  # domain-name has two labels at least: a top-level domain signs for nobody
        raise Refused(Result.PERMERROR, "d= is no domain name")
    key_type, hash_name = algorithm(tags)
    signature = base64_tag(tags, "b")
    body_hash = base64_tag(tags, "bh")
    if len(body_hash) != _DIGEST_SIZE[hash_name]:
        raise Refused(Result.PERMERROR, "bh= has the wrong length")
    header_form, slash, body_form = tags.get("c", b"simple/simple").partition(b"/")
    forms = {header_form, body_form if slash else b"simple"}
    if not forms <= {b"simple", b"relaxed"}:
        raise Refused(Result.PERMERROR, "an unknown canonicalization")
    if len(selector) + len(domain) + 12 > 253:
        raise Refused(Result.PERMERROR, "s= and d= are too long for a name")
    if "h" not in tags:
        raise Refused(Result.PERMERROR, "no h=")
    if tags["h"].count(b":") >= _H_LIMIT:
        raise Refused(Result.PERMERROR, "too many names in h=")
    names = tuple(name.lower() for name in taglist.listed(tags["h"]) if name)
    if any(not _NAME_OCTETS.issuperset(name) for name in names):
        raise Refused(Result.PERMERROR, "h= has something that is no field name")
    # Section 8.2: body octets that are not signed are anybody's. A signature with l= is refused whole.
    if number(tags, "l") is not None:
        raise Refused(Result.POLICY, "l= leaves the body open")
    return Terms(
        domain, selector, key_type, hash_name, signature, body_hash,
        header_form == b"relaxed", body_form == b"relaxed", names, domain,
    )  # fmt: skip


def dkim_terms(tags: Mapping[str, bytes], now: float) -> Terms:
    """A DKIM-Signature's terms at the time `now`; `Refused` where RFC 6376 or we do not take it."""
    if tags.get("v") != b"1":
        raise Refused(Result.PERMERROR, "v= is not 1")
    found = terms(tags)
    if b"from" not in found.names:  # section 5.4: else the From is the attacker's choice
        raise Refused(Result.PERMERROR, "From is not signed")
    if "q" in tags and b"dns/txt" not in taglist.listed(tags["q"]):
        raise Refused(Result.PERMERROR, "an unknown query method")
    signed, expires = number(tags, "t"), number(tags, "x")
    if signed is not None and expires is not None and expires <= signed:
        raise Refused(Result.PERMERROR, "x= is not after t=")
    if expires is not None and now > expires + CLOCK_SKEW:
        raise Refused(Result.FAIL, "the signature has expired")
    if signed is not None and signed > now + CLOCK_SKEW:
        raise Refused(Result.POLICY, "the signature is from the future")
    if "i" not in tags:
        return found
    identity = _identity_domain(tags["i"])
    if identity != found.domain and not identity.endswith("." + found.domain):
        raise Refused(Result.PERMERROR, "i= is not under d=")
    return replace(found, identity_domain=identity)


def _identity_domain(octets: bytes) -> str:
    """The domain of i= (section 3.5: quoted-printable of section 2.11, an optional local part)."""
    if len(octets) > _IDENTITY_OCTETS:
        raise Refused(Result.PERMERROR, "i= is too long")
    pieces = taglist.unspaced(octets).split(b"=")
    plain = [pieces[0]]
    for piece in pieces[1:]:
        try:
            plain.append(bytes.fromhex(piece[:2].decode("ascii")) + piece[2:])
        except ValueError:
            raise Refused(Result.PERMERROR, "i= is not quoted-printable") from None
        if len(piece) < 2:
            raise Refused(Result.PERMERROR, "i= is not quoted-printable")
    _, at, domain = b"".join(plain).rpartition(b"@")
    if not at:
        raise Refused(Result.PERMERROR, "i= has no domain")
    return domain_name(domain, "i=")
