"""One child process kept alive: started, watched, ended when it hangs, restarted with growing pauses.

The exit is learned through a pidfd on the event loop: no SIGCHLD handler, no thread, no race with reused process ids.
A child has its own process group, so that Ctrl-C at a terminal reaches the supervisor alone, which then drains. Whether
it hangs `watchdog` judges; it is then told to leave its `trace`, and killed.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway import trace
from gateway.control import PING, Control, Message, pair
from gateway.log import log
from gateway.watchdog import LIMIT_SECONDS, Silence, Step

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 30.0
#: Seconds a child must live for its earlier deaths to be forgotten.
STABLE = 30.0


def pause(deaths: int) -> float:
    """Seconds to wait before the next start after that many deaths in a row."""
    return min(_FIRST_PAUSE * 2.0 ** min(deaths - 1, 20), _LONGEST_PAUSE) if deaths > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Command:
    """What to start, with `--control-fd N --trace-fd M`. `given` descriptors are ours, closed after the start."""

    arguments: list[str]
    inherited: tuple[int, ...] = ()
    given: tuple[int, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


class Child:
    """One slot: at any time at most one process. All calls from the event loop.

    `changed(child, what, message)` hears of "started", "ready", "silent", "answers", "died", and "said" (with the
    message). `limit` is how many seconds the process may be silent.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], Command],
        changed: Callable[["Child", str, Message], None],
        limit: float = LIMIT_SECONDS,
    ) -> None:
        self.name = name
        self.ready = False
        self.ever_ready = False
        self.starts = 0
        self.deaths = 0  # in a row
        self.since = 0.0  # epoch seconds of the last start
        self.ended = ""  # how the last one did
        self.silent = 0.0  # epoch seconds since when it hangs, while it does
        self.hangs = 0  # how many were killed for it
        self.again = 0.0  # epoch seconds of the next start, while there is no process
        self.gone = asyncio.Event()  # no process, and none will be started
        self._command = command
        self._changed = changed
        self._limit = limit
        self._silence = Silence(limit)
        self._asked = True  # False while the kernel does not take the question
        self._trace = trace.Trace()
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._control: Control | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._last = False
        self._recycled = False

    @property
    def pid(self) -> int:
        """0 while there is no process."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Starts the process now."""
        self._timer = None
        self.since, self._began = time.time(), self._loop.time()
        self._recycled = False
        try:
            self._process, self._pidfd, line = self._launched()
        except OSError as error:  # out of memory, descriptors or processes: a death like any other
            log.error("cannot start a process", name=self.name, why=str(error))
            self._buried("could not be started")
            return
        self.starts += 1
        self._loop.add_reader(self._pidfd, self._exited)
        self._control = Control(line, self._received, lambda: None)
        self._silence, self._asked = Silence(self._limit), True
        self._changed(self, "started", {})

    def _launched(self) -> tuple[subprocess.Popen[bytes], int, socket.socket]:
        """The process, its pidfd and our end of its line. Raises `OSError`."""
        command = self._command()
        with contextlib.ExitStack() as given, contextlib.ExitStack() as undo:
            for descriptor in command.given:
                given.callback(os.close, descriptor)
            ours, theirs = pair()
            given.callback(theirs.close)
            undo.callback(ours.close)
            self._trace.clear()
            told = (theirs.fileno(), self._trace.descriptor)
            process = subprocess.Popen(  # noqa: S603 - our own modules
                [*command.arguments, "--control-fd", str(told[0]), "--trace-fd", str(told[1])],
                pass_fds=(*command.inherited, *command.given, *told),
                env={**os.environ, **command.environment},
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
            undo.callback(process.wait)
            undo.callback(process.kill)
            pidfd = os.pidfd_open(process.pid)
            undo.pop_all()
        return process, pidfd, ours

    def tick(self, elapsed: float) -> None:
        """A tick of the supervisor's clock, `elapsed` seconds after the one before: see `watchdog`."""
        if self._process is None or self._last or self._recycled:
            return
        silence = self._silence
        step = silence.tick(elapsed)
        if step is Step.ASK or not self._asked:
            self._asked = self.send(PING)
        match step:
            case Step.TELL:
                self.silent = time.time() - silence.seconds
                log.warning("process hangs", name=self.name, pid=self.pid, seconds=silence.seconds,
                            state=trace.state(self.pid))  # fmt: skip
                self._changed(self, "silent", {})
            case Step.TRACE:
                self.signal(trace.SIGNAL)
            case Step.KILL:
                self.hangs += 1
                log.error("killed, it hangs" if self.ready else "not ready in time, killed", name=self.name,
                          pid=self.pid, seconds=silence.seconds, state=trace.state(self.pid))  # fmt: skip
                self.signal(signal.SIGKILL)

    def send(self, message: Message, descriptor: int | None = None) -> bool:
        """Tells the process something; False when there is none or it does not read."""
        return self._control is not None and self._control.send(message, descriptor)

    def end(self, message: Message) -> None:
        """Tells the process to end, for good: no other will be started."""
        self._last = True
        if self._process is None:
            self._stop_timer()
            self.gone.set()
        elif not self.send(message):
            self.signal(signal.SIGTERM)

    def recycle(self, message: Message, patience: float) -> None:
        """Tells the process to end so that a new one takes its place without a pause; kills it after `patience`."""
        if self._process is None:
            return
        self._recycled = True
        self._stop_timer()
        self._timer = self._loop.call_later(patience, self.signal, signal.SIGKILL)
        if not self.send(message):
            self.signal(signal.SIGTERM)

    def hang_up(self) -> None:
        """Closes our end of the line: a child takes that as the end."""
        if self._control is not None:
            self._control.close()

    def signal(self, number: int) -> None:
        """Sends a signal through the pidfd: never to another process."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _received(self, message: Message, descriptor: int | None) -> None:
        if descriptor is not None:
            os.close(descriptor)  # children have none to give
        if "pong" in message:
            self._answered()
        elif message.get("ready"):
            self._silence.answered()
            self.ready = self.ever_ready = True
            self._changed(self, "ready", message)
        else:
            self._changed(self, "said", message)

    def _answered(self) -> None:
        seconds = self._silence.seconds
        self._silence.answered()
        if self.silent:
            self.silent = 0.0
            log.warning("process answers again", name=self.name, pid=self.pid, seconds=seconds, **self._left())
            self._trace.clear()  # no later death is explained by it
            self._changed(self, "answers", {})

    def _exited(self) -> None:
        assert self._process is not None
        status = self._process.wait()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._buried(signal.Signals(-status).name if status < 0 else f"exit status {status}")

    def _buried(self, how: str) -> None:
        pid, self._process, self.ended = self.pid, None, how
        if self._control is not None:
            self._control.close()
            self._control = None
        self._stop_timer()
        self.ready, self.silent = False, 0.0
        lived = self._loop.time() - self._began
        self.deaths = 0 if self._recycled else 1 if lived >= STABLE else self.deaths + 1
        if self._last:
            self.gone.set()
        else:
            wait = pause(self.deaths)
            self.again = time.time() + wait
            log.warning(
                "process ended, will be restarted", name=self.name, pid=pid, how=how, restart_in=wait, **self._left()
            )
            self._timer = self._loop.call_later(wait, self.start)
        self._changed(self, "died", {"pid": pid, "how": how})

    def _left(self) -> dict[str, list[str]]:
        """The trace that the process left, for the log."""
        return {"trace": lines} if (lines := self._trace.read()) else {}

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def ended(children: list[Child], patience: float, hurry: asyncio.Event) -> int:
    """Waits for the exits of children that were told to end; kills those left after `patience` or at `hurry`.

    How many were killed.
    """
    killed = 0
    async with asyncio.TaskGroup() as tasks:
        everyone = tasks.create_task(_all_gone(children))
        hurried = tasks.create_task(hurry.wait())
        await asyncio.wait({everyone, hurried}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for child in children:
            if not child.gone.is_set():
                log.warning("killed, it did not drain in time", name=child.name, pid=child.pid)
                child.signal(signal.SIGKILL)
                killed += 1
    return killed


async def _all_gone(children: list[Child]) -> None:
    for child in children:
        await child.gone.wait()
