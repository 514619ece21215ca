"""A whole gateway in this process (edge, pipeline, relay, a journal in a file) before scripted backends, and a client
that sees octets."""

import asyncio
import re
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.build import build, plan, settings_of
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.files import DiskFiles
from gateway.journal import Journal, Reader
from gateway.pipeline import House, Pipeline
from gateway.relay.pool import Pool
from gateway.smtp.census import Census
from gateway.smtp.server import Edge
from gateway.state.sqlite import SqliteStore
from tests.outages.rig import NAME, Rig

#: Mail with this subject goes to that mailbox, which the first backend has.
QUARANTINE = "to be quarantined"
QUARANTINE_BOX = "quarantine@c0.example.com"
_REPLY = re.compile(r"(\d{3}) (\d\.\d{1,3}\.\d{1,3}) .*(T\d{11})\r\n", re.DOTALL)


@dataclass(frozen=True)
class Told:
    """The reply to a final dot, as its octets say it."""

    code: int
    status: str
    id: str


class Client:
    """Speaks to the edge, octet for octet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connected(cls, port: int) -> "Client":
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        assert (await client.reply()).startswith("220 ")
        assert (await client.say("EHLO client.example.org")).startswith("250")
        return client

    async def reply(self) -> str:
        """All lines of the next one."""
        lines = [await self._reader.readuntil(b"\r\n")]
        while lines[-1][3:4] == b"-":
            lines.append(await self._reader.readuntil(b"\r\n"))
        return b"".join(lines).decode("ascii")

    async def say(self, line: str) -> str:
        self._writer.write(line.encode() + b"\r\n")
        return await self.reply()

    async def envelope(self, *recipients: str) -> None:
        assert (await self.say("MAIL FROM:<a@example.org>")).startswith("250 2.1.0 ")
        for recipient in recipients:
            assert (await self.say(f"RCPT TO:<{recipient}>")).startswith("250 2.1.5 ")

    async def send(self, octets: bytes) -> None:
        """DATA, and the mail with its dot; the reply is not awaited."""
        assert (await self.say("DATA")).startswith("354 ")
        await self.write(octets + b".\r\n")

    async def write(self, octets: bytes) -> None:
        self._writer.write(octets)
        await self._writer.drain()

    async def told(self) -> Told:
        """The reply to the dot; and the session goes on, whatever became of the mail."""
        reply = await self.reply()
        match = _REPLY.fullmatch(reply)
        assert match is not None, reply
        assert (await self.say("NOOP")).startswith("250 ")
        return Told(int(match[1]), match[2], match[3])

    async def mail(self, octets: bytes, *recipients: str) -> Told:
        await self.envelope(*recipients)
        await self.send(octets)
        return await self.told()

    def reset(self) -> None:
        """Goes without a word: a connection reset."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()

    def half_close(self) -> None:
        """Says that it will say no more, and listens on."""
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


class Front:
    """One gateway. Backend `bN` has the ports of `groups[N]` and the mail for `cN.example.com`."""

    def __init__(self, rig: Rig, groups: Sequence[Sequence[int]], seconds: float, *, verify: str = "off") -> None:
        folder = rig.directory
        (folder / "policies").mkdir(exist_ok=True)
        rule = f"{{id: held, when: 'message.subject == \"{QUARANTINE}\"', then: quarantine}}"
        (folder / "policies" / "a.yaml").write_text(f"rules: [{rule}]\n")
        (folder / "zone.json").write_text("{}")
        backends = "".join(_backend(n, ports, verify) for n, ports in enumerate(groups))
        domains = "".join(f"  c{n}.example.com: {{backend: b{n}}}\n" for n in range(len(groups)))
        (folder / "gatepost.yaml").write_text(
            f"""hostname: mx.example.com
listeners: [{{bind: "127.0.0.1:0", starttls: "off"}}]
domains:
{domains}backends:
{backends}policies: policies
quarantine: {QUARANTINE_BOX}
state: sqlite:state.db
journal: {{path: journal.db}}
dns: {{zone: zone.json}}
greeting_delay: 0s
limits: {{connections_per_network: 1000}}
deadlines: {{backend: {int(seconds * 1000)}ms}}
"""
        )
        self._groups = groups
        self._made = plan(folder / "gatepost.yaml", DiskFiles(), rig.clock, today=True)
        self.clock: ManualClock = rig.clock
        self._journal_file = folder / "journal.db"
        self._journal = Journal(self._journal_file, 1e6, rig.clock)
        self._store = SqliteStore(folder / "state.db", rig.clock)
        self.house: House = build(
            self._made,
            clock=rig.clock,
            store=self._store,
            resolver=Resolver(Zone({}), rig.clock),
            journal=self._journal,
        )
        config = self._made.config
        settings = settings_of(config, config.listeners[0], chunking=self._made.chunking)
        self._edge = Edge(settings, Pipeline(self.house), census=Census.alone(), clock=rig.clock)
        self.port = 0

    async def start(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self.port = listening.getsockname()[1]
        await self._edge.start(listening)

    def pools(self, number: int) -> list[Pool]:
        """Those of one backend that were used, in the order of its hosts."""
        pools = self.house.relay._hosts[f"b{number}"]._pools
        return [pools[endpoint] for endpoint in sorted(pools, key=lambda one: self._groups[number].index(one.port))]

    async def stop(self) -> None:
        """Ends everything; the journal is whole afterwards."""
        await self._edge.drain(5.0)
        await self.house.relay.drain()
        await self.house.relay.close()
        self._store.close()
        await asyncio.to_thread(self._journal.close)

    def fate(self, transaction_id: str) -> tuple[str, str]:
        """Fate and reply of that mail, read from the journal's file."""
        reader = Reader(self._journal_file)
        try:
            entry = reader.get(transaction_id)
            assert entry is not None, transaction_id
            return entry.fate, entry.reply
        finally:
            reader.close()

    def all_fates(self) -> list[str]:
        """Of all mails in the journal's file, oldest first."""
        reader = Reader(self._journal_file)
        try:
            return [entry.fate for _, entry in reader.after(0)]
        finally:
            reader.close()


def _backend(number: int, ports: Sequence[int], verify: str) -> str:
    hosts = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    tls = f"{{ca: ca.pem, name: {NAME}}}"
    return f"  b{number}: {{hosts: [{hosts}], tls: {tls}, verify_recipients: {verify}, connections: 1}}\n"


class Deaf:
    """A host whose connections are never made: its queue is full, and what comes to it is not answered."""

    def __init__(self) -> None:
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(0)
        self.port = int(self._listening.getsockname()[1])
        self._fillers = [socket.socket() for _ in range(3)]
        for filler in self._fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))

    def close(self) -> None:
        for one in (*self._fillers, self._listening):
            one.close()
