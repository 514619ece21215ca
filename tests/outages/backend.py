"""A backend that follows a script: at every step of the dialogue it can refuse, lie, hang, close, reset or babble.

A script maps steps ("connect banner ehlo starttls handshake ehlo-tls mail rcpt data body dot rset quit") to what
happens instead of the good reply: octets are sent as they are; `CLOSE`, `RESET` and `HANG` do what they say; a tuple
does several things in turn. One script for each connection, the last one for all that follow.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

STEPS = ("banner", "ehlo", "starttls", "ehlo-tls", "mail", "rcpt", "data", "dot", "rset")


class Act(Enum):
    """What is no reply."""

    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"
    STALL = "stall"  # reads no more
    DRIP = "drip"  # one octet at a time, and never the end of a reply
    READ = "read"  # waits for octets, and drops them
    GOOD = "good"  # the good reply


CLOSE, RESET, HANG, STALL = Act.CLOSE, Act.RESET, Act.HANG, Act.STALL
DRIP, READ, GOOD = Act.DRIP, Act.READ, Act.GOOD
Action = bytes | Act | tuple[bytes | Act | asyncio.Event, ...]  # an event is waited for
Script = Mapping[str, Action]

FEATURES = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8")


class Gone(Exception):  # noqa: N818
    """The script closed the connection."""


@dataclass
class Backend:
    """A scripted backend on loopback."""

    context: ssl.SSLContext | None
    scripts: tuple[Script, ...] = ({},)
    features: tuple[str, ...] = FEATURES
    trusts_us_alone: bool = False  # after XCLIENT it takes no other
    withheld: dict[str, str] = field(default_factory=dict)  # by client's name in XCLIENT: what it is not offered
    endings: tuple[bytes, ...] = (b"\r\n.\r\n",)  # what it takes for the end of a mail
    clear: bytearray = field(default_factory=bytearray)  # every octet that came outside TLS
    commands: list[tuple[int, str]] = field(default_factory=list)  # connection number and line, inside TLS
    mails: list[bytes] = field(default_factory=list)  # those it said 250 to, dot-stuffing undone
    pieces: list[bytes] = field(default_factory=list)  # what came of a body before it was cut off
    connections: int = 0
    events: dict[str, asyncio.Event] = field(default_factory=dict)  # set when a step is reached
    closed: list[asyncio.Event] = field(default_factory=list)  # by connection
    bound: socket.socket | None = None
    server: asyncio.Server | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    port: int = 0

    async def start(self) -> int:
        port = self.bind()
        assert self.bound is not None
        self.server, self.bound = await asyncio.start_server(self._serve, sock=self.bound, limit=2**17), None
        return port

    def bind(self) -> int:
        """Takes the port; who connects is refused until `start`."""
        if self.bound is None:
            self.bound = socket.socket()
            self.bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Little fits in between: a body that is not read is soon a body that cannot be sent.
            self.bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
            self.bound.bind(("127.0.0.1", self.port))
            self.port = int(self.bound.getsockname()[1])
        return self.port

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            for task in list(self.tasks):
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await self.server.wait_closed()
            self.server = None
        if self.bound is not None:
            self.bound.close()
            self.bound = None

    def event(self, step: str) -> asyncio.Event:
        return self.events.setdefault(step, asyncio.Event())

    def lines(self, connection: int | None = None) -> list[str]:
        return [line for number, line in self.commands if connection in (None, number)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        number = self.connections
        self.connections += 1
        self.closed.append(asyncio.Event())
        try:
            await Talk(self, number, reader, writer).run()
        except (Gone, OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            self.closed[number].set()
            writer.transport.abort()


class Talk:
    def __init__(
        self, backend: Backend, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.backend, self.number, self.reader, self.writer = backend, number, reader, writer
        self.script = backend.scripts[min(number, len(backend.scripts) - 1)]
        self.tls = self.sender = self.positive = self.masked = False
        self.recipients = 0
        self.client = ""

    async def run(self) -> None:
        await self.do("connect", b"")
        await self.do("banner", b"220 backend.example ESMTP\r\n")
        while True:
            line = await self.line()
            verb = line[:4].upper()
            if verb == "EHLO":
                masked = self.masked and self.backend.trusts_us_alone
                features = [each for each in self.backend.features if not (masked and each.startswith("XCLIENT"))]
                features = [each for each in features if each != self.backend.withheld.get(self.client)]
                if not self.tls and self.backend.context is not None:
                    features.append("STARTTLS")
                reply = "".join(f"250-{f}\r\n" for f in ["backend.example", *features]) + "250 HELP\r\n"
                await self.do("ehlo-tls" if self.tls else "ehlo", reply.encode())
            elif verb == "STAR" and self.backend.context is not None:
                await self.do("starttls", b"220 go\r\n")
                await self.do("handshake", b"")
                await self.writer.start_tls(self.backend.context)
                self.tls = True
            elif verb == "QUIT":
                await self.do("quit", b"221 bye\r\n")
                return
            elif not self.tls:
                await self.say(b"530 5.7.0 no\r\n")
            elif verb == "MAIL":
                self.recipients = 0
                self.sender = await self.do("mail", b"250 2.1.0 sender ok\r\n")
            elif verb == "RCPT" and not self.sender and "rcpt" not in self.script:
                await self.say(b"503 5.5.1 need MAIL\r\n")
            elif verb == "RCPT":
                address = line[line.find("<") + 1 : line.rfind(">")]
                if await self.do(
                    f"rcpt {address}" if f"rcpt {address}" in self.script else "rcpt", b"250 2.1.5 ok\r\n"
                ):
                    self.recipients += 1
            elif verb == "DATA":
                if self.recipients or "data" in self.script:
                    if await self.do("data", b"354 go on\r\n"):
                        await self.body()
                else:
                    await self.say(b"503 5.5.1 no recipients\r\n")
            elif verb == "BDAT":
                await self.chunk(int(line.split()[1]))
            elif verb == "XCLI":
                self.client = line.partition("NAME=")[2].partition(" ")[0]
                self.masked = await self.do("xclient", b"220 backend.example ESMTP\r\n")
            elif verb == "XFOR":
                await self.do("xforward", b"250 2.0.0 ok\r\n")
            elif verb == "RSET":
                await self.do("rset", b"250 2.0.0 reset\r\n")
            else:
                await self.say(b"500 5.5.1 what\r\n")

    async def body(self) -> None:
        got = bytearray(b"\r\n")
        while not got.endswith(self.backend.endings):
            piece = await self.reader.read(2**16)
            if not piece:
                self.backend.pieces.append(bytes(got[2:]))
                raise EOFError
            got += piece
            if "body" in self.script:
                await self.do("body", b"")
        await self.took(bytes(got[:-3]).replace(b"\r\n..", b"\r\n.")[2:])

    async def chunk(self, size: int) -> None:
        got = bytearray()
        while len(got) < size:
            piece = await self.reader.read(min(2**16, size - len(got)))
            if not piece:
                self.backend.pieces.append(bytes(got))
                raise EOFError
            got += piece
            if "body" in self.script:
                await self.do("body", b"")
        await self.took(bytes(got))

    async def took(self, octets: bytes) -> None:
        self.backend.pieces.append(octets)
        try:
            await self.do("dot", b"250 2.0.0 queued as 4711\r\n")
        finally:
            if self.positive and self.recipients:  # said yes, whatever it did next
                self.backend.mails.append(octets)

    async def line(self) -> str:
        octets = await self.reader.readuntil(b"\n")
        if self.tls:
            self.backend.commands.append((self.number, octets.decode().rstrip("\r\n")))
        else:
            self.backend.clear += octets
        return octets.decode()

    async def do(self, step: str, good: bytes) -> bool:
        """Follows the script; true when the reply was the good one or a 2xx or 3xx all the same."""
        self.backend.event(step).set()
        action = self.script.get(step, GOOD)
        self.positive = False
        for act in action if isinstance(action, tuple) else (action,):
            if act is CLOSE:
                raise Gone
            if act is RESET:
                sock: socket.socket = self.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise Gone
            if act is HANG:
                while await self.reader.read(2**16):
                    pass
                raise Gone
            if act is DRIP:
                while True:
                    for octet in b"250-more to come\r\n":
                        await self.say(bytes([octet]))
                        await asyncio.sleep(0.02)  # the deadline of the test is a fraction of a second
            if act is STALL:
                await asyncio.Event().wait()
            if act is READ:
                await self.reader.read(2**16)
                continue
            if isinstance(act, asyncio.Event):
                await act.wait()
                continue
            octets = good if act is GOOD else act
            assert isinstance(octets, bytes)
            self.positive = self.positive or act is GOOD or octets[:1] in (b"2", b"3")
            await self.say(octets)
        return self.positive

    async def say(self, octets: bytes) -> None:
        if octets:
            self.writer.write(octets)
            await self.writer.drain()
