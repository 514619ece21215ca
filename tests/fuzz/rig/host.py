"""A backend that says whatever octets a test chooses, and how a strict server would have read the dialogue.

`Host` is the other end of one connection of the relay, on the network of `rig.network`. It says its next piece when
the gateway waits for it. `Host.took` is the strict reading: which mails were answered with 250 to their own end, each
reply paired with its command, and none of it in clear text.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.fuzz.rig.network import Loop

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r\n]*))?\r\n")


class Host(asyncio.Transport):
    """One connection as the backend sees it; to the relay it is the transport."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Any) -> None:
        super().__init__()
        self.loop = loop
        self.protocol = protocol
        self.over = False  # nothing can be said any more
        self.secured = False
        self.took: list[bytes] = []  # contents answered with 250 to their end, by a strict reading
        self.refused: list[bytes] = []  # contents whose end was refused
        self.commands: list[bytes] = []
        self._lost = False
        self._confused = False  # replies and commands do not pair any more
        self._due: deque[bytes] = deque([b"banner"])
        self._heard = b""  # commands, not yet read
        self._content: bytes | None = None
        self._chunk = 0
        self._said = b""  # of a reply that is not whole
        self._code = b""

    # The backend's side

    def say(self, octets: bytes) -> None:
        """Those octets, in one piece."""
        if self.over:
            return
        self._said += octets
        self._pair()
        self.protocol.data_received(octets)

    def hang_up(self, error: Exception | None) -> None:
        """The end of file, or a reset."""
        if self.over:
            return
        if error is None:
            self.protocol.eof_received()
        self._end(error)

    def _pair(self) -> None:
        while not self._confused and (match := _LINE.match(self._said)):
            self._said = self._said[match.end() :]
            if self._code not in {b"", match[1]} or not self._due:
                self._confused = True
            elif match[2] == b"-":
                self._code = match[1]
            else:
                self._code = b""
                self._answered(self._due.popleft(), int(match[1]))
        self._confused = self._confused or b"\n" in self._said

    def _answered(self, command: bytes, code: int) -> None:
        if command == b"DATA" and code == 354:
            self._content = b""
        elif command == b"STARTTLS" and code == 220:
            self._confused = self._confused or bool(self._said)
        elif command.startswith(b"end "):
            (self.took if code == 250 else self.refused).append(command[4:])

    # The relay's side

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._heard += bytes(data)
        while self._heard:
            if self._chunk or self._content is not None:
                if not self._read_content():
                    return
                continue
            line, end, rest = self._heard.partition(b"\r\n")
            assert end, f"half a command: {line!r}"
            self._heard = rest
            self._command(line)

    def _command(self, line: bytes) -> None:
        assert not re.search(rb"[\r\n\0]", line), line
        word = line.split(b" ")[0]
        assert self.secured or word in {b"EHLO", b"STARTTLS", b"QUIT"}, f"in clear text: {line!r}"
        self.commands.append(line)
        if word == b"BDAT":
            self._chunk, self._content = int(line.split(b" ")[1]), b""
        else:
            self._due.append(word)

    def _read_content(self) -> bool:
        assert self.secured, "a mail in clear text"
        assert self._content is not None
        if self._chunk:
            piece, self._heard = self._heard[: self._chunk], self._heard[self._chunk :]
            self._chunk -= len(piece)
            self._content += piece
            if self._chunk:
                return False
            self._due.append(b"end " + self._content)
        else:
            lines = (self._content + self._heard).split(b"\r\n")
            if b"." not in lines[:-1]:
                self._content, self._heard = self._content + self._heard, b""
                return False
            at = lines.index(b".")
            content = b"".join((one[1:] if one[:1] == b"." else one) + b"\r\n" for one in lines[:at])
            self._heard = b"\r\n".join(lines[at + 1 :])
            self._due.append(b"end " + content)
        self._content = None
        return True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sockname":
            return "127.0.0.1", 40000
        return self if name == "socket" else default

    def setsockopt(self, *_: int) -> None:
        """As a socket."""

    def is_closing(self) -> bool:
        return self.over

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(None)

    def get_write_buffer_size(self) -> int:
        return 0

    def _end(self, error: Exception | None) -> None:
        self.over = True
        if not self._lost:
            self._lost = True
            self.loop.call_soon(lambda: self.protocol.connection_lost(error))


class Street(Loop):
    """The loop, on which whoever is called is a new `Host`."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: list[Host] = []

    async def create_connection(self, protocol_factory: Callable[[], Any], *_: Any, **__: Any) -> Any:  # type: ignore[override]
        protocol = protocol_factory()
        host = Host(self, protocol)
        self.hosts.append(host)
        protocol.connection_made(host)
        return host, protocol

    async def start_tls(self, transport: Any, protocol: Any, sslcontext: Any, **_: Any) -> Any:
        await asyncio.sleep(0)
        if transport.over:
            raise ConnectionResetError("gone")
        transport.secured = True
        return transport
