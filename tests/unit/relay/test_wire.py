"""Octets of one connection without a network: what is due, what is not, and who waits."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.relay.fate import Lost, OutOfPlace, Untrusted
from gateway.relay.response import Response
from gateway.relay.wire import Wire
from gateway.tls import Context, Trust


class Socket:
    def setsockopt(self, *_: int) -> None:
        pass


class Transport(asyncio.Transport):
    """Notes what is written."""

    def __init__(self) -> None:
        super().__init__({"socket": Socket()})
        self.written = bytearray()
        self.ended = ""

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None:
        self.ended = "abort"

    def close(self) -> None:
        self.ended = "close"


def run(test: Callable[[Wire, Transport], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        wire, transport = Wire(), Transport()
        wire.connection_made(transport)
        await test(wire, transport)

    asyncio.run(main())


def test_the_banner_is_due_and_nothing_else() -> None:
    async def test(wire: Wire, transport: Transport) -> None:
        wire.data_received(b"220 x\r\n250 y\r\n")
        assert await wire.response() == Response(220, ("x",))
        with pytest.raises(OutOfPlace):
            await wire.response()
        with pytest.raises(OutOfPlace):
            wire.write(b"EHLO x\r\n", replies=1)
        assert transport.ended == "abort"
        assert not transport.written
        wire.data_received(b"250 z\r\n")  # whatever still comes
        with pytest.raises(OutOfPlace):
            await wire.response()

    run(test)


def test_replies_are_paired_in_order() -> None:
    async def test(wire: Wire, transport: Transport) -> None:
        wire.data_received(b"220 x\r\n")
        wire.write(b"A\r\nB\r\nC\r\n", replies=3)
        for piece in (b"250 a\r\n25", b"0 b\r\n250", b"-c\r\n250 d\r\n"):
            wire.data_received(piece)
        assert [(await wire.response()).lines[-1] for _ in range(4)] == ["x", "a", "b", "d"]
        assert wire.broken is None

    run(test)


def test_drain_waits_until_the_peer_reads() -> None:
    async def test(wire: Wire, transport: Transport) -> None:
        wire.pause_writing()
        waiting = asyncio.create_task(wire.drain())
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
        wire.resume_writing()
        await waiting
        wire.pause_writing()
        waiting = asyncio.create_task(wire.drain())
        await asyncio.sleep(0)
        wire.connection_lost(None)
        with pytest.raises(Lost):
            await waiting

    run(test)


def test_replies_before_the_end_still_count() -> None:
    async def test(wire: Wire, transport: Transport) -> None:
        wire.data_received(b"220 x\r\n")
        wire.write(b"DATA\r\n", replies=1)
        wire.data_received(b"250 ok\r\n")
        assert not wire.eof_received()
        wire.connection_lost(OSError("reset"))
        assert (await wire.response()).code == 220
        assert (await wire.response()).code == 250
        with pytest.raises(Lost):
            await wire.response()
        assert wire.gone

    run(test)


def test_close_and_abort_are_final() -> None:
    async def test(wire: Wire, transport: Transport) -> None:
        wire.data_received(b"220 x\r\n")
        wire.close(b"QUIT\r\n")
        wire.close(b"QUIT\r\n")
        assert transport.written == b"QUIT\r\n"
        assert transport.ended == "close"
        with pytest.raises(Lost):
            wire.write(b"x", replies=0)
        wire.abort()
        assert transport.ended == "abort"
        waiting = asyncio.create_task(wire.closed())
        wire.connection_lost(None)
        await waiting

    run(test)


def test_a_wire_that_was_never_connected() -> None:
    async def test() -> None:
        wire = Wire()
        wire.close()
        wire.abort()
        await wire.closed()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (None, Untrusted),
        (ssl.SSLError("no"), Untrusted),
        (ConnectionResetError("gone"), Untrusted),
        (ValueError("bad name"), Untrusted),
        (asyncio.CancelledError(), asyncio.CancelledError),
    ],
)
def test_there_is_no_way_back_from_starttls(
    outcome: BaseException | None, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(wire: Wire, transport: Transport) -> None:
        async def start_tls(*_: object, **__: object) -> None:
            if outcome is not None:
                raise outcome

        monkeypatch.setattr(asyncio.get_running_loop(), "start_tls", start_tls)
        wire.data_received(b"220 x\r\n")
        with pytest.raises(error):
            await wire.start_tls(Trust(Context(ssl.PROTOCOL_TLS_CLIENT)), "x")
        assert transport.ended == "abort"
        assert not wire.encrypted
        with pytest.raises(Lost):
            await wire.start_tls(Trust(Context(ssl.PROTOCOL_TLS_CLIENT)), "x")

    run(test)
