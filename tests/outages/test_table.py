"""The table of the relay, with the edge in the loop: every fault at every step of the dialogue.

A client on a socket, the real edge, pipeline, pool and journal, a scripted backend, or a faulty and a sound one. For
each case: the octets of the reply, what the journal's file says became of the mail, what the pools hold, what lies in
the mailboxes; and that the next mail goes its way as if nothing had been.

Cases are played forty at a time in one gateway, each with a backend of its own, so that silence costs all of them one
deadline.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.relay import pool, turn
from tests.outages.backend import Backend
from tests.outages.front import QUARANTINE, QUARANTINE_BOX, Client, Deaf, Front, Told
from tests.outages.rig import Rig, run
from tests.outages.table import (
    EXCLUDED,
    FAULTS,
    LOCALS,
    OFFERS,
    QUARANTINE_SILENT,
    SILENT,
    STEPS,
    Case,
    cases,
    expected,
    quarantine_cases,
    script,
)

BODY = b"0123456789\r\n" * 40
LARGE = (b"0123456789" * 7 + b"\r\n") * 90_000  # more than the buffers on the way hold
CASES = list(cases())
QUARANTINE_CASES = list(quarantine_cases())
_AT_ONCE = 40
#: Silence ends by the deadline: time enough for everything else that goes on meanwhile.
_SILENT_SECONDS, _LONG_SECONDS = 2.5, 60.0


@dataclass
class Outcome:
    """What became of a case."""

    told: Told
    idle: list[int]  # of the pools, when the first mail was answered
    mails: list[int]  # in the mailboxes then
    next_told: Told | None = None
    next_mails: int = 0
    clear: bytes = b""
    misplaced: str = ""
    fate: tuple[str, str] = ("", "")
    next_fate: tuple[str, str] = ("", "")


class Play:
    """One case in its part of a gateway."""

    def __init__(self, case: Case, number: int) -> None:
        self.case, self.number = case, number
        self.domain = f"c{number}.example.com"
        self.backends: list[Backend] = []
        self.deaf: Deaf | None = None

    async def prepare(self, rig: Rig) -> list[int]:
        """The ports of its hosts."""
        offer = OFFERS[self.case.offer]
        up = self.case.fault != "refuse"
        self.backends = [await rig.backend(script(self.case, self.domain), features=offer, up=up)]
        if self.case.second:
            self.backends.append(await rig.backend(features=offer))
        ports = [backend.port for backend in self.backends]
        if self.case.step == "connect" and self.case.fault == "hang":
            self.deaf = Deaf()
            ports[0] = self.deaf.port
        return ports

    async def run(self, front: Front) -> Outcome:
        case, (first, *_) = self.case, self.backends
        client = await Client.connected(front.port)
        told = await self._mail(client, LARGE if case.step == "body" else BODY)
        outcome = Outcome(told, [], [])
        if expected(case).fate == "unknown":  # a backend that hangs takes its mail when the connection ends
            await first.closed[0].wait()
        outcome.mails = [len(backend.mails) for backend in self.backends]
        pools = front.pools(self.number)
        outcome.idle = [one.idle for one in pools]
        if any((one.busy, one._promised, len(one._waiters)) != (0, 0, 0) for one in pools):
            outcome.misplaced = "a connection is not back in its pool"
        if case.step != "quit":  # then the next mail: a fault that is over leaves nothing behind
            first.scripts = ({},)
            if case.fault == "refuse":
                await first.start()
            for one in pools:
                one.disperse()
            before = sum(outcome.mails)
            if self.deaf is None or case.second:
                outcome.next_told = await self._mail(client, BODY)
                outcome.next_mails = sum(len(backend.mails) for backend in self.backends) - before
        outcome.clear = b"".join(bytes(backend.clear) for backend in self.backends)
        await client.close()
        return outcome

    async def _mail(self, client: Client, body: bytes) -> Told:
        octets = f"From: a@example.org\r\nSubject: of {self.case}\r\n\r\n".encode() + body
        return await client.mail(octets, *(f"{local}@{self.domain}" for local in LOCALS))


def play(some: tuple[Case, ...], directory: Path) -> dict[Case, Outcome]:
    """These cases at once, in one gateway."""
    plays = [Play(case, number) for number, case in enumerate(some)]
    found: dict[Case, Outcome] = {}

    async def test(rig: Rig) -> None:
        ports = [await one.prepare(rig) for one in plays]
        front = Front(rig, ports, _SILENT_SECONDS if some[0].slow else _LONG_SECONDS)
        await front.start()
        outcomes = await asyncio.gather(*(one.run(front) for one in plays))
        await front.stop()
        for one, outcome in zip(plays, outcomes, strict=True):
            outcome.fate = front.fate(outcome.told.id)
            if outcome.next_told is not None:
                outcome.next_fate = front.fate(outcome.next_told.id)
            found[one.case] = outcome
            if one.deaf is not None:
                one.deaf.close()

    with quick():
        run(directory, test)
    return found


@contextmanager
def quick() -> Iterator[None]:
    """What waits for a farewell or a reset waits for less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_FAREWELL_SECONDS", 0.05)
        patch.setattr(turn, "_RESET_SECONDS", 0.2)
        yield


def _batches(some: list[Case]) -> list[tuple[Case, ...]]:
    return [tuple(some[start : start + _AT_ONCE]) for start in range(0, len(some), _AT_ONCE)]


#: Slow cases apart from quick ones: their deadlines differ.
BATCHES = [batch for slow in (False, True) for batch in _batches([one for one in CASES if one.slow is slow])]


@pytest.fixture(scope="module")
def outcome_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Outcome]:
    """What became of a case; its batch is played when the first of it is asked for."""
    played: dict[Case, Outcome] = {}

    def of(case: Case) -> Outcome:
        if case not in played:
            batch = next(batch for batch in BATCHES if case in batch)
            played.update(play(batch, tmp_path_factory.mktemp("table")))
        return played[case]

    return of


@pytest.mark.parametrize("case", [case for batch in BATCHES for case in batch], ids=str)
def test_fault(case: Case, outcome_of: Callable[[Case], Outcome]) -> None:
    wanted, found = expected(case), outcome_of(case)
    # The client's reply, and the journal's word about it.
    assert (found.told.code, found.told.status) == (wanted.code, wanted.status)
    assert found.fate[0] == wanted.fate
    assert found.fate[1].startswith(f"{wanted.code} {wanted.status} ")
    # The mailboxes: nothing twice, nothing lost.
    assert found.mails[0] in wanted.mails
    assert found.mails[1:] == ([wanted.second_mails] if case.second else [])
    # The pools.
    assert found.misplaced == ""
    most = [wanted.idle, wanted.second_idle]
    assert all(idle <= limit for idle, limit in zip(found.idle, most, strict=False))
    if wanted.idle and case.step != "quit":
        assert found.idle[0] == 1, "a refusal costs no connection"
    # In clear text nothing was said but what has to be.
    if case.step != "handshake":
        assert set(found.clear.split(b"\r\n")) <= {b"", b"EHLO mx.example.com", b"STARTTLS"}
    assert b"Subject" not in found.clear
    # What has failed once is whole again: the next mail arrives, once.
    if found.next_told is not None:
        assert (found.next_told.code, found.next_fate[0], found.next_mails) == (250, "delivered", 1)


@pytest.fixture(scope="module")
def quarantined(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, Outcome]:
    """The cases of the quarantine, one after the other before one backend."""
    found: dict[Case, Outcome] = {}

    async def test(rig: Rig) -> None:
        backend = await rig.backend(up=False)  # the first case is the refusal
        front = Front(rig, [[backend.port]], 0.6)
        await front.start()
        client = await Client.connected(front.port)
        for case in QUARANTINE_CASES:
            backend.scripts = (script(case, "c0.example.com"),)
            for one in front.pools(0):
                one.disperse()
            before, number = len(backend.mails), backend.connections
            subject = f"From: a@example.org\r\nSubject: {QUARANTINE}\r\n\r\n".encode()
            told = await client.mail(subject + (LARGE if case.step == "body" else BODY), "u0@c0.example.com")
            if expected(case).fate == "unknown":
                await backend.closed[number].wait()
            found[case] = Outcome(told, [one.idle for one in front.pools(0)], [len(backend.mails) - before])
            if case.fault == "refuse":
                await backend.start()
        await client.close()
        assert {line for line in backend.lines() if line.startswith("RCPT")} == {f"RCPT TO:<{QUARANTINE_BOX}>"}
        await front.stop()
        for outcome in found.values():
            outcome.fate = front.fate(outcome.told.id)

    with quick():
        run(tmp_path_factory.mktemp("quarantine"), test)
    return found


@pytest.mark.parametrize("case", QUARANTINE_CASES, ids=str)
def test_fault_of_the_quarantine(case: Case, quarantined: dict[Case, Outcome]) -> None:
    """Whatever its backend says, the sender keeps the mail or the quarantine has it: never a refusal for good."""
    wanted, found = expected(case), quarantined[case]
    assert (found.told.code, found.told.status, found.fate[0]) == (wanted.code, wanted.status, wanted.fate)
    assert found.told.code < 500
    assert found.mails[0] in wanted.mails
    assert all(idle <= wanted.idle for idle in found.idle)


def test_the_table_is_whole() -> None:
    """Every step and every fault has cases, or a reason to have none."""
    named = {(case.step, case.fault) for case in CASES}
    assert named | set(EXCLUDED) == {(step, fault) for step in STEPS for fault in FAULTS}
    assert not named & set(EXCLUDED)
    assert all(EXCLUDED.values())
    for second in (False, True):
        for step, fault in named:
            offers = {one.offer for one in CASES if (one.step, one.fault, one.second) == (step, fault, second)}
            assert offers == set(OFFERS) - ({"chunking"} if step == "data" else set())
    held = {(case.step, case.fault) for case in QUARANTINE_CASES}
    left = {(step, fault) for step, fault in named if step == "rcpt u1" or fault in SILENT} - QUARANTINE_SILENT
    assert held == named - left
    assert len(set(CASES)) == len(CASES) == sum(len(batch) for batch in BATCHES)
