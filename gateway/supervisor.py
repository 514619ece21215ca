"""The first process: binds, starts and watches workers and console, reloads, drains. It imports no mail code.

What it knows of the configuration is the summary that `python -m gateway.worker --check` prints: that child validates
everything from the disk and leaves the validated bytes in a memory file, the bundle. Workers load the bundle and
nothing else, so a worker that is restarted at night runs what was validated, whatever the disk says meanwhile, and a
bad configuration never replaces a good one: SIGHUP checks anew, and only a sound bundle is handed on.

SIGTERM and SIGINT drain: workers stop accepting, finish what is past the dot, exit; a second signal, or the end of
the patience, kills. Should this process die, its children see their line end and drain by themselves.
Exit status 0 after a drain, 1 when it could not start. Called by `gatepost serve`.
"""

import asyncio
import functools
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from gateway import log as logging
from gateway.bundle import Bundle, Refused, Summary, validated
from gateway.child import Child, Command, ended
from gateway.control import Message
from gateway.handover import Handover, together
from gateway.log import log
from gateway.machine import CannotListen, MetricsFolder, bound, forget_privileges, notify, raise_limits, spoken
from gateway.orders import Orders

WORKER = (sys.executable, "-m", "gateway.worker")
CONSOLE = (sys.executable, "-m", "gateway.console")
#: A worker that dies this often before any became ready: the start failed.
_HOPELESS = 3
_STOPPING: Message = {"ok": False, "error": "the gateway is stopping"}


def run(
    config: Path,
    *,
    worker: tuple[str, ...] = WORKER,
    console: tuple[str, ...] = CONSOLE,
    patience: float = 30.0,
) -> int:
    """Serves until told to stop. `patience` is how many seconds a drain may take. The exit status."""
    logging.configure()
    return asyncio.run(Supervisor(config, worker, console, patience).serve())


class Supervisor:
    """All state of the first process."""

    def __init__(self, config: Path, worker: tuple[str, ...], console: tuple[str, ...], patience: float) -> None:
        self._config = config
        self._worker = worker
        self._console_command = console
        self._patience = patience
        self._bundle = Bundle(-1, Summary((), 0, None, ""))
        self._census = -1
        self._metrics = ""
        self._sockets: list[tuple[int, socket.socket]] = []
        self._admin: socket.socket | None = None
        self._workers: list[Child] = []
        self._console: Child | None = None
        self._orders = Orders(self._ordered)
        self._asked: list[asyncio.Future[Message]] = []  # who waits for the next reload's outcome
        self._handover = Handover(patience)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reload = asyncio.Event()
        self._drained = asyncio.Event()
        self._killed = 0
        self._starting: asyncio.Task[object] | None = None
        self._failed = False
        self._started = time.time()
        self._reloads = {"accepted": 0, "refused": 0}
        self._last_reload: dict[str, object] = {"ok": True, "at": self._started, "error": ""}

    async def serve(self) -> int:
        """From start to exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        self._starting = asyncio.current_task()
        try:
            self._bundle = await validated(self._worker, self._config)
        except asyncio.CancelledError:
            return 0
        except Refused as why:
            sys.stderr.write(f"{why}\n".replace("\n\n", "\n"))
            return 1
        finally:
            self._starting = None
        try:
            self._bind()
        except CannotListen as error:
            log.error("cannot listen", why=str(error))
            self._unbind()
            return 1
        folder = MetricsFolder.make()
        self._metrics = str(folder.path)
        try:
            self._start()
            await self._take_orders()
            async with asyncio.TaskGroup() as tasks:
                reloading = tasks.create_task(self._reload_on_demand())
                await self._stop.wait()
                reloading.cancel()
            await self._drain()
            await self._orders.close()
        finally:
            folder.remove()
        return 1 if self._failed else 0

    def _asked_to_stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()  # nothing runs yet but the check
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    # Start

    def _bind(self) -> None:
        for index, addresses in enumerate(self._bundle.summary.listeners):
            for address in addresses:
                self._sockets.append((index, bound(address)))
        if self._bundle.summary.admin:
            self._admin = bound(self._bundle.summary.admin)
        forget_privileges()

    def _unbind(self) -> None:
        for _, listener in self._sockets:
            listener.close()
        self._sockets.clear()
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _start(self) -> None:
        raise_limits()
        summary = self._bundle.summary
        self._census = os.memfd_create("census", os.MFD_CLOEXEC)
        os.ftruncate(self._census, summary.census_head + summary.workers * summary.census_row)
        log.info("started", pid=os.getpid(), workers=summary.workers, revision=summary.revision)
        if os.geteuid() == 0:
            log.warning("running as root, and so do the workers", hint="start it as deploy/gatepost.service does")
        for index, listener in self._sockets:
            log.info("listening", listener=index, address=spoken(listener))
        if self._admin is not None:
            log.info("listening", listener="admin", address=spoken(self._admin))
            self._console = Child("console", self._console_start, self._changed)
        for row in range(summary.workers):
            self._workers.append(Child(f"worker {row}", functools.partial(self._worker_start, row), self._changed))
        for child in self._children():
            child.start()

    def _children(self) -> list[Child]:
        return [*self._workers, *([self._console] if self._console else [])]

    def _worker_start(self, row: int) -> Command:
        bundle = self._bundle.reopened()
        listening = ",".join(f"{index}:{listener.fileno()}" for index, listener in self._sockets)
        arguments = [*self._worker, "--config", str(self._config), "--bundle-fd", str(bundle)]
        arguments += ["--listen-fds", listening, "--census-fd", str(self._census)]
        arguments += ["--row", str(row), "--workers", str(self._bundle.summary.workers)]
        inherited = (*(listener.fileno() for _, listener in self._sockets), self._census)
        environment = {"PROMETHEUS_MULTIPROC_DIR": self._metrics, "GATEPOST_PROCESS": f"row{row}"}
        return Command(arguments, inherited, (bundle,), environment)

    def _console_start(self) -> Command:
        assert self._admin is not None
        arguments = [*self._console_command, "--bind-fd", str(self._admin.fileno())]
        return Command(arguments, (self._admin.fileno(),), (), {"PROMETHEUS_MULTIPROC_DIR": self._metrics})

    # Watch

    def _changed(self, child: Child, what: str, message: Message) -> None:
        match what:
            case "started":
                log.info("process started", name=child.name, pid=child.pid)
            case "ready":
                log.info("process ready", name=child.name, pid=child.pid)
                if all(worker.ready for worker in self._workers):
                    notify("READY=1")
            case "died" if child is not self._console:
                self._worker_died(child)
            case "said" if "reloaded" in message:
                self._handover.confirm(child)
            case "said" if "refused" in message:
                log.error("worker refused the reload", name=child.name, why=message["refused"])
                self._handover.refuse(child, str(message["refused"]))
        self._publish()

    def _worker_died(self, child: Child) -> None:
        row = self._workers.index(child)
        summary = self._bundle.summary
        offset = summary.census_head + row * summary.census_row
        os.pwrite(self._census, bytes(summary.census_row), offset)  # its connections are gone with it
        mark_process_dead(f"row{row}", self._metrics)  # type: ignore[no-untyped-call]
        self._handover.confirm(child)  # its successor starts from the new bundle
        if child.deaths >= _HOPELESS and not any(worker.ever_ready for worker in self._workers):
            if not self._stop.is_set():
                log.error("no worker can start", hint="the lines above say why")
            self._failed = True
            self._stop.set()

    # Reload

    async def _reload_on_demand(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            asked, self._asked = self._asked, []
            outcome: Message = _STOPPING
            try:
                outcome = await self._reload_once()
            finally:
                _tell(asked, outcome)
            await self._take_orders()

    async def _reload_once(self) -> Message:
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            problems = await self._reloaded()
        except Exception as error:
            log.exception("reload crashed")
            problems = f"internal error: {error}"
        notify("READY=1")
        self._reloads["refused" if problems else "accepted"] += 1
        self._last_reload = {"ok": not problems, "at": time.time(), "error": problems}
        if problems:
            log.error("reload refused, the old configuration stays", problems=problems.splitlines())
        else:
            log.info("reloaded", revision=self._bundle.summary.revision)
        self._publish()
        warnings = [] if problems else self._bundle.warnings
        return self._last_reload | {"revision": self._bundle.summary.revision, "warnings": warnings}

    async def _reloaded(self) -> str:
        """Checks and hands on. The problems, "" when all workers run the new bundle."""
        try:
            bundle = await validated(self._worker, self._config, tested=True)
        except Refused as why:
            return str(why)
        if bundle.summary.bound != self._bundle.summary.bound:
            bundle.close()
            return "listeners, workers and admin cannot change while running; restart the gateway for that"
        before, self._bundle = self._bundle, bundle  # a worker that starts meanwhile starts from the new one
        refusals = await self._handover.give(bundle, self._workers)
        if not refusals:
            before.close()
            return ""
        # What passed the check and a worker cannot run all the same (a database of a newer version): all go back.
        self._bundle = before
        for worker in await self._handover.give(before, self._workers):
            self._handover.replace(worker)
        bundle.close()
        return together(refusals)

    # Drain

    async def _drain(self) -> None:
        notify("STOPPING=1")
        log.info("draining", patience=self._patience)
        _tell(self._asked, _STOPPING)
        self._unbind()  # who connects now is refused by the kernel at once, as soon as the workers close theirs
        for worker in self._workers:
            worker.end({"drain": self._patience})
        self._publish()
        self._killed = await ended(self._workers, self._patience + 2, self._hurry)
        if self._console is not None:
            self._console.end({"drain": 0})
            self._console.hang_up()
            await ended([self._console], 2.0, self._hurry)
        log.info("drained")
        self._drained.set()

    # Orders, and how things are

    async def _take_orders(self) -> None:
        place = self._bundle.summary.control
        await self._orders.open(Path(place) if place else None)

    async def _ordered(self, order: str) -> AsyncIterator[Message]:
        """The answers to an order: see `orders`."""
        match order:
            case "status":
                yield self._status()
            case "reload" if not self._stop.is_set():
                outcome: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
                self._asked.append(outcome)
                self._reload.set()
                yield {"progress": "checking the configuration and running the tests of its policy"}
                yield await outcome
            case "drain":
                self._stop.set()
                yield {"progress": f"draining, for {self._patience:g} s at most"}
                await self._drained.wait()
                yield {"ok": not self._killed, "killed": self._killed}
            case _:
                yield _STOPPING if order == "reload" else {"ok": False, "error": "no such order"}

    def _publish(self) -> None:
        """Tells the console how things are."""
        if self._console is not None and self._console.ready:
            self._console.send({"status": self._status()})

    def _status(self) -> Message:
        workers = [
            {
                "row": row, "pid": worker.pid, "ready": worker.ready, "starts": worker.starts, "since": worker.since,
                "ended": worker.ended, "deaths": worker.deaths, "again": worker.again,
            }
            for row, worker in enumerate(self._workers)
        ]  # fmt: skip
        return {
            "pid": os.getpid(),
            "started": self._started,
            "draining": self._stop.is_set(),
            "revision": self._bundle.summary.revision,
            "listening": [spoken(listener) for _, listener in self._sockets],
            "workers": workers,
            "restarts": sum(max(worker.starts - 1, 0) for worker in self._workers),
            "reloads": self._reloads,
            "last_reload": self._last_reload,
        }


def _tell(asked: list[asyncio.Future[Message]], outcome: Message) -> None:
    for each in asked:
        if not each.done():
            each.set_result(outcome)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
