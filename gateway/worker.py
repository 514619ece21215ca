"""The process of one worker: serves what `build` made.

`python -m gateway.worker --check` validates a configuration from disk, runs the tests of its policy, prints a summary
and leaves the bundle of all files it read; without `--check` it serves from such a bundle, and swaps in place when the
supervisor hands it a new one (see `control`). The death of the supervisor ends the line, and then it drains. Started
by `supervisor`.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import orjson
import uvloop

from gateway import log as logging
from gateway import metrics, trace
from gateway.build import Plan, build, plan, resolver_of, settings_of
from gateway.clock import Clock, SystemClock
from gateway.config import Config
from gateway.control import Control, cut
from gateway.control import Message as ControlMessage
from gateway.files import BundleFiles, RecordingFiles
from gateway.journal import Journal, opened
from gateway.log import log
from gateway.mail.terms import Unavailable
from gateway.pipeline import House, Pipeline
from gateway.policy.tests import run_tests
from gateway.smtp import census
from gateway.smtp.server import Edge
from gateway.smtp.strangers import Strangers
from gateway.state.opening import open_store
from gateway.state.store import Store
from gateway.yamlfile import ConfigError

_PURGE_SECONDS = 60.0
#: New objects in cycles or containers before the collector looks. A mail leaves it next to nothing: after the usual 700
#: it came several times a mail, for 5 % of the CPU.
_COLLECT_AFTER = 20_000
#: Untested rules that a warning names.
_NAMED = 10


class Worker:
    """One process that serves. All of its state hangs here."""

    def __init__(self, made: Plan, path: Path, row: int, workers: int, census_fd: int) -> None:
        self._clock = SystemClock()
        self._path = path
        self._workers = workers
        self._plan = made
        self._store = open_store(made.config, self._clock)
        self._journal = _journal(made.config, self._clock)
        self._census = census.Census(census_fd, row, workers)
        house = self._house(made, self._store, self._journal)
        self._pipeline = Pipeline(house)
        self._houses = [house]  # the present one last; before it those that still have mails under way
        self._strangers = Strangers()
        self._edges: list[tuple[int, Edge]] = []
        self._retiring: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._patience = 30.0
        self._control: Control | None = None

    async def serve(self, listening: list[tuple[int, int]], control_fd: int) -> None:
        """Accepts on the inherited sockets (listener's index, descriptor) until told to drain."""
        control = self._control = Control.inherited(control_fd, self._told, self._stop.set)
        for index, descriptor in listening:
            await self._open(index, socket.socket(fileno=descriptor))
        control.send({"ready": True})
        async with asyncio.TaskGroup() as tasks:
            purging = tasks.create_task(self._purge())
            await self._stop.wait()
            purging.cancel()
        async with asyncio.TaskGroup() as tasks:
            for _, edge in self._edges:
                tasks.create_task(edge.drain(self._patience))
        await asyncio.gather(*self._retiring)
        await self._retire(self._pipeline.house)
        control.send({"drained": True})
        control.close()

    async def _open(self, index: int, listening: socket.socket) -> None:
        settings = settings_of(self._plan.config, self._plan.config.listeners[index], chunking=self._plan.chunking)
        # The context is asked for at each handshake, so that a reload's certificate is the next client's.
        edge = Edge(
            settings,
            self._pipeline,
            census=self._census,
            clock=self._clock,
            tls=lambda: self._plan.contexts[index],
            strangers=self._strangers,
        )
        await edge.start(listening)
        self._edges.append((index, edge))

    def _house(self, made: Plan, store: Store, journal: Journal | None) -> House:
        return build(
            made,
            clock=self._clock,
            store=store,
            resolver=resolver_of(made.config, made.files, self._clock),
            journal=journal,
            workers=self._workers,
        )

    def _told(self, message: ControlMessage, descriptor: int | None) -> None:
        if "reload" in message and descriptor is not None:
            self._reload(descriptor)
            return
        if descriptor is not None:
            os.close(descriptor)
        if "drain" in message:
            self._patience = float(str(message["drain"]))
            self._stop.set()

    def _reload(self, descriptor: int) -> None:
        """Swaps in place. Open transactions keep the old house, which ends when the last of them has ended."""
        assert self._control is not None
        store, journal = self._store, self._journal
        undo = contextlib.ExitStack()  # closes what was opened for a house that is not built
        try:
            made = plan(self._path, bundle(descriptor), self._clock, today=False)
            if made.config.state != self._plan.config.state:
                store = open_store(made.config, self._clock)
                undo.callback(store.close)
            if made.config.journal != self._plan.config.journal:
                _prove(made.config, self._clock)
                journal = _journal(made.config, self._clock)
                if journal is not None:
                    undo.callback(self._later, journal.close)
            house = self._house(made, store, journal)
            settings = [settings_of(made.config, each, chunking=made.chunking) for each in made.config.listeners]
        except Exception as error:
            undo.close()
            self._control.send({"refused": cut(_told_of(error))})
            return
        old, self._plan, self._store, self._journal = self._pipeline.house, made, store, journal
        self._pipeline.house = house
        self._houses.append(house)
        for index, edge in self._edges:
            edge.settings = settings[index]
        self._retiring_one(self._retire(old))
        self._control.send({"reloaded": made.policy.revision})

    def _later(self, close: Callable[[], None]) -> None:
        """Closes what may take a moment, beside the mails."""
        self._retiring_one(asyncio.to_thread(close))

    def _retiring_one(self, ending: Coroutine[None, None, None]) -> None:
        """An end that is awaited at our own."""
        retiring = asyncio.get_running_loop().create_task(ending)
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _retire(self, house: House) -> None:
        """Ends a house when nobody uses it any more, and its store and journal when no other house does."""
        await self._pipeline.released(house)
        await house.relay.drain()
        await house.relay.close()
        await house.resolver.close()
        self._houses.remove(house)
        if house.journal is not None and all(other.journal is not house.journal for other in self._houses):
            await asyncio.to_thread(house.journal.close)
        if all(other.store is not house.store for other in self._houses):
            house.store.close()

    async def _purge(self) -> None:
        while True:
            await asyncio.sleep(_PURGE_SECONDS)
            with contextlib.suppress(Unavailable):  # the store has logged it; there is a next time
                await asyncio.to_thread(self._store.purge, self._clock.now())


def _journal(config: Config, clock: Clock) -> Journal | None:
    kept = config.journal
    return Journal(kept.path, kept.keep, clock, octets=kept.size) if kept is not None else None


def _prove(config: Config, clock: Clock) -> None:
    """Opens the journal's file once: a reload is refused where a start would only say that the journal stopped.

    Raises `Unavailable`.
    """
    if config.journal is not None:
        opened(config.journal.path, clock).close()


def _told_of(error: Exception) -> str:
    """Why a reload is refused, in one sentence; a bug's traceback is in the log."""
    if isinstance(error, ConfigError | Unavailable | OSError):
        return str(error)
    log.exception("reload crashed")
    return f"internal error, see the log: {type(error).__name__}: {error}"


def bundle(descriptor: int) -> BundleFiles:
    """The files of a bundle; the descriptor is closed."""
    with open(descriptor, "rb") as file:
        return BundleFiles(file.read())


def check(path: Path, bundle_fd: int | None, *, tested: bool = False) -> int:
    """Validates what is on disk and runs the policy's tests; leaves the bundle, prints the summary. The exit status.

    With `tested` a failing test refuses (a reload: the running policy stays). Without, it is a warning: at a start
    there is no other policy to fall back to, and a mail server that does not start helps nobody.
    """
    files = RecordingFiles()
    try:
        made = plan(path, files, SystemClock(), today=True)
    except ConfigError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    report = run_tests(made.policy)
    failures = [outcome for outcome in report.outcomes if outcome.failure]
    for outcome in failures:
        told = f"{outcome.case.position}: the test '{outcome.case.name}' fails: {outcome.failure}"
        sys.stderr.write(told + ("\n" if tested else " (warning)\n"))
    if failures and tested:
        sys.stderr.write(f"{len(failures)} of {len(report.outcomes)} policy tests fail; see: gatepost policy test\n")
        return 1
    for warning in made.warnings:
        sys.stderr.write(f"{warning} (warning)\n")
    if report.unreached:
        names = ", ".join(rule.id for rule in report.unreached[:_NAMED]) + (", ..." * (len(report.unreached) > _NAMED))
        sys.stderr.write(f"no test reaches {len(report.unreached)} of {report.rules} rules: {names} (warning)\n")
    if bundle_fd is not None:
        with open(bundle_fd, "wb", closefd=False) as file:
            file.write(files.bundle())
    config = made.config
    workers = config.worker_count(len(os.sched_getaffinity(0)))
    summary = {
        "listeners": [[str(address) for address in listener.bind] for listener in config.listeners],
        "fixed": [listener.implicit_tls for listener in config.listeners],
        "workers": workers,
        "admin": str(config.admin.bind) if config.admin is not None else None,
        "revision": made.policy.revision,
        "control": str(config.control_path.absolute()) if config.control_path is not None else "",
        "census_head": 0,
        "census_row": census.octets(1),
    }
    sys.stdout.buffer.write(orjson.dumps(summary) + b"\n")
    return 0


def main() -> int:
    """The command line of the supervisor, not of people."""
    parser = argparse.ArgumentParser(prog="gateway.worker")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--tested", action="store_true")
    parser.add_argument("--bundle-fd", type=int)
    parser.add_argument("--listen-fds", default="")
    parser.add_argument("--census-fd", type=int)
    parser.add_argument("--row", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--control-fd", type=int)
    parser.add_argument("--trace-fd", type=int)
    said = parser.parse_args()
    logging.configure()
    if said.trace_fd is not None:
        trace.left_in(said.trace_fd)
    if said.check:
        return check(said.config, said.bundle_fd, tested=said.tested)
    if not metrics.shown:
        log.warning("no room for metrics, mail goes on uncounted", folder=os.environ["PROMETHEUS_MULTIPROC_DIR"])
    listening = [(int(index), int(number)) for index, number in (w.split(":") for w in said.listen_fds.split(","))]

    async def run() -> None:
        made = plan(said.config, bundle(said.bundle_fd), SystemClock(), today=False)
        await Worker(made, said.config, said.row, said.workers, said.census_fd).serve(listening, said.control_fd)

    try:
        # The supervisor speaks for the terminal: Ctrl-C there must not end us before the drain.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.set_threshold(_COLLECT_AFTER)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
    except (ConfigError, Unavailable, OSError) as fault:
        log.error("worker cannot start", why=str(fault))
        return 1
    except Exception:
        log.exception("worker crashed")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
