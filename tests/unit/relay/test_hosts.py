"""Where hosts are, and in which order they are tried."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.files import DiskFiles
from gateway.mail.terms import Unavailable
from gateway.relay.addresses import Addresses
from gateway.relay.delivery import Delivered
from tests.outages.rig import Rig, deliver, run

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
