"""The control line: messages, descriptors, and the end."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

from gateway.control import LIMIT, PING, PONG, Control, Message, pair


class End:
    """One end that remembers what came."""

    def __init__(self, end: socket.socket) -> None:
        self.came: asyncio.Queue[tuple[Message, int | None] | None] = asyncio.Queue()
        self.control = Control(end, lambda m, d: self.came.put_nowait((m, d)), lambda: self.came.put_nowait(None))


def with_both(test: Callable[[End, End, socket.socket], Awaitable[None]]) -> None:
    async def run() -> None:
        ours, theirs = pair()
        left, right = End(ours), End(theirs)
        async with asyncio.timeout(5):
            await test(left, right, ours)
        left.control.close()
        right.control.close()

    asyncio.run(run())


def test_messages_and_descriptors_belong_together() -> None:
    async def test(left: End, right: End, _: socket.socket) -> None:
        bundle = os.memfd_create("test")
        os.write(bundle, b"bundle")
        assert left.control.send({"drain": 3})
        assert left.control.send({"reload": "r2"}, bundle)
        assert left.control.send({"last": True})
        os.close(bundle)
        assert await right.came.get() == ({"drain": 3}, None)
        came = await right.came.get()
        assert came is not None
        assert came[1] is not None
        assert os.pread(came[1], 10, 0) == b"bundle"
        assert not os.get_inheritable(came[1])
        os.close(came[1])
        assert await right.came.get() == ({"last": True}, None)

    with_both(test)


def test_the_end_is_told_once_and_not_after_our_own() -> None:
    async def test(left: End, right: End, _: socket.socket) -> None:
        left.control.close()
        left.control.close()
        assert await right.came.get() is None
        assert not right.control.send({"ready": True})
        await asyncio.sleep(0)
        assert right.came.empty()
        assert left.came.empty()

    with_both(test)


def test_what_is_no_message_ends_the_line() -> None:
    async def test(left: End, right: End, ours: socket.socket) -> None:
        ours.send(b"[1, 2")
        assert await right.came.get() is None
        assert await left.came.get() is None

    with_both(test)


def test_a_message_too_long_or_a_peer_that_does_not_read_is_told() -> None:
    async def test(left: End, right: End, _: socket.socket) -> None:
        assert not left.control.send({"x": "y" * LIMIT})
        sent = 0
        while left.control.send({"x": "y" * 10_000}):
            sent += 1
        assert 0 < sent < 1000
        for _number in range(sent):
            assert await right.came.get()

    with_both(test)


def test_a_ping_is_answered_by_the_line_itself_and_told_to_nobody() -> None:
    async def test(left: End, right: End, _: socket.socket) -> None:
        assert left.control.send(PING)
        assert left.control.send({"drain": 1})
        assert await right.came.get() == ({"drain": 1}, None)
        assert await left.came.get() == (PONG, None)
        assert right.came.empty()

    with_both(test)
