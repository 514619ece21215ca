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
from gateway.mail.terms import Unavailable
from gateway.relay.addresses import Addresses
from gateway.relay.delivery import Delivered, Refused, Unknown
from tests.outages.backend import CLOSE, HANG, RESET
from tests.outages.rig import OCTETS, OURS, Rig, deliver, run

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


def test_a_silent_host_is_put_aside_for_the_next_mail(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        bad, good = await rig.backend({"data": HANG}), await rig.backend()
        relay = rig.relay(bad.port, good.port, seconds=0.3)
        fate = await deliver(relay)
        assert isinstance(fate, Refused)
        assert "silent" in fate.why
        assert isinstance(await deliver(relay), Delivered)

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
        relay = rig.relay(silent.port, good.port, seconds=0.3)
        fates = [await deliver(relay)]
        for pause in (6, 11, 21):  # each after the pause: one probe, and a longer pause
            rig.clock.advance(pause)
            fates += [await deliver(relay), await deliver(relay)]
        assert [isinstance(fate, Delivered) for fate in fates] == [False, False, True, False, True, False, True]

    run(tmp_path, test)
