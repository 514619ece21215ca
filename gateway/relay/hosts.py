"""The hosts of one backend: tried in their order, within one deadline, a dead one last for a while.

`converse` borrows a connection for one dialogue. A kept connection that turns out dead before it answered anything is
replaced by a new one once, in silence: a backend that closes idle connections costs a reconnect, never a 451. A host
that breaks off, is silent or says 421 is put aside, and the dialogue is held with the next one. No dialogue is ever
repeated after its dot.

Called by `delivery` and `recipients`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gateway.clock import Clock
from gateway.log import log
from gateway.mail.terms import Unavailable
from gateway.relay.addresses import Addresses
from gateway.relay.client import Connection
from gateway.relay.fate import Broken, InDoubt, Lost, Unreachable, Untrusted
from gateway.relay.pool import Bounds, Pool
from gateway.relay.targets import Endpoint, Target, Targets
from gateway.relay.trust import Verifier

_PAUSE_SECONDS = 5.0  # after the first failure of a host; doubled with each further one
_LONGEST_PAUSE_SECONDS = 300.0
_OPEN_SECONDS = 30.0  # for one host: connect, banner, EHLO, TLS, EHLO

T = TypeVar("T")


@dataclass(slots=True)
class _Illness:
    """What we remember of a host that failed."""

    until: float
    pause: float


class Hosts:
    """One backend as this worker sees it."""

    def __init__(
        self,
        name: str,
        targets: Targets,
        verifier: Verifier,
        hostname: str,
        addresses: Addresses,
        clock: Clock,
        bounds: Bounds,
    ) -> None:
        self.name = name
        self._targets = targets
        self._verifier = verifier
        self._hostname = hostname
        self._addresses = addresses
        self._clock = clock
        self._bounds = bounds
        self._pools: dict[Endpoint, Pool] = {}
        self._ill: dict[Endpoint, _Illness] = {}

    async def converse(self, deadline: float, talk: Callable[[Connection], Awaitable[T]]) -> T:
        """What `talk` makes of a connection. Raises `Broken`, and `InDoubt` when it broke after the dot."""
        fresh, tried = False, dict[Endpoint, Broken]()
        while True:
            pool, connection = await self._take(deadline, fresh, tried)
            kept = connection.transactions > 0
            try:
                async with asyncio.timeout_at(deadline):
                    outcome = await talk(connection)
                # Only a whole dialogue heals: a host may take connections, shake hands, and then say nothing.
                if self._ill.pop(connection.endpoint, None) is not None:
                    log.info("backend host is back", backend=self.name, host=str(connection.endpoint))
                return outcome
            except (Broken, TimeoutError) as why:
                broken = why if isinstance(why, Broken) else Lost("the mail server is silent")
                endpoint = connection.endpoint
                log.info("backend connection broke", backend=self.name, host=str(endpoint), why=broken.why)
                if connection.dot_sent:
                    raise InDoubt(broken) from None
                if kept and not fresh and not connection.answered:
                    fresh = True
                    continue
                fresh = False
                tried[endpoint] = broken
                self._failed(endpoint, broken.why)
                if isinstance(why, TimeoutError):
                    raise broken from None
            except BaseException:
                connection.abort()
                raise
            finally:
                pool.give_back(connection)

    async def close(self) -> None:
        """Takes leave of all kept connections."""
        for pool in self._pools.values():
            await pool.close()

    async def _take(self, deadline: float, fresh: bool, tried: Mapping[Endpoint, Broken]) -> tuple[Pool, Connection]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                targets = await self._targets.now()
        except TimeoutError:
            raise Unreachable("the hosts were not known in time") from None
        order = [target for target in self._in_order(targets) if target.endpoint not in tried]
        failure: Broken | None = [*tried.values()][-1] if tried else None
        for index, target in enumerate(order):
            pool = self._pool(target)
            # Each host gets an equal part of what is left, and so does the dialogue that follows.
            left = (deadline - loop.time()) / (len(order) - index + 1)
            try:
                return pool, await pool.take(open_within=min(left, _OPEN_SECONDS), wait_until=deadline, fresh=fresh)
            except Broken as why:
                # Trouble with trust is what an operator must see; it outlives a later host that is just down.
                failure = failure if isinstance(failure, Untrusted) else why
        raise failure or Unreachable("the backend has no hosts")

    def _in_order(self, targets: Sequence[Target]) -> Sequence[Target]:
        """The well ones first, else as they came. Forgets hosts that are none of this backend any more."""
        known = {target.endpoint for target in targets}
        for endpoint in [one for one in self._pools if one not in known]:
            if self._pools[endpoint].retired():
                del self._pools[endpoint]
                self._ill.pop(endpoint, None)
        now = self._clock.monotonic()
        return sorted(targets, key=lambda t: t.endpoint in self._ill and self._ill[t.endpoint].until > now)

    def _pool(self, target: Target) -> Pool:
        pool = self._pools.get(target.endpoint)
        if pool is None:
            pool = self._pools[target.endpoint] = Pool(self._bounds, self._clock, self._dialler(target))
        return pool

    def _dialler(self, target: Target) -> Callable[[float], Awaitable[Connection]]:
        endpoint = target.endpoint

        async def dial(open_by: float) -> Connection:
            illness = self._ill.get(endpoint)
            if illness is not None:  # one tries; the others go to the next host meanwhile
                illness.until = self._clock.monotonic() + _OPEN_SECONDS
            try:
                return await self._dial(target, open_by)
            except Broken as why:
                self._failed(endpoint, why.why)
                raise

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

    async def _dial(self, target: Target, open_by: float) -> Connection:
        loop = asyncio.get_running_loop()
        endpoint = target.endpoint
        failure: Broken = Unreachable("no address")
        try:
            async with asyncio.timeout_at(open_by):
                trust, name = await self._verifier.demand(target)
                addresses = await self._addresses.of(endpoint.host)
        except (Unavailable, TimeoutError) as why:
            raise Unreachable(str(why) or "no answer from DNS") from None
        for index, address in enumerate(addresses):
            limit = loop.time() + (open_by - loop.time()) / (len(addresses) - index)
            try:
                async with asyncio.timeout_at(limit):
                    return await Connection.open(endpoint, address, trust, name, self._hostname)
            except TimeoutError:
                failure = Unreachable(f"{endpoint}: no answer in time")
            except Broken as why:
                failure = why
        raise failure
