"""The fetch of an MTA-STS policy: verified, bounded, and no redirect is followed."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli.testca import TestCa
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.terms import Unavailable
from gateway.relay import https
from gateway.relay.addresses import Addresses
from gateway.relay.https import PolicyHost
from gateway.tls import client_context

TEXT = b"version: STSv1\nmode: enforce\nmx: mail.example\nmax_age: 86400\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def fetched(tmp_path: Path, said: bytes, *, name: str = "mta-sts.example.net", hang: bool = False) -> str:
    """What `fetch` makes of a server that says that."""

    async def main() -> str:
        ca = TestCa(tmp_path)
        pair = ca.issue(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        asked = []
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(said)
                await writer.drain()
                if hang:
                    await ended.wait()
            except (OSError, EOFError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        resolver = Resolver(Zone({"mta-sts.example.net": {"A": ["127.0.0.1"]}}), ManualClock())
        host = PolicyHost(Addresses(resolver, system=False), client_context(ca.file.read_bytes(), "1.2"), port=port)
        try:
            text = await host.fetch("example.net")
            assert asked[0].startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.example.net\r\n")
            return text
        finally:
            ended.set()
            server.close()
            await asyncio.sleep(0)

    return asyncio.run(main())


@pytest.mark.parametrize(
    "said",
    [
        OK + b"Content-Length: %d\r\n\r\n" % len(TEXT) + TEXT,
        OK + b"\r\n" + TEXT,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(TEXT, 7),
        (OK + b"content-length: %d\r\n\r\n" % len(TEXT)).replace(b"Content-Type", b"CONTENT-TYPE") + TEXT + b"more",
    ],
)
def test_a_policy_is_taken(tmp_path: Path, said: bytes) -> None:
    assert fetched(tmp_path, said) == TEXT.decode()


LONG = TEXT + b"x: y\n" * 20_000


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 301 Moved\r\nLocation: https://mta-sts.example.net/x\r\nContent-Type: text/plain\r\n\r\n" + TEXT,
        b"HTTP/1.1 404 No\r\nContent-Type: text/plain\r\n\r\n" + TEXT,
        b"HTTP/1.1 2000 No\r\nContent-Type: text/plain\r\n\r\n" + TEXT,
        OK.replace(b"text/plain", b"text/html") + b"\r\n" + TEXT,
        b"HTTP/1.1 200 OK\r\n\r\n" + TEXT,
        OK + b"Content-Length: 100000\r\n\r\n" + LONG,
        OK + b"\r\n" + LONG,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(LONG, 5000),
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        OK + b"Content-Length: 9999\r\n\r\n" + TEXT,
        OK + b"X: " + b"y" * 40_000 + b"\r\n\r\n",
        OK + b"\r\n\xff\xfe",
        b"SSH-2.0-x\r\n\r\n",
        b"",
    ],
)
def test_what_is_not_taken(tmp_path: Path, said: bytes) -> None:
    with pytest.raises(Unavailable):
        fetched(tmp_path, said)


def test_a_wrong_certificate(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        fetched(tmp_path, OK + b"\r\n" + TEXT, name="example.net")


def test_a_slow_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, "_SECONDS", 0.3)
    with pytest.raises(Unavailable, match="no answer"):
        fetched(tmp_path, OK, hang=True)


def test_no_such_host() -> None:
    resolver = Resolver(Zone({}), ManualClock())
    make: Callable[[], ssl.SSLContext] = lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # noqa: E731
    host = PolicyHost(Addresses(resolver, system=False), make())
    with pytest.raises(Unavailable):
        asyncio.run(host.fetch("example.net"))
