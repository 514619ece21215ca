"""iprev: does the client's reverse name lead back to it? RFC 8601 section 3.

`pass` when one of the first ten PTR names has the client among its addresses; `fail` when none has; `permerror`
when there is no PTR record; `temperror` when DNS did not answer and no name was confirmed. `client.name` is the
verified name and otherwise empty: an unverified reverse name is a stranger's claim about himself, of no use.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.checks.check import Check, Named, OnError
from gateway.dns.names import address_of, reverse_name
from gateway.dns.resolver import Resolver
from gateway.mail.address import to_ascii
from gateway.mail.authres import clause
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Result, Stage, Unavailable

if TYPE_CHECKING:
    from gateway.checks.facts import Facts

#: Who owns an address block can publish any number of PTR records; each costs a question.
MAX_NAMES = 10


@dataclass(frozen=True, slots=True)
class IprevFact:
    """The result, the verified name ("" unless `pass`), and the address that was looked up."""

    result: Result
    name: str = ""
    ip: str = ""


class Iprev(Check[IprevFact]):
    """`client.iprev` and `client.name`."""

    name = "iprev"
    stage = Stage.CONNECT
    provides: ClassVar[Mapping[str, str]] = {"client.iprev": "string", "client.name": "string"}
    #: Broken reverse zones are common and stay broken for months: deferring for one would lose mail.
    on_error = OnError.IGNORE
    once = True

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def run(self, tx: Transaction, facts: "Facts") -> IprevFact:
        """The fact of the session's client."""
        return await verify(self._resolver, tx.session.client_ip)

    def named(self, fact: IprevFact) -> Named:
        """The fact for policies."""
        return {"client.iprev": fact.result.value, "client.name": fact.name}

    def error(self) -> IprevFact:
        """The fact when the check itself failed."""
        return IprevFact(Result.TEMPERROR)

    def trace(self, fact: IprevFact) -> tuple[str, ...]:
        """`iprev=pass policy.iprev=192.0.2.1` (RFC 8601 section 2.7.3)."""
        return (clause("iprev", fact.result.value, [("policy.iprev", fact.ip)]),)


async def verify(resolver: Resolver, ip: str) -> IprevFact:
    """The fact of an address. Raises `ValueError` when it is none."""
    address = address_of(ip)
    text = str(address)
    try:
        names = (await resolver.query(reverse_name(text), "PTR")).records
    except Unavailable:
        return IprevFact(Result.TEMPERROR, ip=text)
    if not names:
        return IprevFact(Result.PERMERROR, ip=text)
    unsure = False
    for name in names[:MAX_NAMES]:
        try:
            host = to_ascii(name)  # underscores, blanks and worse are legal in DNS and no name of a host
            answer = await resolver.query(host, "A" if address.version == 4 else "AAAA")
        except ValueError:
            continue
        except Unavailable:
            unsure = True
            continue
        if text in answer.records:
            return IprevFact(Result.PASS, host, text)
    return IprevFact(Result.TEMPERROR if unsure else Result.FAIL, ip=text)
