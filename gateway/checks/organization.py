"""To whom a domain belongs, and whose DMARC record speaks for it: by the tree walk, or by the public suffix list.

RFC 9989 section 4.10 (the walk, our default). `suffixes` is the old way, where a configuration asks for it: RFC 7489
sections 3.2 and 6.6.3, with the list of the `publicsuffixlist` package: at most two names are asked, and two records
at a name end the search. The record itself is read alike in both. Called by the checks `dmarc` and `dkim`.

The check `organization` gives `from.org_domain`. It stands apart from `author`, so that DNS trouble fails what needs
the DNS and not the From field.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from gateway.checks import dmarc_record, treewalk
from gateway.checks.author import Author
from gateway.checks.check import Check, Named
from gateway.checks.dmarc_record import Record
from gateway.checks.suffixes import organizational_domain
from gateway.checks.treewalk import Walk
from gateway.dns.resolver import Resolver
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Result, Stage, Unavailable

if TYPE_CHECKING:
    from gateway.checks.facts import Facts

Method = Literal["treewalk", "suffixes"]


@dataclass(frozen=True, slots=True)
class Found:
    """What stands above an author domain. `organization` is "" where DNS trouble hides it; `record` None where none
    applies, or (`trouble`) where nobody knows."""

    organization: str
    policy_domain: str = ""
    record: Record | None = None
    trouble: bool = False


@dataclass(frozen=True, slots=True)
class OrganizationFact:
    """The organization of the author's domain; `result` is temperror where it is not known."""

    result: Result
    domain: str = ""


class Organization(Check[OrganizationFact]):
    """`from.org_domain`: "" without a single author domain."""

    name = "organization"
    stage = Stage.DATA
    provides: ClassVar[Mapping[str, str]] = {"from.org_domain": "string"}

    def __init__(self, resolver: Resolver, *, method: Method = "treewalk") -> None:
        self._resolver = resolver
        self._method = method

    async def run(self, tx: Transaction, facts: "Facts") -> OrganizationFact:
        author = await facts.get(Author)
        if not author.domain:
            return OrganizationFact(Result.PASS)
        found = await organization(self._resolver, author.domain, self._method)
        return OrganizationFact(Result.PASS if found else Result.TEMPERROR, found)

    def named(self, fact: OrganizationFact) -> Named:
        return {"from.org_domain": fact.domain}

    def error(self) -> OrganizationFact:
        return OrganizationFact(Result.TEMPERROR)


async def organization(resolver: Resolver, domain: str, method: Method) -> str:
    """The organization of `domain` (lower-case A-labels); "" when DNS trouble hides it."""
    if method == "suffixes":
        return _by_suffix(domain)
    return (await treewalk.walk(resolver, domain)).organization


async def same(resolver: Resolver, domain: str, other: str, organization: str, method: Method) -> bool | None:
    """True when `domain` belongs to the organization of `other`, which is `organization`; None: DNS trouble."""
    if method == "suffixes":
        return domain == other or _by_suffix(domain) == organization
    return await treewalk.same_organization(resolver, domain, other, organization)


async def discover(resolver: Resolver, author: str, method: Method) -> Found:
    """The organization of an author domain and the record that applies to it."""
    if method == "suffixes":
        return await _by_list(resolver, author)
    walk = await treewalk.walk(resolver, author)
    found = policy_record(walk)
    if found is None:
        return Found(walk.organization, trouble=walk.trouble)
    return Found(walk.organization, *found)


def policy_record(walk: Walk) -> tuple[str, Record] | None:
    """The record that applies to `walk.start` and where it was found (RFC 9989 section 4.10.1), None without.

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


def _by_suffix(domain: str) -> str:
    # A suffix, or what no list knows, is its own organization: it aligns with nobody else.
    return organizational_domain(domain) or domain


async def _by_list(resolver: Resolver, author: str) -> Found:
    """RFC 7489 section 6.6.3: the author's own record, else its organization's; several at one name are none."""
    organization = _by_suffix(author)
    if not treewalk.names(author):
        return Found(organization)  # an address literal has no name in the DNS
    for name in dict.fromkeys((author, organization)):
        try:
            answer = await resolver.query(f"_dmarc.{name}", "TXT")
        except Unavailable:
            return Found(organization, trouble=True)
        records = [record for record in map(dmarc_record.parse, answer.records) if record is not None]
        if records:
            return Found(organization, name, records[0]) if len(records) == 1 else Found(organization)
    return Found(organization)
