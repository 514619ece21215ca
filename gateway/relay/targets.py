"""Which hosts a backend has, in the order to try them: those of the configuration, or those of a domain's MX records.

`Fixed` keeps the configured order, or turns it by one each time. `Exchangers` asks DNS each time (the resolver's cache
answers): lowest preference first, equal ones in an order drawn by lot; no MX record means the domain itself. A null
MX, or records that lead back to us, are a fault of the setup and none of the sender's: 451, and a warning.

RFC 5321 section 5.1, RFC 7505 (null MX). Called by `hosts`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.dns.resolver import Resolver
from gateway.log import log
from gateway.mail.reply import Reply
from gateway.mail.terms import Unavailable
from gateway.relay.fate import Broken

_MOST = 10  # hosts of one domain that are looked at


class NoRoute(Broken):
    """DNS names no host that could take the mail."""

    reply = Reply(451, "4.4.4", ("No mail server is known for this domain; try again later",))


class NoAnswer(Broken):
    """DNS does not answer."""

    reply = Reply(451, "4.4.3", ("The mail server cannot be looked up; try again later",))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a backend listens and how it is known: `name` is what its certificate must say."""

    host: str
    port: int
    name: str

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """A host, and who says that it is one: `domain` whose MX records name it ("": the configuration does), and
    whether DNSSEC vouches for them."""

    endpoint: Endpoint
    domain: str = ""
    secure: bool = True


class Targets(Protocol):
    """The hosts of one backend."""

    async def now(self) -> Sequence[Target]:
        """At least one, in the order to try them. Raises `Broken`."""


class Fixed:
    """The hosts that the configuration names. `turning`: each mail begins with the next one."""

    def __init__(self, endpoints: Sequence[Endpoint], *, turning: bool = False) -> None:
        self._targets = [Target(endpoint) for endpoint in endpoints]
        self._turning = turning
        self._turn = -1

    async def now(self) -> Sequence[Target]:
        if not self._turning:
            return self._targets
        self._turn = (self._turn + 1) % len(self._targets)
        return self._targets[self._turn :] + self._targets[: self._turn]


class Exchangers:
    """The hosts that the MX records of a domain name; `name`, where there is one, is what their certificates say."""

    def __init__(
        self, domain: str, port: int, name: str | None, hostname: str, resolver: Resolver, lot: random.Random
    ) -> None:
        self._domain = domain
        self._port = port
        self._name = name
        self._hostname = hostname
        self._resolver = resolver
        self._lot = lot
        self._warned = ""

    async def now(self) -> Sequence[Target]:
        domain = self._domain
        try:
            answer = await self._resolver.query(domain, "MX")
        except Unavailable as why:
            raise NoAnswer(str(why)) from None
        if answer.nxdomain:
            raise self._fault(f"{domain} does not exist")
        records = list(answer.records) or [(0, domain)]  # no MX: the domain is its own (section 5.1)
        if any(host == "" for _, host in records):
            raise self._fault(f"{domain} takes no mail (null MX)")
        # Ours, and what is not preferred to us, would come back to us.
        ours = min((preference for preference, host in records if host == self._hostname), default=None)
        usable = [(p, self._lot.random(), host) for p, host in records if ours is None or p < ours]
        if not usable:
            raise self._fault(f"the MX records of {domain} lead to {self._hostname}, which is us")
        self._warned = ""
        hosts = list(dict.fromkeys(host for _, _, host in sorted(usable)))[:_MOST]
        return [Target(Endpoint(host, self._port, self._name or host), domain, answer.authenticated) for host in hosts]

    def _fault(self, why: str) -> NoRoute:
        if why != self._warned:
            log.warning("no route to the backend", domain=self._domain, why=why)
            self._warned = why
        return NoRoute(why)
