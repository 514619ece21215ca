"""The one resolver: caching, single flight, bounded in time and memory. Everybody's DNS question goes through it.

`query` returns an `Answer` or raises `Unavailable` (SERVFAIL, REFUSED, no answer in time, an endless alias), nothing
else. A name that cannot exist (RFC 1035 section 2.3.4: overlong, empty label; or not ASCII) is answered as NXDOMAIN
without a question, so that a stranger's domain can neither crash a check nor turn into a temporary error.

Cache: least recently used, bounded by entries and by octets (an answer over TCP may be 64 KB). TTLs are kept between
a floor, so that TTL 0 does not cost a query a recipient, and a ceiling; negative answers live as their SOA says
(RFC 2308 section 5) up to a quarter of an hour; failures for two seconds (RFC 9520 section 3.2 asks for at least one).
The file of answers and the network are `Source`s under the same resolver, so tests meet the code that runs.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, cast, overload

from gateway.clock import Clock
from gateway.dns.answer import NO_SUCH_NAME, Answer, Mx, NameType, RdType, Record, Response, Source, TextType, Tlsa
from gateway.dns.names import canonical, reverse_name
from gateway.dns.questions import noting, short
from gateway.log import log
from gateway.mail.terms import Unavailable

__all__ = ["Answer", "RdType", "Record", "Resolver", "Response", "Source", "reverse_name"]

FLOOR = 5.0
CEILING = 6 * 3600.0
NEGATIVE_CEILING = 900.0
FAILURE = 2.0
MAX_ALIASES = 10
_OVERHEAD = 300  # octets that an entry costs besides its values, roughly

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A cached outcome: an answer, or `None` and why there is none."""

    expires: float
    answer: Answer[Record] | None
    why: str
    octets: int
    short: str  # for the journal


class Resolver:
    """Asks `source`, remembers, and shares one question among all who ask it at the same time."""

    def __init__(
        self, source: Source, clock: Clock, *, timeout: float = 5.0, entries: int = 20_000, octets: int = 32_000_000
    ) -> None:
        self._source = source
        self._clock = clock
        self._timeout = timeout
        self._max_entries = entries
        self._max_octets = octets
        self._cache: OrderedDict[Key, _Entry] = OrderedDict()
        self._octets = 0
        self._flights: dict[Key, asyncio.Task[_Entry]] = {}

    @overload
    async def query(self, name: str, rdtype: NameType) -> Answer[str]: ...
    @overload
    async def query(self, name: str, rdtype: TextType) -> Answer[bytes]: ...
    @overload
    async def query(self, name: str, rdtype: Literal["MX"]) -> Answer[Mx]: ...
    @overload
    async def query(self, name: str, rdtype: Literal["TLSA"]) -> Answer[Tlsa]: ...
    async def query(self, name: str, rdtype: RdType) -> Answer[Record]:
        """The records of that name and type, aliases followed. Raises `Unavailable` and nothing else.

        An asker that is cancelled leaves the question running for the others; it ends by its own deadline.
        """
        answer = self.cached(name, rdtype)
        if answer is not None:
            return answer
        owner = canonical(name)
        if owner is None:
            return NO_SUCH_NAME
        if owner != name and (answer := self.cached(owner, rdtype)) is not None:
            return answer
        key = (owner, rdtype)
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.get_running_loop().create_task(self._fly(key))
            self._flights[key] = flight
        try:
            entry = await asyncio.shield(flight)
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if not flight.cancelled() or asker is None or asker.cancelling():
                raise
            raise Unavailable("DNS: the resolver was closed") from None
        if (questions := noting.get()) is not None:
            questions.note(key, entry.short)
        if entry.answer is None:
            raise Unavailable(entry.why)
        return entry.answer

    async def txt(self, name: str) -> list[bytes]:
        """The TXT records of a name, each with its character-strings joined."""
        return list((await self.query(name, "TXT")).records)

    def cached(self, name: str, rdtype: str) -> Answer[Record] | None:
        """The answer if it is known already; no waiting. Raises `Unavailable` for a failure of a moment ago."""
        entry = self._cache.get((name, rdtype))
        if entry is None or entry.expires <= self._clock.monotonic():
            return None
        self._cache.move_to_end((name, rdtype))
        if (questions := noting.get()) is not None:
            questions.note((name, rdtype), entry.short)
        if entry.answer is None:
            raise Unavailable(entry.why)
        return entry.answer

    async def close(self) -> None:
        """Ends the questions that are still open."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, key: Key) -> _Entry:
        """Asks once and stores the outcome. Returns failures too: with every asker gone nobody would fetch an error."""
        answer: Answer[Record] | None = None
        ttl, why = FAILURE, ""
        try:
            async with asyncio.timeout(self._timeout):
                answer, ttl = await self._resolve(*key)
        except TimeoutError:
            why = f"DNS: no answer for {key[0]} {key[1]} in {self._timeout:g} s"
        except Unavailable as failure:
            why = str(failure)
        except Exception:
            log.exception("DNS source crashed", name=key[0], rdtype=key[1])
            why = f"DNS: internal error for {key[0]} {key[1]}"
        finally:
            self._flights.pop(key, None)
        entry = _Entry(self._clock.monotonic() + ttl, answer, why, _octets(key, answer), short(answer, why))
        self._remember(key, entry)
        return entry

    async def _resolve(self, name: str, rdtype: str) -> tuple[Answer[Record], float]:
        """The answer and how long it lives, through as many aliases as we allow."""
        ttl, authenticated, hops = CEILING, True, 0
        while True:
            response = await self._source.ask(name, rdtype, self._timeout)
            authenticated = authenticated and response.authenticated
            asked = name
            while True:
                found = [r for r in response.records if r.name == name and r.rdtype == rdtype]
                if found:
                    ttl = max(FLOOR, min(ttl, *(r.ttl for r in found)))
                    return Answer(tuple(r.value for r in found), authenticated=authenticated), ttl
                alias = next((r for r in response.records if r.name == name and r.rdtype == "CNAME"), None)
                if alias is None:
                    break
                hops += 1
                if hops > MAX_ALIASES:
                    raise Unavailable(f"DNS: too many aliases from {name}")
                ttl, target = min(ttl, alias.ttl), canonical(cast(str, alias.value))
                if target is None:
                    return Answer((), nxdomain=True, authenticated=authenticated), max(FLOOR, ttl)
                name = target
            if name == asked or response.nxdomain or response.negative_ttl is not None:
                ttl = max(FLOOR, min(ttl, NEGATIVE_CEILING, response.negative_ttl or 0.0))
                return Answer((), nxdomain=response.nxdomain, authenticated=authenticated), ttl

    def _remember(self, key: Key, entry: _Entry) -> None:
        old = self._cache.pop(key, None)
        self._octets += entry.octets - (old.octets if old else 0)
        self._cache[key] = entry
        while len(self._cache) > self._max_entries or self._octets > self._max_octets:
            self._octets -= self._cache.popitem(last=False)[1].octets


def _octets(key: Key, answer: Answer[Record] | None) -> int:
    values = answer.records if answer else ()
    return _OVERHEAD + len(key[0]) + sum(100 + (len(v) if isinstance(v, str | bytes) else 64) for v in values)
