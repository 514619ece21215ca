"""The dialogue on one connection: what is pipelined, what is waited for, what ends it."""

import asyncio
from pathlib import Path

import pytest

from gateway.relay import turn
from gateway.relay.client import Endpoint
from gateway.relay.delivery import Delivered, Refused
from tests.outages.backend import GOOD, HANG, STALL, Action
from tests.outages.rig import OCTETS, OURS, Rig, deliver, run, transaction


def test_endpoints_in_words() -> None:
    assert str(Endpoint("192.0.2.1", 25, "x")) == "192.0.2.1:25"
    assert str(Endpoint("2001:db8::1", 25, "x")) == "[2001:db8::1]:25"


@pytest.mark.parametrize("recipients", [1, 3])
def test_pipelining_sends_before_it_hears(tmp_path: Path, recipients: int) -> None:
    """With a sole recipient DATA goes along; with several it waits, so that RSET stays possible."""

    async def test(rig: Rig) -> None:
        gate = asyncio.Event()
        backend = await rig.backend({"mail": (gate, GOOD)})
        relay = rig.relay(backend.port)
        names = [f"u{n}@example.com" for n in range(recipients)]
        task = asyncio.create_task(deliver(relay, transaction(*names)))
        await backend.event("mail").wait()
        gate.set()
        assert isinstance(await task, Delivered)
        assert backend.mails == [OURS + OCTETS]
        assert [line[:4] for line in backend.lines()[1:]] == ["MAIL", *["RCPT"] * recipients, "DATA"]

    run(tmp_path, test)


@pytest.mark.parametrize("features", [("PIPELINING",), ()])
@pytest.mark.parametrize("recipients", [1, 2])
def test_data_refused(tmp_path: Path, recipients: int, features: tuple[str, ...]) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"data": b"554 5.5.1 not now\r\n"}, features=features)
        relay = rig.relay(backend.port)
        fate = await deliver(relay, transaction(*[f"u{n}@example.com" for n in range(recipients)]))
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (554, "5.5.1")
        assert backend.lines()[-1] == "RSET"

    run(tmp_path, test)


def test_one_by_one_stops_at_the_first_refusal(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"rcpt u0@example.com": b"550 5.1.1 no\r\n"}, features=())
        fate = await deliver(rig.relay(backend.port), transaction("u0@example.com", "u1@example.com"))
        assert isinstance(fate, Refused)
        assert backend.lines()[1:] == ["MAIL FROM:<a@example.org>", "RCPT TO:<u0@example.com>", "RSET"]

    run(tmp_path, test)


def test_a_kept_connection_that_nobody_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall forgot it: no reset, no reply. A new connection, well before the deadline."""
    monkeypatch.setattr(turn, "_STEP_SECONDS", 0.1)

    async def test(rig: Rig) -> None:
        backend = await rig.backend({}, {})
        relay = rig.relay(backend.port, seconds=30)
        assert isinstance(await deliver(relay), Delivered)
        backend.scripts[0]["mail"] = HANG  # type: ignore[index]
        assert isinstance(await deliver(relay), Delivered)
        assert backend.connections == 2

    run(tmp_path, test)


@pytest.mark.parametrize("act", [HANG, STALL])
def test_a_reset_without_reply_does_not_hold_the_answer(
    tmp_path: Path, act: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "_RESET_SECONDS", 0.1)

    async def test(rig: Rig) -> None:
        backend = await rig.backend({"mail": b"550 5.7.1 no\r\n", "rset": act}, {})
        relay = rig.relay(backend.port)
        fate = await deliver(relay)
        assert isinstance(fate, Refused)
        assert fate.reply.code == 550
        assert isinstance(await deliver(relay), Delivered)
        assert backend.connections == 2

    run(tmp_path, test)


def test_cancelled_in_the_reset(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"mail": b"550 5.7.1 no\r\n", "rset": HANG}, {})
        relay = rig.relay(backend.port)
        task = asyncio.create_task(deliver(relay))
        await backend.event("rset").wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await backend.closed[0].wait()
        assert isinstance(await deliver(relay), Delivered)

    run(tmp_path, test)


def test_features_only_from_inside_tls(tmp_path: Path) -> None:
    """What a man in the middle offers in clear text is not believed."""

    async def test(rig: Rig) -> None:
        clear = b"250-backend.example\r\n250-SIZE 1\r\n250-PIPELINING\r\n250 STARTTLS\r\n"
        backend = await rig.backend({"ehlo": clear}, features=())
        assert isinstance(await deliver(rig.relay(backend.port)), Delivered)
        assert backend.lines()[1] == "MAIL FROM:<a@example.org>"

    run(tmp_path, test)
