"""Where scripts are played: the real edge, pipeline, checks, policy and relay in this process, with the clock, the ids,
the DNS and the backend given. Sockets are real, too, but for the address that the client seems to come from."""

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import yaml
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.cli.sink_server import Mail, Sink
from gateway.cli.testca import TestCa
from gateway.clock import ManualClock
from gateway.relay.client import Connection
from gateway.relay.fate import Fate
from gateway.yamlfile.units import parse_duration
from tests.support.certificates import authority as authority_node
from tests.support.certificates import chain_file, make
from tests.support.gateway import BACKEND_NAME, HOSTNAME, site
from tests.transcripts.inside import Inside, start_gateway
from tests.transcripts.script import Line, Script, matches, octets, spoken_run

#: Wednesday, 1 July 2026, 12:00 UTC.
NOON = 1_782_907_200.0
_PATIENCE = 10.0
#: How long no word must come before GOLDEN=write takes it that the server has said all.
_QUIET = 0.25


class FromElsewhere(socket.socket):
    """A listening socket whose clients seem to come from another address: loopback cannot bind 192.0.2.7."""

    client = "192.0.2.7"

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, _ = super().accept()
        return connection, (self.client, 45678)


@dataclass(slots=True)
class Stage:
    """One gateway with one backend, and the client that talks to it."""

    script: Script
    clock: ManualClock
    sink: Sink
    house: Inside
    listener: FromElsewhere
    address: tuple[str, int]
    authority: TestCa
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    draining: "asyncio.Task[None] | None" = None
    engaged: list["asyncio.Task[None]"] = field(default_factory=list)
    seen: int = 0
    unsent: list[bytes] = field(default_factory=list)

    async def play(self, write: bool) -> dict[int, list[tuple[str, str]]]:
        """Plays the script; what was said, by the line number of each spoken run.

        With `write` it reads until the server falls silent; without, exactly as many lines as are expected.
        """
        outcomes: dict[int, list[tuple[str, str]]] = {}
        await self._connect()
        skip = 0
        for index, line in enumerate(self.script.lines):
            if index < skip or not line.kind:
                continue
            if line.kind in {"C", "C\\"}:
                self.unsent.append(octets(line))
                continue
            await self._send()
            if line.kind in {"S", "B", "closed"}:
                run = spoken_run(self.script, index)
                skip = index + len(run)
                if line.kind == "B":
                    outcomes[line.number] = [("B", text) for text in self._taken()]
                elif write:
                    outcomes[line.number] = await self._all_said()
                else:
                    outcomes[line.number] = [await self._said() for _ in run]
            else:
                await self._happen(line)
        await self._send()
        outcomes[0] = await self._rest()
        return outcomes

    async def _connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(*self.address)
        self.streams.append((self.reader, self.writer))

    async def _send(self) -> None:
        if self.unsent and self.writer is not None:
            self.writer.write(b"".join(self.unsent))
            self.unsent.clear()
            with contextlib.suppress(ConnectionError):
                await self.writer.drain()

    async def _said(self, patience: float = _PATIENCE) -> tuple[str, str]:
        assert self.reader is not None
        try:
            async with asyncio.timeout(patience):
                line = await self.reader.readuntil(b"\r\n")
        except TimeoutError:
            return "silence", ""
        except (asyncio.IncompleteReadError, ConnectionError) as why:
            partial = getattr(why, "partial", b"")
            return ("closed", "") if not partial else ("S", f"{partial!r} without an end")
        return "S", line[:-2].decode("ascii")

    async def _all_said(self) -> list[tuple[str, str]]:
        said = [await self._said()]
        while said[-1][0] == "S":
            said.append(await self._said(_QUIET))
        return [word for word in said if word[0] != "silence"]

    async def _rest(self) -> list[tuple[str, str]]:
        """What the server still says after the last line, when the client closes its half: a reply nobody expects."""
        assert self.writer is not None
        with contextlib.suppress(OSError):
            if self.writer.can_write_eof():  # TLS has no half-closed state
                self.writer.write_eof()
        said: list[tuple[str, str]] = []
        while True:
            word = await self._said(_QUIET * 4)
            if word[0] != "S":
                return said
            said.append(word)

    async def _happen(self, line: Line) -> None:
        words = line.text.split(maxsplit=2)
        match line.kind, words[:1]:
            case "connect", where:
                self.listener.client = "".join(where) or self.script.client
                await self._connect()
            case "return", _:
                self.streams.insert(0, self.streams.pop())
                self.reader, self.writer = self.streams[-1]
            case "tls", shown:
                await self._shake_hands("".join(shown))
            case "drain", _:
                self.draining = asyncio.create_task(self.house.edge.drain(60))
            case "worker", [state]:
                self._feel(busy={"busy": True, "at-ease": False}[state])
            case "silence", _:
                assert await self._said(_QUIET) == ("silence", "")
            case "advance", [duration]:
                self.clock.advance(parse_duration(duration))
                self.house.sweep()
            case "backend", ["down"]:
                await self.sink.stop()
            case "backend", ["vanishes"]:
                self.sink.on_mail = _vanish
            case "backend", ["offers"]:
                self.sink.features = tuple(word.strip() for word in line.text.partition(" ")[2].split(","))
            case "relay", ["crashes"]:
                self.house.house.relay.deliver = _crash  # type: ignore[method-assign]
            case "house", ["crashes"]:
                setattr(self.house.edge.handler, words[1], _crash_now if words[1] == "greeted" else _crash)
            case "certificate", ["gone"]:
                self.house.edge.tls = lambda: None
            case "relay", ["engaged"]:
                await self._engage()
            case "backend", ["refuses"]:
                self.sink.refuse[words[1]] = words[2]
            case "backend", ["refuses-dot"]:
                reply = line.text.split(maxsplit=1)[1]
                self.sink.refuse_data = "" if reply == "-" else reply
            case _:
                raise ValueError(f"{self.script.path.name}:{line.number}: {line.raw}")

    async def _shake_hands(self, shown: str) -> None:
        """TLS from here on, the gateway's certificate verified; `shown` is what the client shows."""
        assert self.writer is not None
        context = ssl.create_default_context(cafile=str(self.authority.file))
        if shown:
            issuer = None if shown == "self-signed" else authority_node(self.authority)
            leaf = make(f"{shown}.example" if issuer is None else shown, issuer, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
            pair = chain_file(self.authority.file.parent, "client", leaf)
            context.load_cert_chain(pair.certificate, pair.key)
        await self.writer.start_tls(context, server_hostname=HOSTNAME)

    async def _engage(self) -> None:
        """Another mail has a connection of the pool, and never ends."""
        begun = asyncio.Event()

        async def stay(_: Connection) -> None:
            begun.set()
            await asyncio.Event().wait()

        hosts, now = self.house.house.relay._hosts["main"], asyncio.get_running_loop().time()
        self.engaged.append(asyncio.create_task(hosts.converse(now + 60, stay)))
        await begun.wait()

    def _feel(self, *, busy: bool) -> None:
        edge = self.house.edge
        if edge._heart is not None:
            edge._heart.cancel()  # a machine at ease would soon say so
        edge._pulse.busy = busy
        edge.look()

    def _taken(self) -> list[str]:
        mails, self.seen = self.sink.mails[self.seen :], len(self.sink.mails)
        lines = []
        for mail in mails:
            recipients = " ".join(f"<{recipient}>" for recipient in mail.recipients)
            lines.append(f"FROM <{mail.sender}> {mail.sender_parameters} TO {recipients}".replace("  ", " "))
            text = mail.octets.decode("utf-8", "backslashreplace")
            lines += [f"  {row}".rstrip() for row in text.removesuffix("\r\n").split("\r\n")]
        return lines or ["nothing"]


def _vanish(_: Mail) -> None:
    raise EOFError


async def _crash(*_: object, **__: object) -> Fate:
    _crash_now()


def _crash_now(*_: object) -> NoReturn:
    raise RuntimeError("secret insides: /var/lib/gatepost")


@asynccontextmanager
async def stage(script: Script, folder: Path, authority: TestCa) -> AsyncIterator[Stage]:
    """Everything that a script needs, running; stopped afterwards."""
    clock = ManualClock(NOON)
    pair = authority.issue(BACKEND_NAME, file="sink")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    sink = Sink(context, hostname=BACKEND_NAME)
    port = await sink.start()
    made = site(folder, port, authority)
    made.zone = script.zone
    for name, value in script.config:
        _set(made.configuration, name.split("."), yaml.safe_load(value))
    if script.policy:
        made.policy(script.policy)
    shutil.copy(authority.file, made.directory / "partners.pem")
    made.write()
    assert json.loads((made.directory / "zone.json").read_text()) == script.zone
    listener = FromElsewhere(socket.AF_INET, socket.SOCK_STREAM)
    listener.client = script.client
    listener.bind(("127.0.0.1", 0))
    inside = await start_gateway(made.file, listener, clock)
    playing = Stage(script, clock, sink, inside, listener, listener.getsockname(), authority)
    try:
        yield playing
    finally:
        for _, writer in playing.streams:
            writer.transport.abort()
        for mail in playing.engaged:
            mail.cancel()
        await asyncio.wait_for(asyncio.gather(*playing.engaged, return_exceptions=True), 10)
        await inside.stop()
        if playing.draining is not None:
            await playing.draining
        await sink.stop()


def _set(tree: object, path: list[str], value: object) -> None:
    for word in path[:-1]:
        if isinstance(tree, list):
            tree = tree[int(word)]
        else:
            assert isinstance(tree, dict)
            tree = tree.setdefault(word, {})
    assert isinstance(tree, dict)
    if value is None:
        del tree[path[-1]]
    else:
        tree[path[-1]] = value


def differences(script: Script, outcomes: dict[int, list[tuple[str, str]]]) -> list[str]:
    """What was said against what is expected, one line a difference."""
    found, skip = [], 0
    for index, line in enumerate(script.lines):
        if index < skip or line.number not in outcomes:
            continue
        run = spoken_run(script, index)
        skip = index + len(run)
        said = outcomes[line.number]
        for place in range(max(len(run), len(said))):
            kind, text = said[place] if place < len(said) else ("nothing", "")
            where = run[min(place, len(run) - 1)]
            expected = run[place] if place < len(run) else None
            wanted = f"{expected.kind}: {expected.text}" if expected else "nothing more"
            if expected is None or expected.kind != kind or (kind in {"S", "B"} and not matches(expected.text, text)):
                found.append(f"{script.path.name}:{where.number}: expected {wanted!r}, got {f'{kind}: {text}'!r}")
    found += [f"{script.path.name}: after the last line: {text!r}" for _, text in outcomes[0]]
    return found
