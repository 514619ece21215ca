"""One listening socket: takes what comes, finds out who it is, and makes it a `Connection`.

The limits are looked at before anything is spent on a client; who is over one is told so in one line (inside TLS only
after a handshake, so there it is told nothing). A trusted proxy's header is read before that, and decides whom to
count. With implicit TLS (RFC 8314) the handshake comes next. The loops' own servers do none of this: they would shake
hands with everybody, and cannot stop accepting for a while. Made by `server`.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from socket import SHUT_WR, socket
from typing import TYPE_CHECKING

from gateway import metrics
from gateway.log import log
from gateway.smtp import proxy
from gateway.smtp.caller import Caller
from gateway.smtp.census import canonical
from gateway.smtp.connection import Connection
from gateway.smtp.handshake import accepted
from gateway.smtp.trusted import among

if TYPE_CHECKING:
    from gateway.smtp.server import Edge

BACKLOG = 1024
ACCEPTS = 64  # connections taken at one go
_NO_DESCRIPTORS_SECONDS = 1.0


class Door:
    """Accepts from its making until `close`, but for the time between `pause` and `resume`."""

    def __init__(self, edge: "Edge", listening: socket) -> None:
        self._edge = edge
        self._loop = asyncio.get_running_loop()
        self._listening: socket | None = listening
        self._paused = True
        self._arriving: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()  # those of them that wait for the client
        listening.listen(BACKLOG)
        listening.setblocking(False)
        self.resume()

    def pause(self) -> None:
        """Leaves newcomers in the kernel's queue, where other workers find them."""
        if not self._paused and self._listening is not None:
            self._loop.remove_reader(self._listening)
        self._paused = True

    def resume(self) -> None:
        """Takes newcomers again."""
        if self._paused and self._listening is not None:
            self._loop.add_reader(self._listening, self._accept)
            self._paused = False

    def close(self) -> None:
        """No newcomers any more, ever."""
        self.pause()
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    async def clear(self) -> None:
        """Gives up on whose header or handshake is still on the way; who is all but in comes in."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._arriving, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            if self._listening is None:
                return
            try:
                client, (ip, port, *_) = self._listening.accept()
                client.setblocking(False)
                here = client.getsockname()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as why:  # no descriptor or no memory is left: a pause, else we would turn in circles
                log.warning("cannot accept", why=str(why))
                self.pause()
                self._loop.call_later(_NO_DESCRIPTORS_SECONDS, self._edge.look)
                return
            caller = Caller(canonical(ip), port, canonical(here[0]), here[1])
            if among(caller.ip, self._edge.settings.proxies):
                self._spawn(self._introduced(client, caller), waits=True)
            else:
                self._admit(client, caller)

    def _spawn(self, work: Coroutine[object, object, None], *, waits: bool) -> None:
        task = self._loop.create_task(work)
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        if waits:
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _introduced(self, client: socket, peer: Caller) -> None:
        """Lets in whom the header of a trusted proxy names."""

        async def receive(octets: int) -> bytes:
            taken = b""
            while len(taken) < octets:
                piece = await self._loop.sock_recv(client, octets - len(taken))
                if not piece:
                    raise EOFError
                taken += piece
            return taken

        try:
            async with asyncio.timeout(proxy.SECONDS):
                caller = await proxy.told(receive) or peer
        except (proxy.BadHeader, EOFError, OSError) as why:  # TimeoutError among them
            client.close()
            metrics.connection_refused("proxy")
            if not isinstance(why, EOFError):  # a balancer that only looks whether we are there
                words = str(why) or "it did not come in time"
                self._edge.strangers.troubles.tell("PROXY header refused", peer.ip, warn=True, why=words)
            return
        except BaseException:
            client.close()
            raise
        self._admit(client, caller)

    def _admit(self, client: socket, caller: Caller) -> None:
        refusal = self._edge.admit(caller.ip)
        if refusal is None:
            self._spawn(self._enter(client, caller), waits=self._edge.settings.implicit_tls)
            return
        if not self._edge.settings.implicit_tls:
            with contextlib.suppress(OSError):  # it has gone
                client.send(refusal.encode())
                client.shutdown(SHUT_WR)
        client.close()

    async def _enter(self, client: socket, caller: Caller) -> None:
        edge = self._edge
        context = edge.tls() if edge.settings.implicit_tls else None
        if context is None and edge.settings.implicit_tls:
            client.close()
            edge.dismiss(caller.ip)
            return
        connection = Connection(edge, caller)
        arrival = _Arrival(edge, connection, asyncio.current_task())
        if context is not None and not connection.familiar:
            edge.strangers.shakes(arrival, edge.clock.monotonic())
        entered = False
        try:
            entered = await accepted(client, connection, context, caller.ip, edge.strangers.troubles)
        finally:
            edge.strangers.left(arrival)
            if not entered and connection not in edge.connections:  # else it is told of its end
                edge.dismiss(caller.ip)


class _Arrival:
    """One whose handshake comes before anything else."""

    __slots__ = ("_connection", "_edge", "_task")

    def __init__(self, edge: "Edge", connection: Connection, task: "asyncio.Task[None] | None") -> None:
        self._edge, self._connection, self._task = edge, connection, task

    def give_way(self) -> bool:
        """Ends the handshake, unless it is done."""
        return self._task is not None and self._connection not in self._edge.connections and self._task.cancel()
