"""A listener's door: accepts, counts, times and drains connections.

Refuses at the banner what is over a limit: 421 4.3.2 in all, 421 4.7.0 from one network (`census`). One timer looks
after all connections. Draining ends idle sessions at once and lets who is past the final dot have the reply.
Each accepted socket is a `Connection`. Built by `worker`, one for each listener.

RFC 5321 sections 3.8 (421), 4.5.3.2 (timeouts).
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from socket import socket

from gateway import metrics
from gateway.clock import Clock
from gateway.log import log
from gateway.mail.reply import Reply
from gateway.smtp.census import Census, canonical
from gateway.smtp.connection import GOING_DOWN, Connection
from gateway.smtp.handler import Deadlines, Handler, Settings
from gateway.smtp.handshake import accepted

__all__ = ["Deadlines", "Edge", "Handler", "Settings"]

BACKLOG = 1024
ACCEPTS = 64  # connections taken at one go


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
    ) -> None:
        self.settings = settings
        self.handler = handler
        self.census = census
        self.clock = clock
        self.tls = tls
        self.draining = False
        self.evicting = False  # the time for draining is up
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._listening: list[socket] = []  # with implicit TLS
        self._timer: asyncio.TimerHandle | None = None
        self._left = asyncio.Event()  # set whenever a connection ends

    async def start(self, listening: socket) -> None:
        """Accepts on a bound socket, which then belongs to this edge."""
        loop = asyncio.get_running_loop()
        if self.settings.implicit_tls:
            listening.listen(BACKLOG)
            listening.setblocking(False)
            self._listening.append(listening)
            self._listen(listening)
        else:
            self._servers.append(await loop.create_server(lambda: Connection(self), sock=listening, backlog=BACKLOG))
        if self._timer is None:
            self._tick()

    def stop_accepting(self) -> None:
        """New connections go to other workers, or find nobody."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self._listening.clear()

    async def drain(self, seconds: float) -> None:
        """Ends all sessions with 421 4.3.2: idle ones now, others at their next command or after `seconds`.

        Who is past the final dot gets the reply first, however long that takes; returns when nobody is left.
        """
        self.stop_accepting()
        self.draining = True
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
        if self._timer is not None:
            self._timer.cancel()

    def sweep(self) -> None:
        """Looks for connections whose time is up. Runs by itself; tests with their own clock call it."""
        now = self.clock.monotonic()
        for connection in list(self.connections):
            connection.check_time(now)

    def admit(self, ip: str) -> Reply | None:
        """Counts the connection, or says why there is no room for it."""
        settings = self.settings
        if self.draining:
            metrics.connection_refused("draining")
            return GOING_DOWN
        if self.census.total() >= settings.connections:
            metrics.connection_refused("limit")
            return Reply(421, "4.3.2", ("Too many connections, try again later",))
        if self.census.from_network(ip) >= settings.connections_per_network:
            metrics.connection_refused("network")
            return Reply(421, "4.7.0", ("Too many connections from your network",))
        self.census.take(ip)
        metrics.connection_opened()
        return None

    def dismiss(self, ip: str, connection: Connection | None = None) -> None:
        """Forgets a connection that was admitted."""
        if connection is not None:
            self.connections.discard(connection)
        self.census.release(ip)
        metrics.connection_closed()
        self._left.set()

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """A task that this edge keeps until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Implicit TLS (RFC 8314). The loops' servers would shake hands with everybody before the limits are looked at;
    # and uvloop 0.23 reads on after `connection_made`, whatever that says, so the handshake cannot begin there.

    def _accept(self, listening: socket) -> None:
        for _ in range(ACCEPTS):
            try:
                client, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as why:  # no descriptor or no memory is left: a pause, else we would turn in circles
                log.warning("cannot accept", why=str(why))
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening)
                loop.call_later(1.0, self._listen, listening)
                return
            client.setblocking(False)
            self.spawn(self._secure(client))

    def _listen(self, listening: socket) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    async def _secure(self, client: socket) -> None:
        context = self.tls()
        try:
            ip = canonical(client.getpeername()[0])
        except OSError:  # gone already
            ip = ""
        if not ip or context is None or self.admit(ip) is not None:
            client.close()
            return
        if not await accepted(client, Connection(self, admitted=ip), context, ip):
            self.dismiss(ip)

    async def _deserted(self) -> None:
        while self.connections:
            self._left.clear()
            await self._left.wait()

    def _tick(self) -> None:
        # One timer for all: a timer of its own costs each connection memory, and each command a cancel and a set.
        self.sweep()
        times = self.settings.deadlines
        pause = min(1.0, min(times.greeting, times.command, times.data, times.session) / 4)
        self._timer = asyncio.get_running_loop().call_later(pause, self._tick)
