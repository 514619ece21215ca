"""The envelope's sender as policies see it: the address, its domain, and whether it is the null reverse-path."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.checks.check import Check, Named
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Stage

if TYPE_CHECKING:
    from gateway.checks.facts import Facts


@dataclass(frozen=True, slots=True)
class MailFact:
    """The sender; address and domain are "" for the null reverse-path `<>` (bounces, RFC 5321 section 4.5.5)."""

    address: str
    domain: str
    is_null: bool


class Mail(Check[MailFact]):
    """`mail.address`, `mail.domain`, `mail.is_null`."""

    name = "mail"
    stage = Stage.MAIL
    waits = False
    provides: ClassVar[Mapping[str, str]] = {
        "mail.address": "string",
        "mail.domain": "string",
        "mail.is_null": "bool",
    }

    async def run(self, tx: Transaction, facts: "Facts") -> MailFact:
        """The fact of the envelope."""
        sender = tx.envelope.reverse_path
        return MailFact("", "", True) if sender is None else MailFact(sender.canonical, sender.domain, False)

    def named(self, fact: MailFact) -> Named:
        """The fact for policies."""
        return {"mail.address": fact.address, "mail.domain": fact.domain, "mail.is_null": fact.is_null}

    def error(self) -> MailFact:
        """The fact when the check itself failed."""
        return MailFact("", "", False)
