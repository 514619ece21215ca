"""DNS lists: names asked, replies, weights, what a silent list means (RFC 5782)."""

import asyncio
from typing import Any

import pytest

from gateway.checks.check import OnError
from gateway.checks.dnsbl import Dnsbl, DnsblFact, List
from gateway.checks.dnsbl_health import FAILURES, FIRST_PAUSE
from gateway.checks.facts import Facts
from gateway.clock import ManualClock
from gateway.dns.answer import Response
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.envelope import Envelope, Session, Transaction

BAD, WORSE, GOOD = "bl.example.org", "xbl.example.org", "allow.example.org"
LISTS = [List(BAD, 5), List(WORSE, 3, lambda address: address == "127.0.0.4"), List(GOOD, -5)]
TEST = {f"2.0.0.127.{zone}": {"A": ["127.0.0.2"]} for zone in (BAD, WORSE, GOOD)}
CLIENT = "1.2.0.192"


def listed(zone: str, *replies: str, owner: str = CLIENT) -> dict[str, Any]:
    return {f"{owner}.{zone}": {"A": list(replies or ["127.0.0.2"])}}


def tx(ip: str) -> Transaction:
    return Transaction("T1", Session("S1", ip, 4711, "192.0.2.25", 25, 0.0), Envelope(None), 0.0)


def ask(check: Dnsbl, ip: str = "192.0.2.1") -> tuple[DnsblFact, bool]:
    async def main() -> tuple[DnsblFact, bool]:
        facts = Facts({Dnsbl: check}, tx(ip))
        fact = await facts.get(Dnsbl)
        return fact, bool(facts.failed)

    return asyncio.run(main())


def check(zone: dict[str, Any], lists: list[List] = LISTS, clock: ManualClock | None = None) -> Dnsbl:
    clock = clock or ManualClock()
    return Dnsbl(Resolver(Zone(TEST | zone), clock), clock, lists)


SILENT = {f"{CLIENT}.{GOOD}": {"A": "SERVFAIL"}}


@pytest.mark.parametrize(
    ("zone", "score", "zones"),
    [
        ({}, 0, []),
        (listed(BAD), 5, [BAD]),
        (listed(BAD, "127.0.0.2", "127.0.0.10"), 5, [BAD]),
        (listed(BAD, "127.0.0.1"), 0, []),
        (listed(BAD, "127.0.0.0"), 0, []),
        (listed(BAD) | listed(WORSE), 5, [BAD]),
        (listed(BAD) | listed(WORSE, "127.0.0.4"), 8, [BAD, WORSE]),
        (listed(BAD) | listed(WORSE, "127.0.0.2", "127.0.0.4"), 8, [BAD, WORSE]),
        (listed(BAD) | listed(GOOD, "127.0.2.3"), 0, [BAD, GOOD]),
        (listed(GOOD, "127.0.2.3"), -5, [GOOD]),
        # Error codes and foreign addresses are no listing, alone or in company.
        (listed(BAD, "127.255.255.254"), 0, []),
        (listed(BAD, "127.0.0.2", "127.255.255.252"), 0, []),
        (listed(BAD, "192.0.2.80"), 0, []),
        (listed(BAD, "127.0.0.2", "192.0.2.80"), 0, []),
        # A silent list counts for the client, but makes nobody better than unknown.
        (SILENT, 0, []),
        (SILENT | listed(BAD), 0, [BAD]),
        (SILENT | listed(BAD) | listed(WORSE, "127.0.0.4"), 3, [BAD, WORSE]),
        ({f"{CLIENT}.{BAD}": {"A": "TIMEOUT"}}, 0, []),
        ({f"{CLIENT}.{BAD}": {"A": "TIMEOUT"}} | listed(GOOD), -5, [GOOD]),
    ],
)
def test_scores(zone: dict[str, Any], score: int, zones: list[str]) -> None:
    one = check(zone)
    fact, failed = ask(one)
    assert one.named(fact) == {"dnsbl.score": score, "dnsbl.zones": zones}
    assert not failed


def test_ipv6_is_asked_by_nibbles() -> None:
    owner = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
    assert ask(check(listed(BAD, owner=owner)), "2001:db8::1")[0].score == 5
    assert ask(check(listed(BAD)), "::ffff:192.0.2.1")[0].score == 5


@pytest.mark.parametrize("ip", ["127.0.0.2", "::1", "0.0.0.0"])
def test_this_machine_is_on_no_list(ip: str) -> None:
    assert ask(check({}), ip) == (DnsblFact(), False)


def test_without_lists_there_is_nothing_to_say() -> None:
    assert ask(check({}, [])) == (DnsblFact(), False)


def test_no_answer_at_all_is_an_error_of_the_check() -> None:
    one = check({f"{CLIENT}.{zone}": {"A": "SERVFAIL"} for zone in (BAD, WORSE, GOOD)})
    fact, failed = ask(one)
    assert failed
    assert one.failed(fact)
    assert one.named(fact) == {"dnsbl.score": 0, "dnsbl.zones": []} == one.named(one.error())
    assert Dnsbl.on_error is OnError.IGNORE
    assert Dnsbl.once
    assert not Dnsbl.eager


def test_a_zone_that_lists_the_world_lists_nobody() -> None:
    """RFC 5782 section 5: a zone that was given up answers for every name."""
    zone = listed(BAD) | listed(WORSE, "127.0.0.4") | {f"1.0.0.127.{BAD}": {"A": ["127.0.0.2"]}}
    assert ask(check(zone))[0] == DnsblFact(3, (WORSE,))


def test_until_the_first_test_passes_nothing_counts() -> None:
    zone = listed(BAD) | listed(WORSE, "127.0.0.4") | {f"1.0.0.127.{BAD}": {"A": "TIMEOUT"}}
    assert ask(check(zone))[0] == DnsblFact(3, (WORSE,))


class Counting(Zone):
    """Counts its questions, and is dead on demand."""

    def __init__(self, mapping: dict[str, Any]) -> None:
        super().__init__(mapping)
        self.asked: list[str] = []
        self.hangs = False

    async def ask(self, name: str, rdtype: str, timeout: float) -> Response:
        self.asked.append(name)
        if self.hangs:
            await asyncio.Event().wait()
        return await super().ask(name, rdtype, timeout)


def test_a_sick_zone_is_not_asked_until_its_pause_is_over() -> None:
    clock = ManualClock()
    dead = {f"{n}.2.0.192.{BAD}": {"A": "SERVFAIL"} for n in range(1, 20)}
    source = Counting(TEST | dead | listed(BAD, owner="99.2.0.192"))
    one = Dnsbl(Resolver(source, clock), clock, [List(BAD, 5)])
    for number in range(1, FAILURES + 1):
        assert ask(one, f"192.0.2.{number}")[1]
    before = len(source.asked)
    assert ask(one, "192.0.2.99") == (DnsblFact(result="temperror"), True)
    assert len(source.asked) == before
    clock.advance(FIRST_PAUSE)
    assert ask(one, "192.0.2.99") == (DnsblFact(5, (BAD,)), False)


def test_a_list_has_its_own_short_time() -> None:
    clock = ManualClock()
    source = Counting({})
    source.hangs = True
    one = Dnsbl(Resolver(source, clock), clock, [List(BAD, 5)], timeout=0.01)
    assert ask(one)[1]
    assert len(source.asked) == 3


def test_all_lists_are_asked_at_once() -> None:
    clock = ManualClock()
    source = Counting(TEST | listed(GOOD))
    source.hangs = True

    async def main() -> int:
        resolver = Resolver(source, clock)
        task = asyncio.create_task(Dnsbl(resolver, clock, LISTS).run(tx("192.0.2.1"), Facts({}, tx("192.0.2.1"))))
        while len(source.asked) < 9:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await resolver.close()
        return len(source.asked)

    assert asyncio.run(main()) == 9
