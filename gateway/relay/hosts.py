"""The hosts of one backend: tried in order, within one deadline, a dead one last for a while.

`converse` borrows a connection for one dialogue. A kept connection that turns out dead before it answered anything is
replaced by a new one once, in silence: a backend that closes idle connections costs a reconnect, never a 451. No
dialogue is ever repeated after its dot.

Called by `delivery` and `recipients`.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gateway.clock import Clock
from gateway.dns.answer import NameType
from gateway.dns.resolver import Resolver
from gateway.log import log
from gateway.mail.terms import Unavailable
from gateway.relay.client import Connection, Endpoint
from gateway.relay.fate import Broken, InDoubt, Lost, Unreachable, Untrusted
from gateway.relay.pool import Bounds, Pool

_PAUSE_SECONDS = 5.0  # after the first failure of a host; doubled with each further one
_LONGEST_PAUSE_SECONDS = 300.0
_OPEN_SECONDS = 30.0  # for one host: connect, banner, EHLO, TLS, EHLO

_ADDRESS_TYPES: tuple[NameType, ...] = ("A", "AAAA")

T = TypeVar("T")


@dataclass(slots=True)
class _Illness:
    """What we remember of a host that failed."""

    until: float
    pause: float


class Addresses:
    """Where a host is: literals as they are, names from DNS, and from the machine's own tables where that is allowed.

    `system` is false where a file answers for DNS: then nothing else is asked.
    """

    def __init__(self, resolver: Resolver, *, system: bool) -> None:
        self._resolver = resolver
        self._system = system

    async def of(self, name: str) -> Sequence[str]:
        """The addresses in the order to try them. Raises `Unavailable`."""
        try:
            return [str(ipaddress.ip_address(name))]
        except ValueError:
            pass
        if name == "localhost":  # RFC 6761 section 6.3: never a question for DNS
            return ["127.0.0.1", "::1"]
        trouble = f"DNS: no address for {name}"
        found: list[str] = []
        for rdtype in _ADDRESS_TYPES:
            try:
                found += (await self._resolver.query(name, rdtype)).records
            except Unavailable as why:
                trouble = str(why)
        if found:
            return found
        if self._system:
            try:
                entries = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
                return list(dict.fromkeys(str(entry[4][0]) for entry in entries))
            except OSError:
                pass
        raise Unavailable(trouble)


class Hosts:
    """One backend as this worker sees it."""

    def __init__(
        self,
        name: str,
        endpoints: Sequence[Endpoint],
        context: ssl.SSLContext,
        hostname: str,
        addresses: Addresses,
        clock: Clock,
        bounds: Bounds,
    ) -> None:
        self.name = name
        self._context = context
        self._hostname = hostname
        self._addresses = addresses
        self._clock = clock
        self._pools = {endpoint: Pool(bounds, clock, self._dialler(endpoint)) for endpoint in endpoints}
        self._ill: dict[Endpoint, _Illness] = {}

    async def converse(self, deadline: float, talk: Callable[[Connection], Awaitable[T]]) -> T:
        """What `talk` makes of a connection. Raises `Broken`, and `InDoubt` when it broke after the dot."""
        fresh = False
        while True:
            pool, connection = await self._take(deadline, fresh)
            kept = connection.transactions > 0
            try:
                async with asyncio.timeout_at(deadline):
                    return await talk(connection)
            except (Broken, TimeoutError) as why:
                broken = why if isinstance(why, Broken) else Lost("the mail server is silent")
                log.info("backend connection broke", backend=self.name, host=str(connection.endpoint), why=broken.why)
                if connection.dot_sent:
                    raise InDoubt(broken) from None
                if fresh or not kept or connection.answered:
                    raise broken from None
                fresh = True
            except BaseException:
                connection.abort()
                raise
            finally:
                pool.give_back(connection)

    async def close(self) -> None:
        """Takes leave of all kept connections."""
        for pool in self._pools.values():
            await pool.close()

    async def _take(self, deadline: float, fresh: bool) -> tuple[Pool, Connection]:
        loop = asyncio.get_running_loop()
        now = self._clock.monotonic()
        order = sorted(self._pools, key=lambda endpoint: endpoint in self._ill and self._ill[endpoint].until > now)
        failure: Broken | None = None
        for index, endpoint in enumerate(order):
            pool = self._pools[endpoint]
            # Each host gets an equal part of what is left, and so does the dialogue that follows.
            left = (deadline - loop.time()) / (len(order) - index + 1)
            try:
                return pool, await pool.take(
                    open_by=loop.time() + min(left, _OPEN_SECONDS), wait_until=deadline, fresh=fresh
                )
            except Broken as why:
                # Trouble with trust is what an operator must see; it outlives a later host that is just down.
                failure = failure if isinstance(failure, Untrusted) else why
        raise failure or Unreachable("the backend has no hosts")

    def _dialler(self, endpoint: Endpoint) -> Callable[[float], Awaitable[Connection]]:
        async def dial(open_by: float) -> Connection:
            illness = self._ill.get(endpoint)
            if illness is not None:  # one tries; the others go to the next host meanwhile
                illness.until = self._clock.monotonic() + _OPEN_SECONDS
            try:
                connection = await self._dial(endpoint, open_by)
            except Broken as why:
                self._failed(endpoint, why.why)
                raise
            if self._ill.pop(endpoint, None) is not None:
                log.info("backend host is back", backend=self.name, host=str(endpoint))
            return connection

        return dial

    def _failed(self, endpoint: Endpoint, why: str) -> None:
        now = self._clock.monotonic()
        illness = self._ill.get(endpoint)
        if illness is None:
            log.warning("backend host failed", backend=self.name, host=str(endpoint), why=why)
            self._ill[endpoint] = _Illness(now + _PAUSE_SECONDS, _PAUSE_SECONDS)
        else:
            illness.pause = min(illness.pause * 2, _LONGEST_PAUSE_SECONDS)
            illness.until = now + illness.pause

    async def _dial(self, endpoint: Endpoint, open_by: float) -> Connection:
        loop = asyncio.get_running_loop()
        failure: Broken = Unreachable("no address")
        try:
            async with asyncio.timeout_at(open_by):
                addresses = await self._addresses.of(endpoint.host)
        except (Unavailable, TimeoutError) as why:
            raise Unreachable(str(why) or "no answer from DNS") from None
        for index, address in enumerate(addresses):
            limit = loop.time() + (open_by - loop.time()) / (len(addresses) - index)
            try:
                async with asyncio.timeout_at(limit):
                    return await Connection.open(endpoint, address, self._context, self._hostname)
            except TimeoutError:
                failure = Unreachable(f"{endpoint}: no answer in time")
            except Broken as why:
                failure = why
        raise failure
