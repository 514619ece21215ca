"""DMARC: does the author's domain stand behind this mail, and what does it ask for where not?

RFC 9989 sections 4.10 (the tree walk), 4.4 (alignment), 5.3 (the result). `policy` is what is to be applied after sp,
np, psd and t; whether it is applied is the policy files' business (section 7.4: never on p=reject alone). Doubts of
the text are settled for safety: DNS trouble that hides an aligned identifier, a policy or an organization is
`temperror`, never `fail` and never `none`; a From that names no single author domain is `permerror`, or `fail` if one
of its domains fails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.checks import treewalk
from gateway.checks.author import Author
from gateway.checks.check import Check, Named
from gateway.checks.dkim import Dkim, DkimFact
from gateway.checks.dmarc_record import Record, Word
from gateway.checks.spf import Spf, SpfFact
from gateway.checks.treewalk import Walk
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

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def run(self, tx: Transaction, facts: "Facts") -> DmarcFact:
        facts.start(Spf)
        facts.start(Dkim)
        author = await facts.get(Author)
        spf, dkim = await facts.get(Spf), await facts.get(Dkim)
        return await judge(self._resolver, author.domains, spf, dkim)

    def named(self, fact: DmarcFact) -> Named:
        return {"dmarc.result": str(fact.result), "dmarc.policy": fact.policy, "dmarc.domain": fact.domain}

    def error(self) -> DmarcFact:
        return DmarcFact(Result.TEMPERROR)

    def trace(self, fact: DmarcFact) -> tuple[str, ...]:
        properties = [("header.from", fact.author_domain), ("policy.dmarc", fact.policy)]
        return (clause("dmarc", fact.result, properties),)


async def judge(resolver: Resolver, authors: Sequence[str], spf: SpfFact, dkim: DkimFact) -> DmarcFact:
    """The fact for these author domains (distinct A-labels) and these authenticated identifiers."""
    if len(authors) == 1:
        return await _judge_one(resolver, authors[0], spf, dkim)
    # Section 11.5: with several, the strictest policy among those that fail; else nothing is proven.
    failed = [
        fact
        for fact in [await _judge_one(resolver, domain, spf, dkim) for domain in authors[:_AUTHOR_LIMIT]]
        if fact.result is Result.FAIL
    ]
    if failed:
        return max(failed, key=lambda fact: _STRICTNESS[Word(fact.policy)])
    return DmarcFact(Result.PERMERROR, why="several author domains" if authors else "no author domain")


async def _judge_one(resolver: Resolver, author: str, spf: SpfFact, dkim: DkimFact) -> DmarcFact:
    walk = await treewalk.walk(resolver, author)
    found = policy_record(walk)
    if found is None:
        if walk.trouble:
            return DmarcFact(Result.TEMPERROR, author_domain=author, why="the policy cannot be looked up")
        return DmarcFact(Result.NONE, author_domain=author)
    policy_domain, published = found
    record = published.applied()
    if record is None:
        return DmarcFact(Result.NONE, author_domain=author, why="a record without a policy")
    passed, trouble = await _aligned(resolver, author, walk.organization, _identifiers(spf, dkim, record))
    result = Result.PASS if passed else Result.TEMPERROR if trouble else Result.FAIL
    at_author = policy_domain == author
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
    return DmarcFact(result, str(policy), policy_domain, author, why)


def policy_record(walk: Walk) -> tuple[str, Record] | None:
    """The record that applies to `walk.start` and where it was found (section 4.10.1), None where there is none.

    The author's own, else that of its organization, else that of the suffix above; records between are no policy.
    None too where DNS trouble hides it: see `walk.trouble`.
    """
    records = dict(walk.found)
    if walk.start in records:
        return walk.start, records[walk.start]
    if walk.trouble or not walk.found:
        return None
    organization = walk.organization
    if organization in records:
        return organization, records[organization]
    return walk.found[-1]  # only a walk that ended at psd=y has an organization without a record


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
    resolver: Resolver, author: str, organization: str, identifiers: Sequence[_Identifier]
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
            same = await treewalk.same_organization(resolver, identifier.domain, author, organization)
        if same and identifier.passed:
            return True, False
        trouble = trouble or same is None or (same and not identifier.passed)
    return False, trouble


async def _exists(resolver: Resolver, domain: str) -> bool:
    """False only for NXDOMAIN of the name itself (section 3.2.13): behind an alias it is the target's."""
    if not (await resolver.query(domain, "A")).nxdomain:
        return True
    return bool((await resolver.query(domain, "CNAME")).records)
