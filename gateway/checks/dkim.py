"""DKIM: every signature of the mail judged alone, top first, malformed ones included.

RFC 6376, 8301, 8463, 8616; result words of RFC 8601 section 2.7.1. Our own verifier, strict where the libraries are
not: a signature that does not cover From, leaves body octets open (`l=`), uses SHA-1 or a weak, huge or strange key
is refused before any cryptography. Of more than ten signatures only the first ten are looked at. A key that cannot be
looked up is `temperror`, never `fail`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.checks import organization, taglist
from gateway.checks.author import Author
from gateway.checks.check import Check, Named
from gateway.checks.dkim_key import Refused
from gateway.checks.organization import Method, Organization
from gateway.checks.signature import Terms, dkim_terms, names_of
from gateway.checks.verifier import Verifier
from gateway.clock import Clock
from gateway.dns.resolver import Resolver
from gateway.mail.authres import clause
from gateway.mail.envelope import Transaction
from gateway.mail.message import Message
from gateway.mail.terms import Result, Stage

if TYPE_CHECKING:
    from gateway.checks.facts import Facts

SIGNATURE_LIMIT = 10
#: Best first: what one says of a mail with several signatures.
_RANK = {
    word: rank
    for rank, word in enumerate(
        (Result.PASS, Result.TEMPERROR, Result.FAIL, Result.POLICY, Result.NEUTRAL, Result.PERMERROR, Result.NONE)
    )
}


@dataclass(frozen=True, slots=True)
class Signature:
    """What became of one signature. `domain` and `selector` are "" where they were no names; `why` is our words."""

    result: Result
    domain: str = ""
    selector: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class DkimFact:
    """All signatures, top first, and the result that stands for them: the best aligned one, else the best."""

    result: Result
    signatures: tuple[Signature, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains whose signature passed, each once."""
        return tuple(dict.fromkeys(s.domain for s in self.signatures if s.result is Result.PASS))


class Dkim(Check[DkimFact]):
    """`allow_sha1` and a lower `min_rsa_bits` are for the old test suites alone; `method` says what is aligned."""

    name = "dkim"
    stage = Stage.DATA
    provides: ClassVar = {"dkim.result": "string", "dkim.domains": "list<string>"}

    def __init__(
        self,
        resolver: Resolver,
        clock: Clock,
        *,
        allow_sha1: bool = False,
        min_rsa_bits: int = 1024,
        method: Method = "treewalk",
    ) -> None:
        self._resolver = resolver
        self._clock = clock
        self._allow_sha1 = allow_sha1
        self._min_rsa_bits = min_rsa_bits
        self._method = method

    async def run(self, tx: Transaction, facts: "Facts") -> DkimFact:
        if tx.message is None:
            return DkimFact(Result.NONE)
        signatures = await self.verify(tx.message)
        words = {signature.result for signature in signatures}
        if len(words) <= 1:
            return DkimFact(words.pop() if words else Result.NONE, signatures)
        author = (await facts.get(Author)).domain
        ours = (await facts.get(Organization)).domain
        aligned = [s for s in signatures if await self._aligned(s.domain, author, ours)]
        return DkimFact(best(aligned or signatures), signatures)

    async def _aligned(self, domain: str, author: str, ours: str) -> bool:
        """True when `domain` belongs to the author's organization, `ours` (relaxed, RFC 9989 section 4.10.2)."""
        if not domain or not author:
            return False
        return bool(await organization.same(self._resolver, domain, author, ours, self._method))

    async def verify(self, message: Message) -> tuple[Signature, ...]:
        """The outcome of every DKIM-Signature field, top first."""
        own = [number for number, field in enumerate(message.fields) if field.key == b"dkim-signature"]
        if not own:
            return ()
        if message.malformed:  # nobody can say which fields such a header has, so nobody signed them
            return tuple(Signature(Result.PERMERROR, why="the header is malformed") for _ in own)
        outcomes = [Signature(Result.POLICY, why=f"more than {SIGNATURE_LIMIT} signatures")] * len(own)
        wanted: list[tuple[int, int, Terms]] = []
        now = self._clock.now()
        for place, number in enumerate(own[:SIGNATURE_LIMIT]):
            tags: dict[str, bytes] = {}
            try:
                tags = taglist.parse(message.fields[number].value)
                wanted.append((place, number, dkim_terms(tags, now)))
            except taglist.BadTagList as why:
                outcomes[place] = Signature(Result.PERMERROR, why=f"the tag list has {why}")
            except Refused as refused:
                outcomes[place] = Signature(refused.result, *names_of(tags), refused.why)
        if wanted:
            verifier = Verifier(message, self._resolver, allow_sha1=self._allow_sha1, min_rsa_bits=self._min_rsa_bits)
            await verifier.fetch(terms.key_name for _, _, terms in wanted)
            for place, number, terms in wanted:
                outcomes[place] = await _outcome(verifier, number, terms)
        return tuple(outcomes)

    def named(self, fact: DkimFact) -> Named:
        return {"dkim.result": str(fact.result), "dkim.domains": list(fact.domains)}

    def error(self) -> DkimFact:
        return DkimFact(Result.TEMPERROR)

    def trace(self, fact: DkimFact) -> tuple[str, ...]:
        if not fact.signatures:
            return (clause("dkim", fact.result),)
        return tuple(
            clause(
                "dkim",
                signature.result,
                [("header.d", signature.domain), ("header.s", signature.selector)],
                reason=signature.why,
            )
            for signature in fact.signatures[:SIGNATURE_LIMIT]
        )


async def _outcome(verifier: Verifier, number: int, terms: Terms) -> Signature:
    try:
        keys = verifier.keys(terms.key_name, terms.key_type, terms.hash_name)
        if terms.identity_domain != terms.domain:
            keys = [key for key in keys if not key.strict]
            if not keys:  # section 3.6.1, t=s
                raise Refused(Result.PERMERROR, "the key does not allow a subdomain in i=")
        await verifier.verify(terms, number, keys)
    except Refused as refused:
        return Signature(refused.result, terms.domain, terms.selector, refused.why)
    return Signature(Result.PASS, terms.domain, terms.selector)


def best(signatures: Iterable[Signature]) -> Result:
    """The best result among them."""
    return min((signature.result for signature in signatures), key=_RANK.__getitem__, default=Result.NONE)
