"""Handshakes that cannot succeed end at once; the others are in `test_connection` and `test_server`."""

import asyncio
import ssl

import pytest

from gateway.mail.envelope import Session
from gateway.smtp import handshake
from tests.unit.smtp.conftest import Run
from tests.unit.smtp.scripted import Certificates, door

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
        assert await handshake.upgraded(wire, asyncio.Protocol(), context, SESSION) is None
        assert wire.aborted

    run(talk())


def test_trouble_of_the_loop_is_no_lost_connection(run: Run, certificates: Certificates) -> None:
    async def talk() -> None:
        wire = Wire(closing=False)  # no transport that start_tls knows
        assert await handshake.upgraded(wire, asyncio.Protocol(), certificates.server, SESSION) is None
        assert wire.aborted

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
