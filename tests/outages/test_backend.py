"""The table of the relay, row by row, at every step of the dialogue: what our client is told, and what went out."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.relay.delivery import Delivered, Refused, Unknown
from tests.outages.backend import CLOSE, GOOD, HANG, READ, RESET, STALL, STEPS, Action, Backend
from tests.outages.rig import OCTETS, OURS, Rig, deliver, run, transaction

#: Steps before a mail transaction: a fault there is "cannot be reached" or a matter of TLS.
OPENING = ("banner", "ehlo", "starttls", "handshake", "ehlo-tls")
MAIL_STEPS = ("mail", "rcpt", "data", "dot")

LONG_LINES = b"".join(b"250-line\r\n" for _ in range(101)) + b"250 end\r\n"
LONG_TEXT = b"250 " + b"x" * 70_000 + b"\r\n"


def silent(backend: Backend) -> None:
    """No octet of a mail and no envelope went out in clear text."""
    assert set(bytes(backend.clear).split(b"\r\n")) <= {b"", b"EHLO mx.example.com", b"STARTTLS"}


def one(
    tmp_path: Path,
    script: dict[str, Action],
    *,
    tls: str = "good",
    loop: str = "asyncio",
    seconds: float = 10.0,
    recipients: tuple[str, ...] = (),
    verify: str = "off",
    minimum: str = "1.2",
    features: tuple[str, ...] | None = None,
) -> tuple[object, Backend]:
    """The fate of one mail before that script, on a fresh connection."""
    result: list[object] = []

    async def test(rig: Rig) -> None:
        more: dict[str, Any] = {} if features is None else {"features": features}
        backend = await rig.backend(script, tls=tls, **more)
        relay = rig.relay(backend.port, seconds=seconds, verify=verify, minimum=minimum)
        fate = await deliver(relay, transaction(*recipients))
        silent(backend)
        if isinstance(fate, Refused):
            assert backend.mails == []
        result.extend([fate, backend])

    run(tmp_path, test, loop=loop)
    return result[0], result[1]  # type: ignore[return-value]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_250_to_the_dot(tmp_path: Path, loop: str) -> None:
    fate, backend = one(tmp_path, {}, loop=loop)
    assert isinstance(fate, Delivered)
    assert (fate.reply.code, fate.reply.status, fate.reply.text) == (250, "2.0.0", ("queued as 4711",))
    assert backend.mails == [OURS + OCTETS]


@pytest.mark.parametrize("step", MAIL_STEPS)
@pytest.mark.parametrize(
    ("said", "code", "status", "text"),
    [
        (b"450 4.2.0 try later\r\n", 450, "4.2.0", "try later"),
        (b"452 4.3.1 disk full\r\n", 452, "4.3.1", "disk full"),
        (b"451 no enhanced code\r\n", 451, "4.0.0", "no enhanced code"),
        (b"550 5.7.1 not you\r\n", 550, "5.7.1", "not you"),
        (b"554 4.1.1 contradicts itself\r\n", 554, "5.0.0", "contradicts itself"),
        (b"552 5.3.4\r\n", 552, "5.3.4", ""),
        (b"550 5.1.1 evil \x1b[31m\xe4\r\n", 550, "5.1.1", "evil ?[31m?"),
        (b"421 4.3.2 closing\r\n", 451, "4.3.2", "The mail server does not serve us now; try again later"),
        (b"530 5.7.0 authenticate\r\n", 451, "4.7.0", "The mail server does not serve us now; try again later"),
        (b"535 5.7.8 wrong password\r\n", 451, "4.7.8", "The mail server does not serve us now; try again later"),
    ],
)
def test_refusals_keep_class_and_status(
    tmp_path: Path, step: str, said: bytes, code: int, status: str, text: str
) -> None:
    fate, _ = one(tmp_path, {step: said})
    assert isinstance(fate, Refused)
    assert (fate.reply.code, fate.reply.status, fate.reply.text[0]) == (code, status, text)


NO_PLACE = (
    b"220 hm\r\n", b"354 go\r\n", b"250 hm\r\n", b"200 hm\r\n", LONG_LINES, LONG_TEXT, b"250-a\r\n251 b\r\n",
    b"HTTP/1.1 200 OK\r\n", b"250 bare\n", b"\x00\xff\r\n", b"999 x\r\n", b"25 x\r\n",
)  # fmt: skip
RIGHT = {"mail": b"250 hm\r\n", "rcpt": b"250 hm\r\n", "data": b"354 go\r\n", "dot": b"250 hm\r\n"}


@pytest.mark.parametrize("features", [None, ("8BITMIME",)])
@pytest.mark.parametrize(("step", "said"), [(s, said) for s in MAIL_STEPS for said in NO_PLACE if said != RIGHT[s]])
def test_what_has_no_place_is_451(tmp_path: Path, step: str, said: bytes, features: tuple[str, ...] | None) -> None:
    fate, backend = one(tmp_path, {step: said}, features=features)
    assert isinstance(fate, Unknown if step == "dot" else Refused)
    assert (fate.reply.code, fate.reply.status) == (451, "4.3.0")
    assert backend.closed[0].is_set() or backend.connections == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("act", [CLOSE, RESET, HANG])
@pytest.mark.parametrize("step", ["connect", *OPENING, *MAIL_STEPS, "body"])
def test_gone_or_silent(tmp_path: Path, step: str, act: Action, loop: str) -> None:
    fate, _ = one(tmp_path, {step: act}, loop=loop, seconds=1.0 if act is HANG else 10.0)
    if step == "dot":
        assert isinstance(fate, Unknown)
        assert (fate.reply.code, fate.reply.status) == (451, "4.4.2")
        return
    # A small mail leaves us in one piece with its dot: whoever goes away then may have it.
    assert isinstance(fate, Unknown if step == "body" else Refused)
    assert fate.reply.code == 451
    expected = {"handshake": {"4.7.5", "4.4.1"}, "mail": {"4.4.2"}, "rcpt": {"4.4.2"}, "data": {"4.4.2"}}
    expected["body"] = {"4.4.2"}
    assert fate.reply.status in expected.get(step, {"4.4.1"}), fate


def test_nobody_listens(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        await backend.stop()
        fate = await deliver(rig.relay(backend.port))
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (451, "4.4.1")

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("step", "said", "status"),
    [
        ("banner", b"554 5.3.2 no service\r\n", "4.4.1"),
        ("banner", b"421 4.3.2 overloaded\r\n", "4.4.1"),
        ("banner", b"250 hello\r\n", "4.3.0"),
        ("banner", b"SSH-2.0-x\r\n", "4.3.0"),
        ("banner", b"220 one\r\n220 two\r\n", "4.3.0"),
        ("ehlo", b"502 5.5.1 HELO only\r\n", "4.7.5"),
        ("ehlo", b"421 4.3.2 closing\r\n", "4.4.1"),
        ("ehlo", b"220 what\r\n", "4.3.0"),
        ("ehlo", b"250-backend.example\r\n250 STARTTLS\r\n220 go\r\n", "4.3.0"),
        ("starttls", b"454 4.7.0 not now\r\n", "4.7.5"),
        ("starttls", b"502 5.5.1 never heard of\r\n", "4.7.5"),
        ("starttls", b"250 fine\r\n", "4.3.0"),
        ("starttls", b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n", "4.3.0"),
        ("starttls", b"220 go\r\n2", "4.3.0"),
        ("handshake", (READ, b"\x15\x03\x01\x00\x02\x02\x28"), "4.7.5"),
        ("handshake", (READ, b"500 I speak no TLS\r\n"), "4.7.5"),
        ("handshake", (READ, CLOSE), "4.7.5"),
        ("handshake", (READ, RESET), "4.7.5"),
        ("ehlo-tls", b"554 5.5.1 go away\r\n", "4.4.1"),
        ("ehlo-tls", b"354 what\r\n", "4.3.0"),
    ],
)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_opening_that_goes_wrong(tmp_path: Path, step: str, said: Action, status: str, loop: str) -> None:
    fate, backend = one(tmp_path, {step: said}, loop=loop)
    assert isinstance(fate, Refused)
    assert (fate.reply.code, fate.reply.status) == (451, status)
    assert not any(line.startswith("MAIL") for line in backend.lines())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("tls", ["", "expired", "wrong-name", "wrong-ca"])
def test_tls_that_cannot_be_trusted(tmp_path: Path, tls: str, loop: str) -> None:
    fate, backend = one(tmp_path, {}, tls=tls, loop=loop)
    assert isinstance(fate, Refused)
    assert (fate.reply.code, fate.reply.status) == (451, "4.7.5")
    assert backend.commands == []
    assert backend.connections == 1


def test_tls_that_is_too_old(tmp_path: Path) -> None:
    fate, _ = one(tmp_path, {}, tls="old", minimum="1.3")
    assert isinstance(fate, Refused)
    assert (fate.reply.code, fate.reply.status) == (451, "4.7.5")


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_banner_of_many_lines(tmp_path: Path, pipelining: bool) -> None:
    features = ("PIPELINING",) if pipelining else ()
    fate, backend = one(tmp_path, {"banner": b"220-a\r\n220-b\r\n220 c\r\n"}, features=features)
    assert isinstance(fate, Delivered)
    assert backend.mails == [OURS + OCTETS]
    assert backend.lines()[1:4] == ["MAIL FROM:<a@example.org>", "RCPT TO:<u@example.com>", "DATA"]


@pytest.mark.parametrize("step", ["banner", "ehlo", "mail", "dot"])
def test_one_octet_at_a_time(tmp_path: Path, step: str) -> None:
    """A reply in single octets is a reply."""
    good = {"banner": b"220 x\r\n", "ehlo": b"250-x\r\n250 STARTTLS\r\n", "mail": b"250 ok\r\n", "dot": b"250 ok\r\n"}
    fate, _ = one(tmp_path, {step: tuple(bytes([octet]) for octet in good[step])})
    assert isinstance(fate, Delivered)


@pytest.mark.parametrize(
    ("script", "fate_is"),
    [
        ({"data": b"354 go\r\n250 2.0.0 taken already\r\n"}, Refused),
        ({"data": (b"354 go\r\n", b"4")}, Refused),
        ({"rcpt": b"250 ok\r\n354 go\r\n250 ok\r\n"}, Refused),
        ({"mail": b"250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n"}, Refused),
        # What comes together with the true reply cannot take it back.
        ({"dot": b"250 2.0.0 ok\r\n421 4.3.2 bye\r\n"}, Delivered),
    ],
)
def test_octets_before_they_are_due(tmp_path: Path, script: dict[str, Action], fate_is: type) -> None:
    fate, backend = one(tmp_path, script) if fate_is is Refused else _taken(tmp_path, script)
    assert isinstance(fate, fate_is)
    if isinstance(fate, Refused):
        assert fate.reply.code == 451
    assert backend.closed[0].is_set() or backend.connections == 1


def _taken(tmp_path: Path, script: dict[str, Action]) -> tuple[object, Backend]:
    return one(tmp_path, script)


@pytest.mark.parametrize(
    ("verify", "recipients", "said", "code", "status"),
    [
        ("off", 1, b"550 5.1.1 no such user\r\n", 550, "5.1.1"),
        ("off", 2, b"550 5.1.1 no such user\r\n", 451, "4.1.1"),
        ("off", 2, b"450 4.2.0 later\r\n", 450, "4.2.0"),
        ("on", 1, b"550 5.1.1 no such user\r\n", 451, "4.1.1"),
        ("on", 2, b"552 5.2.2 full\r\n", 451, "4.2.2"),
    ],
)
def test_one_recipient_refused_at_delivery(
    tmp_path: Path, verify: str, recipients: int, said: bytes, code: int, status: str
) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"rcpt u0@example.com": said})
        setting = "off" if verify == "off" else "{positive: 24h, negative: 30m}"
        relay = rig.relay(backend.port, verify=setting)
        names = [f"u{n}@example.com" for n in range(recipients)]
        for name in names:
            rig.store.remember_recipient("main", name, True, rig.clock.now() + 100)
        fate = await deliver(relay, transaction(*names))
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (code, status)
        assert backend.mails == []
        assert backend.lines()[-1] == "RSET"
        assert rig.store.recipient("main", "u0@example.com", rig.clock.now()) is None
        # The connection is whole: the next mail goes over it.
        assert isinstance(await deliver(relay, transaction("u9@example.com")), Delivered)
        assert backend.connections == 1

    run(tmp_path, test)


def test_354_though_the_sole_recipient_is_refused(tmp_path: Path) -> None:
    """RFC 2920 section 3.1: a lone dot, and no octet of the mail."""
    fate, backend = one(
        tmp_path, {"rcpt": b"550 5.1.1 no\r\n", "data": b"354 go\r\n", "dot": b"554 5.5.1 no valid recipients\r\n"}
    )
    assert isinstance(fate, Refused)
    assert (fate.reply.code, fate.reply.status) == (550, "5.1.1")
    assert backend.pieces == [b""]
    assert backend.lines()[-2:] == ["RSET", "QUIT"]


def test_354_though_mail_is_refused(tmp_path: Path) -> None:
    script: dict[str, Action] = {
        "mail": b"451 4.7.1 no\r\n",
        "rcpt": b"503 5.5.1 no\r\n",
        "data": GOOD,
        "dot": b"250 ok\r\n",
    }
    fate, backend = one(tmp_path, script)
    assert isinstance(fate, Refused)
    assert (fate.reply.code, fate.reply.status) == (451, "4.7.1")
    assert backend.pieces == [b""]


def test_354_for_a_recipient_without_a_sender(tmp_path: Path) -> None:
    """A dot would deliver an empty mail: the connection is broken off instead, and the refusal told."""
    fate, backend = one(tmp_path, {"mail": b"550 5.7.1 no\r\n", "rcpt": GOOD, "data": GOOD})
    assert isinstance(fate, Refused)
    assert (fate.reply.code, fate.reply.status) == (550, "5.7.1")
    assert backend.mails == []


def test_a_refused_reset_closes(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"dot": GOOD, "mail": b"550 no\r\n", "rset": b"500 what\r\n"}, {})
        relay = rig.relay(backend.port)
        assert isinstance(await deliver(relay), Refused)
        assert isinstance(await deliver(relay), Delivered)
        assert backend.connections == 2

    run(tmp_path, test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("second", "connections"),
    [
        ({"mail": CLOSE}, 2),
        ({"mail": RESET}, 2),
        ({"mail": b"421 4.4.2 idle too long\r\n"}, 2),
    ],
)
def test_a_kept_connection_that_died_costs_a_reconnect(
    tmp_path: Path, second: dict[str, Action], connections: int, loop: str
) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({}, {})
        relay = rig.relay(backend.port)
        assert isinstance(await deliver(relay), Delivered)
        backend_scripts = dict(second)
        # The same connection misbehaves from now on.
        backend.scripts[0].update(backend_scripts)  # type: ignore[attr-defined]
        assert isinstance(await deliver(relay), Delivered)
        assert backend.connections == connections
        assert len(backend.mails) == 2

    run(tmp_path, test, loop=loop)


@pytest.mark.parametrize("farewell", [b"", b"421 4.4.2 timeout\r\n"])
def test_a_backend_that_closes_an_idle_connection(tmp_path: Path, farewell: bytes) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        relay = rig.relay(backend.port)
        for round_ in range(3):
            assert isinstance(await deliver(relay), Delivered)
            assert backend.connections == round_ + 1
            task = next(iter(backend.tasks))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(tmp_path, test)


def test_a_backend_that_says_421_and_goes(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"mail": b"421 4.3.2 always\r\n"})
        fate = await deliver(rig.relay(backend.port))
        assert isinstance(fate, Refused)
        assert fate.reply.code == 451
        assert backend.connections == 1  # a fresh connection is not tried again

    run(tmp_path, test)


def test_the_next_host_when_the_first_is_down(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        bad = await rig.backend({}, tls="expired")
        good = await rig.backend()
        gone = await rig.backend()
        await gone.stop()
        relay = rig.relay(bad.port, gone.port, good.port)
        for _ in range(3):
            fate = await deliver(relay)
            assert isinstance(fate, Delivered)
            assert fate.host == f"127.0.0.1:{good.port}"
        assert bad.connections == 1  # remembered as dead, tried last
        await good.stop()
        fate = await deliver(relay)
        assert isinstance(fate, Refused)
        assert fate.reply.status == "4.7.5"  # what an operator must see wins
        silent(bad)
        await good.start()
        assert isinstance(await deliver(relay), Delivered)
        tried = bad.connections
        rig.clock.advance(3600)
        assert isinstance(await deliver(relay), Delivered)
        assert bad.connections == tried + 1  # and once in a while the first one gets another chance

    run(tmp_path, test)


def test_a_hanging_host_leaves_time_for_the_next(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        hanging = await rig.backend({"banner": HANG})
        good = await rig.backend()
        fate = await deliver(rig.relay(hanging.port, good.port, seconds=1.5))
        assert isinstance(fate, Delivered)

    run(tmp_path, test)


def test_names_come_from_dns(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        for host in ("mail.example", "two.example", "localhost"):
            relay = rig.relay(hosts=[f"{host}:{backend.port}"])
            assert isinstance(await deliver(relay), Delivered)
        fate = await deliver(rig.relay(hosts=[f"none.example:{backend.port}"]))
        assert isinstance(fate, Refused)
        assert fate.reply.status == "4.4.1"

    run(tmp_path, test)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("act", [CLOSE, RESET, b"552 5.3.4 too big\r\n", b"x"])
def test_in_the_middle_of_a_large_body(tmp_path: Path, act: Action, loop: str) -> None:
    """Before the dot it is a refusal, not a doubt; and a reply before the dot is none."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend({"body": act})
        relay = rig.relay(backend.port)
        octets = b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 2_000_000
        fate = await deliver(relay, transaction(octets=octets))
        assert isinstance(fate, Refused)
        assert fate.reply.code == 451
        assert fate.reply.status == ("4.3.0" if isinstance(act, bytes) else "4.4.2")
        assert backend.mails == []

    run(tmp_path, test, loop=loop)


def test_a_backend_that_stops_reading(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"data": (GOOD, STALL)})
        relay = rig.relay(backend.port, seconds=1.0)
        fate = await deliver(relay, transaction(octets=b"\r\n" + b"x" * 60 + b"\r\n" * 10_000_000))
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (451, "4.4.2")

    run(tmp_path, test)


@pytest.mark.parametrize("step", ["mail", "data", "body", "dot"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_cancelled_delivery_leaves_no_connection_behind(tmp_path: Path, step: str, loop: str) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({step: HANG}, {})
        relay = rig.relay(backend.port, share=1)
        task = asyncio.create_task(deliver(relay))
        await backend.event(step).wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(await deliver(relay), Delivered)
        await backend.closed[0].wait()
        assert backend.connections == 2
        await relay.drain()

    run(tmp_path, test, loop=loop)


def test_drain_waits_for_what_is_under_way(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        gate = asyncio.Event()
        backend = await rig.backend({"dot": (gate, GOOD)})
        relay = rig.relay(backend.port)
        task = asyncio.create_task(deliver(relay))
        await backend.event("dot").wait()
        drained = asyncio.create_task(relay.drain())
        await asyncio.sleep(0)
        assert not drained.done()
        gate.set()
        await drained
        assert isinstance(await task, Delivered)

    run(tmp_path, test)


def test_every_step_is_covered() -> None:
    assert {*STEPS, "handshake"} == {*OPENING, *MAIL_STEPS, "rset"}
