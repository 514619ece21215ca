"""One client's visit to the whole gateway: its octets in, all that it was told and all that reached the relay out.

Door, PROXY header, dialogue and all behind them are the real ones, up to the relay of `house`. `Place.visit` plays a
`Script` in the pieces that a `Manner` says.
"""

import asyncio
import atexit
import ipaddress
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from structlog.processors import format_exc_info
from structlog.testing import capture_logs

from gateway.pipeline import Pipeline
from gateway.smtp.census import Census
from gateway.smtp.door import Door
from gateway.smtp.events import Rules, StartTlsMode
from gateway.smtp.handler import Settings
from gateway.smtp.server import Edge
from tests.fuzz.rig.house import HOSTNAME, MESSAGE, RECIPIENTS, Sent, Ticking, build_house
from tests.fuzz.rig.network import Knocked, Line, Loop

#: Longer than any answer of the gateway is held back, and shorter than any deadline of the client's.
PATIENCE_SECONDS = 9.0


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of listener, and from where the client comes."""

    starttls: StartTlsMode = "offered"
    implicit: bool = False
    ip: str = "192.0.2.7"
    proxy: bool = False  # a trusted one: a PROXY header comes first
    xclient: bool = False  # trusted: may say XCLIENT


PROFILES = (
    Profile(),
    Profile(starttls="off"),
    Profile(starttls="required"),
    Profile(starttls="off", implicit=True),
    Profile(proxy=True, ip="10.0.0.1"),
    Profile(xclient=True, ip="10.0.0.2"),
    Profile(starttls="off", implicit=True, proxy=True, xclient=True, ip="10.0.0.2"),
)


@dataclass(frozen=True, slots=True)
class Script:
    """What a client does: turns, each with what comes after it: it reads the replies and goes on (`read`), time passes
    (`late`), or the connection is lost (`lost`)."""

    profile: Profile
    turns: tuple[tuple[bytes, str], ...]

    @classmethod
    def parse(cls, data: bytes) -> "Script":
        """The first octet chooses the profile; 0xFF with `|`, `T` or `R` ends a turn."""
        profile = PROFILES[(data[0] - 48) % len(PROFILES)] if data else PROFILES[0]
        turns, rest = [], data[1:]
        while True:
            ends = [(at, word) for mark, word in ENDS.items() if (at := rest.find(mark)) >= 0]
            if not ends:
                return cls(profile, (*turns, (rest, "read")))
            at, word = min(ends)
            turns.append((rest[:at], word))
            rest = rest[at + 2 :]


ENDS = {b"\xff|": "read", b"\xffT": "late", b"\xffR": "lost"}


@dataclass(frozen=True, slots=True)
class Told:
    """What the client heard, and whether the server has hung up."""

    octets: bytes
    silent: bool


@dataclass(slots=True)
class Outcome:
    """A whole visit: what was told after each turn, and once more where time passed then; last after the end."""

    told: list[Told] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Manner:
    """How octets come: a turn whole, octet by octet, or as `chance` has it."""

    kind: str  # whole | single | random
    chance: random.Random = field(default_factory=random.Random)

    def pieces(self, octets: bytes) -> Iterator[bytes]:
        """The turn in pieces."""
        at = 0
        while at < len(octets):
            match self.kind:
                case "whole":
                    size = len(octets)
                case "single":
                    size = 1
                case _:
                    size = self.chance.choice((1, 1, 2, 3, 7, 40, 300))
            yield octets[at : at + size]
            at += size


class Place:
    """The house, built once; every visit has an edge and a pipeline of its own."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.clock = Ticking(self.loop)
        self.house, self.relay, self.store = build_house(folder, self.clock)
        self.census = Census.alone()

    def visit(self, script: Script, manner: Manner) -> Outcome:
        """Plays it to the end. What must never happen on our side is in the outcome's `faults`."""
        outcome = Outcome()
        self.relay.sent, self.clock.ids = outcome.sent, 0
        self.loop.faults.clear()
        with _errors(outcome.faults):
            self.loop.run_until_complete(self._visit(script, manner, outcome))
        outcome.faults += self.loop.faults
        return outcome

    async def _visit(self, script: Script, manner: Manner, outcome: Outcome) -> None:
        loop, pipeline = self.loop, Pipeline(self.house)
        edge = Edge(settings_of(script.profile), pipeline, census=self.census, clock=self.clock, tls=lambda: CONTEXT)
        queue, line = Knocked(), Line(loop)
        door = Door(edge, queue)  # type: ignore[arg-type]
        queue.knock(line, script.profile.ip)
        talk = _Talk(loop, edge, line, manner)

        def heard() -> None:
            outcome.told.append(Told(bytes(line.heard), line.closed))
            line.heard.clear()

        for octets, then in script.turns:
            await talk.say(octets)
            if then == "vanish":  # in the midst of our work
                line.vanish()
            await loop.settle(PATIENCE_SECONDS)
            heard()
            if then == "lost":
                line.vanish()
            elif then == "late":
                await asyncio.sleep(301)
                edge.sweep()
                await loop.settle(PATIENCE_SECONDS)
                heard()
            line.shake()
            await loop.settle(PATIENCE_SECONDS)
        line.end()
        await loop.settle(PATIENCE_SECONDS)
        await asyncio.sleep(5)  # longer than anybody lingers
        edge.sweep()
        await loop.settle(PATIENCE_SECONDS)
        heard()
        outcome.faults += left_over(edge, pipeline, line)
        door.close()


@dataclass(slots=True)
class _Talk:
    """The client's way of speaking."""

    loop: Loop
    edge: Edge
    line: Line
    manner: Manner
    _begun: bool = False

    async def say(self, octets: bytes) -> None:
        """One turn."""
        line, chance = self.line, self.manner.chance
        random_kind = self.manner.kind == "random"
        if not self._begun:
            self._begun = True
            await self._begin(early=random_kind and chance.random() < 0.2)
        choked = random_kind and chance.random() < 0.1
        for piece in self.manner.pieces(octets):
            if choked and chance.random() < 0.2:
                line.choke(True)
            line.say(piece)
            if self.manner.kind == "single":
                await self.loop.settle(PATIENCE_SECONDS if line.wire is not None else 0)
            elif random_kind and chance.random() < 0.5:
                await self.loop.settle(chance.choice((0, 0, 0.005, 0.1)))
        if choked:
            line.choke(False)

    async def _begin(self, *, early: bool) -> None:
        """The banner is waited for where none of the client's octets are due before it."""
        await self.loop.settle(0)
        self.line.shake()
        await self.loop.settle(0 if early else 1)


def settings_of(profile: Profile) -> Settings:
    """The listener of that profile."""
    trusted = (ipaddress.ip_network("10.0.0.0/8"),)
    return Settings(
        Rules(HOSTNAME, MESSAGE, RECIPIENTS, profile.starttls),
        implicit_tls=profile.implicit,
        spool_above=500,  # octets: longer ones go to a file
        proxies=trusted if profile.proxy else (),
        xclient=trusted if profile.xclient else (),
    )


#: Stands for a certificate's context: the handshakes are in name alone.
CONTEXT: Any = object()


def left_over(edge: Edge, pipeline: Pipeline, line: Line) -> list[str]:
    """What a visit must not leave behind."""
    left = {
        "a connection": not line.lost or bool(edge.connections),
        "a journey": bool(pipeline._journeys),
        "a session": bool(pipeline._sessions),
        "a place in the census": edge.census.total() != 0,
        "octets of messages": edge.census.held() != 0,
        "a task": len(asyncio.all_tasks()) != 1,
    }
    return [f"left behind: {what}" for what, there in left.items() if there]


@contextmanager
def _errors(faults: list[str]) -> Iterator[None]:
    """Collects what the log calls an error: those are bugs of ours."""
    with capture_logs(processors=[format_exc_info]) as lines:
        yield
    faults += ["\n".join(map(str, line.values())) for line in lines if line["log_level"] in {"error", "critical"}]


_PLACES: list[Place] = []


def place() -> Place:
    """The one place of this process."""
    if not _PLACES:
        folder = tempfile.TemporaryDirectory(prefix="gatepost-fuzz-")
        made = Place(Path(folder.name))
        _PLACES.append(made)

        def leave() -> None:
            made.store.close()
            made.loop.close()
            folder.cleanup()

        atexit.register(leave)
    return _PLACES[0]
