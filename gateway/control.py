"""The line between the supervisor and its children: JSON objects, and now and then a file descriptor.

A pair of AF_UNIX SEQPACKET sockets: one packet is one object, so that a descriptor belongs to its message without
doubt. Supervisor to worker: `{"reload": REVISION}` with the descriptor of the new bundle, `{"drain": SECONDS}`; to
the console: `{"status": {...}}`. From a child: `{"ready": true}`, `{"reloaded": REVISION}`, `{"refused": WHY}`,
`{"drained": true}`. Supervisor to either: `{"ping": true}`, which the other end itself answers `{"pong": true}`: who
does so has an event loop that turns. The end of the line means that the other side is gone: a child then drains and
exits, so the death of the supervisor leaves no orphans. Used by supervisor, worker and console.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

import orjson

Message = dict[str, object]

#: Octets of one message; well below a socket's buffer, so that one always fits.
LIMIT = 64_000
#: What the supervisor asks, and what a `Control` answers.
PING: Message = {"ping": True}
PONG: Message = {"pong": True}


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends: the supervisor keeps the first, the child inherits the second."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def cut(text: str, most: int = 4000) -> str:
    """A text that fits a message, whatever it is made of; it says so where something is missing."""
    return text if len(text) <= most else f"{text[:most]}\n({len(text) - most} more characters)"


class Control:
    """One end, driven by the running event loop.

    `received(message, descriptor)` is called for each message but a ping; the descriptor (or `None`) then belongs to
    the callee. `closed()` is called once, when the other side is gone, not after our own `close()`.
    """

    def __init__(
        self,
        end: socket.socket,
        received: Callable[[Message, int | None], None],
        closed: Callable[[], None],
    ) -> None:
        self._socket = end
        self._received = received
        self._closed = closed
        self._open = True
        end.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end.fileno(), self._readable)

    @classmethod
    def inherited(
        cls, descriptor: int, received: Callable[[Message, int | None], None], closed: Callable[[], None]
    ) -> "Control":
        """The child's end, by the number given on its command line."""
        return cls(socket.socket(fileno=descriptor), received, closed)

    def send(self, message: Message, descriptor: int | None = None) -> bool:
        """Sends without waiting. False when the other side is gone or so far behind that its buffer is full."""
        octets = orjson.dumps(message, default=str)
        if not self._open or len(octets) > LIMIT:
            return False
        try:
            if descriptor is None:
                self._socket.send(octets)
            else:
                socket.send_fds(self._socket, [octets], [descriptor])
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Ends our side; the other side sees it."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        descriptors: list[int] = []
        try:
            octets, descriptors, _, _ = socket.recv_fds(self._socket, LIMIT, 1)
            message = orjson.loads(octets) if octets else None
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, orjson.JSONDecodeError):
            message = None
        if not isinstance(message, dict):  # the end, or a peer that lost its mind: the same to us
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            self.close()
            self._closed()
            return
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if message == PING and not descriptors:
            self.send(PONG)
            return
        self._received(message, descriptors[0] if descriptors else None)
