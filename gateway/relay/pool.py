"""Kept connections to one host: which one to use is decided by `choose`, a pure function; `Pool` carries it out.

A connection is lent for one transaction and given back; what is broken is dropped, what is old or has carried many
mails says QUIT. Never more than `Bounds.connections` at once, idle ones included; who finds none free waits in line.

Called by `hosts`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

from gateway.clock import Clock
from gateway.relay.client import Connection
from gateway.relay.fate import Congested
from gateway.relay.turn import Turn

_FAREWELL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a pool may hold."""

    connections: int
    idle_seconds: float = 60.0  # below the patience of any server (RFC 5321 section 4.5.3.2: 5 minutes)
    transactions: int = 500  # then a new connection: load balancers in between get to choose again
    age_seconds: float = 900.0  # what proved the backend then (certificate, TLSA records) may have changed since


@dataclass(frozen=True, slots=True)
class Idle:
    """What `choose` knows of a connection nobody uses."""

    since: float
    transactions: int
    opened: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do: reuse the idle connection `reuse`, open one, or wait; and which idle ones to close first."""

    action: Literal["reuse", "open", "wait"]
    reuse: int = -1
    retire: tuple[int, ...] = ()


def choose(idle: Sequence[Idle], busy: int, bounds: Bounds, now: float, *, fresh: bool = False) -> Choice:
    """The connection for the next transaction. `idle` is in order of `since`; `busy` counts those lent or opening.

    The youngest idle one is reused, so that the others age and go when there is less to do. `fresh` asks for a new
    one, because a kept one has just turned out dead.
    """
    retire = tuple(
        index
        for index, one in enumerate(idle)
        if now - one.since >= bounds.idle_seconds
        or now - one.opened >= bounds.age_seconds
        or one.transactions >= bounds.transactions
    )
    living = [index for index in range(len(idle)) if index not in retire]
    if busy >= bounds.connections:
        return Choice("wait", retire=retire)
    if living and not fresh:
        return Choice("reuse", living[-1], retire)
    if living and busy + len(living) >= bounds.connections:
        return Choice("open", retire=tuple(sorted((*retire, living[0]))))
    return Choice("open", retire=retire)


class Pool:
    """The connections of this worker to one host. `dial` opens one, before the loop time it is given."""

    def __init__(self, bounds: Bounds, clock: Clock, dial: Callable[[float], Awaitable[Connection]]) -> None:
        self.busy = 0
        self._bounds = bounds
        self._clock = clock
        self._dial = dial
        self._idle: list[tuple[Connection, Idle]] = []
        self._opened: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        self._leaving: set[Connection] = set()
        self._waiters: deque[asyncio.Future[bool]] = deque()
        self._restless: set[asyncio.Future[bool]] = set()  # waiters who have other hosts to go to
        self._failures = 0
        self._promised = 0  # places of those who were woken and have not run yet
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def idle(self) -> int:
        """How many connections wait for work."""
        return len(self._idle)

    async def take(self, turn: Turn, *, fresh: bool = False) -> Connection:
        """A connection, to be given back. Raises `Broken`; `Congested` when the line took too long."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        waited = False
        while True:
            self._idle = [entry for entry in self._idle if entry[0].usable]
            now = self._clock.monotonic()
            idle = [state for _, state in self._idle]
            choice = choose(idle, self.busy + self._promised, self._bounds, now, fresh=fresh)
            chosen = self._idle[choice.reuse][0] if choice.action == "reuse" else None
            self._retire({self._idle[index][0] for index in choice.retire})
            if choice.action == "wait":
                await self._wait(turn.line(began), restless=turn.others > 0)
                waited = True
                continue
            open_by = turn.opening(loop.time())
            if waited and chosen is None and open_by - loop.time() < (turn.opening(began) - began) / 2:
                self._wake()
                raise Congested("no time was left to open a connection")  # the line took it: the host is well
            self.busy += 1
            if chosen is not None:
                self._idle = [entry for entry in self._idle if entry[0] is not chosen]
                return chosen
            try:
                connection = await self._dial(open_by)
                self._opened[connection] = self._clock.monotonic()
                return connection
            except BaseException:
                self.busy -= 1
                self._wake()
                raise

    def give_back(self, connection: Connection) -> None:
        """Ends the loan. What is broken is forgotten."""
        self.busy -= 1
        if connection.usable:
            connection.kept = True
            if self._closed or connection.transactions >= self._bounds.transactions:
                self._leave(connection)
            else:
                now = self._clock.monotonic()
                self._idle.append((connection, Idle(now, connection.transactions, self._opened.get(connection, now))))
                self._arm()
        self._wake()

    def disperse(self) -> None:
        """The host has failed: idle connections, which may be as dead, say QUIT; who stands in line and has other
        hosts to go to, goes."""
        self._failures += 1
        self._retire({connection for connection, _ in self._idle})
        for place in list(self._restless):
            if not place.done():
                self._waiters.remove(place)
                place.set_result(False)

    def retired(self) -> bool:
        """Takes leave of all idle connections of a host that is used no more; true when none is left or lent."""
        self._retire({connection for connection, _ in self._idle})
        self._leaving = {connection for connection in self._leaving if not connection.gone}
        return not (self.busy or self._promised or self._waiters or self._leaving)

    async def close(self) -> None:
        """Takes leave of all idle connections; those lent say QUIT when they come back."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._retire({connection for connection, _ in self._idle})
        for connection in list(self._leaving):
            try:
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await connection.closed()
            except TimeoutError:
                connection.abort()
        self._leaving.clear()

    def _retire(self, connections: set[Connection]) -> None:
        if connections:
            self._idle = [entry for entry in self._idle if entry[0] not in connections]
            for connection in connections:
                self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        connection.close()
        self._leaving = {c for c in self._leaving if not c.gone} | {connection}

    def _arm(self) -> None:
        if self._timer is None and self._idle:
            self._timer = asyncio.get_running_loop().call_later(self._bounds.idle_seconds, self._age)

    def _age(self) -> None:
        self._timer = None
        horizon = self._clock.monotonic() - self._bounds.idle_seconds
        self._retire(
            {connection for connection, state in self._idle if state.since <= horizon or not connection.usable}
        )
        self._arm()

    async def _wait(self, until: float, *, restless: bool) -> None:
        """Stands in line for a place. Raises `Congested`."""
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(place)
        failures = self._failures
        if restless:
            self._restless.add(place)
        try:
            async with asyncio.timeout_at(until):
                # Woken by the failure itself, too: the place that it left is no place to go to.
                if not await place or (restless and self._failures != failures):
                    raise Congested("the host failed meanwhile")
        except TimeoutError:
            raise Congested("no connection became free") from None
        finally:
            self._restless.discard(place)
            if place.done() and not place.cancelled() and place.result():
                self._promised -= 1
                # Woken, and gone before it could use the place: the next one gets it. Who stays takes it at once,
                # for nothing else runs in between.
                asyncio.get_running_loop().call_soon(self._wake)
            elif place in self._waiters:
                self._waiters.remove(place)

    def _wake(self) -> None:
        while self._waiters and self.busy + self._promised < self._bounds.connections:
            place = self._waiters.popleft()
            if not place.done():
                self._promised += 1
                place.set_result(True)
