"""The facts of one transaction: pulled, shared, concurrent, and never raising.

Whoever needs a fact asks for it (`await facts.get(Dmarc)`); the first asker starts the check, all others await the
same task, and a check may ask for other checks. A check that waits for nothing runs where it is started, without a
task. `Facts` owns every task until its fact is there; `close()` ends those that still run. A check that is unavailable,
late or broken yields its own `error` fact, and the traceback goes to the log.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, TypeVar, cast

from gateway import metrics
from gateway.checks.check import Check, Named
from gateway.dns.questions import Questions, noting
from gateway.log import log
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Unavailable

F = TypeVar("F")
AnyCheck = Check[Any]


class Facts:
    """The facts of one transaction.

    `checks` maps a check's class to the one instance that was built at start. `parent`, the facts of the session,
    answers the checks that are `once`, so that a connection with many mails asks for its reverse name once.
    """

    def __init__(
        self, checks: Mapping[type[AnyCheck], AnyCheck], tx: Transaction, parent: "Facts | None" = None
    ) -> None:
        self._checks = checks
        self._tx = tx
        self._parent = parent
        self._done: dict[type[AnyCheck], object] = {}
        self._tasks: dict[type[AnyCheck], asyncio.Task[None]] = {}
        self._failed: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        self._questions = Questions()

    async def get(self, kind: type[Check[F]]) -> F:
        """The fact of that check. Never raises but for cancellation of the asker."""
        if self._parent is not None and kind.once:
            return await self._parent.get(kind)
        self.start(kind)
        if kind not in self._done:
            await asyncio.shield(self._tasks[kind])
        return cast(F, self._done[kind])

    def start(self, kind: type[AnyCheck]) -> None:
        """Starts the check unless it was started already; its inputs must be complete."""
        if self._parent is not None and kind.once:
            self._parent.start(kind)
        elif kind not in self._done and kind not in self._tasks:
            if kind.waits:
                self._tasks[kind] = asyncio.get_running_loop().create_task(self._wait(kind))
            else:
                _at_once(self._run(kind))

    @property
    def failed(self) -> dict[str, str]:
        """Check to why it failed, for the checks that are done (the parent's included)."""
        return {**self._parent.failed, **self._failed} if self._parent is not None else dict(self._failed)

    @property
    def seconds(self) -> dict[str, float]:
        """Check to how long it took, for those that wait and are done."""
        return {**self._parent.seconds, **self._seconds} if self._parent is not None else dict(self._seconds)

    @property
    def questions(self) -> dict[str, str]:
        """The DNS questions that the checks asked, with the answers in short (the parent's included)."""
        return {**self._parent.questions, **self._questions.told()} if self._parent else self._questions.told()

    async def _wait(self, kind: type[AnyCheck]) -> None:
        noting.set(self._questions)  # of this task and those that it starts
        # Not `asyncio.timeout`: this task is ours alone, so a timer that cancels it does for a ninth of the cost.
        timer = asyncio.get_running_loop().call_later(self._checks[kind].deadline, self._expire, kind)
        try:
            await self._run(kind)
        finally:
            timer.cancel()

    def _expire(self, kind: type[AnyCheck]) -> None:
        check = self._checks[kind]
        self._failed[check.name] = f"no answer in {check.deadline:g} s"
        if (task := self._tasks.get(kind)) is not None:
            task.cancel()

    async def _run(self, kind: type[AnyCheck]) -> None:
        check = self._checks[kind]
        started = time.monotonic()
        self._done[kind] = fact = await self._fact(kind, check)
        seconds = None
        if kind.waits:  # the others take microseconds, and to count those took as many
            self._seconds[check.name] = seconds = time.monotonic() - started
            self._tasks.pop(kind, None)  # or an idle connection keeps it, its context and its frame: 0.7 KB
        metrics.check(check.name, str(getattr(fact, "result", "done")), seconds)

    async def _fact(self, kind: type[AnyCheck], check: AnyCheck) -> object:
        try:
            fact: object = await check.run(self._tx, self)
        except asyncio.CancelledError:
            if check.name not in self._failed:
                raise  # it was not its deadline that ended it
            return check.error()
        except (Unavailable, TimeoutError) as why:
            self._failed[check.name] = str(why) or "no answer in time"
            return check.error()
        except Exception:
            self._failed[check.name] = "internal error"
            log.exception("check crashed", check=check.name, transaction=self._tx.id)
            return check.error()
        if check.failed(fact):
            self._failed.setdefault(check.name, "temporary error")
        return fact

    async def named(self, kinds: Iterable[type[AnyCheck]]) -> Named:
        """The named values of those checks, awaited together."""
        wanted = list(kinds)
        for kind in wanted:
            self.start(kind)
        values: Named = {}
        for kind in wanted:
            values.update(self._checks[kind].named(await self.get(kind)))
        return values

    def known(self) -> dict[type[AnyCheck], object]:
        """The facts that are there already, the parent's included (for journal and trace fields)."""
        return {**self._parent.known(), **self._done} if self._parent is not None else dict(self._done)

    def cancel(self) -> list[asyncio.Task[None]]:
        """Ends the checks that still run (not the parent's), without waiting for their end."""
        running = [task for task in self._tasks.values() if not task.done()]
        for task in running:
            task.cancel()
        self._tasks.clear()  # a task that was ended holds us by the frame of its error: in a circle, both would stay
        return running

    async def close(self) -> None:
        """Ends the checks that still run, and waits for it."""
        if running := self.cancel():
            await asyncio.gather(*running, return_exceptions=True)


def _at_once(work: Coroutine[object, None, None]) -> None:
    """Runs to its end what waits for nothing."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise RuntimeError("a check waits that says it does not")
