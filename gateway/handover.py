"""A new bundle handed to all workers while they serve: each answers that it runs it, or is replaced.

Used by `supervisor`, which reports here what a worker said and that one has died: its successor starts from the new
bundle, which is as good as an answer.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterable

from gateway.bundle import Bundle
from gateway.child import Child
from gateway.log import log

_SECONDS = 20.0


class Handover:
    """One a supervisor. `patience` is how many seconds a worker that is replaced may drain."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._open: set[Child] = set()
        self._answered = asyncio.Event()

    async def give(self, bundle: Bundle, workers: Iterable[Child]) -> None:
        """Returns when every worker runs the bundle or is being replaced."""
        self._open = {worker for worker in workers if worker.pid}
        for worker in list(self._open):
            fresh = bundle.reopened()
            if not worker.send({"reload": bundle.summary.revision}, fresh):
                self.replace(worker)
            os.close(fresh)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS):
                while self._open:
                    self._answered.clear()
                    await self._answered.wait()
        for worker in list(self._open):
            log.error("worker did not answer the reload, it is replaced", name=worker.name)
            self.replace(worker)

    def confirm(self, worker: Child) -> None:
        """It runs the new bundle, or is gone."""
        self._open.discard(worker)
        self._answered.set()

    def replace(self, worker: Child) -> None:
        """It drains, and a new one takes its place."""
        self.confirm(worker)
        worker.recycle({"drain": self._patience}, self._patience + 5)
