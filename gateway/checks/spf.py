"""SPF: may this client send for this domain? RFC 7208, for MAIL FROM, and for HELO where that is null (2.4).

The check, the pure entry for `gatepost check`, and the clause for Authentication-Results. The record's grammar is in
`spf_record`, the evaluation and its limits in `spf_evaluator`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.checks.check import Check, Named
from gateway.checks.helo import classify
from gateway.checks.spf_evaluator import evaluate, judged_domain
from gateway.clock import Clock
from gateway.dns.names import address_of
from gateway.dns.resolver import Resolver
from gateway.mail.authres import clause
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Result, Stage

if TYPE_CHECKING:
    from gateway.checks.facts import Facts


@dataclass(frozen=True, slots=True)
class SpfFact:
    """The result, the domain it speaks of ("" when there was none to judge), and whose words decided.

    `identity` is `mailfrom` or `helo`. `explanation` is what the domain publishes about a fail (printable, bounded),
    `why` names the deciding term or the fault, for the journal. `client`, `helo` (where it is a name or a literal) and
    `mechanism` are what Received-SPF would tell (RFC 7208 section 9.1).
    """

    result: Result
    domain: str = ""
    explanation: str = ""
    identity: str = "mailfrom"
    why: str = ""
    client: str = ""
    helo: str = ""
    mechanism: str = ""


class Spf(Check[SpfFact]):
    """`spf.result` and `spf.domain`. `hostname` is who we are in explanations (macro `r`)."""

    name = "spf"
    stage = Stage.MAIL
    provides: ClassVar[Mapping[str, str]] = {"spf.result": "string", "spf.domain": "string"}
    deadline = 20.0  # RFC 7208 section 4.6.4

    def __init__(self, resolver: Resolver, clock: Clock, hostname: str = "unknown") -> None:
        self._resolver = resolver
        self._clock = clock
        self._hostname = hostname

    async def run(self, tx: Transaction, facts: "Facts") -> SpfFact:
        """The fact for the envelope's sender."""
        sender = tx.envelope.reverse_path
        return await check_host(
            self._resolver,
            tx.session.client_ip,
            tx.session.helo,
            "" if sender is None else str(sender),
            receiver=self._hostname,
            now=self._clock.now(),
        )

    def named(self, fact: SpfFact) -> Named:
        """The fact for policies."""
        return {"spf.result": fact.result.value, "spf.domain": fact.domain}

    def error(self) -> SpfFact:
        """The fact when the check itself failed."""
        return SpfFact(Result.TEMPERROR, why="the check failed")

    def trace(self, fact: SpfFact) -> tuple[str, ...]:
        """`spf=pass smtp.mailfrom=example.org`, or `smtp.helo` for the null sender (RFC 8601 section 2.7.2).

        What Received-SPF would say stands behind it as a comment: client, HELO, the mechanism that matched. Each was
        read before: an address, a host name or literal, a word of RFC 7208.
        """
        told = [("client-ip", fact.client), ("helo", fact.helo), ("mechanism", fact.mechanism)]
        words = " ".join(f"{name}={value}" for name, value in told if value)
        properties = [(f"smtp.{fact.identity}", fact.domain)]
        return (clause("spf", fact.result.value, properties, comment=words),)


async def check_host(
    resolver: Resolver, ip: str, helo: str, mail_from: str, *, receiver: str = "unknown", now: float = 0.0
) -> SpfFact:
    """The fact for a client, its HELO and its sender ("" or `<>` is the null sender).

    Raises `ValueError` when `ip` is no address, and nothing else, whatever the texts hold.
    """
    if mail_from in {"", "<>"}:
        identity, local, domain = "helo", "postmaster", helo
    else:
        local, _, domain = mail_from.rpartition("@")  # a quoted local part may hold an @ of its own
        identity = "mailfrom"
    verdict = await evaluate(resolver, ip, helo, local, domain, receiver=receiver, now=now)
    named = classify(helo)
    return SpfFact(
        verdict.result,
        judged_domain(domain).lower(),
        verdict.explanation,
        identity,
        verdict.why,
        str(address_of(ip)),
        named.name if named.kind != "invalid" else "",
        verdict.mechanism,
    )
