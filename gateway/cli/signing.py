"""A DKIM signer for the demo's own mail: rsa-sha256, relaxed/relaxed (RFC 6376). Not for real mail."""

import base64

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gateway.checks.canonical import body_digest, relaxed_field
from gateway.mail.message import Message

_SIGNED = (b"from", b"to", b"subject")


class Signer:
    """One domain's key."""

    def __init__(self, domain: str, selector: str = "demo") -> None:
        self._domain, self._selector = domain, selector
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def record(self) -> tuple[str, str]:
        """Owner name and text of the key record."""
        public = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        name = f"{self._selector}._domainkey.{self._domain}"
        return name, f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode('ascii')}"

    def sign(self, octets: bytes) -> bytes:
        """The mail with its signature on top."""
        message = Message.from_octets(octets)
        fields = {field.key: field.raw for field in message.fields}
        names = [name for name in _SIGNED if name in fields]
        digest = base64.b64encode(body_digest(message, relaxed=True, algorithm="sha256"))
        head = b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=%b; s=%b;\r\n\th=%b; bh=%b;\r\n\tb=" % (
            self._domain.encode("ascii"),
            self._selector.encode("ascii"),
            b":".join(names),
            digest,
        )
        signed = b"".join(relaxed_field(fields[name]) + b"\r\n" for name in names) + relaxed_field(head)
        value = base64.b64encode(self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))
        return head + value + b"\r\n" + octets
