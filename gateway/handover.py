"""A bundle handed to all workers while they serve: each answers that it runs it, or why it cannot.

Used by `supervisor`, which reports here what a worker said and that one has died: its successor starts from the new
bundle, which is as good as an answer. Who gives no answer is replaced; who refuses goes on with what it has.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterable

from gateway.bundle import Bundle
from gateway.child import Child
from gateway.control import cut
from gateway.log import log

_SECONDS = 20.0
_PROBLEMS = 8000  # characters


class Handover:
    """One a supervisor. `patience` is how many seconds a worker that is replaced may drain."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._open: set[Child] = set()
        self._refusals: dict[Child, str] = {}
        self._answered = asyncio.Event()

    async def give(self, bundle: Bundle, workers: Iterable[Child]) -> dict[Child, str]:
        """Returns when every worker runs the bundle, refused it or is being replaced: who refused, and why."""
        self._refusals = {}
        told = [worker for worker in workers if worker.pid]
        self._open = set(told)
        for worker in told:
            if not _handed(bundle, worker):
                self.replace(worker)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS):
                while self._open:
                    self._answered.clear()
                    await self._answered.wait()
        for worker in list(self._open):
            log.error("worker did not answer the reload, it is replaced", name=worker.name)
            self.replace(worker)
        return {worker: self._refusals[worker] for worker in told if worker in self._refusals}

    def refuse(self, worker: Child, why: str) -> None:
        """It cannot run the new bundle, and serves as before."""
        if worker in self._open:
            self._refusals[worker] = why
        self.confirm(worker)

    def confirm(self, worker: Child) -> None:
        """It runs the new bundle, or is gone."""
        self._open.discard(worker)
        self._answered.set()

    def replace(self, worker: Child) -> None:
        """It drains, and a new one takes its place."""
        self.confirm(worker)
        worker.recycle({"drain": self._patience}, self._patience + 5)


def _handed(bundle: Bundle, worker: Child) -> bool:
    """False where it does not read, or no descriptor is to be had: its successor is started when there is one."""
    try:
        fresh = bundle.reopened()
    except OSError:
        return False
    try:
        return worker.send({"reload": bundle.summary.revision}, fresh)
    finally:
        os.close(fresh)


def together(refusals: dict[Child, str]) -> str:
    """What workers cannot do, each reason once: they mostly have the same."""
    reasons: dict[str, list[str]] = {}
    for worker, why in refusals.items():
        reasons.setdefault(why, []).append(worker.name)
    return cut("\n".join(f"{', '.join(names)} cannot run it: {why}" for why, names in reasons.items()), _PROBLEMS)
