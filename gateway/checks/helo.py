"""The name a client gives itself at HELO or EHLO, and what kind of name that is (RFC 5321 section 4.1.1.1).

`fqdn` is a host name of two labels or more, `literal` an address literal, anything else is `invalid`. Nothing is
verified here: the name is a claim until SPF or a rule compares it with something.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from gateway.checks.check import Check, Named
from gateway.mail.address import address_literal, to_ascii
from gateway.mail.envelope import Transaction
from gateway.mail.reply import printable
from gateway.mail.terms import Stage

if TYPE_CHECKING:
    from gateway.checks.facts import Facts

Kind = Literal["fqdn", "literal", "invalid"]


@dataclass(frozen=True, slots=True)
class HeloFact:
    """The name (A-labels in lower case for a host name, else as it came but printable) and its kind."""

    name: str
    kind: Kind


class Helo(Check[HeloFact]):
    """`helo.name` and `helo.kind`."""

    name = "helo"
    stage = Stage.HELO
    waits = False
    provides: ClassVar[Mapping[str, str]] = {"helo.name": "string", "helo.kind": "string"}

    async def run(self, tx: Transaction, facts: "Facts") -> HeloFact:
        """The fact of the session's last HELO or EHLO."""
        return classify(tx.session.helo)

    def named(self, fact: HeloFact) -> Named:
        """The fact for policies."""
        return {"helo.name": fact.name, "helo.kind": fact.kind}

    def error(self) -> HeloFact:
        """The fact when the check itself failed."""
        return HeloFact("", "invalid")


def classify(helo: str) -> HeloFact:
    """The fact of one argument of HELO; never raises."""
    if literal := address_literal(helo):
        return HeloFact(literal, "literal")
    try:
        name = to_ascii(helo)
    except ValueError:
        return HeloFact(printable(helo, 255), "invalid")
    return HeloFact(name, "fqdn" if "." in name else "invalid")
