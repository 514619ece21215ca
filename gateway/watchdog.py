"""Which process hangs: the judgement, and the clock that drives it.

Every second the supervisor asks each child that is ready over its line (`control`), and the child's event loop answers.
There is never more than one question under way, so neither side fills the line of one that does not read. Silence is
counted in seconds that the supervisor itself kept: where it comes late (starved, stopped, a suspended machine) nothing
is counted, so whatever held both condemns nobody. A child that is not ready yet is not asked and has a longer limit;
one that drains is bound by its patience. Used by `child` and `supervisor`.
"""

import asyncio
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from math import inf
from typing import Protocol

from gateway.log import log

TICK_SECONDS = 1.0
#: A tick that comes later than this after its time is not counted.
LATE_SECONDS = 0.5
#: Seconds of silence until a process is ended. A reload of 3,000 rules takes a worker 1.3 s of CPU, 6 s at a load of 8.
LIMIT_SECONDS = 60.0
#: Seconds until a process must be ready. The check before it loaded the same, and the policy's tests, in 60.
START_SECONDS = 120.0
#: Between the signal to say where it hangs and the end: a dump of all threads takes milliseconds.
TRACE_SECONDS = 1.0
#: The part of the limit after which operators are told: 10 s.
_TOLD_AT = 1 / 6


class Step(Enum):
    """What is to be done with a process now."""

    NONE = "nothing"
    ASK = "ask it"
    TELL = "say that it hangs"
    TRACE = "let it say where"
    KILL = "end it"


class Silence:
    """How long one process has been silent, from its start on. The judgement alone: clock and signals are not here."""

    def __init__(self, limit: float = LIMIT_SECONDS) -> None:
        self.seconds = 0.0
        self._limit = limit
        self._told_at, self._ended_at = inf, max(limit, START_SECONDS)  # until it is ready
        self._waiting = True
        self._step = Step.NONE

    def answered(self) -> None:
        """Its event loop turned: it is ready, or answered the question."""
        self._told_at, self._ended_at = self._limit * _TOLD_AT, self._limit
        self.seconds, self._waiting, self._step = 0.0, False, Step.NONE

    def tick(self, elapsed: float) -> Step:
        """A tick of the supervisor, `elapsed` seconds after the one before. Each step is said once."""
        if not self._waiting:
            self._waiting = True
            return Step.ASK
        if elapsed <= TICK_SECONDS + LATE_SECONDS:
            self.seconds += TICK_SECONDS
        before, self._step = self._step, self._due()
        return self._step if self._step is not before else Step.NONE

    def _due(self) -> Step:
        if self.seconds >= self._ended_at + TRACE_SECONDS:
            return Step.KILL
        if self.seconds >= self._ended_at:
            return Step.TRACE
        return Step.TELL if self.seconds >= self._told_at else Step.NONE


class Watched(Protocol):
    """Who wants to hear of every tick."""

    def tick(self, elapsed: float) -> None:
        """`elapsed` seconds have passed since the last."""


async def watch(everyone: Callable[[], Iterable[Watched]], alive: Callable[[], None]) -> None:
    """Says that we are `alive` and ticks for `everyone`, each second, for ever.

    A bug in this is told once and goes on: who looks after the others may not fall over them.
    """
    loop, told = asyncio.get_running_loop(), False
    last = loop.time()
    while True:
        await asyncio.sleep(TICK_SECONDS)
        now = loop.time()
        elapsed, last = now - last, now
        calls: list[Callable[[], None]] = [alive, *(partial(each.tick, elapsed) for each in everyone())]
        for call in calls:
            try:
                call()
            except Exception:
                if not told:
                    log.exception("the watch over a process crashed")
                told = True
