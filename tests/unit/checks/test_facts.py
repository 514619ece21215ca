"""Facts: pulled once, shared, concurrent, never raising."""

import asyncio
import gc
import weakref
from dataclasses import dataclass
from typing import ClassVar

import pytest

from gateway.checks.check import Check, Named
from gateway.checks.facts import Facts
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.envelope import Envelope, Session, Transaction
from gateway.mail.terms import Stage, Unavailable


@dataclass(frozen=True, slots=True)
class Word:
    result: str


class Base(Check[Word]):
    stage = Stage.MAIL
    provides: ClassVar = {}

    def __init__(self) -> None:
        self.runs = 0

    def named(self, fact: Word) -> Named:
        return {f"{self.name}.result": fact.result}

    def error(self) -> Word:
        return Word("temperror")


class Plain(Base):
    name = "plain"

    async def run(self, tx: Transaction, facts: Facts) -> Word:
        self.runs += 1
        await asyncio.sleep(0)
        return Word("pass")


class Later(Base):
    name = "later"

    async def run(self, tx: Transaction, facts: Facts) -> Word:
        self.runs += 1
        return Word((await facts.get(Plain)).result + "ed")


class Down(Base):
    name = "down"

    async def run(self, tx: Transaction, facts: Facts) -> Word:
        raise Unavailable("DNS: no answer")


class Asking(Base):
    name = "asking"

    def __init__(self, resolver: Resolver) -> None:
        super().__init__()
        self.resolver = resolver

    async def run(self, tx: Transaction, facts: Facts) -> Word:
        await self.resolver.txt("example.org")
        await facts.get(Reverse)
        return Word("pass")


class Reverse(Asking):
    name = "session"
    once = True

    async def run(self, tx: Transaction, facts: Facts) -> Word:
        await self.resolver.query("1.2.0.192.in-addr.arpa", "PTR")
        return Word("pass")


class Broken(Base):
    name = "broken"

    async def run(self, tx: Transaction, facts: Facts) -> Word:
        raise ZeroDivisionError


class Endless(Base):
    name = "endless"
    deadline = 0.01

    async def run(self, tx: Transaction, facts: Facts) -> Word:
        await asyncio.Event().wait()
        raise AssertionError


class Instant(Base):
    name = "instant"
    waits = False

    async def run(self, tx: Transaction, facts: Facts) -> Word:
        self.runs += 1
        return Word("pass")


class Liar(Plain):
    name = "liar"
    waits = False


class Once(Plain):
    name = "once"
    once = True


def transaction() -> Transaction:
    session = Session("S", "192.0.2.1", 4, "192.0.2.2", 25, 0.0)
    return Transaction("T", session, Envelope(None), 0.0)


def make(*kinds: type[Base], parent: Facts | None = None) -> tuple[Facts, dict[type[Base], Base]]:
    checks = {kind: kind() for kind in kinds}
    return Facts(checks, transaction(), parent), checks


def test_a_fact_is_made_once_however_many_ask() -> None:
    async def scenario() -> None:
        facts, checks = make(Plain, Later)
        got = await asyncio.gather(facts.get(Plain), facts.get(Later), facts.get(Plain))
        assert [w.result for w in got] == ["pass", "passed", "pass"]
        assert checks[Plain].runs == 1
        assert await facts.named([Plain, Later]) == {"plain.result": "pass", "later.result": "passed"}
        assert set(facts.seconds) == {"plain", "later"}

    asyncio.run(scenario())


def test_a_check_that_fails_in_any_way_is_temperror_and_said_to_have_failed() -> None:
    async def scenario() -> None:
        facts, _ = make(Down, Broken, Endless)
        values = await facts.named([Down, Broken, Endless])
        assert values == {f"{n}.result": "temperror" for n in ("down", "broken", "endless")}
        assert facts.failed == {"down": "DNS: no answer", "broken": "internal error", "endless": "no answer in 0.01 s"}

    asyncio.run(scenario())


def test_a_fact_that_is_there_keeps_no_task() -> None:
    """A connection that idles would keep it for hours, with its context and the frame of the check."""
    tasks: list[weakref.ref[object]] = []

    class Noted(Plain):
        name = "noted"

        async def run(self, tx: Transaction, facts: Facts) -> Word:
            tasks.append(weakref.ref(asyncio.current_task()))
            return await super().run(tx, facts)

    async def scenario() -> None:
        facts, _ = make(Noted)
        assert (await facts.get(Noted)).result == "pass"
        await asyncio.sleep(0)
        assert [task() for task in tasks] == [None]
        assert (await facts.get(Noted)).result == "pass"

    asyncio.run(scenario())


def test_a_check_that_waits_for_nothing_is_done_where_it_is_started() -> None:
    async def scenario() -> None:
        facts, checks = make(Instant, Liar)
        facts.start(Instant)
        assert facts.known() == {Instant: Word("pass")}
        assert await facts.named([Instant]) == {"instant.result": "pass"}
        assert checks[Instant].runs == 1
        with pytest.raises(RuntimeError, match="waits"):
            facts.start(Liar)

    asyncio.run(scenario())


def test_what_follows_from_the_address_is_asked_once_a_connection() -> None:
    async def scenario() -> None:
        once = Once()
        session = Facts({Once: once}, transaction())
        for _ in range(3):
            facts = Facts({Once: once}, transaction(), session)
            assert (await facts.get(Once)).result == "pass"
            assert Once in facts.known()
        assert once.runs == 1

    asyncio.run(scenario())


def test_an_asker_that_goes_away_does_not_end_the_check_for_others() -> None:
    async def scenario() -> None:
        facts, checks = make(Plain)
        asker = asyncio.ensure_future(facts.get(Plain))
        await asyncio.sleep(0)
        asker.cancel()
        assert (await facts.get(Plain)).result == "pass"
        assert checks[Plain].runs == 1

    asyncio.run(scenario())


def test_closing_ends_what_still_runs() -> None:
    async def scenario() -> None:
        endless = Endless()
        facts = Facts({Endless: endless}, transaction())
        facts.start(Endless)
        await asyncio.sleep(0)
        await facts.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert facts.known() == {}
        assert facts.failed == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("begun", [False, True])
def test_what_was_ended_leaves_no_circle_for_the_collector(begun: bool) -> None:
    """MAIL, RCPT, RSET in one packet, over and over: each began a check and left 2 KB until the collector came."""

    async def scenario() -> weakref.ref[Facts]:
        facts = Facts({Endless: Endless()}, transaction())
        facts.start(Endless)
        if begun:
            await asyncio.sleep(0)
        await facts.close()
        return weakref.ref(facts)

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(scenario())() is None
    finally:
        gc.enable()


def test_the_dns_questions_of_a_transaction_and_its_session_are_told() -> None:
    async def scenario() -> None:
        zone = {"example.org": {"TXT": ["v=spf1 -all"]}, "1.2.0.192.in-addr.arpa": {"PTR": ["a.example.org"]}}
        resolver = Resolver(Zone(zone), ManualClock())
        checks = {Asking: Asking(resolver), Reverse: Reverse(resolver)}
        session = Facts(checks, transaction())
        for _ in range(2):  # the second time from the cache, and the session's is not asked again
            facts = Facts(checks, transaction(), session)
            assert facts.questions == session.questions
            await facts.get(Asking)
            assert facts.questions == {
                "1.2.0.192.in-addr.arpa PTR": "a.example.org",
                "example.org TXT": '"v=spf1 -all"',
            }
        assert session.questions == {"1.2.0.192.in-addr.arpa PTR": "a.example.org"}

    asyncio.run(scenario())
