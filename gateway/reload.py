"""The configuration in force, and how another takes its place: asked for, checked, handed to all workers, or refused.

A bad one never replaces a good one. What comes while a reload is under way is one more reload after it, and everybody
who asked hears the outcome. What one worker cannot run no worker runs. Driven by `supervisor`, which reports to
`handover` what workers say.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.bundle import Bundle, Refused, Summary, validated
from gateway.child import Child
from gateway.control import Message
from gateway.handover import Handover, together
from gateway.log import log
from gateway.machine import notify

STOPPING: Message = {"ok": False, "error": "the gateway is stopping"}


class Reload:
    """One a supervisor. `patience` is how many seconds a worker that is replaced may drain."""

    def __init__(self, worker: tuple[str, ...], config: Path, patience: float) -> None:
        self.bundle = Bundle(-1, Summary((), 0, None, ""))  # the one in force
        self.handover = Handover(patience)
        self.counts = {"accepted": 0, "refused": 0}
        self.last: dict[str, object] = {"ok": True, "at": time.time(), "error": ""}
        self._worker = worker
        self._config = config
        self._asked: list[asyncio.Future[Message]] = []  # who waits for the next outcome
        self._wanted = asyncio.Event()

    async def first(self) -> None:
        """The bundle to start with. Raises `Refused`."""
        self.bundle = await validated(self._worker, self._config)

    def ask(self) -> None:
        """Somebody wants a reload."""
        self._wanted.set()

    def outcome(self) -> asyncio.Future[Message]:
        """Asks, and waits for what comes of it."""
        asked: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self.ask()
        return asked

    async def on_demand(self, workers: list[Child], ended: Callable[[], Awaitable[None]]) -> None:
        """Reloads whenever somebody asks, for ever; `ended` is awaited after each, when everybody knows the outcome."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            asked, self._asked = self._asked, []
            outcome = STOPPING
            try:
                outcome = await self._once(workers)
            finally:
                _tell(asked, outcome)
            await ended()

    def stop(self) -> None:
        """No other reload comes."""
        _tell(self._asked, STOPPING)

    async def _once(self, workers: list[Child]) -> Message:
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            problems = await self._problems(workers)
        except Exception as error:
            log.exception("reload crashed")
            problems = f"internal error: {error}"
        notify("READY=1")
        revision = self.bundle.summary.revision
        self.counts["refused" if problems else "accepted"] += 1
        self.last = {"ok": not problems, "at": time.time(), "error": problems}
        if problems:
            log.error("reload refused, the old configuration stays", problems=problems.splitlines())
        else:
            log.info("reloaded", revision=revision)
        return self.last | {"revision": revision, "warnings": [] if problems else self.bundle.warnings}

    async def _problems(self, workers: list[Child]) -> str:
        """Checks and hands on. The problems, "" when all workers run the new bundle."""
        try:
            bundle = await validated(self._worker, self._config, tested=True)
        except Refused as why:
            return str(why)
        if bundle.summary.bound != self.bundle.summary.bound:
            bundle.close()
            return "listeners, workers and admin cannot change while running; restart the gateway for that"
        before, self.bundle = self.bundle, bundle  # a worker that starts meanwhile starts from the new one
        refusals = await self.handover.give(bundle, workers)
        if not refusals:
            before.close()
            return ""
        # What passed the check and a worker cannot run all the same (a database of a newer version): all go back.
        self.bundle = before
        for worker in await self.handover.give(before, workers):
            self.handover.replace(worker)
        bundle.close()
        return together(refusals)


def _tell(asked: list[asyncio.Future[Message]], outcome: Message) -> None:
    for each in asked:
        if not each.done():
            each.set_result(outcome)
