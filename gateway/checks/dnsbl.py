"""DNS lists of bad and good addresses (RFC 5782), weighed: `dnsbl.score`, `dnsbl.zones`.

All lists are asked at once, each for a short time. A list counts once, whatever number of replies it gives. Only
127.0.0.0/8 is a word of a list; 127.255.255.0/24 is its complaint about us, and what is outside is somebody else's
server: a zone that was given up and parked answers for every name, and would refuse all our mail.

A list that could not be asked counts in favour of the client: a list of bad addresses adds nothing, one of good
addresses takes back what others added, but never brings the score below zero. Only when none answered is the check a
`temperror`. Sick zones are switched off: see `ListHealth`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway import metrics
from gateway.checks.check import Check, Named, OnError
from gateway.checks.dnsbl_health import ListHealth, Word, word_of
from gateway.clock import Clock
from gateway.dns.names import address_of, reverse_name
from gateway.dns.resolver import Resolver
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Stage, Unavailable

if TYPE_CHECKING:
    from gateway.checks.facts import Facts


@dataclass(frozen=True, slots=True)
class List:
    """One list: its zone, what a listing weighs, and which replies are one (None: all that RFC 5782 allows)."""

    zone: str
    weight: int
    counts: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True)
class DnsblFact:
    """The sum of the weights, and the zones that listed the client, in the order of the configuration."""

    score: int = 0
    zones: tuple[str, ...] = ()
    result: str = ""


class Dnsbl(Check[DnsblFact]):
    """`dnsbl.score` and `dnsbl.zones`."""

    name = "dnsbl"
    stage = Stage.CONNECT
    provides: ClassVar = {"dnsbl.score": "int", "dnsbl.zones": "list<string>"}
    #: Reputation is a hint of strangers about strangers: without it the other rules decide.
    on_error = OnError.IGNORE
    once = True
    eager = False

    def __init__(self, resolver: Resolver, clock: Clock, lists: Sequence[List] = (), timeout: float = 2.0) -> None:
        self._resolver = resolver
        self._timeout = timeout
        self._lists = [(one, ListHealth(one.zone, clock)) for one in lists]

    async def run(self, tx: Transaction, facts: "Facts") -> DnsblFact:
        """What the lists say of the session's client."""
        address = address_of(tx.session.client_ip)
        if address.is_loopback or address.is_unspecified or not self._lists:
            return DnsblFact()  # 127.0.0.2 is every list's test entry (RFC 5782 section 5)
        owner = reverse_name(str(address)).removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
        words = await asyncio.gather(*(self._ask(owner, one, health) for one, health in self._lists))
        if Word.LISTED not in words and Word.CLEAR not in words:
            raise Unavailable("no list answered")
        score, favour, zones = 0, 0, list[str]()
        for (one, _), word in zip(self._lists, words, strict=True):
            if word is Word.LISTED:
                score += one.weight
                zones.append(one.zone)
                metrics.dnsbl_listed(one.zone)
            elif word is Word.NOTHING:
                favour += min(0, one.weight)
        return DnsblFact(max(min(0, score), score + favour), tuple(zones))

    async def _ask(self, owner: str, one: List, health: ListHealth) -> Word:
        """One list's word on the client; where its test is due, of the list's own health first."""
        due = health.due()
        if not due and health.off:
            return Word.NOTHING
        if not due:
            word = await self._word(f"{owner}.{one.zone}", one)
            health.heard(word)
            return word
        # Asked together, for the usual list passes its test.
        clear, listed, word = await asyncio.gather(
            self._word(f"1.0.0.127.{one.zone}"),
            self._word(f"2.0.0.127.{one.zone}"),
            self._word(f"{owner}.{one.zone}", one),
        )
        health.tested(clear, listed)
        if health.off or not health.proved:
            return Word.NOTHING  # it may list the world: nothing it says counts
        health.heard(word)
        return word

    async def _word(self, name: str, one: List | None = None) -> Word:
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._resolver.query(name, "A")
        except (Unavailable, TimeoutError):
            return Word.NOTHING
        return word_of(answer.records, one.counts if one else None)

    def named(self, fact: DnsblFact) -> Named:
        """The fact for policies."""
        return {"dnsbl.score": fact.score, "dnsbl.zones": list(fact.zones)}

    def error(self) -> DnsblFact:
        """The fact when no list answered."""
        return DnsblFact(result="temperror")
