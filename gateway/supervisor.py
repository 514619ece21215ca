"""The first process: binds, starts and watches workers and console, reloads, drains. It imports no mail code.

What it knows of the configuration is the summary that `python -m gateway.worker --check` prints: that child validates
everything from the disk and leaves the validated bytes in a memory file, the bundle. Workers load the bundle and
nothing else, so a worker that is restarted at night runs what was validated, whatever the disk says meanwhile, and a
bad configuration never replaces a good one (`reload`). A worker that dies is replaced, and so is one that hangs
(`watchdog`).

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
from gateway import trace
from gateway.bundle import Refused
from gateway.child import Child, Command, ended
from gateway.control import Message
from gateway.log import log
from gateway.machine import CannotListen, MetricsFolder, alive, bound, forget_privileges, notify, raise_limits, spoken
from gateway.orders import Orders
from gateway.reload import STOPPING, Reload
from gateway.watchdog import LIMIT_SECONDS, watch

WORKER = (sys.executable, "-m", "gateway.worker")
CONSOLE = (sys.executable, "-m", "gateway.console")
#: A worker that dies this often before any became ready: the start failed.
_HOPELESS = 3


def run(
    config: Path,
    *,
    worker: tuple[str, ...] = WORKER,
    console: tuple[str, ...] = CONSOLE,
    patience: float = 30.0,
    silence: float = LIMIT_SECONDS,
) -> int:
    """Serves until told to stop. The exit status.

    `patience` is how many seconds a drain may take, `silence` how many a process may not answer until it is killed.
    """
    logging.configure()
    return asyncio.run(Supervisor(config, worker, console, patience, silence).serve())


class Supervisor:
    """All state of the first process."""

    def __init__(
        self, config: Path, worker: tuple[str, ...], console: tuple[str, ...], patience: float, silence: float
    ) -> None:
        self._config = config
        self._worker = worker
        self._console_command = console
        self._patience = patience
        self._silence = silence
        self._census = -1
        self._metrics = ""
        self._sockets: list[tuple[int, socket.socket]] = []
        self._admin: socket.socket | None = None
        self._workers: list[Child] = []
        self._console: Child | None = None
        self._orders = Orders(self._ordered)
        self._reload = Reload(worker, config, patience)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._drained = asyncio.Event()
        self._killed = 0
        self._starting: asyncio.Task[object] | None = None
        self._failed = False
        self._started = time.time()

    async def serve(self) -> int:
        """From start to exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload.ask)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        # Inherited: a child that hangs before it can say where shall not end by the question, unexplained.
        signal.signal(trace.SIGNAL, signal.SIG_IGN)
        self._starting = asyncio.current_task()
        try:
            await self._reload.first()
        except asyncio.CancelledError:
            return 0
        except Refused as why:
            sys.stderr.write(f"{why}\n".replace("\n\n", "\n"))
            return 1
        finally:
            self._starting = None
        try:
            self._bind()
            folder = MetricsFolder.make()
        except (CannotListen, OSError) as error:
            log.error("cannot listen" if isinstance(error, CannotListen) else "cannot start", why=str(error))
            self._unbind()
            return 1
        self._metrics = str(folder.path)
        try:
            self._start()
            await self._take_orders()
            async with asyncio.TaskGroup() as tasks:
                reloading = tasks.create_task(self._reload.on_demand(self._workers, self._reloaded))
                watching = tasks.create_task(watch(self._children, alive))
                await self._stop.wait()
                reloading.cancel()
                watching.cancel()
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
        summary = self._reload.bundle.summary
        for index, addresses in enumerate(summary.listeners):
            for address in addresses:
                self._sockets.append((index, bound(address)))
        if summary.admin:
            self._admin = bound(summary.admin)
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
        summary = self._reload.bundle.summary
        self._census = os.memfd_create("census", os.MFD_CLOEXEC)
        os.ftruncate(self._census, summary.census_head + summary.workers * summary.census_row)
        log.info("started", pid=os.getpid(), workers=summary.workers, revision=summary.revision)
        if os.geteuid() == 0:
            log.warning("running as root, and so do the workers", hint="start it as deploy/gatepost.service does")
        for index, listener in self._sockets:
            log.info("listening", listener=index, address=spoken(listener))
        if self._admin is not None:
            log.info("listening", listener="admin", address=spoken(self._admin))
            self._console = Child("console", self._console_start, self._changed, self._silence)
        for row in range(summary.workers):
            begin = functools.partial(self._worker_start, row)
            self._workers.append(Child(f"worker {row}", begin, self._changed, self._silence))
        for child in self._children():
            child.start()

    def _children(self) -> list[Child]:
        return [*self._workers, *([self._console] if self._console else [])]

    def _worker_start(self, row: int) -> Command:
        bundle = self._reload.bundle.reopened()
        listening = ",".join(f"{index}:{listener.fileno()}" for index, listener in self._sockets)
        arguments = [*self._worker, "--config", str(self._config), "--bundle-fd", str(bundle)]
        arguments += ["--listen-fds", listening, "--census-fd", str(self._census)]
        arguments += ["--row", str(row), "--workers", str(self._reload.bundle.summary.workers)]
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
                self._reload.handover.confirm(child)
            case "said" if "refused" in message:
                log.error("worker refused the reload", name=child.name, why=message["refused"])
                self._reload.handover.refuse(child, str(message["refused"]))
        self._publish()

    def _worker_died(self, child: Child) -> None:
        row = self._workers.index(child)
        summary = self._reload.bundle.summary
        offset = summary.census_head + row * summary.census_row
        os.pwrite(self._census, bytes(summary.census_row), offset)  # its connections are gone with it
        mark_process_dead(f"row{row}", self._metrics)  # type: ignore[no-untyped-call]
        self._reload.handover.confirm(child)  # its successor starts from the new bundle
        if child.deaths >= _HOPELESS and not any(worker.ever_ready for worker in self._workers):
            if not self._stop.is_set():
                log.error("no worker can start", hint="the lines above say why")
            self._failed = True
            self._stop.set()

    # Drain

    async def _drain(self) -> None:
        notify("STOPPING=1")
        log.info("draining", patience=self._patience)
        self._reload.stop()
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

    async def _reloaded(self) -> None:
        """After a reload, whatever its outcome."""
        self._publish()
        await self._take_orders()

    async def _take_orders(self) -> None:
        place = self._reload.bundle.summary.control
        await self._orders.open(Path(place) if place else None)

    async def _ordered(self, order: str) -> AsyncIterator[Message]:
        """The answers to an order: see `orders`."""
        match order:
            case "status":
                yield self._status()
            case "reload" if not self._stop.is_set():
                outcome = self._reload.outcome()
                yield {"progress": "checking the configuration and running the tests of its policy"}
                yield await outcome
            case "drain":
                self._stop.set()
                yield {"progress": f"draining, for {self._patience:g} s at most"}
                await self._drained.wait()
                yield {"ok": not self._killed, "killed": self._killed}
            case _:
                yield STOPPING if order == "reload" else {"ok": False, "error": "no such order"}

    def _publish(self) -> None:
        """Tells the console how things are."""
        if self._console is not None and self._console.ready:
            self._console.send({"status": self._status()})

    def _status(self) -> Message:
        workers = [
            {
                "row": row, "pid": worker.pid, "ready": worker.ready and not worker.silent, "starts": worker.starts,
                "since": worker.since, "ended": worker.ended, "deaths": worker.deaths, "again": worker.again,
                "silent": worker.silent,
            }
            for row, worker in enumerate(self._workers)
        ]  # fmt: skip
        return {
            "pid": os.getpid(),
            "started": self._started,
            "draining": self._stop.is_set(),
            "revision": self._reload.bundle.summary.revision,
            "listening": [spoken(listener) for _, listener in self._sockets],
            "workers": workers,
            "restarts": sum(max(worker.starts - 1, 0) for worker in self._workers),
            "hangs": sum(worker.hangs for worker in self._workers),
            "reloads": self._reload.counts,
            "last_reload": self._reload.last,
        }


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
