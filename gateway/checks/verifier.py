"""Signatures of one message verified: the part that DKIM and ARC share.

RFC 6376 sections 3.7 and 6.1.3. The signature over the header is tried before the body is hashed: who has no key
cannot make us read 25 MB. Body digests are shared by all signatures of the same form, and of large bodies computed in
a thread. Keys are asked for at the same time, each name once.
"""

import asyncio
import hashlib
from collections.abc import Iterable

from gateway.checks import dkim_key
from gateway.checks.canonical import Header, body_digest, relaxed_field
from gateway.checks.dkim_key import Key, Refused
from gateway.checks.signature import Terms
from gateway.checks.taglist import without_signature
from gateway.dns.resolver import Resolver
from gateway.mail.message import Message
from gateway.mail.terms import Result, Unavailable

#: Octets of body above which hashing would hold up the other connections of the loop (0.8 ms).
THREAD_ABOVE = 256 * 1024


class Verifier:
    """One message, its header and body digests, and the keys of those who signed it."""

    def __init__(
        self, message: Message, resolver: Resolver, *, allow_sha1: bool = False, min_rsa_bits: int = 1024
    ) -> None:
        self._message = message
        self._resolver = resolver
        self._allow_sha1 = allow_sha1
        self._min_rsa_bits = min_rsa_bits
        self._header = Header(message.fields)
        self._bodies: dict[tuple[bool, str], bytes] = {}
        self._records: dict[str, tuple[bytes, ...] | None] = {}
        self._keys: dict[tuple[str, str, str], list[Key]] = {}

    async def fetch(self, names: Iterable[str]) -> None:
        """Asks for the key records of all `names` at once; `keys` then knows them."""
        missing = []
        for name in dict.fromkeys(names):
            try:
                known = self._resolver.cached(name, "TXT")
            except Unavailable:
                self._records[name] = None
                continue
            if known is None:
                missing.append(name)
            else:
                self._records[name] = tuple(value for value in known.records if isinstance(value, bytes))
        if len(missing) == 1:
            await self._ask(missing[0])
        elif missing:
            async with asyncio.TaskGroup() as group:
                for name in missing:
                    group.create_task(self._ask(name))

    async def _ask(self, name: str) -> None:
        try:
            self._records[name] = (await self._resolver.query(name, "TXT")).records
        except Unavailable:
            self._records[name] = None

    def keys(self, name: str, key_type: str, hash_name: str) -> list[Key]:
        """The keys at `name` for that algorithm. `Refused`: none fits (permerror), or the DNS failed (temperror)."""
        records = self._records.get(name)
        if records is None:
            raise Refused(Result.TEMPERROR, "the key cannot be looked up")
        if hash_name == "sha1" and not self._allow_sha1:
            raise Refused(Result.POLICY, "SHA-1 is no longer taken")  # RFC 8301 section 3.1
        wanted = name, key_type, hash_name
        if wanted not in self._keys:  # OpenSSL prepares a key at its first use, so it is kept for the message
            self._keys[wanted] = dkim_key.usable(records, key_type, hash_name, self._min_rsa_bits)
        return self._keys[wanted]

    async def verify(self, terms: Terms, own: int, keys: Iterable[Key]) -> None:
        """Returns when the signature in field number `own` is right; `Refused` (fail) when it is not."""
        digest = self._header_digest(terms, own)
        if not any(key.verifies(terms.signature, digest, terms.hash_name) for key in keys):
            raise Refused(Result.FAIL, "the signature does not match")
        if await self._body(terms.body_relaxed, terms.hash_name) != terms.body_hash:
            raise Refused(Result.FAIL, "the body was changed")

    def _header_digest(self, terms: Terms, own: int) -> bytes:
        digest = hashlib.new(terms.hash_name, usedforsecurity=False)
        digest.update(b"".join(self._header.selected(terms.names, own, relaxed=terms.header_relaxed)))
        unsigned = without_signature(self._message.fields[own].raw)
        digest.update(relaxed_field(unsigned) if terms.header_relaxed else unsigned)
        return digest.digest()

    async def _body(self, relaxed: bool, algorithm: str) -> bytes:
        key = relaxed, algorithm
        if key not in self._bodies:
            message = self._message
            if message.size - message.body_offset > THREAD_ABOVE:
                found = await asyncio.to_thread(body_digest, message, relaxed=relaxed, algorithm=algorithm)
            else:
                found = body_digest(message, relaxed=relaxed, algorithm=algorithm)
            self._bodies[key] = found
        return self._bodies[key]

    def relaxed(self, number: int) -> bytes:
        """Header field `number` in relaxed form, with its CRLF."""
        return self._header.relaxed(number)
