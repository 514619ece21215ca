"""Since when an author is known: by what is proven, never by what is claimed."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from gateway.checks.facts import Facts
from gateway.checks.history import KEEP, NEVER, History, HistoryFact, entry
from gateway.checks.roster import Terms, roster
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.message import Message
from gateway.mail.terms import Result, Unavailable
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Store

DAY = 86_400
POLICY = {"_dmarc.bank.example": {"TXT": ["v=DMARC1; p=none"]}}
SPF = {"bank.example": {"TXT": ["v=spf1 ip4:192.0.2.7 -all"]}, "other.example": {"TXT": ["v=spf1 +all"]}}
FROM = b"From: Sue <Sue@bank.example>\r\n"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def asked(
    clock: ManualClock,
    store: Store | None,
    zone: dict[str, Any],
    header: bytes = FROM,
    *,
    sender: str = "sue@bank.example",
    ip: str = "192.0.2.7",
) -> tuple[HistoryFact, dict[str, str]]:
    async def run() -> tuple[HistoryFact, dict[str, str]]:
        checks = roster(Terms(), Resolver(Zone(zone), clock), clock, store=store)
        session = Session("S", ip, 1, "192.0.2.25", 25, 0)
        envelope = Envelope(Mailbox.parse(sender.encode()))
        facts = Facts(checks, Transaction("T", session, envelope, 0, Message.from_octets(header + b"\r\nx\r\n")))
        try:
            found = await facts.get(History)
            assert History(clock).named(found) == {"from.known_days": found.days}
            return found, facts.failed
        finally:
            await facts.close()

    return asyncio.run(run())


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Any:
    with contextlib.closing(SqliteStore(tmp_path / "s.db", clock)) as opened:
        yield opened


def test_whole_days_since_the_first(clock: ManualClock, store: Store) -> None:
    found, failed = asked(clock, store, POLICY | SPF)
    assert (found, failed) == (HistoryFact(days=NEVER, key=entry("sue@bank.example", proven=True)), {})
    store.remember_sender(found.key, now=clock.now(), keep=KEEP)
    for moment, days in ((0, 0), (DAY - 1, 0), (1, 1), (9 * DAY, 10)):
        clock.advance(moment)
        assert asked(clock, store, POLICY | SPF)[0].days == days
        assert asked(clock, store, POLICY | SPF, b"From: sUE@BANK.example\r\n")[0].days == days
    assert asked(clock, store, POLICY | SPF, b"From: joe@bank.example\r\n")[0].days == NEVER
    clock.advance(-30 * DAY)  # the clock was set back
    assert asked(clock, store, POLICY | SPF)[0].days == 0
    clock.advance(30 * DAY + KEEP)
    assert asked(clock, store, POLICY | SPF)[0].days == NEVER


@pytest.mark.parametrize(
    ("zone", "sender", "ip", "proven"),
    [
        (POLICY | SPF, "sue@bank.example", "192.0.2.7", True),
        (POLICY | SPF, "sue@bank.example", "192.0.2.8", False),  # DMARC fails
        (POLICY | SPF, "x@other.example", "192.0.2.7", False),
        (SPF, "sue@bank.example", "192.0.2.7", True),  # no DMARC, and what it would have taken
        (SPF, "x@other.example", "192.0.2.7", False),
        (SPF, "sue@bank.example", "192.0.2.8", False),
        ({}, "sue@bank.example", "192.0.2.7", False),
    ],
)
def test_a_spoofer_neither_uses_nor_ages_the_entry(
    clock: ManualClock, store: Store, zone: dict[str, Any], sender: str, ip: str, proven: bool
) -> None:
    keys = {proven: entry("sue@bank.example", proven=proven) for proven in (True, False)}
    assert keys[True] != keys[False]
    store.remember_sender(keys[not proven], now=clock.now() - 30 * DAY, keep=KEEP)
    found, _ = asked(clock, store, zone, sender=sender, ip=ip)
    assert found == HistoryFact(days=NEVER, key=keys[proven])


@pytest.mark.parametrize(
    "zone",
    [
        SPF | {"_dmarc.bank.example": {"TXT": "SERVFAIL"}},
        {"bank.example": {"TXT": "SERVFAIL"}},
        POLICY | {"bank.example": {"TXT": "SERVFAIL"}},
    ],
)
def test_while_nobody_can_say_what_is_proven_nobody_is_known(
    clock: ManualClock, store: Store, zone: dict[str, Any]
) -> None:
    found, failed = asked(clock, store, zone)
    assert (found.result, found.key) == (Result.TEMPERROR, "")
    assert "history" in failed


@pytest.mark.parametrize(
    "header", [b"Subject: x\r\n", FROM * 2, b"From: a@x.example, b@y.example\r\n", b"From: <>\r\n"]
)
def test_who_has_no_author_is_nobody(clock: ManualClock, store: Store, header: bytes) -> None:
    assert asked(clock, store, POLICY | SPF, header) == (HistoryFact(), {})


def test_without_a_store_nobody_is_known(clock: ManualClock) -> None:
    assert asked(clock, None, POLICY | SPF) == (HistoryFact(), {})


def test_a_store_that_is_away(clock: ManualClock, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise Unavailable("state: away")

    monkeypatch.setattr(store, "sender", away)
    found, failed = asked(clock, store, POLICY | SPF)
    assert (found, failed) == (HistoryFact(Result.TEMPERROR), {"history": "state: away"})


def test_an_entry_is_no_address(clock: ManualClock) -> None:
    for address in ("sue@bank.example", "ü@bank.example", "\udcff@bank.example", "x" * 9999):
        assert len(entry(address, proven=True)) == 32
        assert entry(address.upper(), proven=False) == entry(address, proven=False)
