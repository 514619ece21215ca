"""Keys and signatures for the tests: our own small signer, so that every tag can be wrong on purpose."""

import base64
import hashlib
from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.checks.canonical import body_digest, relaxed_field
from gateway.mail.message import Message

NOW = 1_700_000_000
MAIL = (
    b"From: A User <user@example.org>\r\n"
    b"To: friend@example.com\r\n"
    b"Subject: a  subject\r\n\twith a fold\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    b"\r\n"
    b"Hello,\r\n\r\nthis is  a body. \r\n\r\n"
)


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=exponent, key_size=bits)


@cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def der(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def rsa_record(bits: int = 2048, tags: str = "v=DKIM1; k=rsa; ") -> str:
    return f"{tags}p={base64.b64encode(der(rsa_key(bits).public_key())).decode()}"


def ed25519_record() -> str:
    return f"v=DKIM1; k=ed25519; p={base64.b64encode(ed25519_key().public_key().public_bytes_raw()).decode()}"


def signed(
    mail: bytes = MAIL,
    *,
    tags: str = "",
    h: str = "from:to:subject:date",
    d: str = "example.org",
    s: str = "sel",
    a: str = "rsa-sha256",
    v: str = "v=1; ",
    bits: int = 2048,
    body_hash: bytes | None = None,
    name: str = "DKIM-Signature",
    form: str = "c=relaxed/relaxed; ",
) -> bytes:
    """`mail` with a relaxed/relaxed signature on top; `tags` are further ones ("x=1; ")."""
    message = Message.from_octets(mail)
    digest = body_hash or body_digest(message, relaxed=True, algorithm="sha256")
    bh = base64.b64encode(digest).decode()
    field = f"{name}: {v}a={a}; {form}d={d}; s={s}; {tags}h={h}; bh={bh}; b=".encode("latin-1")
    stacks: dict[bytes, list[bytes]] = {}
    for one in message.fields:
        stacks.setdefault(one.key, []).append(one.raw)
    chosen = [
        relaxed_field(stacks[key].pop()) + b"\r\n"
        for key in (name.strip().lower().encode("latin-1") for name in h.split(":"))
        if stacks.get(key)
    ]
    octets = b"".join(chosen) + relaxed_field(field)
    if a.startswith("ed25519"):
        signature = ed25519_key().sign(hashlib.sha256(octets).digest())
    else:
        signature = rsa_key(bits).sign(octets, PKCS1v15(), SHA256())
    return field + base64.b64encode(signature) + b"\r\n" + mail
