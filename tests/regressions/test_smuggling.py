"""SMTP smuggling and STARTTLS injection, by the published sequences: CVE-2023-51764, -51765, -51766, CVE-2024-27305,
CVE-2011-0411. Every sequence at every cut, in clear text and inside TLS; nothing is taken that must not be."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
import yaml

from gateway.files import DiskFiles
from gateway.smtp.connection import Connection
from gateway.smtp.events import Rules
from gateway.smtp.server import Settings
from gateway.tls import server_context
from tests.unit.smtp.scripted import Certificates, Client, Door, door

SHARED = Path(os.environ.get("GATEPOST_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
FILE = SHARED / "conformance" / "attacks" / "smuggling.yml"

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="../shared/conformance/attacks is not there")

SUITE = yaml.safe_load(FILE.read_text("utf-8")) if FILE.exists() else {"sequences": [], "smuggled": ""}
SMUGGLED = SUITE["smuggled"].encode("latin-1")
SEQUENCES = {case["id"]: (case["octets"].encode("latin-1"), case["expect"]) for case in SUITE["sequences"]}
# Our own beside them: a bare octet far from any dot, and a true end hidden behind each of them.
OWN = {
    "bare-cr-in-text": b" one\rtwo ",
    "bare-lf-in-text": b" one\ntwo ",
    "nul-in-text": b" one\0two ",
    "lf-before-the-end": b"\n\r\n.\r\n",
    "cr-before-the-end": b"\r\r\n.\r\n",
    "lf-cr-dot": b"\n\r.\r\n",
    "crlf-dot-nul-crlf": b"\r\n.\0\r\n",
}
HEAD = b"From: <a@attack.com>\r\nSubject: t\r\n\r\nbody"


def content(sequence: bytes) -> bytes:
    return HEAD + sequence + SMUGGLED + b".\r\n"


class Heard:
    """What the edge was given, piece by piece: a cut that the network mends proves nothing."""

    def __init__(self) -> None:
        self.pieces: list[int] = []
        self.over = False

    async def give(self, client: Client, pieces: Sequence[bytes]) -> None:
        """Sends the pieces, each when the one before has arrived; fewer when the edge has hung up."""
        self.pieces.clear()
        for count, piece in enumerate(pieces, 1):
            client.send(piece)
            async with asyncio.timeout(10):
                while len(self.pieces) < count and not self.over:
                    await asyncio.sleep(0)
        assert self.pieces == [len(piece) for piece in pieces[: len(self.pieces)]]
        assert self.over or len(self.pieces) == len(pieces)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    made = Heard()
    received, lost = Connection.data_received, Connection.connection_lost

    def data_received(self: Connection, data: bytes) -> None:
        made.pieces.append(len(data))
        received(self, data)

    def connection_lost(self: Connection, error: Exception | None) -> None:
        made.over = True
        lost(self, error)

    monkeypatch.setattr(Connection, "data_received", data_received)
    monkeypatch.setattr(Connection, "connection_lost", connection_lost)
    return made


@contextlib.asynccontextmanager
async def visitor(place: Door, heard: Heard, way: "Way") -> AsyncIterator[Client]:
    """A client that has greeted, inside TLS where the way is; afterwards it is gone."""
    place.house.messages.clear()
    place.house.gone.clear()
    heard.over = False
    client = await place.connect(context=way.client if way.implicit else None)
    if way.client is not None and not way.implicit:
        await client.starttls(way.client)
    assert await client.say(b"EHLO attack.com\r\n") == "250"
    client.send(b"MAIL FROM:<a@attack.com>\r\nRCPT TO:<victim@victim.com>\r\n")
    assert [await client.reply(), await client.reply()] == ["250 2.1.0", "250 2.1.5"]
    yield client
    await client.close()
    await asyncio.wait_for(place.house.gone.wait(), 10)


def everywhere(octets: bytes) -> list[int]:
    return list(range(1, len(octets)))


def around_the_sequence(octets: bytes) -> list[int]:
    """From the sequence's first octet to its last, one more on both sides, and in the true end."""
    start, end = len(HEAD), octets.index(SMUGGLED, len(HEAD))
    return [*range(start - 1, end + 2), *range(len(octets) - 4, len(octets))]


@dataclass
class Way:
    """Before or after STARTTLS, or in TLS from the first octet on; and where to cut there."""

    server: ssl.SSLContext
    client: ssl.SSLContext | None
    implicit: bool = False
    cuts: Callable[[bytes], list[int]] = everywhere

    def door(self) -> contextlib.AbstractAsyncContextManager[Door]:
        rules = Rules("mx.example.com", message=100_000)
        return door(
            settings=Settings(rules, greeting_delay=0.0, implicit_tls=self.implicit),
            starttls="off" if self.implicit else "offered",
            tls=lambda: self.server,
        )


class Resuming(ssl.SSLContext):
    """A client that goes on with its first session: a third of the work of a handshake, and there are ten thousand."""

    first: ssl.SSLSession | None = None
    talking: ssl.SSLObject | None = None

    def wrap_bio(self, *given: Any, **named: Any) -> ssl.SSLObject:
        if self.talking is not None and self.first is None:
            self.first = self.talking.session
        self.talking = super().wrap_bio(*given, **{**named, "session": self.first})
        return self.talking


WAYS = ["clear text", "STARTTLS", "implicit TLS", "STARTTLS that asks", "implicit TLS that asks"]


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Way]:
    certificates = Certificates(folder := tmp_path_factory.mktemp("tls"))
    pair = certificates.ca.issue("mx.example.com")
    server, client = certificates.server, certificates.client()
    resuming = Resuming(ssl.PROTOCOL_TLS_CLIENT)
    resuming.load_verify_locations(certificates.ca.file)
    resuming.maximum_version = ssl.TLSVersion.TLSv1_2
    # With pyOpenSSL the octets come by another road (`clientauth`), to the same readers.
    asking = server_context([(pair.certificate, pair.key)], DiskFiles(), ask=True, client_ca=folder / "ca.pem")
    made = [
        Way(server, None),
        Way(server, resuming),
        Way(server, resuming, implicit=True),
        Way(asking, client, cuts=around_the_sequence),
        Way(asking, client, implicit=True, cuts=around_the_sequence),
    ]
    return dict(zip(WAYS, made, strict=True))


def octet_by_octet(octets: bytes) -> list[bytes]:
    return [bytes([octet]) for octet in octets]


@pytest.mark.parametrize("where", WAYS)
@pytest.mark.parametrize("name", [*SEQUENCES, *OWN])
def test_no_second_message_at_any_cut(name: str, where: str, ways: dict[str, Way], heard: Heard) -> None:
    """DATA, in two pieces at every cut, whole, and octet by octet; inside TLS each piece is a record of its own."""
    sequence = SEQUENCES[name][0] if name in SEQUENCES else OWN[name]
    control = name in {"crlf-dotdot-crlf", "crlf-dot-space-crlf"}
    octets = content(sequence)
    way = ways[where]

    async def talk() -> None:
        async with way.door() as place:
            for pieces in (
                [octets],
                *([octets[:cut], octets[cut:]] for cut in way.cuts(octets)),
                octet_by_octet(octets),
            ):
                async with visitor(place, heard, way) as client:
                    assert await client.say(b"DATA\r\n") == "354"
                    await heard.give(client, pieces)
                    if control:
                        assert await client.reply() == "250 2.0.0", pieces
                        client.send(b"QUIT\r\n")
                    replies = await client.all_replies()
                if control:
                    line = b"." if name == "crlf-dotdot-crlf" else b" "
                    assert replies == ["221 2.0.0"], pieces
                    assert place.house.messages == [HEAD + b"\r\n" + line + b"\r\n" + SMUGGLED], pieces
                else:
                    assert [reply[:3] for reply in replies] == ["554"], pieces
                    assert place.house.messages == [], pieces

    uvloop.run(talk())


@pytest.mark.parametrize("where", WAYS)
@pytest.mark.parametrize("name", [*SEQUENCES, *OWN])
def test_nor_in_chunks_at_any_cut(name: str, where: str, ways: dict[str, Way], heard: Heard) -> None:
    """BDAT: one chunk in two pieces, two chunks in a piece each and in one, at every cut, and octet by octet. Dots are
    content here."""
    octets = content(SEQUENCES[name][0] if name in SEQUENCES else OWN[name])
    bare = set(octets.replace(b"\r\n", b"")) & set(b"\r\n\0")
    way = ways[where]
    announced = b"BDAT %d LAST\r\n" % len(octets)

    def two(cut: int) -> tuple[bytes, bytes]:
        return b"BDAT %d\r\n%b" % (cut, octets[:cut]), b"BDAT %d LAST\r\n%b" % (len(octets) - cut, octets[cut:])

    async def talk() -> None:
        written = [[announced + octets[:cut], octets[cut:]] for cut in way.cuts(octets)]
        written += [list(two(cut)) for cut in way.cuts(octets)]
        if way.client is None:
            written += [[b"".join(two(cut))] for cut in way.cuts(octets)]
            written += [[b"".join(two(cut))[:cut], b"".join(two(cut))[cut:]] for cut in way.cuts(octets)]
        written += [octet_by_octet(announced + octets)]
        written += [octet_by_octet(b"".join(two(cut))) for cut in range(len(HEAD) - 1, len(HEAD) + 4)]
        async with way.door() as place:
            for pieces in written:
                async with visitor(place, heard, way) as client:
                    await heard.give(client, pieces)
                    if not bare:
                        client.send(b"QUIT\r\n")
                    replies = [reply for reply in await client.all_replies() if reply != "250 2.0.0"]
                assert replies == (["554 5.6.0"] if bare else ["221 2.0.0"]), pieces
                assert place.house.messages == ([] if bare else [octets]), pieces

    uvloop.run(talk())


@pytest.mark.parametrize("where", WAYS)
@pytest.mark.parametrize("name", SEQUENCES)
def test_all_in_one_write_is_refused_before_any_content(
    name: str, where: str, ways: dict[str, Way], heard: Heard
) -> None:
    way = ways[where]
    envelope = b"RSET\r\nMAIL FROM:<a@attack.com>\r\nRCPT TO:<victim@victim.com>\r\nDATA\r\n"

    async def talk() -> None:
        async with way.door() as place:
            async with visitor(place, heard, way) as client:
                client.send(envelope + content(SEQUENCES[name][0]))
                assert await client.all_replies() == ["250 2.0.0", "250 2.1.0", "250 2.1.5", "503 5.5.0"]
            assert place.house.messages == []
            assert place.house.happened[-2:] == ["aborted: refused", "disconnected"]

    uvloop.run(talk())


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b" \n\r\n"])
@pytest.mark.parametrize(
    "line", [b"NOOP", b"MAIL FROM:<a@attack.com>", b"RCPT TO:<victim@victim.com>", b"DATA", b"RSET", b"EHLO a", b"\0"]
)
def test_commands_end_in_crlf_alone(line: bytes, end: bytes) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await (await place.connect()).begin()
            client.send(line + end + b"MAIL FROM:<smuggled@attack.com>\r\nNOOP\r\n")
            assert await client.all_replies() == ["500 5.5.2"]
            await client.close()
            await place.house.gone.wait()
            assert place.house.happened.count("mail") == 1

    asyncio.run(talk())


@pytest.mark.parametrize("inside", [b"a\rRCPT TO:<x>@attack.com", b"a\nRCPT@attack.com", b"a\0@attack.com"])
def test_no_bare_octet_inside_an_address(inside: bytes) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await place.connect()
            assert await client.say(b"EHLO attack.com\r\n") == "250"
            client.send(b"MAIL FROM:<" + inside + b">\r\n")
            assert await client.all_replies() == ["500 5.5.2"]
            await client.close()

    asyncio.run(talk())
