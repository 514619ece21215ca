"""A listener's door: accepts, counts, times and drains connections.

Refuses at the banner what is over a limit: 421 4.3.2 in all, 421 4.7.0 from one network (`census`); a full house first
sends away whom it waits for in vain. One timer looks after all connections, another feels the `pulse`: a busy worker
stops accepting. Draining ends idle sessions at once
and lets who is past the final dot have the reply. Each accepted socket comes through a `door` and is a `Connection`.
Built by `worker`, one for each listener.

RFC 5321 sections 3.8 (421), 4.5.3.2 (timeouts).
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from socket import socket

from gateway import metrics
from gateway.clock import Clock
from gateway.log import log
from gateway.mail.envelope import Session
from gateway.mail.message import MessageWriter
from gateway.mail.reply import Reply
from gateway.mail.terms import Unavailable
from gateway.smtp.caller import Caller
from gateway.smtp.census import Census
from gateway.smtp.connection import GOING_DOWN, Connection
from gateway.smtp.door import Door
from gateway.smtp.ebb import Ebb
from gateway.smtp.handler import Deadlines, Handler, Settings
from gateway.smtp.pulse import BEAT_SECONDS, Pulse
from gateway.smtp.strangers import Strangers
from gateway.smtp.visit import Visit

__all__ = ["Deadlines", "Edge", "Handler", "Settings"]

_SHARE = 3  # of the memory that is left free, for one network


class Edge:
    """One listener's door. `tls` gives the context for each handshake anew, so that certificates can be replaced."""

    def __init__(
        self,
        settings: Settings,
        handler: Handler,
        *,
        census: Census,
        clock: Clock,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        strangers: Strangers | None = None,
    ) -> None:
        """`strangers` are those of all listeners of this worker, where it has several."""
        self.settings = settings
        self.handler = handler
        self.census = census
        self.clock = clock
        self.tls = tls
        self.strangers = strangers or Strangers()
        self.draining = False
        self.evicting = False  # the time for draining is up
        self.connections: set[Connection] = set()
        self.pause: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._pulse = Pulse()
        self._ebb = Ebb()
        self._tasks: set[asyncio.Task[None]] = set()
        self._doors: list[Door] = []
        self._timer: asyncio.TimerHandle | None = None
        self._heart: asyncio.TimerHandle | None = None
        self._left = asyncio.Event()  # set whenever a connection ends

    async def start(self, listening: socket) -> None:
        """Accepts on a bound socket, which then belongs to this edge."""
        self._doors.append(Door(self, listening))
        if self._timer is None:
            self._tick()
            self._beat(asyncio.get_running_loop().time())

    def stop_accepting(self) -> None:
        """New connections go to other workers, or find nobody."""
        for door in self._doors:
            door.close()

    def look(self) -> None:
        """Opens or shuts the doors, by how busy we are."""
        for door in self._doors:
            if self._pulse.busy:
                door.pause()
            else:
                door.resume()

    async def drain(self, seconds: float) -> None:
        """Ends all sessions with 421 4.3.2: idle ones now, others at their next command or after `seconds`.

        Who is past the final dot gets the reply first, however long that takes; returns when nobody is left.
        """
        self.stop_accepting()
        self.draining = True
        for door in self._doors:
            await door.clear()
        for connection in list(self.connections):
            connection.retire()
        try:
            async with asyncio.timeout(seconds):
                await self._deserted()
        except TimeoutError:
            self.evicting = True
            for connection in list(self.connections):
                connection.evict()
            await self._deserted()
        self.strangers.troubles.look(ends=True)
        for timer in (self._timer, self._heart):
            if timer is not None:
                timer.cancel()

    def sweep(self) -> None:
        """Looks for connections whose time is up. Runs by itself; tests with their own clock call it."""
        now = self.clock.monotonic()
        for connection in list(self.connections):
            connection.check_time(now)

    def admit(self, ip: str) -> Reply | None:
        """Counts the connection, or says why there is no room for it."""
        refusal = self.refusal(ip)
        if refusal is None:
            self.census.take(ip)
            self._ebb.came()
            metrics.connection_opened()
        return refusal

    def refusal(self, ip: str) -> Reply | None:
        """Why there is no room for a connection from there."""
        settings = self.settings
        if self.draining:
            metrics.connection_refused("draining")
            return GOING_DOWN
        if self.census.from_network(ip) >= settings.connections_per_network:
            metrics.connection_refused("network")
            return Reply(421, "4.7.0", ("Too many connections from your network",))
        if self.census.total() >= settings.connections and not self.strangers.displaced(self.clock.monotonic()):
            metrics.connection_refused("limit")
            return Reply(421, "4.3.2", ("Too many connections, try again later",))
        return None

    def visit(self, caller: Caller) -> Visit:
        """A new session, and its way to the handler."""
        clock = self.clock
        session = Session(
            clock.new_id(), caller.ip, caller.port, caller.server_ip, caller.server_port, started=clock.now()
        )
        return Visit(
            session,
            self.handler,
            self.strangers,
            largest=self.settings.rules.message,
            room=partial(self.room, session.client_ip),
            pause=self._hold,
            now=clock.monotonic,
        )

    def tls_ready(self) -> bool:
        """True when a certificate is at hand."""
        return self.tls() is not None

    def room(self, ip: str, octets: int) -> bool:
        """True when a message of that size, from a client there, fits into memory now.

        A network may hold `_SHARE` times what it leaves free: alone three quarters of all, two of them three sevenths
        each, so that something is left for whoever comes next. One message it may have wherever that fits.
        """
        free = self.settings.memory - self.census.held() - octets
        mine = self.census.held_by(ip) + octets
        fits = free >= 0 and mine <= max(self.settings.rules.message, _SHARE * free)
        if not fits:
            metrics.memory_refused()
        return fits

    def writer(self, ip: str) -> MessageWriter:
        """Where a message of a client is collected. Its octets count until it is closed."""
        return MessageWriter(self.settings.spool_above, counted=partial(self._hold_octets, ip))

    def _hold_octets(self, ip: str, octets: int) -> None:
        # Several messages may have been let in that only together are too large: the last ones give way.
        if octets > 0 and not self.room(ip, octets):
            raise Unavailable("no memory for more mail (limits.memory)")
        self.census.hold(octets, ip)

    async def _hold(self, seconds: float) -> None:
        await self.pause(seconds)

    def dismiss(self, ip: str, connection: Connection | None = None) -> None:
        """Forgets a connection that was admitted."""
        if connection is not None:
            self.connections.discard(connection)
            self.strangers.left(connection)
        self.census.release(ip)
        self._ebb.went()
        metrics.connection_closed()
        self._left.set()

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """A task that this edge keeps until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _deserted(self) -> None:
        while self.connections:
            self._left.clear()
            await self._left.wait()

    def _tick(self) -> None:
        # One timer for all: a timer of its own costs each connection memory, and each command a cancel and a set.
        try:
            self.sweep()
            self._ebb.look()
            self.strangers.troubles.look()
        except Exception:  # one connection's bug must not end the deadlines of all
            log.exception("sweep crashed")
        times = self.settings.deadlines
        pause = min(1.0, min(times.greeting, times.command, times.data, times.session) / 4)
        self._timer = asyncio.get_running_loop().call_later(pause, self._tick)

    def _beat(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        metrics.loop_late(now - due)
        if self._pulse.beat(now - due, now):
            log.warning("too busy to accept" if self._pulse.busy else "accepting again", late=round(now - due, 3))
            metrics.accepting(not self._pulse.busy)
            self.look()
        self._heart = loop.call_later(BEAT_SECONDS, self._beat, now + BEAT_SECONDS)
