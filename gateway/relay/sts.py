"""MTA-STS: which hosts may take the mail of a domain, by a policy that HTTPS vouches for.

`Policy` is pure. `Policies` keeps what was fetched for as long as the policy says, in the store, so that neither a
restart nor another worker begins without it: the kept policy is what protects while somebody blocks DNS or the policy
host (RFC 8461 sections 5.1 and 10.2). It is fetched again when the id in DNS changes, and once a day before it ends;
a fetch that fails leaves it in force. What comes from the store is parsed anew. Without the store, memory has to do.

RFC 8461. Called by `trust`.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.dns.resolver import Resolver
from gateway.log import log
from gateway.mail.terms import Unavailable
from gateway.state.store import PolicyRow, Store, ask

_LONGEST = 31_557_600  # seconds (section 3.2)
_RETRY_SECONDS = 300.0  # after a failed fetch (section 3.3)
_REFRESH_SECONDS = 86_400.0  # section 10.2: before an attacker has blocked the host for the whole of max_age
_MOST_HOSTS = 100
_RECORD_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")

#: Gives the text of a domain's policy, or raises `Unavailable`.
Fetch = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as it was published. `mode` is enforce, testing or none."""

    mode: str
    hosts: tuple[str, ...]
    max_age: int

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """Raises `ValueError` for what is no policy (section 3.2). Unknown keys are skipped."""
        single: dict[str, str] = {}
        hosts: list[str] = []
        for line in text.replace("\r\n", "\n").split("\n"):
            if not line.strip():
                continue
            key, colon, value = line.partition(":")
            key, value = key.strip(), value.strip()
            if not colon or not key:
                raise ValueError("a line without a colon")
            if key == "mx":
                hosts.append(value.lower().removesuffix("."))
            else:
                single.setdefault(key, value)  # of a repeated key the first counts
        if single.get("version") != "STSv1":
            raise ValueError("no version STSv1")
        mode, age = single.get("mode", ""), single.get("max_age", "")
        if mode not in {"enforce", "testing", "none"}:
            raise ValueError("no mode")
        if not age.isascii() or not age.isdecimal() or len(age) > 10 or int(age) > _LONGEST:
            raise ValueError("no max_age")
        if len(hosts) > _MOST_HOSTS or not all(_HOST.fullmatch(host) for host in hosts):
            raise ValueError("an mx that is no host")
        if mode != "none" and not hosts:
            raise ValueError("no mx")
        return cls(mode, tuple(hosts), int(age))

    @property
    def text(self) -> str:
        """The policy as it is kept: what `parse` reads, without what it skips."""
        lines = ["version: STSv1", f"mode: {self.mode}", f"max_age: {self.max_age}", *(f"mx: {h}" for h in self.hosts)]
        return "\n".join(lines)

    def names(self, host: str) -> bool:
        """Whether an `mx:` line stands for that host: `*.` for exactly one label (section 4.1)."""
        return any(p == host or (p.startswith("*.") and p[2:] == host.partition(".")[2] != "") for p in self.hosts)


def record_id(records: list[bytes]) -> str | None:
    """The id of a domain's `_mta-sts` record; `None` unless exactly one is there and well formed (section 3.1)."""
    found = [record for record in records if record.startswith(b"v=STSv1;") or record.rstrip() == b"v=STSv1"]
    if len(found) != 1:
        return None
    for part in found[0].decode("latin-1").split(";")[1:]:
        key, _, value = part.strip().partition("=")
        if key.strip() == "id" and _RECORD_ID.fullmatch(value.strip()):
            return value.strip()
    return None


@dataclass(frozen=True, slots=True)
class _Kept:
    """A policy with the id that DNS had when it was fetched; `until` is in epoch seconds."""

    policy: Policy
    id: str
    until: float

    def due(self, now: float) -> bool:
        """True when it is to be fetched again, although it is still in force."""
        age = now - (self.until - self.policy.max_age)
        return self.policy.mode != "none" and age >= min(_REFRESH_SECONDS, self.policy.max_age / 2)


class Policies:
    """The policies of the domains of `mx:` backends: as many as the configuration names."""

    def __init__(self, resolver: Resolver, fetch: Fetch, clock: Clock, store: Store | None = None) -> None:
        self._resolver = resolver
        self._fetch = fetch
        self._clock = clock
        self._store = store
        self._kept: dict[str, _Kept] = {}
        self._pause: dict[str, tuple[str, float]] = {}
        self._flights: dict[str, asyncio.Task[_Kept | None]] = {}

    async def of(self, domain: str) -> Policy | None:
        """The policy in force; `None` where there is none, or none could be had."""
        kept = await self._in_force(domain)
        try:
            found = record_id(await self._resolver.txt(f"_mta-sts.{domain}"))
        except Unavailable:
            found = None
        other = found is not None and (kept is None or kept.id != found)
        if found is None and kept is not None:  # a record that is gone or hidden ends no policy (section 5.1)
            found = kept.id
        if found is not None and (other or (kept is not None and kept.due(self._clock.now()))):
            flight = self._flight(domain, found)
            if other and flight is not None:
                # A task of its own: a host that is slower than its asker is patient shall not be asked for ever.
                await asyncio.wait([flight])
                kept = (None if flight.cancelled() else flight.result()) or kept
        return kept.policy if kept else None

    async def close(self) -> None:
        """Ends the fetches under way."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _in_force(self, domain: str) -> _Kept | None:
        kept = self._kept.get(domain)
        if kept is None or self._clock.now() >= kept.until:
            kept = await self._stored(domain)
            self._kept.pop(domain, None)
            if kept is not None:
                self._kept[domain] = kept
        return kept

    def _flight(self, domain: str, found: str) -> "asyncio.Task[_Kept | None] | None":
        """The fetch of a policy, one at a time; `None` while a failed one is not to be repeated."""
        failed, until = self._pause.get(domain, ("", 0.0))
        if failed == found and self._clock.monotonic() < until:
            return None
        flight = self._flights.get(domain)
        if flight is None:
            flight = self._flights[domain] = asyncio.get_running_loop().create_task(self._fly(domain, found))
        return flight

    async def _fly(self, domain: str, found: str) -> _Kept | None:
        try:
            kept = await self._stored(domain)  # another worker may have been there already
            if kept is None or kept.id != found or kept.due(self._clock.now()):
                kept = await self._fetched(domain, found)
            if kept is not None:
                self._kept[domain] = kept
            return kept
        except Exception:
            log.exception("MTA-STS policy not taken", domain=domain)
            self._pause[domain] = found, self._clock.monotonic() + _RETRY_SECONDS
            return None
        finally:
            self._flights.pop(domain, None)

    async def _fetched(self, domain: str, found: str) -> _Kept | None:
        try:
            policy = Policy.parse(await self._fetch(domain))
        except (Unavailable, ValueError) as why:
            log.warning("MTA-STS policy not taken", domain=domain, why=str(why))
            self._pause[domain] = found, self._clock.monotonic() + _RETRY_SECONDS
            return None
        kept = _Kept(policy, found, self._clock.now() + policy.max_age)
        if self._store is not None:
            with suppress(Unavailable):  # the store has told log and metrics
                await ask(self._store, self._store.remember_policy, domain, PolicyRow(found, policy.text, kept.until))
        return kept

    async def _stored(self, domain: str) -> _Kept | None:
        """What some worker fetched and the store has kept, read as strictly as what comes from the host."""
        if self._store is None:
            return None
        now = self._clock.now()
        try:
            row = await ask(self._store, self._store.policy, domain, now)
            policy = Policy.parse(row.text) if row else None
        except Unavailable:
            return None
        except ValueError as why:
            log.warning("kept MTA-STS policy is none", domain=domain, why=str(why))
            return None
        # No longer than if it had been fetched now: the clock may have been set back since.
        return _Kept(policy, row.id, min(row.until, now + policy.max_age)) if row and policy else None
