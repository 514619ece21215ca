"""Octets to and from one backend: an `asyncio` protocol that pairs replies with commands and allows no others.

`write` says how many replies it asks for; an octet beyond those breaks the connection at once (a reply before it is
due is injected, or belongs to a mail of before). Flow control both ways: writers await `drain`. Works the same on
asyncio and uvloop. Nothing here knows what the commands mean.

Why not aiosmtplib 5.1.3's protocol: it drops unasked octets in silence where we must close, takes bare LF and
"+25" as a code, pairs one reply with one command (no pipelining), and copies a message several times.

RFC 3207 section 4.2 (what came before TLS never survives it), RFC 2920 (pipelining). Called by `client`.
"""

import asyncio
import socket
import ssl
from collections import deque
from typing import cast

from gateway.relay.fate import Broken, Lost, OutOfPlace, Untrusted
from gateway.relay.response import Garbled, Response, ResponseReader
from gateway.tls import Trust, peer_chain


class Wire(asyncio.Protocol):
    """One connection's octets. The banner is the first reply that is due."""

    def __init__(self) -> None:
        self.broken: Broken | None = None
        self.encrypted = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = ResponseReader()
        self._responses: deque[Response] = deque()
        self._due = 1
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # A dialogue of small writes: Nagle's algorithm would wait for acknowledgements between them.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self.broken is not None:
            return
        try:
            for response in self._reader.feed(data):
                if self._due == 0:
                    raise Garbled("a reply before it was due")
                self._due -= 1
                self._responses.append(response)
            if self._due == 0 and self._reader.partial:
                raise Garbled("octets before they were due")
        except Garbled as why:
            self._break(OutOfPlace(str(why)))
        self._wake()

    def eof_received(self) -> bool:
        self._break(Lost("closed by the backend"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self._break(Lost(f"connection lost: {exc}" if exc else "connection lost"))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # What the client calls

    def write(self, octets: bytes, *, replies: int) -> None:
        """Sends octets that ask for that many replies. Raises `Broken`."""
        if self.broken is not None:
            raise self.broken
        assert self._transport is not None
        self._due += replies
        self._transport.write(octets)

    async def drain(self, by: float | None = None) -> None:
        """Waits until the peer took enough of what was written; always lets the loop turn once. Raises `Broken`.

        `by` is a time of the loop: then the connection breaks as silent.
        """
        await asyncio.sleep(0)
        while self._paused and self.broken is None:
            await self._wait(by)
        if self.broken is not None:
            raise self.broken

    async def response(self, by: float | None = None) -> Response:
        """The next reply; those that came before the connection broke still count. `by` as for `drain`. Raises
        `Broken`."""
        while not self._responses:
            if self.broken is not None:
                raise self.broken
            await self._wait(by)
        return self._responses.popleft()

    async def start_tls(self, trust: Trust, name: str) -> None:
        """Goes on inside TLS with who proved itself, or raises `Broken` with the connection closed: there is no way
        back to clear text."""
        if self.broken is not None:
            raise self.broken
        assert self._transport is not None
        try:
            transport = await self._loop.start_tls(self._transport, self, trust.context, server_hostname=name)
        except (OSError, ssl.SSLError, ValueError) as why:  # ValueError: a name that OpenSSL cannot check
            self.abort()
            raise Untrusted(f"TLS: {why}") from None
        except BaseException:
            self.abort()
            raise
        if transport is None:  # asyncio: the connection was lost between handshake and here
            self.abort()
            raise Untrusted("TLS: connection lost")
        self._transport = transport
        self._reader = ResponseReader()
        if trust.judge is not None:
            try:
                fault = trust.judge(peer_chain(transport.get_extra_info("ssl_object")))
            except Exception as why:  # a stranger's octets, and who cannot be judged is not believed
                fault = f"its certificates cannot be judged: {why!r}"
            if fault:
                self.abort()
                raise Untrusted(f"TLS: {fault}")
        self.encrypted = True

    def keep_session(self, trust: Trust, name: str) -> None:
        """Lets the next connection to that name resume this one's TLS session."""
        assert self._transport is not None
        connection = self._transport.get_extra_info("ssl_object")
        if connection is not None:
            trust.context.remember(name, connection)

    def close(self, farewell: bytes = b"") -> None:
        """Says farewell and closes in good order; the reply is not awaited."""
        if self.broken is None and self._transport is not None:
            if farewell:
                self._transport.write(farewell)
            self.broken = Lost("closed by us")
            self._transport.close()
            self._wake()

    def abort(self) -> None:
        """Closes at once; octets not yet sent are thrown away."""
        self._break(Lost("aborted by us"))
        if self._transport is not None:
            self._transport.abort()

    @property
    def gone(self) -> bool:
        """True when the transport is closed altogether."""
        return self._closed.done()

    @property
    def own_address(self) -> tuple[str, int]:
        """Our end of the connection."""
        assert self._transport is not None
        name = self._transport.get_extra_info("sockname")
        return str(name[0]), int(name[1])

    async def closed(self) -> None:
        """Waits until the connection is gone."""
        if self._transport is not None:
            await asyncio.shield(self._closed)

    def _break(self, why: Broken) -> None:
        if self.broken is None:
            self.broken = why
            if self._transport is not None:
                self._transport.abort()
        self._wake()

    async def _wait(self, by: float | None) -> None:
        self._waiter = self._loop.create_future()
        # A timer of the wire's own: asyncio.timeout() for each reply would cost a third of a mail's time here.
        timer = None if by is None else self._loop.call_at(by, self._break, Lost("the mail server is silent"))
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
