"""The client goes: before the dot was passed on nothing is delivered (it never heard a 250, and sends the mail again);
after it the delivery is finished, and its true outcome is in the journal."""

import asyncio
from pathlib import Path

import pytest

from tests.outages.backend import CLOSE, GOOD, HANG, Action
from tests.outages.front import Client, Front
from tests.outages.rig import Rig, run
from tests.outages.table import OFFERS

DOMAIN = "c0.example.com"
RECIPIENTS = (f"u0@{DOMAIN}", f"u1@{DOMAIN}")
MAIL = b"From: a@example.org\r\nSubject: x\r\n\r\nx\r\n"
LARGE = MAIL + (b"0123456789" * 7 + b"\r\n") * 90_000


async def gone(front: Front, client: Client) -> None:
    """The client resets the connection, and the edge has noticed."""
    client.reset()
    async with asyncio.timeout(5):
        while not all(connection._session.gone for connection in front._edge.connections):
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_in_the_middle_of_its_message(tmp_path: Path, loop: str) -> None:
    """No backend connection was ever held for it."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        front = Front(rig, [[backend.port]], 10.0)
        await front.start()
        client = await Client.connected(front.port)
        await client.envelope(*RECIPIENTS)
        assert (await client.say("DATA")).startswith("354 ")
        await client.write(MAIL)
        await gone(front, client)
        await front.stop()
        assert front.all_fates() == ["aborted"]
        assert backend.connections == 0

    run(tmp_path, test, loop=loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("step", "offer"),
    [
        (step, offer)
        for step in ("banner", "ehlo-tls", "mail", f"rcpt {RECIPIENTS[1]}", "data", "body")
        for offer in OFFERS
        if (step, offer) != ("data", "chunking")
    ],
)
def test_before_the_dot_was_passed_on(tmp_path: Path, step: str, offer: str, loop: str) -> None:
    async def test(rig: Rig) -> None:
        gate = asyncio.Event()
        action: Action = (gate,) if step == "body" else (gate, GOOD)
        backend = await rig.backend({step: action}, {}, features=OFFERS[offer])
        front = Front(rig, [[backend.port]], 10.0)
        await front.start()
        client = await Client.connected(front.port)
        await client.envelope(*RECIPIENTS)
        await client.send(LARGE if step == "body" else MAIL)
        await backend.event(step).wait()
        await gone(front, client)
        gate.set()
        await front.house.relay.drain()
        assert backend.mails == []
        (pool,) = front.pools(0)
        opening = step in ("banner", "ehlo-tls")
        assert (pool.busy, pool.idle) == (0, 1 if opening else 0)
        assert not opening or not any(line.startswith("MAIL") for line in backend.lines())
        # The host is not to blame: the next mail goes there at once.
        again = await Client.connected(front.port)
        assert (await again.mail(MAIL, *RECIPIENTS)).code == 250
        await again.close()
        await front.stop()
        assert front.all_fates() == ["refused", "delivered"]
        assert len(backend.mails) == 1

    run(tmp_path, test, loop=loop)


@pytest.mark.parametrize(
    ("said", "fate", "mails"),
    [
        (GOOD, "delivered", 1),
        (b"450 4.2.0 later\r\n", "refused", 0),
        (b"550 5.7.1 never\r\n", "refused", 0),
        (b"354 what\r\n", "unknown", 1),
        (CLOSE, "unknown", 0),
        (HANG, "unknown", 0),
    ],
    ids=["250", "4xx", "5xx", "wrong", "close", "hang"],
)
@pytest.mark.parametrize("offer", OFFERS)
def test_after_the_dot_was_passed_on(tmp_path: Path, offer: str, said: Action, fate: str, mails: int) -> None:
    async def test(rig: Rig) -> None:
        gate = asyncio.Event()
        assert not isinstance(said, tuple)
        backend = await rig.backend({"dot": (gate, said)}, features=OFFERS[offer])
        front = Front(rig, [[backend.port]], 1.0 if said is HANG else 10.0)
        await front.start()
        client = await Client.connected(front.port)
        await client.envelope(*RECIPIENTS)
        await client.send(MAIL)
        await backend.event("dot").wait()
        await gone(front, client)
        gate.set()
        await front.house.relay.drain()
        (pool,) = front.pools(0)
        assert pool.busy == 0
        await front.stop()
        assert front.all_fates() == [fate]
        if mails or said is not HANG:
            assert len(backend.mails) == mails

    run(tmp_path, test)


def test_a_client_that_only_closed_its_half_still_hears(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        gate = asyncio.Event()
        backend = await rig.backend({"mail": (gate, GOOD)})
        front = Front(rig, [[backend.port]], 10.0)
        await front.start()
        client = await Client.connected(front.port)
        await client.envelope(*RECIPIENTS)
        await client.send(MAIL)
        client.half_close()
        await backend.event("mail").wait()
        gate.set()
        assert (await client.reply()).startswith("250 2.0.0 ")
        await client.close()
        await front.stop()
        assert front.all_fates() == ["delivered"]

    run(tmp_path, test)
