"""DMARC: does the author's domain stand behind this mail, and what does it ask for where not?

RFC 9989 sections 4.10 (discovery, `checks/organization`), 4.4 (alignment), 5.3 (the result). `policy` is what is to be
applied after sp, np, psd and t, and in the old way alone after sampling by pct; whether it is applied is the policy
files' business (section 7.4: never on p=reject alone). Doubts of the text are settled for safety: DNS trouble that
hides an aligned identifier, a policy or an organization is `temperror`, never `fail` and never `none`; a From that
names no single author domain is `permerror`, or `fail` if one of its domains fails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from zlib import crc32

from gateway.checks import organization
from gateway.checks.author import Author
from gateway.checks.check import Check, Named
from gateway.checks.dkim import Dkim, DkimFact
from gateway.checks.dmarc_record import Record, Word
from gateway.checks.organization import Method, discover
from gateway.checks.spf import Spf, SpfFact
from gateway.dns.resolver import Resolver
from gateway.mail.authres import clause
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Result, Stage, Unavailable

if TYPE_CHECKING:
    from gateway.checks.facts import Facts

#: Author domains of one From that are judged (section 11.5: bound the number).
_AUTHOR_LIMIT = 4
_STRICTNESS = {Word.NONE: 0, Word.QUARANTINE: 1, Word.REJECT: 2}


@dataclass(frozen=True, slots=True)
class DmarcFact:
    """`policy` is none, quarantine or reject, or "" where no record applies; `domain` is where it was found."""

    result: Result
    policy: str = ""
    domain: str = ""
    author_domain: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Identifier:
    """An authenticated identifier, or one that DNS trouble kept from being one."""

    domain: str
    strict: bool
    passed: bool


class Dmarc(Check[DmarcFact]):
    """The fact for the mail's author domain."""

    name = "dmarc"
    stage = Stage.DATA
    provides: ClassVar[Mapping[str, str]] = {
        "dmarc.result": "string",
        "dmarc.policy": "string",
        "dmarc.domain": "string",
    }
    #: SPF and DKIM have deadlines of their own, this waits for both and walks.
    deadline = 45.0

    def __init__(self, resolver: Resolver, *, method: Method = "treewalk") -> None:
        self._resolver = resolver
        self._method: Method = method

    async def run(self, tx: Transaction, facts: "Facts") -> DmarcFact:
        facts.start(Spf)
        facts.start(Dkim)
        author = await facts.get(Author)
        spf, dkim = await facts.get(Spf), await facts.get(Dkim)
        # The id ends in chance, and the sender learns it too late to choose its luck by it.
        drawn = crc32(tx.id.encode()) % 100
        return await judge(self._resolver, author.domains, spf, dkim, self._method, drawn)

    def named(self, fact: DmarcFact) -> Named:
        return {"dmarc.result": str(fact.result), "dmarc.policy": fact.policy, "dmarc.domain": fact.domain}

    def error(self) -> DmarcFact:
        return DmarcFact(Result.TEMPERROR)

    def trace(self, fact: DmarcFact) -> tuple[str, ...]:
        properties = [("header.from", fact.author_domain), ("policy.dmarc", fact.policy)]
        return (clause("dmarc", fact.result, properties),)


async def judge(
    resolver: Resolver,
    authors: Sequence[str],
    spf: SpfFact,
    dkim: DkimFact,
    method: Method = "treewalk",
    drawn: int = 0,
) -> DmarcFact:
    """The fact for these author domains (distinct A-labels) and these authenticated identifiers.

    `drawn`, 0 to 99, is this mail's lot where the old way samples.
    """
    if len(authors) == 1:
        return await _judge_one(resolver, authors[0], spf, dkim, method, drawn)
    # Section 11.5: with several, the strictest policy among those that fail; else nothing is proven.
    failed = [
        fact
        for fact in [await _judge_one(resolver, domain, spf, dkim, method, drawn) for domain in authors[:_AUTHOR_LIMIT]]
        if fact.result is Result.FAIL
    ]
    if failed:
        return max(failed, key=lambda fact: _STRICTNESS[Word(fact.policy)])
    return DmarcFact(Result.PERMERROR, why="several author domains" if authors else "no author domain")


async def _judge_one(
    resolver: Resolver, author: str, spf: SpfFact, dkim: DkimFact, method: Method, drawn: int
) -> DmarcFact:
    found = await discover(resolver, author, method)
    if found.record is None:
        if found.trouble:
            return DmarcFact(Result.TEMPERROR, author_domain=author, why="the policy cannot be looked up")
        return DmarcFact(Result.NONE, author_domain=author)
    record = found.record.applied()
    if record is None:
        return DmarcFact(Result.NONE, author_domain=author, why="a record without a policy")
    passed, trouble = await _aligned(resolver, author, found.organization, _identifiers(spf, dkim, record), method)
    result = Result.PASS if passed else Result.TEMPERROR if trouble else Result.FAIL
    at_author = found.policy_domain == author
    policy = record.wanted(at_author=at_author, exists=True)
    absent = record.wanted(at_author=at_author, exists=False)
    why = "DNS trouble hides an identifier" if result is Result.TEMPERROR else ""
    if policy is not absent:  # only then is the question worth a look-up
        try:
            policy = policy if await _exists(resolver, author) else absent
        except Unavailable:
            # That it fails is certain, what it asks for is not.
            result = Result.PASS if passed else Result.TEMPERROR
            why = "DNS trouble hides whether the author's domain exists"
    if method == "suffixes":
        policy = record.sampled(policy, drawn)
    return DmarcFact(result, str(policy), found.policy_domain, author, why)


def _identifiers(spf: SpfFact, dkim: DkimFact, record: Record) -> list[_Identifier]:
    found = []
    if spf.domain and spf.result in {Result.PASS, Result.TEMPERROR}:
        found.append(_Identifier(spf.domain, record.strict_spf, spf.result is Result.PASS))
    for signature in dkim.signatures:
        if signature.domain and signature.result in {Result.PASS, Result.TEMPERROR}:
            found.append(_Identifier(signature.domain, record.strict_dkim, signature.result is Result.PASS))
    if dkim.result is Result.TEMPERROR and not dkim.signatures:
        found.append(_Identifier("", False, False))  # the check itself failed: any domain may have signed
    if spf.result is Result.TEMPERROR and not spf.domain:
        found.append(_Identifier("", False, False))
    return list(dict.fromkeys(found))


async def _aligned(
    resolver: Resolver, author: str, ours: str, identifiers: Sequence[_Identifier], method: Method
) -> tuple[bool, bool]:
    """(an identifier passed and is aligned, DNS trouble hides one that might be)."""
    if any(i.passed and i.domain == author for i in identifiers):
        return True, False
    trouble = False
    for identifier in identifiers:
        same: bool | None
        if not identifier.domain:
            same = None
        elif identifier.domain == author:
            same = True
        elif identifier.strict:
            same = False
        else:
            same = await organization.same(resolver, identifier.domain, author, ours, method)
        if same and identifier.passed:
            return True, False
        trouble = trouble or same is None or (same and not identifier.passed)
    return False, trouble


async def _exists(resolver: Resolver, domain: str) -> bool:
    """False only for NXDOMAIN of the name itself (section 3.2.13): behind an alias it is the target's."""
    if not (await resolver.query(domain, "A")).nxdomain:
        return True
    return bool((await resolver.query(domain, "CNAME")).records)
