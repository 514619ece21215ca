"""A network inside this process and a clock that obeys, so that the whole edge runs as it is, and thousands of times.

`Loop` is asyncio's own but for two things. Its time stands still while anybody has something to do, and jumps when
nobody has. Its sockets are `Line`s: one client's connection, fed with octets in the pieces that a test chooses, TLS
being a handshake in name alone. The doors, transports and timers of `gateway.smtp` notice no difference.
"""

import asyncio
import selectors
import ssl
from collections.abc import Callable
from typing import Any, cast

FOR_EVER = float("inf")


class _Nobody(selectors.SelectSelector):
    """Never waits: asks the loop what is to happen when nothing is ready."""

    loop: "Loop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self.loop.nothing_ready(FOR_EVER if timeout is None else timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    """The loop. `settle` is for the test's own coroutine."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.faults: list[str] = []  # what nobody caught
        self._settled: asyncio.Future[None] | None = None
        self._patience = 0.0
        self._arrivals: dict[object, Callable[[], object]] = {}
        nobody = _Nobody()
        nobody.loop = self
        super().__init__(nobody)
        self.set_exception_handler(lambda _, context: self.faults.append(str(context)))

    def time(self) -> float:
        return self.now

    async def settle(self, seconds: float = 0.0) -> None:
        """Lets everybody go on until all that is left to do is further away than so many seconds."""
        self._settled, self._patience = self.create_future(), seconds
        await self._settled

    def nothing_ready(self, seconds: float) -> None:
        """The next timer is so far away: there it goes, unless the test is to be told that all is quiet."""
        if self._settled is not None and not self._settled.done() and seconds > self._patience:
            self._settled.set_result(None)
        elif seconds == FOR_EVER:
            raise AssertionError("everybody waits for somebody")
        else:
            self.now += seconds

    # What the edge asks of a loop

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        self._arrivals[fd] = callback

    def remove_reader(self, fd: Any) -> bool:
        return self._arrivals.pop(fd, None) is not None

    def arrived(self, door: "Knocked") -> None:
        """Somebody knocks."""
        self._arrivals[door]()

    async def sock_recv(self, sock: Any, nbytes: int) -> bytes:
        return await cast(Line, sock).taken(nbytes)

    async def connect_accepted_socket(self, protocol_factory: Callable[[], Any], sock: Any, **given: Any) -> Any:
        line, secured = cast(Line, sock), given.get("ssl") is not None
        if secured:
            await line.handshake(given["ssl_handshake_timeout"])
        protocol = protocol_factory()
        line.wire = Wire(line, protocol, secured=secured)
        protocol.connection_made(line.wire)
        self.call_soon(line.pump)
        return line.wire, protocol

    async def start_tls(self, transport: Any, protocol: Any, sslcontext: Any, **given: Any) -> Any:
        line = cast(Wire, transport).line
        transport.protocol = None  # from here on the old transport tells the protocol nothing
        await line.handshake(given["ssl_handshake_timeout"])
        line.wire = Wire(line, protocol, secured=True)
        return line.wire


class Line:
    """One client's connection, as the client sees it; to the edge it is the accepted socket."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.wire: Wire | None = None
        self.heard = bytearray()  # what the server wrote
        self.closed = False  # the server said that nothing more will come
        self.lost = False  # there is no connection any more
        self.shaking: asyncio.Future[None] | None = None
        self._sent = bytearray()  # not yet read by the server
        self._ended = False
        self._told = False  # the end was told to the protocol
        self._more = asyncio.Event()

    # The client's side

    def say(self, octets: bytes) -> None:
        """Those octets, in one piece."""
        if self.shaking is not None and not self.shaking.done():
            self.shaking.set_exception(ssl.SSLError("that is no handshake"))
            return
        self._sent += octets
        self._more.set()
        self.pump()

    def shake(self) -> None:
        """The client's part of the handshake."""
        if self.shaking is not None and not self.shaking.done():
            self.shaking.set_result(None)

    def end(self) -> None:
        """The client has nothing more to say."""
        self._ended = True
        self._more.set()
        if self.shaking is not None and not self.shaking.done():
            self.shaking.set_exception(ConnectionResetError("gone"))
        self.pump()

    def vanish(self) -> None:
        """The connection is lost."""
        self._sent.clear()
        self._ended = True
        self._more.set()
        if self.shaking is not None and not self.shaking.done():
            self.shaking.set_exception(ConnectionResetError("gone"))
        elif self.wire is not None:
            self.wire.lose(ConnectionResetError("reset"))

    def choke(self, stopped: bool) -> None:
        """The client reads no replies, or reads them again."""
        protocol = self.wire.protocol if self.wire is not None else None
        if protocol is not None and self.shaking is None and not self.lost:
            (protocol.pause_writing if stopped else protocol.resume_writing)()

    # The server's side

    def pump(self) -> None:
        """Hands on what the client said, while the server reads."""
        wire = self.wire
        if wire is None or wire.protocol is None or wire.is_closing():
            return
        while self._sent and not wire.paused and not wire.is_closing():
            octets = bytes(self._sent)
            self._sent.clear()
            wire.protocol.data_received(octets)
            if wire is not self.wire or wire.protocol is None:
                return
        if self._ended and not self._sent and not wire.paused and not wire.is_closing() and not self._told:
            self._told = True
            if not wire.protocol.eof_received():
                wire.close()

    async def taken(self, octets: int) -> bytes:
        """At most so many octets before there is a transport."""
        while not self._sent and not self._ended:
            self._more.clear()
            await self._more.wait()
        piece = bytes(self._sent[:octets])
        del self._sent[:octets]
        return piece

    async def handshake(self, seconds: float | None) -> None:
        """Waits for the client's part, so long."""
        if self._sent:
            raise ssl.SSLError("that is no handshake")
        self.shaking = self.loop.create_future()
        try:
            async with asyncio.timeout(seconds):
                await self.shaking
        finally:
            self.shaking = None

    # As a socket

    def setblocking(self, _: bool) -> None:
        """It never blocks."""

    def getsockname(self) -> tuple[str, int]:
        return "198.51.100.25", 25

    def send(self, octets: bytes) -> int:
        self.heard += octets
        return len(octets)

    def shutdown(self, _: int) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = self.lost = True


class Wire(asyncio.Transport):
    """The server's transport of a line."""

    def __init__(self, line: Line, protocol: asyncio.Protocol, *, secured: bool) -> None:
        super().__init__()
        self.line = line
        self.protocol: asyncio.Protocol | None = protocol
        self.secured = secured
        self.paused = False
        self._closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "ssl_object" and self.secured else default

    def version(self) -> str:
        """As an SSL object."""
        return "TLSv1.3"

    def cipher(self) -> tuple[str, str, int]:
        """As an SSL object."""
        return "TLS_AES_128_GCM_SHA256", "TLSv1.3", 128

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.line.closed, "written after the end"
        self.line.heard += data

    def write_eof(self) -> None:
        if self.secured:
            raise NotImplementedError
        self.line.closed = True

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self.lose(None)

    def abort(self) -> None:
        self.lose(None)

    def lose(self, why: Exception | None) -> None:
        """Ends the connection; the protocol hears of it soon."""
        if not self._closing:
            self._closing = self.line.closed = True
            self.line.loop.call_soon(self._lost, why)

    def _lost(self, why: Exception | None) -> None:
        self.line.lost = True
        if self.protocol is not None:
            self.protocol.connection_lost(why)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self.line.loop.call_soon(self.line.pump)

    def get_write_buffer_size(self) -> int:
        return 0


class Knocked:
    """The listening socket: clients that knock stand in a queue."""

    def __init__(self) -> None:
        self._queue: list[tuple[Line, str]] = []

    def knock(self, line: Line, ip: str) -> None:
        self._queue.append((line, ip))
        line.loop.arrived(self)

    def listen(self, _: int) -> None:
        """Nothing to do."""

    def setblocking(self, _: bool) -> None:
        """It never blocks."""

    def accept(self) -> tuple[Line, tuple[str, int]]:
        if not self._queue:
            raise BlockingIOError
        line, ip = self._queue.pop(0)
        return line, (ip, 40000)

    def close(self) -> None:
        """Nothing to do."""
