"""The server half of `attacks/tls.yml`, case by case; a case that it has and we have not fails. What needs the real
process and `openssl` (renegotiation on the wire, every old version and suite) is in `tests/e2e/test_tls`, too."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop
import yaml

from gateway.cli.testca import TestCa
from gateway.files import DiskFiles
from gateway.tls import server_context
from tests.conformance.suites import FOLDER
from tests.unit.smtp.scripted import Client, Door, door

FILE = FOLDER / "attacks" / "tls.yml"

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="../shared/conformance/attacks is not there")

CASES: dict[str, dict[str, Any]] = (
    {case["id"]: case for case in yaml.safe_load(FILE.read_text("utf-8"))["as_server"]} if FILE.exists() else {}
)
EHLO = b"EHLO client.example\r\n"
ENVELOPE = b"MAIL FROM:<a@attack.com>\r\nRCPT TO:<victim@victim.com>\r\n"

Attack = Callable[[Door, Client, ssl.SSLContext, dict[str, Any]], Awaitable[None]]


async def glued(place: Door, client: Client, inside: ssl.SSLContext, case: dict[str, Any]) -> None:
    assert await client.say(EHLO) == "250"
    client.send(case["send_in_one_segment"].encode("ascii"))
    assert await client.all_replies() == ["503 5.5.0"]  # no handshake, so no reply inside it


async def state_reset(place: Door, client: Client, inside: ssl.SSLContext, case: dict[str, Any]) -> None:
    await client.begin()
    await client.starttls(inside)
    for line in (b"RCPT TO:<victim@victim.com>\r\n", b"DATA\r\n", b"MAIL FROM:<a@attack.com>\r\n"):
        assert await client.say(line) == "503 5.5.1"
    assert place.house.happened[-1] == "aborted: STARTTLS"


async def capabilities(place: Door, client: Client, inside: ssl.SSLContext, case: dict[str, Any]) -> None:
    assert await client.say(EHLO) == "250"
    assert "STARTTLS" in client.text
    await client.starttls(inside)
    assert await client.say(EHLO) == "250"
    assert "STARTTLS" not in client.text
    assert await client.say(b"STARTTLS\r\n") == "503 5.5.1"


async def argument(place: Door, client: Client, inside: ssl.SSLContext, case: dict[str, Any]) -> None:
    assert await client.say(EHLO) == "250"
    assert (await client.say(case["send"].encode("ascii")))[:3] == "501"


async def failure(place: Door, client: Client, inside: ssl.SSLContext, case: dict[str, Any]) -> None:
    assert await client.say(EHLO) == "250"
    assert await client.say(b"STARTTLS\r\n") == "220 2.0.0"
    client.send(EHLO + ENVELOPE)
    assert "250" not in [reply[:3] async for reply in _raw(client)]
    assert "mail" not in place.house.happened


async def stalled(place: Door, client: Client, inside: ssl.SSLContext, case: dict[str, Any]) -> None:
    assert await client.say(b"STARTTLS\r\n") == "220 2.0.0"
    client.send(b"\x16\x03\x01")
    assert await client.reply() == ""


async def renegotiation(place: Door, client: Client, inside: ssl.SSLContext, case: dict[str, Any]) -> None:
    context = place.edge.tls()
    assert context is not None
    assert context.options & ssl.OP_NO_RENEGOTIATION


async def floor(place: Door, client: Client, inside: ssl.SSLContext, case: dict[str, Any]) -> None:
    inside.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    inside.minimum_version = inside.maximum_version = ssl.TLSVersion.TLSv1_1
    assert await client.say(b"STARTTLS\r\n") == "220 2.0.0"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await client.writer.start_tls(inside, server_hostname="mx.example.com")


async def http_inside(place: Door, client: Client, inside: ssl.SSLContext, case: dict[str, Any]) -> None:
    inside.set_alpn_protocols(["h2", "http/1.1"])
    await client.starttls(inside)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\n\r\nEHLO a\r\n" + ENVELOPE)
    assert await client.all_replies() == ["500 5.5.1"]
    assert "mail" not in place.house.happened


async def _raw(client: Client) -> AsyncIterator[str]:
    while line := await client.reader.readline():
        yield line.decode("latin-1")


ATTACKS: dict[str, Attack] = {
    "command-injection": glued,
    "transaction-injection": glued,
    "state-reset": state_reset,
    "capabilities-after-tls": capabilities,
    "starttls-argument": argument,
    "starttls-during-transaction": state_reset,
    "handshake-failure": failure,
    "slow-handshake": stalled,
    "renegotiation": renegotiation,
    "protocol-floor": floor,
    "alpn-cross-protocol": http_inside,
}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_as_server(name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "slow-handshake":
        monkeypatch.setattr("gateway.smtp.handshake.HANDSHAKE_SECONDS", 0.05)
    ca = TestCa(tmp_path_factory.mktemp("tls"))
    pair = ca.issue("mx.example.com")
    context = server_context([(pair.certificate, pair.key)], DiskFiles())

    async def talk() -> None:
        async with door(starttls="offered", tls=lambda: context) as place:
            client = await place.connect()
            await ATTACKS[name](place, client, ssl.create_default_context(cafile=str(ca.file)), CASES[name])
            await client.close()
            await asyncio.wait_for(place.house.gone.wait(), 10)
            assert place.house.messages == []

    uvloop.run(talk())
