"""ARC: the chain of those who handled the mail before us, verified.

RFC 8617 section 5.2: the latest ARC-Message-Signature and every ARC-Seal must be right, and the sets complete.
`trusted` is true when the chain passes and its last sealer is on our list: only then do the chain's own results mean
something. A chain of more than 50 sets, a set that is not whole, a `cv=` that is wrong or any bad signature is
`fail`; a key that cannot be looked up is `temperror`. Seals are hashed over growing prefixes with one running digest,
so that fifty sets cost fifty signatures and no more.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from gateway.checks import signature, taglist
from gateway.checks.canonical import relaxed_field
from gateway.checks.check import Check, Named
from gateway.checks.dkim_key import Refused
from gateway.checks.verifier import Verifier
from gateway.dns.resolver import Resolver
from gateway.mail.authres import clause
from gateway.mail.envelope import Transaction
from gateway.mail.message import Message
from gateway.mail.terms import Result, Stage

if TYPE_CHECKING:
    from gateway.checks.facts import Facts

SET_LIMIT = 50
RESULTS, MESSAGE, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
FIELD_KEYS = frozenset({RESULTS, MESSAGE, SEAL})
_WSP = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class ArcFact:
    """`sealer` is the domain of the last seal of a chain that passes, else ""; `sets` how many there are.

    `proven` are its ARC-Authentication-Results: the number of the field, and the domain that sealed it.
    """

    result: Result
    sealer: str = ""
    trusted: bool = False
    sets: int = 0
    why: str = ""
    proven: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Set:
    """The field numbers of one ARC set, and the tags of its two signatures."""

    results: int
    message: int
    seal: int
    message_tags: Mapping[str, bytes]
    seal_tags: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class _Seal:
    domain: str
    selector: str
    key_type: str
    hash_name: str
    signature: bytes

    @property
    def key_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"


class Arc(Check[ArcFact]):
    """`trusted_sealers` gives the domains whose seals count: the lines of `lists/arc-sealers.txt`."""

    name = "arc"
    stage = Stage.DATA
    provides: ClassVar[Mapping[str, str]] = {"arc.result": "string", "arc.sealer": "string", "arc.trusted": "bool"}

    def __init__(
        self, resolver: Resolver, trusted_sealers: Callable[[], Collection[str]] | Collection[str] = ()
    ) -> None:
        self._resolver = resolver
        self._trusted = trusted_sealers

    async def run(self, tx: Transaction, facts: "Facts") -> ArcFact:
        if tx.message is None:
            return ArcFact(Result.NONE)
        fact = await self.verify(tx.message)
        if fact.result is not Result.PASS:
            return fact
        trusted = self._trusted() if callable(self._trusted) else self._trusted
        return replace(fact, trusted=fact.sealer in trusted)

    async def verify(self, message: Message) -> ArcFact:
        """The state of the chain; `trusted` is left false."""
        if not any(field.key in FIELD_KEYS for field in message.fields):
            return ArcFact(Result.NONE)
        if message.malformed:
            return ArcFact(Result.FAIL, why="the header is malformed")
        try:
            sets = _sets(message)
            return await self._chain(message, sets)
        except taglist.BadTagList as why:
            return ArcFact(Result.FAIL, why=f"a tag list has {why}")
        except Refused as refused:
            temporary = refused.result is Result.TEMPERROR
            return ArcFact(Result.TEMPERROR if temporary else Result.FAIL, why=refused.why)

    async def _chain(self, message: Message, sets: Sequence[_Set]) -> ArcFact:
        # All is read before anything is asked or computed.
        seals = [_seal(one.seal_tags) for one in sets]
        last = sets[-1]
        terms = signature.terms(last.message_tags)
        if SEAL in terms.names:  # section 4.1.2: h= never covers a seal
            raise Refused(Result.FAIL, "an ARC-Message-Signature covers a seal")
        for one in sets:
            signature.number(one.message_tags, "t")
        verifier = Verifier(message, self._resolver)
        await verifier.fetch([terms.key_name, *(seal.key_name for seal in seals)])
        keys = verifier.keys(terms.key_name, terms.key_type, terms.hash_name)
        try:
            await verifier.verify(terms, last.message, keys)
        except Refused:
            # DKIM's default of an absent c= is simple/simple; sealers of the field took relaxed (arc_test_suite,
            # ams_fields_c_na). Either form covers the same octets, so both are a signature.
            if "c" in last.message_tags:
                raise
            await verifier.verify(replace(terms, header_relaxed=True, body_relaxed=True), last.message, keys)
        running = hashlib.sha256()
        for one, seal in zip(sets, seals, strict=True):
            running.update(verifier.relaxed(one.results) + verifier.relaxed(one.message))
            digest = running.copy()
            digest.update(relaxed_field(taglist.without_signature(message.fields[one.seal].raw)))
            running.update(verifier.relaxed(one.seal))
            keys = verifier.keys(seal.key_name, seal.key_type, seal.hash_name)
            if not any(key.verifies(seal.signature, digest.digest(), seal.hash_name) for key in keys):
                raise Refused(Result.FAIL, "a seal does not match")
        proven = tuple((one.results, seal.domain) for one, seal in zip(sets, seals, strict=True))
        return ArcFact(Result.PASS, seals[-1].domain, sets=len(sets), proven=proven)

    def named(self, fact: ArcFact) -> Named:
        return {"arc.result": str(fact.result), "arc.sealer": fact.sealer, "arc.trusted": fact.trusted}

    def error(self) -> ArcFact:
        return ArcFact(Result.TEMPERROR)

    def trace(self, fact: ArcFact) -> tuple[str, ...]:
        return (clause("arc", fact.result, reason=fact.why),)


def _sets(message: Message) -> list[_Set]:
    """The sets in order, each whole and each instance there once; `Refused` or `BadTagList` where not."""
    numbers: dict[bytes, dict[int, int]] = {kind: {} for kind in FIELD_KEYS}
    tags: dict[int, dict[str, bytes]] = {}
    for number, field in enumerate(message.fields):
        kind = field.key
        if kind not in FIELD_KEYS:
            continue
        if len(tags) > 2 * SET_LIMIT:
            raise Refused(Result.FAIL, "too many ARC fields")
        if kind == RESULTS:
            place = instance(first_tag(field.value))
        else:
            tags[number] = taglist.parse(field.value)
            place = instance(tags[number].get("i", b""))
        if place in numbers[kind]:
            raise Refused(Result.FAIL, "an instance is there twice")
        numbers[kind][place] = number
    count = len(numbers[SEAL])
    whole = set(range(1, count + 1))
    if not count or any(set(numbers[kind]) != whole for kind in FIELD_KEYS):
        raise Refused(Result.FAIL, "the sets are not whole")
    sets = []
    for place in range(1, count + 1):
        results, text, seal = (numbers[kind][place] for kind in (RESULTS, MESSAGE, SEAL))
        one = _Set(results, text, seal, tags[text], tags[seal])
        # Section 5.2 steps 2 and 3: cv=fail anywhere is a chain that failed already.
        if one.seal_tags.get("cv") != (b"none" if place == 1 else b"pass"):
            raise Refused(Result.FAIL, "cv= is wrong")
        sets.append(one)
    return sets


def first_tag(value: bytes) -> bytes:
    """The value of `i=` where it stands first and a semicolon ends it (section 4.1.1)."""
    first, semicolon, _ = value.partition(b";")
    name, equals, instance = first.partition(b"=")
    return instance.strip(_WSP) if semicolon and equals and name.strip(_WSP) == b"i" else b""


def instance(value: bytes) -> int:
    """The number of a set; `Refused` where it is none."""
    if not (value.isdigit() and len(value) <= 2 and 1 <= int(value) <= SET_LIMIT):
        raise Refused(Result.FAIL, "i= is no instance")
    return int(value)


def _seal(tags: Mapping[str, bytes]) -> _Seal:
    domain = signature.domain_name(signature.required(tags, "d"), "d=")
    selector = signature.domain_name(signature.required(tags, "s"), "s=")
    key_type, hash_name = signature.algorithm(tags)
    signature.number(tags, "t")
    if "h" in tags:  # section 4.1.3: a seal covers ARC fields alone
        raise Refused(Result.FAIL, "a seal has h=")
    return _Seal(domain, selector, key_type, hash_name, signature.base64_tag(tags, "b"))
