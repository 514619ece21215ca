"""Where hosts are, and in which order they are tried."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.files import DiskFiles
from gateway.mail.address import Mailbox
from gateway.mail.terms import Unavailable
from gateway.relay import turn
from gateway.relay.addresses import Addresses
from gateway.relay.delivery import Delivered, Refused, Unknown
from gateway.relay.targets import Endpoint
from tests.outages.backend import CLOSE, DRIP, FEATURES, GOOD, HANG, READ, RESET, STALL, Act
from tests.outages.rig import NAME, OCTETS, OURS, Rig, deliver, run, transaction

ZONE = {
    "four.example": {"A": ["192.0.2.1"]},
    "six.example": {"AAAA": ["2001:db8::1"]},
    "both.example": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]},
    "broken.example": {"*": "SERVFAIL"},
    "half.example": {"A": ["192.0.2.3"], "AAAA": "SERVFAIL"},
}


def resolver(tmp_path: Path) -> Resolver:
    file = tmp_path / "zone.json"
    file.write_text(json.dumps(ZONE))
    return Resolver(Zone.load(file, DiskFiles()), ManualClock())


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("192.0.2.9", ["192.0.2.9"]),
        ("2001:db8::9", ["2001:db8::9"]),
        ("localhost", ["127.0.0.1", "::1"]),
        ("four.example", ["192.0.2.1"]),
        ("six.example", ["2001:db8::1"]),
        ("half.example", ["192.0.2.3"]),
        ("both.example", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
    ],
)
def test_addresses(tmp_path: Path, name: str, addresses: list[str]) -> None:
    assert asyncio.run(_of(Addresses(resolver(tmp_path), system=False), name)) == addresses


async def _of(addresses: Addresses, name: str) -> list[str]:
    return list(await addresses.of(name))


@pytest.mark.parametrize("name", ["none.example", "broken.example"])
def test_no_address(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unavailable):
        asyncio.run(_of(Addresses(resolver(tmp_path), system=False), name))


def test_the_tables_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def table(host: str, *_: object, **__: object) -> list[object]:
        if host != "none.example":
            raise OSError("not known")
        entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))
        return [entry, entry]

    monkeypatch.setattr(socket, "getaddrinfo", table)
    addresses = Addresses(resolver(tmp_path), system=True)
    assert asyncio.run(_of(addresses, "none.example")) == ["192.0.2.7"]
    with pytest.raises(Unavailable):
        asyncio.run(_of(Addresses(resolver(tmp_path), system=True), "broken.example"))


def test_a_host_that_fails_on_is_left_alone_for_longer(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        bad = await rig.backend({}, tls="wrong-name")
        good = await rig.backend()
        relay = rig.relay(bad.port, good.port, share=1)
        tried = []
        for _ in range(40):
            assert isinstance(await deliver(relay), Delivered)
            # A kept connection would hide whether the first host was tried.
            for backend_hosts in relay._hosts.values():
                for pool in backend_hosts._pools.values():
                    pool._retire({connection for connection, _ in pool._idle})
            tried.append(bad.connections)
            rig.clock.advance(10)
        assert tried[-1] == 7  # at 0, 10, 20, 40, 80, 160, 320 s

    run(tmp_path, test)


def test_hosts_that_dns_names_no_more_are_left(tmp_path: Path) -> None:
    """MX records change: the old host's connections say QUIT, and nothing is remembered of it."""

    async def test(rig: Rig) -> None:
        first, second = await rig.backend(), await rig.backend()
        zone = {
            "example.net": {"MX": ["10 backend.example"]},
            "backend.example": {"A": ["127.0.0.1"]},
        }
        relay = rig.relay(mx=f'"example.net:{first.port}"', tls="{ca: ca.pem}", zone=zone)
        assert isinstance(await deliver(relay), Delivered)
        (hosts,) = relay._hosts.values()
        hosts._targets._port = second.port  # type: ignore[attr-defined]
        assert isinstance(await deliver(relay), Delivered)
        await first.closed[0].wait()
        assert first.lines()[-1] == "QUIT"
        assert isinstance(await deliver(relay), Delivered)
        assert [endpoint.port for endpoint in hosts._pools] == [second.port]
        assert len(second.mails) == 2

    run(tmp_path, test)


def test_round_robin(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backends = [await rig.backend() for _ in range(3)]
        relay = rig.relay(*(backend.port for backend in backends), more="order: round_robin")
        for _ in range(6):
            assert isinstance(await deliver(relay), Delivered)
        assert [len(backend.mails) for backend in backends] == [2, 2, 2]
        await backends[1].stop()
        for _ in range(6):
            assert isinstance(await deliver(relay), Delivered)
        assert len(backends[0].mails) + len(backends[2].mails) == 10

    run(tmp_path, test)


def test_the_first_host_gets_all(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backends = [await rig.backend() for _ in range(2)]
        relay = rig.relay(*(backend.port for backend in backends), more="order: failover")
        for _ in range(4):
            assert isinstance(await deliver(relay), Delivered)
        assert [len(backend.mails) for backend in backends] == [4, 0]

    run(tmp_path, test)


def test_a_null_mx_is_no_fault_of_the_sender(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        relay = rig.relay(mx="example.net", tls="{ca: ca.pem}", zone={"example.net": {"MX": ["0 ."]}})
        fate = await deliver(relay)
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (451, "4.4.4")

    run(tmp_path, test)


def test_ipv6(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        assert backend.server is not None
        try:
            six = await asyncio.start_server(backend._serve, "::1", 0)
        except OSError:
            pytest.skip("no IPv6 on this machine")
        port = six.sockets[0].getsockname()[1]
        zone = {"example.net": {"MX": ["10 backend.example"]}, "backend.example": {"AAAA": ["::1"]}}
        for how in ({"hosts": [f"[::1]:{port}"]}, {"mx": f'"example.net:{port}"', "tls": "{ca: ca.pem}", "zone": zone}):
            fate = await deliver(rig.relay(**how))  # type: ignore[arg-type]
            assert isinstance(fate, Delivered)
            assert str(port) in fate.host
        six.close()

    run(tmp_path, test)


@pytest.mark.parametrize("step", ["mail", "rcpt", "data"])
@pytest.mark.parametrize(
    "fault", [b"421 4.3.2 bye\r\n", CLOSE, RESET, b"junk\r\n"], ids=["421", "close", "reset", "junk"]
)
def test_what_one_host_breaks_off_before_the_dot_the_next_one_gets(tmp_path: Path, step: str, fault: Any) -> None:
    async def test(rig: Rig) -> None:
        bad, good = await rig.backend({step: fault}), await rig.backend()
        relay = rig.relay(bad.port, good.port)
        fate = await deliver(relay)
        assert isinstance(fate, Delivered)
        assert (bad.mails, good.mails) == ([], [OURS + OCTETS])
        connections = bad.connections
        assert isinstance(await deliver(relay), Delivered)
        assert bad.connections == connections  # it is put aside for a while

    run(tmp_path, test)


@pytest.mark.parametrize("fault", [HANG, DRIP], ids=["hang", "drip"])
@pytest.mark.parametrize(
    ("step", "features"),
    [
        (step, features)
        for step in ("banner", "ehlo", "starttls", "handshake", "ehlo-tls", "mail", "rcpt", "data")
        for features in (FEATURES, (*FEATURES, "CHUNKING"), ("8BITMIME",))
        if (step, features[-1]) != ("data", "CHUNKING")  # no DATA is said
    ],
)
def test_a_host_silent_from_any_step_before_the_dot_costs_no_mail(
    tmp_path: Path, step: str, fault: Act, features: tuple[str, ...]
) -> None:
    async def test(rig: Rig) -> None:
        silent = await rig.backend({step: (READ, fault) if step == "handshake" else fault}, features=features)
        good = await rig.backend(features=features)
        relay = rig.relay(silent.port, good.port, seconds=1.0)
        assert isinstance(await deliver(relay), Delivered)
        assert (silent.mails, good.mails) == ([], [OURS + OCTETS])
        connections = silent.connections
        assert isinstance(await deliver(relay), Delivered)
        assert silent.connections == connections  # put aside: the next mail waits for nobody

    run(tmp_path, test)


@pytest.mark.parametrize("features", [FEATURES, (*FEATURES, "CHUNKING")])
def test_a_host_that_stops_reading_a_body_costs_no_mail(tmp_path: Path, features: tuple[str, ...]) -> None:
    """Before the dot: nobody can have the mail yet."""

    async def test(rig: Rig) -> None:
        step = "rcpt" if "CHUNKING" in features else "data"
        stalled, good = await rig.backend({step: (GOOD, STALL)}, features=features), await rig.backend()
        octets = b"Subject: x\r\n\r\n" + (b"0123456789" * 7 + b"\r\n") * 150_000
        relay = rig.relay(stalled.port, good.port, seconds=4.0)
        assert isinstance(await deliver(relay, transaction(octets=octets)), Delivered)
        assert (stalled.mails, len(good.mails)) == ([], 1)

    run(tmp_path, test)


def test_a_question_about_a_recipient_goes_to_the_next_host_as_well(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        silent, good = await rig.backend({"rcpt": HANG}), await rig.backend({"rcpt": b"550 5.1.1 nobody\r\n"})
        relay = rig.relay(silent.port, good.port, seconds=1.0, verify="{positive: 24h, negative: 30m}")
        found = await relay.known("main", transaction(), Mailbox("u", "example.com"))
        assert found.answer == "no"

    run(tmp_path, test)


def test_the_busy_host_is_left_for_the_next(tmp_path: Path) -> None:
    """All its connections are lent: its line costs a part of the time, and it is not put aside for that."""

    async def test(rig: Rig) -> None:
        gate = asyncio.Event()
        busy, good = await rig.backend({"dot": (gate, GOOD)}, {}), await rig.backend()
        relay = rig.relay(busy.port, good.port, share=1, seconds=10.0)
        first = asyncio.create_task(deliver(relay))
        await busy.event("dot").wait()
        relay._seconds = 1.0
        assert isinstance(await deliver(relay), Delivered)
        assert len(good.mails) == 1
        gate.set()
        assert isinstance(await first, Delivered)
        assert isinstance(await deliver(relay), Delivered)
        assert (len(busy.mails), len(good.mails)) == (2, 1)

    run(tmp_path, test)


def test_who_stands_in_line_leaves_when_the_host_fails(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        gate = asyncio.Event()
        failing, good = await rig.backend({"data": (gate, CLOSE)}, {"banner": HANG}), await rig.backend()
        relay = rig.relay(failing.port, good.port, share=1, seconds=60.0)
        mails = [asyncio.create_task(deliver(relay)) for _ in range(6)]
        await failing.event("data").wait()
        gate.set()
        async with asyncio.timeout(10):  # and not after the 20 s of a place in the line
            fates = await asyncio.gather(*mails)
        assert all(isinstance(fate, Delivered) for fate in fates)
        assert failing.connections == 1  # nobody met the silent banner

    run(tmp_path, test)


def test_a_sole_host_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else could take the mail: a slow reply is worth waiting for."""
    monkeypatch.setattr(turn, "_STEP_SECONDS", 0.01)

    async def test(rig: Rig) -> None:
        gate = asyncio.Event()
        slow = await rig.backend({"mail": (gate, GOOD)})
        task = asyncio.create_task(deliver(rig.relay(slow.port)))
        await slow.event("mail").wait()
        asyncio.get_running_loop().call_later(0.2, gate.set)
        assert isinstance(await task, Delivered)

    run(tmp_path, test)


def test_a_look_at_the_features_heals_nobody(tmp_path: Path) -> None:
    """A host that shakes hands and then says nothing has held no dialogue."""

    async def test(rig: Rig) -> None:
        silent, good = await rig.backend({"mail": HANG}), await rig.backend()
        relay = rig.relay(silent.port, good.port, seconds=0.5)
        assert isinstance(await deliver(relay), Delivered)
        rig.clock.advance(6)
        tx = transaction("ü@example.com", smtputf8=True)
        assert (await relay.known("main", tx, Mailbox("u", "example.com"))).reply is None
        (hosts,) = relay._hosts.values()
        assert hosts._health.healed(Endpoint("127.0.0.1", silent.port, NAME))

    run(tmp_path, test)


def test_each_host_is_tried_once_for_a_mail(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        unreachable = await rig.backend({"banner": b"421 4.3.2 no\r\n"})
        breaking = await rig.backend({"mail": CLOSE})
        fate = await deliver(rig.relay(unreachable.port, breaking.port))
        assert isinstance(fate, Refused)
        assert (unreachable.connections, breaking.connections) == (1, 1)

    run(tmp_path, test)


def test_a_host_silent_after_the_dot_is_put_aside(tmp_path: Path) -> None:
    """Its mail is in doubt and goes nowhere else; the next one need not meet it."""

    async def test(rig: Rig) -> None:
        silent, good = await rig.backend({"dot": HANG}), await rig.backend()
        relay = rig.relay(silent.port, good.port, seconds=0.5)
        assert isinstance(await deliver(relay), Unknown)
        assert good.mails == []
        assert isinstance(await deliver(relay), Delivered)
        assert (len(good.mails), silent.connections) == (1, 1)

    run(tmp_path, test)


@pytest.mark.parametrize("fault", [CLOSE, RESET, b"junk\r\n"], ids=["close", "reset", "junk"])
def test_after_the_dot_no_other_host_is_tried(tmp_path: Path, fault: Any) -> None:
    async def test(rig: Rig) -> None:
        bad, other = await rig.backend({"dot": fault}), await rig.backend()
        assert isinstance(await deliver(rig.relay(bad.port, other.port)), Unknown)
        assert other.mails == []

    run(tmp_path, test)


def test_every_host_breaks_off(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        one, two = await rig.backend({"mail": b"421 4.3.2 a\r\n"}), await rig.backend({"mail": b"421 4.3.2 b\r\n"})
        fate = await deliver(rig.relay(one.port, two.port))
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (451, "4.3.2")
        assert (one.connections, two.connections) == (1, 1)

    run(tmp_path, test)


def test_a_host_that_shakes_hands_and_then_says_nothing_is_not_healed_by_that(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        silent, good = await rig.backend({"mail": HANG}), await rig.backend()
        relay = rig.relay(silent.port, good.port, seconds=0.5)
        fates = [await deliver(relay)]
        for pause in (6, 11, 21):  # each after the pause: one trial, and a longer pause
            rig.clock.advance(pause)
            fates += [await deliver(relay), await deliver(relay)]
        assert all(isinstance(fate, Delivered) for fate in fates)
        assert silent.connections == 4

    run(tmp_path, test)
