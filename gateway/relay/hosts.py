"""The hosts of one backend: tried in their order, within one deadline, a dead one last for a while.

`converse` borrows a connection for one dialogue. A kept connection that turns out dead before it answered anything is
replaced by a new one once, in silence: a backend that closes idle connections costs a reconnect, never a 451. A host
that breaks off, is silent or says 421 is put aside (`health`), and the dialogue is held with the next one, each within
its turn (`turn`). No dialogue is ever repeated after its dot.

Called by `delivery` and `recipients`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from gateway.clock import Clock
from gateway.log import log
from gateway.mail.terms import Unavailable
from gateway.relay.addresses import Addresses
from gateway.relay.client import Connection
from gateway.relay.fate import Abandoned, Broken, Congested, InDoubt, Lost, OutOfPlace, Unfit, Unreachable, worse
from gateway.relay.health import Health
from gateway.relay.pool import Bounds, Pool
from gateway.relay.targets import Endpoint, Target, Targets
from gateway.relay.trust import Verifier
from gateway.relay.turn import Turn

T = TypeVar("T")


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
        self._health = Health()
        #: Those that have fallen out of step, or left a mail in doubt that went by BDAT: DATA from now on. One that
        #: hangs up behind its 250 would leave each mail in doubt, and its sender brings it again and again.
        self._by_data: set[Endpoint] = set()

    async def converse(self, deadline: float, talk: Callable[[Connection], Awaitable[T]]) -> T:
        """What `talk` makes of a connection. Raises `Broken`, and `InDoubt` when it broke after the dot.

        Each host has one turn, those that are well first. Returns or raises by `deadline`, a time of the loop.
        """
        untried = list(await self._known(deadline))
        failure: Broken | None = None
        while untried and asyncio.get_running_loop().time() < deadline:
            began = self._clock.monotonic()
            target = min(untried, key=lambda one: self._health.ill(one.endpoint, began))
            untried.remove(target)
            try:
                return await self._talk(target, Turn(deadline, len(untried)), talk)
            except Abandoned:
                raise
            except Broken as why:
                if not isinstance(why, Congested | Unfit):  # those are well
                    self._failed(target.endpoint, why.why, began)
                if isinstance(why, InDoubt):
                    raise
                failure = worse(failure, why)
        if untried:
            failure = worse(failure, Unreachable("no time was left for another host"))
        raise failure or Unreachable("the backend has no hosts")

    async def close(self) -> None:
        """Takes leave of all kept connections."""
        for pool in self._pools.values():
            await pool.close()

    async def _known(self, deadline: float) -> Sequence[Target]:
        """The hosts in their order. What is none of this backend's any more is forgotten."""
        try:
            async with asyncio.timeout_at(deadline):
                targets = await self._targets.now()
        except TimeoutError:
            raise Unreachable("the hosts were not known in time") from None
        known = {target.endpoint for target in targets}
        for endpoint in [one for one in self._pools if one not in known]:
            if self._pools[endpoint].retired():
                del self._pools[endpoint]
                self._health.forget(endpoint)
                self._by_data.discard(endpoint)
        return targets

    async def _talk(self, target: Target, turn: Turn, talk: Callable[[Connection], Awaitable[T]]) -> T:
        """The dialogue with one host. Raises `Broken`."""
        pool, fresh = self._pool(target), False
        while True:
            connection = await pool.take(turn, fresh=fresh)
            connection.turn, carried = turn, connection.transactions
            connection.may_chunk = target.endpoint not in self._by_data
            try:
                async with asyncio.timeout_at(turn.deadline):
                    outcome = await talk(connection)
                # To be connected, or to have looked at what a kept connection knows, is no dialogue.
                if connection.transactions > carried and self._health.healed(target.endpoint):
                    log.info("backend host is back", backend=self.name, host=str(target.endpoint))
                return outcome
            except (Abandoned, Unfit):
                raise
            except (Broken, TimeoutError) as why:
                broken = why if isinstance(why, Broken) else Lost("the mail server is silent")
                log.info("backend connection broke", backend=self.name, host=str(target.endpoint), why=broken.why)
                if connection.chunking and (connection.dot_sent or isinstance(broken, OutOfPlace)):
                    log.warning("backend host gets no BDAT any more", backend=self.name, host=str(target.endpoint))
                    self._by_data.add(target.endpoint)
                if connection.dot_sent:
                    raise InDoubt(broken) from None
                if isinstance(why, TimeoutError) or fresh or not connection.kept or connection.answered:
                    raise broken from None
                fresh = True
            except BaseException:
                connection.abort()
                raise
            finally:
                pool.give_back(connection)

    def _pool(self, target: Target) -> Pool:
        pool = self._pools.get(target.endpoint)
        if pool is None:
            pool = self._pools[target.endpoint] = Pool(self._bounds, self._clock, self._dialler(target))
        return pool

    def _dialler(self, target: Target) -> Callable[[float], Awaitable[Connection]]:
        endpoint = target.endpoint

        async def dial(open_by: float) -> Connection:
            self._health.tried(endpoint, self._clock.monotonic())
            return await self._dial(target, open_by)

        return dial

    def _failed(self, endpoint: Endpoint, why: str, began: float) -> None:
        if self._health.failed(endpoint, began, self._clock.monotonic()):
            log.warning("backend host failed", backend=self.name, host=str(endpoint), why=why)
        pool = self._pools.get(endpoint)
        if pool is not None:
            pool.disperse()

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
