"""ARC sealing: our results signed, so that a backend that trusts us may believe them.

RFC 8617 section 5.1. Three fields on top of the mail as the backend gets it: what we found (the results of the set), a
signature over header and body (ARC-Message-Signature), and the seal over the whole chain. `cv=` is what we found of
the chain so far; one that fails is sealed once more as failed, over our own set alone (5.1.2). Not sealed: a chain
that somebody sealed as failed before (it has ended), one of 50 sets, and one whose keys the DNS did not tell, because
then no word about it is true. Called by `dress`.
"""

import asyncio
import base64
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from gateway.checks import taglist
from gateway.checks.arc import FIELD_KEYS, RESULTS, SEAL, SET_LIMIT, ArcFact, first_tag, instance
from gateway.checks.canonical import Header, body_digest, relaxed_field
from gateway.checks.dkim_key import Refused
from gateway.checks.verifier import THREAD_ABOVE
from gateway.mail.authres import results
from gateway.mail.message import Field, Message
from gateway.mail.terms import Result

#: What the seal binds: what people see, what mail programs act on, and the signatures of those before us. Never other
#: ARC fields nor Authentication-Results, which the next one may remove (section 5.1.1).
SEALED = (
    b"from", b"reply-to", b"sender", b"to", b"cc", b"subject", b"date", b"message-id", b"in-reply-to", b"references",
    b"mime-version", b"content-type", b"content-transfer-encoding", b"list-id", b"dkim-signature",
)  # fmt: skip
_CRLF = b"\r\n"
_FOLD_AT = 72


class ChainState(StrEnum):
    """The word of `cv=`."""

    NONE = "none"
    PASS = "pass"  # noqa: S105 - a result word
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Sealer:
    """Whose seal, and the key: RSA or Ed25519."""

    domain: str
    selector: str
    key: RSAPrivateKey | Ed25519PrivateKey

    async def seal(
        self,
        message: Message,
        removed: Collection[int],
        hostname: str,
        clauses: Sequence[str],
        arc: ArcFact,
        now: float,
    ) -> bytes:
        """Our set, seal first, or b"" where there is nothing true to seal.

        `removed` are the fields that the backend will not get, `clauses` our results, `arc` what we found of the
        chain as it came.
        """
        fields = [field for number, field in enumerate(message.fields) if number not in removed]
        state = _state(fields, len(fields) < len(message.fields), message, removed, arc)
        if state is None:
            return b""
        cv, number = state
        if message.size - message.body_offset > THREAD_ABOVE:
            body = await asyncio.to_thread(body_digest, message, relaxed=True, algorithm="sha256")
        else:
            body = body_digest(message, relaxed=True, algorithm="sha256")
        ours = results(hostname, clauses, instance=number)
        signature = self._message_signature(fields, number, body, int(now))
        head = b"ARC-Seal: i=%d; cv=%b; %b\r\n\tt=%d; b=" % (number, cv.encode(), self._name(), int(now))
        earlier = _earlier(fields, number) if cv is ChainState.PASS else []
        scope = [*earlier, ours, signature]
        digest = hashlib.sha256(b"".join(relaxed_field(raw) + _CRLF for raw in scope) + relaxed_field(head))
        return self._signed(head, digest.digest()) + signature + ours

    def _message_signature(self, fields: Sequence[Field], number: int, body: bytes, now: int) -> bytes:
        present = [field.key for field in fields]
        # From once more than it is there: who adds another breaks the signature.
        names = [name for name in SEALED for _ in range(present.count(name))] + [b"from"]
        head = b"ARC-Message-Signature: i=%d; c=relaxed/relaxed; %b\r\n\tt=%d; h=%b;\r\n\tbh=%b; b=" % (
            number,
            self._name(),
            now,
            _folded(names),
            base64.b64encode(body),
        )
        chosen = Header(fields).selected(names, -1, relaxed=True)
        digest = hashlib.sha256(b"".join(chosen) + relaxed_field(head))
        return self._signed(head, digest.digest())

    def _name(self) -> bytes:
        algorithm = "rsa" if isinstance(self.key, RSAPrivateKey) else "ed25519"
        return f"a={algorithm}-sha256; d={self.domain}; s={self.selector};".encode("ascii")

    def _signed(self, head: bytes, digest: bytes) -> bytes:
        """The field whose `b=` was empty so far, with the signature in lines that fit."""
        if isinstance(self.key, RSAPrivateKey):
            octets = self.key.sign(digest, PKCS1v15(), Prehashed(SHA256()))
        else:
            octets = self.key.sign(digest)  # RFC 8463 section 3: the digest is what is signed
        text = base64.b64encode(octets)
        lines = [text[at : at + _FOLD_AT] for at in range(0, len(text), _FOLD_AT)]
        return head + b"\r\n\t".join([b"", *lines]) + _CRLF


def _state(
    fields: Sequence[Field], shorter: bool, message: Message, removed: Collection[int], arc: ArcFact
) -> tuple[ChainState, int] | None:
    """(cv, our instance) for the chain among `fields`; None where it is not to be sealed."""
    if not any(field.key in FIELD_KEYS for field in fields):
        return ChainState.NONE, 1
    # What we took out of the chain, nobody behind us can verify any more.
    torn = shorter and any(message.fields[number].key in FIELD_KEYS for number in removed)
    if arc.result is Result.PASS and not torn:
        return (ChainState.PASS, arc.sets + 1) if arc.sets < SET_LIMIT else None
    if arc.result is Result.TEMPERROR and not torn:
        return None
    highest = 0
    for field in fields:
        if field.key in FIELD_KEYS:
            number, ended = _instance(field)
            if ended:
                return None
            highest = max(highest, number)
    return (ChainState.FAIL, highest + 1) if highest < SET_LIMIT else None


def _instance(field: Field) -> tuple[int, bool]:
    """(the instance of an ARC field, 0 where it has none; whether it is a seal that says fail)."""
    try:
        if field.key == RESULTS:
            return instance(first_tag(field.value)), False
        tags = taglist.parse(field.value)
        ended = field.key == SEAL and tags.get("cv", b"").lower() == b"fail"
        return instance(tags.get("i", b"")), ended
    except (Refused, taglist.BadTagList):
        return 0, False


def _earlier(fields: Sequence[Field], number: int) -> list[bytes]:
    """The fields of the sets before ours, in the order in which seals cover them (section 5.1.1)."""
    sets: dict[tuple[int, bytes], bytes] = {}
    for field in fields:
        if field.key in FIELD_KEYS:
            sets[_instance(field)[0], field.key] = field.raw
    kinds = (RESULTS, b"arc-message-signature", SEAL)
    return [sets[place, kind] for place in range(1, number) for kind in kinds]


def _folded(names: Sequence[bytes]) -> bytes:
    """The value of h=, in lines that fit."""
    lines, line = [], b""
    for name in names:
        if line and len(line) + len(name) > _FOLD_AT:
            lines.append(line)
            line = b""
        line += name + b":"
    return b"\r\n\t ".join([*lines, line]).removesuffix(b":")
