"""A door with a scripted house behind it, and a client that says what it is told: for the tests of the edge."""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

from gateway.cli.testca import Pair, TestCa
from gateway.clock import ManualClock
from gateway.mail.envelope import Envelope, Recipient, Session, Transaction
from gateway.mail.message import Message
from gateway.mail.reply import Reply
from gateway.smtp.census import Census
from gateway.smtp.events import Rules, StartTlsMode
from gateway.smtp.server import Edge, Settings
from gateway.smtp.strangers import Strangers

_TCP_REPAIR = 19  # of Linux, for root


class House:
    """Accepts everything, remembers it, and waits or breaks where a test says so (`at`: the word of a command)."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.happened: list[str] = []
        self.messages: list[bytes] = []
        self.errors: dict[str, Exception] = {}
        self.replies: dict[str, Reply] = {}
        self.refusals: list[Reply | None] = []  # what the edge answered itself to transactions that ended
        self.gates: dict[str, asyncio.Event] = {}
        self.reached: asyncio.Queue[str] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.without_transaction = False
        self.friend = False

    async def _at(self, word: str) -> None:
        self.happened.append(word)
        if word in self.gates:
            self.reached.put_nowait(word)
            await self.gates[word].wait()
        if word in self.errors:
            raise self.errors[word]

    async def connected(self, session: Session) -> Reply | None:
        self.sessions.append(session)
        await self._at("connected")
        return self.replies.get("connected")

    def familiar(self, session: Session) -> bool:
        return self.friend

    def greeted(self, session: Session) -> None:
        self.happened.append(f"greeted {session.helo} {'ESMTP' if session.esmtp else 'SMTP'} {session.tls}".strip())
        if "greeted" in self.errors:
            raise self.errors["greeted"]

    async def mail(self, session: Session, envelope: Envelope) -> tuple[Reply, Transaction | None]:
        await self._at("mail")
        if "mail" in self.replies:
            return self.replies["mail"], None
        tx = Transaction(f"TX{len(self.happened)}", session, envelope, started=0.0)
        return Reply(250, "2.1.0", ("Sender ok",)), None if self.without_transaction else tx

    async def rcpt(self, tx: Transaction, recipient: Recipient) -> Reply:
        await self._at("rcpt")
        if "rcpt" in self.replies:
            return self.replies["rcpt"]
        tx.envelope.recipients.append(recipient)
        return Reply(250, "2.1.5", ("Recipient ok",))

    async def data(self, tx: Transaction, message: Message) -> Reply:
        assert tx.message is message
        octets = bytes(message.view())
        await self._at("data")
        self.messages.append(octets)
        return Reply(250, "2.0.0", ("Taken",)).with_id(tx.id)

    def declined(self, session: Session, envelope: Envelope, reply: Reply) -> Reply:
        self.happened.append(f"declined: {reply.code}")
        return reply.with_id(f"TX{len(self.happened)}")

    def refused(self, tx: Transaction, reply: Reply) -> None:
        self.happened.append(f"refused: {reply.code}")

    def aborted(self, tx: Transaction, why: str, refusal: Reply | None = None) -> None:
        self.happened.append(f"aborted: {why}")
        self.refusals.append(refusal)

    def disconnected(self, session: Session) -> None:
        self.happened.append("disconnected")
        self.gone.set()
        if "disconnected" in self.errors:
            raise self.errors["disconnected"]


class Door:
    """The edge on loopback, its house and its clock."""

    def __init__(self, edge: Edge, house: House, clock: ManualClock, port: int) -> None:
        self.edge, self.house, self.clock, self.port = edge, house, clock, port

    async def connect(self, *, banner: bool = True, context: ssl.SSLContext | None = None) -> "Client":
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname="mx.example.com" if context else None
        )
        client = Client(reader, writer)
        if banner:
            assert await client.reply() == "220"
        return client

    async def elapse(self, seconds: float) -> None:
        """Time passes, and the edge looks at its connections."""
        self.clock.advance(seconds)
        self.edge.sweep()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Lets the loop turn until the condition holds."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)


class Client:
    """Says octets, reads replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.text = ""

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def reply(self) -> str:
        """Code and status of the next reply; its text is in `text`; "" when the server closed."""
        lines = []
        async with asyncio.timeout(10):
            while True:
                try:
                    line = (await self.reader.readline()).decode("ascii")
                except (ConnectionError, ssl.SSLError):
                    line = ""
                if not line:
                    assert not lines
                    return ""
                assert line.endswith("\r\n")
                lines.append(line.rstrip("\r\n"))
                if line[3] == " ":
                    break
        self.text = "\n".join(lines)
        found = re.match(r"(\d{3})[ -](\d\.\d+\.\d+)?", lines[-1])
        assert found
        return " ".join(filter(None, found.groups()))

    async def say(self, octets: bytes) -> str:
        self.send(octets)
        return await self.reply()

    async def begin(self, *, data: bool = False) -> "Client":
        """In a transaction with one recipient, or with the content about to come."""
        assert await self.say(b"EHLO client.example\r\n") == "250"
        self.send(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\n")
        assert [await self.reply(), await self.reply()] == ["250 2.1.0", "250 2.1.5"]
        if data:
            assert await self.say(b"DATA\r\n") == "354"
        return self

    async def starttls(self, context: ssl.SSLContext) -> None:
        assert await self.say(b"STARTTLS\r\n") == "220 2.0.0"
        await self.writer.start_tls(context, server_hostname="mx.example.com")

    async def all_replies(self) -> list[str]:
        """Every reply until the server closes."""
        replies = []
        while reply := await self.reply():
            replies.append(reply)
        return replies

    def vanish(self) -> None:
        """Gone without a farewell: a reset, as from a machine that lost its connection."""
        wire = self.writer.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def lose_power(self) -> None:
        """Gone without a segment more, neither FIN nor reset; where the kernel does not let us, merely silent."""
        wire = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            wire.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
            self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


class Certificates:
    """Our own authority, a certificate of the gateway, and the contexts of both sides."""

    def __init__(self, directory: Path) -> None:
        self.ca = TestCa(directory)
        self.server = self.issue("first")

    def issue(self, file: str) -> ssl.SSLContext:
        pair: Pair = self.ca.issue("mx.example.com", file=file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca.file))


@contextlib.asynccontextmanager
async def door(
    *,
    settings: Settings | None = None,
    starttls: StartTlsMode = "off",
    tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    census: Census | None = None,
    strangers: Strangers | None = None,
) -> AsyncIterator[Door]:
    """A listening edge; everything is closed and every connection forgotten at the end."""
    settings = settings or Settings(Rules("mx.example.com", message=100_000), greeting_delay=0.0)
    settings = replace(settings, rules=replace(settings.rules, starttls=starttls))
    house, clock = House(), ManualClock()
    edge = Edge(settings, house, census=census or Census.alone(), clock=clock, tls=tls, strangers=strangers)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    await edge.start(listening)
    try:
        yield Door(edge, house, clock, port)
    finally:
        for gate in house.gates.values():
            gate.set()
        async with asyncio.timeout(10):
            await edge.drain(0.0)
        assert edge.census.total() == 0
        assert not edge.connections
