"""The author of the mail as policies see it: the From field.

RFC 5322 section 3.6.2, read by `mail/author`. A header that is malformed has no valid author. Needs no network and
never fails: whose organization it is stands apart, in the check `organization`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.checks.check import Check, Named
from gateway.mail.address import Mailbox
from gateway.mail.author import author
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Result, Stage

if TYPE_CHECKING:
    from gateway.checks.facts import Facts


@dataclass(frozen=True, slots=True)
class AuthorFact:
    """What the field says; `result` is temperror only where the check itself broke."""

    result: Result
    valid: bool = False
    address: str = ""
    domain: str = ""
    name: str = ""
    is_local: bool = False
    why: str = ""
    domains: tuple[str, ...] = ()


class Author(Check[AuthorFact]):
    """`local_domains` are those we receive for; "*.example.org" means what is below it."""

    name = "author"
    stage = Stage.DATA
    waits = False
    provides: ClassVar = {
        "from.valid": "bool",
        "from.address": "string",
        "from.domain": "string",
        "from.name": "string",
        "from.is_local": "bool",
    }

    def __init__(self, local_domains: Collection[str] = ()) -> None:
        self._local = frozenset(domain.removeprefix("*.") for domain in local_domains)

    async def run(self, tx: Transaction, facts: "Facts") -> AuthorFact:
        message = tx.message
        if message is None:
            return AuthorFact(Result.PASS, why="no message")
        found = author(message.fields, smtputf8=tx.envelope.smtputf8)
        return AuthorFact(
            Result.PASS,
            found.valid and not message.malformed,
            Mailbox(found.address.rpartition("@")[0], found.domain).canonical if found.domain else found.address,
            found.domain,
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
            "from.name": fact.name,
            "from.is_local": fact.is_local,
        }

    def error(self) -> AuthorFact:
        return AuthorFact(Result.TEMPERROR)
