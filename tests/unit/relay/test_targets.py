"""Which hosts, in which order: RFC 5321 section 5.1 by table."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.relay.targets import Endpoint, Exchangers, Fixed, NoAnswer, NoRoute, Target
from tests.outages.rig import Signed, quiet

A, B, C = (Endpoint(f"{name}.example", 25, f"{name}.example") for name in "abc")


def exchangers(zone: dict[str, Any], name: str | None = None, lot: random.Random | None = None) -> Exchangers:
    resolver = Resolver(Zone(zone), ManualClock())
    return Exchangers("example.net", 25, name, "mx.example.com", resolver, lot or random.Random(1))


def hosts(found: Exchangers) -> list[str]:
    with quiet():
        return [target.endpoint.host for target in asyncio.run(_now(found))]


async def _now(found: Exchangers | Fixed) -> list[Target]:
    return list(await found.now())


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (["10 a.example"], ["a.example"]),
        (["20 b.example", "10 a.example", "30 c.example"], ["a.example", "b.example", "c.example"]),
        (["10 a.example", "20 a.example"], ["a.example"]),
        ([], ["example.net"]),  # the domain is its own
        # What is not preferred to us would come back to us.
        (["10 a.example", "20 mx.example.com", "30 c.example"], ["a.example"]),
        (["10 a.example", "20 mx.example.com", "20 c.example"], ["a.example"]),
        ([f"{n} h{n:02d}.example" for n in range(30)], [f"h{n:02d}.example" for n in range(10)]),
    ],
)
def test_order(records: list[str], expected: list[str]) -> None:
    assert hosts(exchangers({"example.net": {"MX": records}})) == expected


def test_equal_preferences_take_turns() -> None:
    found = exchangers({"example.net": {"MX": ["10 a.example", "10 b.example", "20 c.example"]}})
    orders = Counter(tuple(hosts(found)) for _ in range(200))
    assert set(orders) == {("a.example", "b.example", "c.example"), ("b.example", "a.example", "c.example")}
    assert min(orders.values()) > 60


@pytest.mark.parametrize(
    ("zone", "error", "status"),
    [
        ({"example.net": {"MX": ["0 ."]}}, NoRoute, "4.4.4"),
        ({"example.net": {"MX": ["10 mx.example.com"]}}, NoRoute, "4.4.4"),
        ({}, NoRoute, "4.4.4"),
        ({"example.net": {"MX": "SERVFAIL"}}, NoAnswer, "4.4.3"),
        ({"example.net": {"MX": "TIMEOUT"}}, NoAnswer, "4.4.3"),
    ],
)
def test_no_route_is_never_the_senders_fault(zone: dict[str, Any], error: type[NoRoute], status: str) -> None:
    with pytest.raises(error) as raised:
        hosts(exchangers(zone))
    assert (raised.value.reply.code, raised.value.reply.status) == (451, status)


@pytest.mark.parametrize("insecure", [(), ("example.net",)])
def test_who_vouches(insecure: tuple[str, ...]) -> None:
    resolver = Resolver(Signed({"example.net": {"MX": ["10 a.example"]}}, insecure), ManualClock())
    found = Exchangers("example.net", 2525, "mail.example", "mx.example.com", resolver, random.Random(1))
    expected = Target(Endpoint("a.example", 2525, "mail.example"), "example.net", not insecure)
    assert asyncio.run(_now(found)) == [expected]


@pytest.mark.parametrize(("turning", "firsts"), [(False, "aaaa"), (True, "abca")])
def test_fixed(turning: bool, firsts: str) -> None:
    found = Fixed([A, B, C], turning=turning)
    orders = [[target.endpoint for target in asyncio.run(_now(found))] for _ in range(4)]
    assert "".join(order[0].host[0] for order in orders) == firsts
    assert all(set(order) == {A, B, C} for order in orders)
    assert str(Endpoint("2001:db8::1", 25, "")) == "[2001:db8::1]:25"
