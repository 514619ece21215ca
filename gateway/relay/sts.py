"""MTA-STS: which hosts may take the mail of a domain, by a policy that HTTPS vouches for.

`Policy` is pure. `Policies` keeps what was fetched for as long as the policy says, fetches again when the id in DNS
changes, and leaves a cached policy in force when a fetch fails or DNS is silent. It is kept in memory: losing it can
only make us stricter, for where no policy is known unvouched MX records are refused.

RFC 8461. Called by `trust`.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.dns.resolver import Resolver
from gateway.log import log
from gateway.mail.terms import Unavailable

_LONGEST = 31_557_600  # seconds (section 3.2)
_RETRY_SECONDS = 300.0  # after a failed fetch (section 3.3)
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


@dataclass(slots=True)
class _Kept:
    policy: Policy
    id: str
    until: float


class Policies:
    """The policies of the domains of `mx:` backends: as many as the configuration names."""

    def __init__(self, resolver: Resolver, fetch: Fetch, clock: Clock) -> None:
        self._resolver = resolver
        self._fetch = fetch
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._pause: dict[str, tuple[str, float]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, domain: str) -> Policy | None:
        """The policy in force; `None` where there is none, or none could be had."""
        async with self._locks.setdefault(domain, asyncio.Lock()):
            kept = self._kept.get(domain)
            if kept is not None and self._clock.now() >= kept.until:
                del self._kept[domain]
                kept = None
            try:
                found = record_id(await self._resolver.txt(f"_mta-sts.{domain}"))
            except Unavailable:
                found = None
            if found is not None and (kept is None or kept.id != found) and not self._pausing(domain, found):
                kept = await self._fetched(domain, found) or kept
            return kept.policy if kept else None

    def _pausing(self, domain: str, found: str) -> bool:
        failed, until = self._pause.get(domain, ("", 0.0))
        return failed == found and self._clock.monotonic() < until

    async def _fetched(self, domain: str, found: str) -> _Kept | None:
        try:
            policy = Policy.parse(await self._fetch(domain))
        except (Unavailable, ValueError) as why:
            log.warning("MTA-STS policy not taken", domain=domain, why=str(why))
            self._pause[domain] = found, self._clock.monotonic() + _RETRY_SECONDS
            return None
        kept = self._kept[domain] = _Kept(policy, found, self._clock.now() + policy.max_age)
        return kept
