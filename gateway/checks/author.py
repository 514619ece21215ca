"""The author of the mail as policies see it: the From field, and the organization its domain belongs to.

RFC 5322 section 3.6.2 (read by `mail/author`), RFC 9989 section 4.10.2 (the organization). A header that is malformed
has no valid author. DNS trouble makes this fact `temperror`, since `from.org_domain` is not known then; the rest of
it holds.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.checks import treewalk
from gateway.checks.check import Check, Named
from gateway.dns.resolver import Resolver
from gateway.mail.author import author
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Result, Stage

if TYPE_CHECKING:
    from gateway.checks.facts import Facts


@dataclass(frozen=True, slots=True)
class AuthorFact:
    """`result` is pass where everything is known, temperror where the organization is not."""

    result: Result
    valid: bool = False
    address: str = ""
    domain: str = ""
    org_domain: str = ""
    name: str = ""
    is_local: bool = False
    why: str = ""
    domains: tuple[str, ...] = ()


class Author(Check[AuthorFact]):
    """`local_domains` are those we receive for; "*.example.org" means what is below it."""

    name = "author"
    stage = Stage.DATA
    provides: ClassVar = {
        "from.valid": "bool",
        "from.address": "string",
        "from.domain": "string",
        "from.org_domain": "string",
        "from.name": "string",
        "from.is_local": "bool",
    }

    def __init__(self, resolver: Resolver, local_domains: Collection[str] = ()) -> None:
        self._resolver = resolver
        self._local = frozenset(domain.removeprefix("*.") for domain in local_domains)

    async def run(self, tx: Transaction, facts: "Facts") -> AuthorFact:
        message = tx.message
        if message is None:
            return AuthorFact(Result.PASS, why="no message")
        found = author(message.fields, smtputf8=tx.envelope.smtputf8)
        organization = ""
        if found.domain:
            organization = (await treewalk.walk(self._resolver, found.domain)).organization
        return AuthorFact(
            Result.TEMPERROR if found.domain and not organization else Result.PASS,
            found.valid and not message.malformed,
            found.address,
            found.domain,
            organization,
            found.name,
            any(self._is_local(domain) for domain in found.domains),
            message.malformed or found.why,
            found.domains,
        )

    def _is_local(self, domain: str) -> bool:
        labels = domain.split(".")
        return any(".".join(labels[start:]) in self._local for start in range(len(labels)))

    def named(self, fact: AuthorFact) -> Named:
        return {
            "from.valid": fact.valid,
            "from.address": fact.address,
            "from.domain": fact.domain,
            "from.org_domain": fact.org_domain,
            "from.name": fact.name,
            "from.is_local": fact.is_local,
        }

    def error(self) -> AuthorFact:
        return AuthorFact(Result.TEMPERROR)
