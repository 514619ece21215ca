"""Handshakes that cannot succeed end at once, at whatever flight; what is known after those that do, and forgotten.

Others are in `test_connection` and `test_server`.
"""

import asyncio
import contextlib
import hashlib
import ssl
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from structlog.testing import capture_logs

from gateway import metrics
from gateway.files import DiskFiles
from gateway.mail.envelope import Session
from gateway.smtp import handshake
from gateway.smtp.events import Rules
from gateway.smtp.server import Settings
from gateway.smtp.troubles import Troubles
from gateway.tls import server_context
from tests.support.certificates import Node, authority, chain_file, make
from tests.unit.smtp.conftest import Run
from tests.unit.smtp.scripted import Certificates, Client, door

SESSION = Session("S1", "192.0.2.1", 4000, "192.0.2.25", 25, started=1.0)


class Wire(asyncio.Transport):
    def __init__(self, closing: bool) -> None:
        super().__init__()
        self.closing, self.aborted = closing, False

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize("closing", [True, False])
def test_without_client_or_certificate(run: Run, certificates: Certificates, closing: bool) -> None:
    async def talk() -> None:
        wire = Wire(closing)
        context = certificates.server if closing else None
        assert await handshake.upgraded(wire, asyncio.Protocol(), context, SESSION, Troubles()) is None
        assert wire.aborted

    run(talk())


def test_trouble_of_the_loop_is_no_lost_connection(run: Run, certificates: Certificates) -> None:
    async def talk() -> None:
        wire = Wire(closing=False)  # no transport that start_tls knows
        assert await handshake.upgraded(wire, asyncio.Protocol(), certificates.server, SESSION, Troubles()) is None
        assert wire.aborted

    run(talk())


def test_a_storm_of_broken_handshakes_is_two_lines_in_the_log(
    run: Run, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(metrics, "trouble", heard.append)

    async def talk() -> None:
        settings = Settings(Rules("mx.example.com"), implicit_tls=True)
        async with door(settings=settings, tls=lambda: certificates.server) as place:
            with capture_logs() as logs:
                for _ in range(20):
                    client = await place.connect(banner=False)
                    client.send(b"GET / HTTP/1.0\r\n\r\n")
                    await place.until(lambda: not place.edge.census.total())
                    client.vanish()
                await place.until(lambda: len(heard) == 20)
                place.edge.strangers.troubles.look(ends=True)
            assert [(line["event"], line.get("more", 0)) for line in logs] == [
                ("TLS handshake failed", 0),
                ("TLS handshake failed", 19),
            ]

    run(talk())


def test_a_client_that_resets_right_after_starttls(run: Run, certificates: Certificates) -> None:
    async def talk() -> None:
        async with door(starttls="offered", tls=lambda: certificates.server) as place:
            for _ in range(20):
                client = await place.connect()
                assert await client.say(b"EHLO a\r\n") == "250"
                client.send(b"STARTTLS\r\n")
                await asyncio.sleep(0)
                client.vanish()
            await place.until(lambda: not place.edge.connections)

    run(talk())


def test_what_is_said_of_a_connection(certificates: Certificates) -> None:
    async def talk() -> None:
        async with door(starttls="offered", tls=lambda: certificates.server) as place:
            old = certificates.client()
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            client = await place.connect()
            assert await client.say(b"EHLO a\r\n") == "250"
            await client.starttls(old)
            assert await client.say(b"EHLO a\r\n") == "250"
            assert (place.house.sessions[0].tls, place.house.sessions[0].cipher[:6]) == ("TLSv1.2", "ECDHE-")
            await client.close()

    asyncio.run(talk())


SETTINGS = Settings(Rules("mx.example.com", message=1_000_000, starttls="offered"), greeting_delay=0.0)


def asking(certificates: Certificates, folder: Path) -> ssl.SSLContext:
    """A context that asks clients for a certificate of our own authority."""
    pair = certificates.ca.issue("mx.example.com", file="asking")
    return server_context([(pair.certificate, pair.key)], DiskFiles(), ask=True, client_ca=certificates.ca.file)


def showing(certificates: Certificates, folder: Path, leaf: Node | None) -> ssl.SSLContext:
    context = certificates.client()
    if leaf is not None:
        pair = chain_file(folder, "client", leaf)
        context.load_cert_chain(pair.certificate, pair.key)
    return context


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("kind", ["none", "ours", "self-signed"])
def test_what_a_client_shows(run: Run, certificates: Certificates, tmp_path: Path, kind: str, implicit: bool) -> None:
    leaf = {
        "none": None,
        "ours": make("a.example", authority(certificates.ca), usage=ExtendedKeyUsageOID.CLIENT_AUTH),
        "self-signed": make("a.example"),
    }[kind]
    ours, theirs = asking(certificates, tmp_path), showing(certificates, tmp_path, leaf)

    async def talk() -> None:
        settings = replace(SETTINGS, implicit_tls=implicit)
        async with door(settings=settings, starttls="off" if implicit else "offered", tls=lambda: ours) as place:
            if implicit:
                client = await place.connect(context=theirs)
            else:
                client = await place.connect()
                assert await client.say(b"EHLO a\r\n") == "250"
                assert place.house.sessions[0].certificate is None
                await client.starttls(theirs)
            await client.begin(data=True)
            # Records of all sizes, many in one turn: nothing is left inside TLS that nobody asks for.
            content = b"".join(b"%d %s\r\n" % (n, b"x" * (n % 900)) for n in range(600))
            for start in range(0, len(content), 7777):
                client.send(content[start : start + 7777])
            client.send(b".\r\n")
            assert await client.reply() == "250 2.0.0"
            assert place.house.messages == [content]
            shown = place.house.sessions[0].certificate
            assert (shown is None) == (leaf is None)
            if leaf is not None and shown is not None:
                assert shown.fingerprint == hashlib.sha256(leaf.der).hexdigest()
                assert (shown.fault == "", shown.names) == (kind == "ours", ("a.example",) if kind == "ours" else ())
            assert await client.say(b"QUIT\r\n") == "221 2.0.0"
            assert await client.reply() == ""
            await client.close()

    run(talk())


def test_the_certificate_of_a_proxy_is_not_its_clients(run: Run, certificates: Certificates, tmp_path: Path) -> None:
    ours, theirs = asking(certificates, tmp_path), showing(certificates, tmp_path, make("proxy.example"))

    async def talk() -> None:
        settings = replace(SETTINGS, xclient=(ip_network("127.0.0.0/8"),))
        async with door(settings=settings, starttls="offered", tls=lambda: ours) as place:
            client = await place.connect()
            assert await client.say(b"EHLO a\r\n") == "250"
            await client.starttls(theirs)
            assert await client.say(b"EHLO a\r\n") == "250"
            assert await client.say(b"XCLIENT ADDR=192.0.2.7\r\n") == "220"
            assert await client.say(b"EHLO a\r\n") == "250"
            proxy, behind = place.house.sessions
            assert proxy.certificate is not None
            assert (behind.client_ip, behind.certificate) == ("192.0.2.7", None)
            await client.close()

    run(talk())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("way", ["close", "reset", "rubbish"])
def test_a_client_gone_at_each_flight(
    run: Run, certificates: Certificates, tmp_path: Path, version: ssl.TLSVersion, asks: bool, way: str
) -> None:
    """Before its hello, within it, after it, within its second flight: the connection ends, nothing is left of it."""
    ours = asking(certificates, tmp_path) if asks else certificates.server
    theirs = showing(certificates, tmp_path, make("a.example") if asks else None)
    theirs.minimum_version = theirs.maximum_version = version

    async def leave(client: Client, flights: int, within: bool) -> None:
        to_client, said = ssl.MemoryBIO(), ssl.MemoryBIO()
        inside = theirs.wrap_bio(to_client, said, server_hostname="mx.example.com")
        for flight in range(flights):
            with contextlib.suppress(ssl.SSLWantReadError):
                inside.do_handshake()
            octets = said.read()
            last = flight == flights - 1
            client.send(octets[: len(octets) // 2] if last and within else octets)
            if not last:
                to_client.write(await client.reader.read(65536))
        await client.writer.drain()
        if way == "reset":
            client.vanish()
        elif way == "rubbish":
            client.send(b"\x80" * 600)
            async with asyncio.timeout(10):
                while await client.reader.read(65536):
                    pass
        await client.close()

    async def talk() -> None:
        async with door(settings=SETTINGS, starttls="offered", tls=lambda: ours) as place:
            for flights, within in ((0, False), (1, True), (1, False), (2, True)):
                if way == "rubbish" and (flights, within) == (1, True):
                    continue  # it would be a part of the hello
                client = await place.connect()
                assert await client.say(b"EHLO a\r\n") == "250"
                assert await client.say(b"STARTTLS\r\n") == "220 2.0.0"
                await leave(client, flights, within)
            await place.until(lambda: not place.edge.connections)
            assert not [word for word in place.house.happened if word.startswith("greeted") and "TLS" in word]

    run(talk())


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("octets", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_implicit_tls_that_never_begins_is_cut_off(
    run: Run, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: bool, octets: bytes
) -> None:
    monkeypatch.setattr("gateway.smtp.handshake.HANDSHAKE_SECONDS", 0.05)
    ours = asking(certificates, tmp_path) if asks else certificates.server

    async def talk() -> None:
        settings = replace(SETTINGS, implicit_tls=True)
        async with door(settings=settings, tls=lambda: ours) as place:
            client = await place.connect(banner=False)
            client.send(octets)
            assert await client.reply() == ""
            await client.close()
            await place.until(lambda: place.edge.census.total() == 0)
            assert place.house.sessions == []

    run(talk())
