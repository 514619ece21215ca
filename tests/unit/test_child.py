"""The growing pauses between restarts; a child that hangs, with the seconds of a supervisor that are only said."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator

import pytest
from structlog.testing import capture_logs

from gateway import trace
from gateway.child import Child, Command, pause
from gateway.control import Message
from gateway.watchdog import START_SECONDS

#: A process that says it is ready and answers nothing; one that never says a word.
READY = """
import socket, sys
line = socket.socket(fileno=int(sys.argv[2]))
line.send(b'{"ready": true}')
while line.recv(1000):
    pass
"""
SILENT = "import signal; signal.pause()"


@pytest.mark.parametrize(
    ("deaths", "seconds"), [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.4), (8, 12.8), (9, 25.6), (10, 30.0), (10_000, 30.0)]
)
def test_pause(deaths: int, seconds: float) -> None:
    assert pause(deaths) == pytest.approx(seconds)


@pytest.fixture(autouse=True)
def the_question_ends_nobody() -> Iterator[None]:
    """As in the supervisor."""
    before = signal.signal(trace.SIGNAL, signal.SIG_IGN)
    yield
    signal.signal(trace.SIGNAL, before)


class Life:
    """A child and what was heard of it."""

    def __init__(self, program: str) -> None:
        self.heard: list[str] = []
        self._came = asyncio.Event()
        self.child = Child("it", lambda: Command([sys.executable, "-c", program]), self._changed)
        self.child.start()

    def _changed(self, child: Child, what: str, message: Message) -> None:
        self.heard.append(what)
        self._came.set()

    async def until(self, what: str) -> None:
        while what not in self.heard:
            self._came.clear()
            await self._came.wait()

    def tick(self, seconds: int, elapsed: float = 1.0) -> None:
        for _ in range(seconds):
            self.child.tick(elapsed)


def lived(program: str, test: Callable[[Life], Awaitable[None]]) -> list[str]:
    """The log of a life in which the test happens; its end included."""

    async def main() -> None:
        async with asyncio.timeout(20):
            life = Life(program)
            await test(life)
            life.child.end({})
            life.child.signal(signal.SIGKILL)
            await life.child.gone.wait()

    with capture_logs() as log:
        asyncio.run(main())
    return [line["event"] for line in log]


def test_one_that_does_not_answer_is_killed() -> None:
    async def test(life: Life) -> None:
        await life.until("ready")
        life.tick(11)
        assert (life.heard[-1], life.child.hangs) == ("silent", 0)
        assert life.child.silent > 0
        life.tick(51)
        assert life.child.hangs == 1
        await life.until("died")
        assert (life.child.ended, life.child.silent, life.child.ready) == ("SIGKILL", 0.0, False)

    assert lived(READY, test) == ["process hangs", "killed, it hangs", "process ended, will be restarted"]


def test_one_that_is_never_ready_is_killed_later() -> None:
    async def test(life: Life) -> None:
        life.tick(int(START_SECONDS))
        assert (life.heard, life.child.hangs) == (["started"], 0)
        life.tick(1)
        assert life.child.hangs == 1
        await life.until("died")

    assert lived(SILENT, test) == ["not ready in time, killed", "process ended, will be restarted"]


def test_one_whose_supervisor_came_late_stays() -> None:
    async def test(life: Life) -> None:
        await life.until("ready")
        life.tick(1000, 3600.0)

    assert lived(READY, test) == []


def test_one_that_drains_is_bound_by_its_patience_alone() -> None:
    async def test(life: Life) -> None:
        await life.until("ready")
        life.child.recycle({"drain": 1}, 100.0)
        life.tick(1000)

    assert lived(READY, test) == []


def test_one_that_cannot_be_started_is_tried_again() -> None:
    """No descriptors, no memory, no processes left: that passes, and the slot must not stay empty for ever."""
    failures = 3

    def command() -> Command:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise OSError(24, "Too many open files")
        return Command([sys.executable, "-c", READY])

    async def main() -> None:
        async with asyncio.timeout(20):
            ready = asyncio.Event()
            child = Child("it", command, lambda _, what, __: ready.set() if what == "ready" else None)
            child.start()
            await ready.wait()
            assert child.deaths == 3
            child.end({})
            child.signal(signal.SIGKILL)
            await child.gone.wait()

    with capture_logs() as log:
        asyncio.run(main())
    assert [line["restart_in"] for line in log if "restart_in" in line] == [0.1, 0.2, 0.4]


def test_one_that_was_replaced_and_cannot_be_started_again_waits_longer_each_time() -> None:
    async def main() -> list[float]:
        programs = [sys.executable]

        async with asyncio.timeout(20):
            heard: asyncio.Queue[str] = asyncio.Queue()
            child = Child(
                "it",
                lambda: Command([programs.pop() if programs else "/nonexistent", "-c", READY]),
                lambda _, what, __: heard.put_nowait(what),
            )
            child.start()
            while await heard.get() != "ready":
                pass
            child.recycle({"drain": 0}, 0.0)
            for _ in range(3):
                while await heard.get() != "died":
                    pass
            child.end({})
            return [child.deaths]

    with capture_logs() as log:
        assert asyncio.run(main()) == [2]
    assert [line["restart_in"] for line in log if "restart_in" in line] == [0.0, 0.1, 0.2]


#: One that is ready, and tells of what it is asked instead of answering.
ECHO = """
import socket, sys
line = socket.socket(fileno=int(sys.argv[2]))
line.send(b'{"ready": true}')
while line.recv(1000):
    line.send(b'{"heard": true}')
"""


def test_a_question_that_could_not_be_put_is_put_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for a packet: who was not asked cannot answer, and would be killed for it."""

    async def test(life: Life) -> None:
        await life.until("ready")
        with monkeypatch.context() as patch:
            patch.setattr(life.child, "send", lambda message: False)
            life.tick(2)
        life.tick(1)
        await life.until("said")

    assert lived(ECHO, test) == []


#: One that hangs until it was asked where, and then ends when it is told to.
LATE = """
import faulthandler, signal, socket, sys
line = socket.socket(fileno=int(sys.argv[2]))
faulthandler.register(signal.SIGUSR1, file=int(sys.argv[4]))
line.send(b'{"ready": true}')
line.recv(1000)
while not b"File" in open(f"/proc/self/fd/{sys.argv[4]}", "rb").read():
    pass
line.send(b'{"pong": true}')
line.recv(1000)
"""


def test_one_that_answers_after_all_has_told_where_it_hung() -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            life = Life(LATE)
            await life.until("ready")
            life.tick(61)
            await life.until("answers")
            life.child.end({})
            await life.child.gone.wait()
            assert life.child.hangs == 0

    with capture_logs() as log:
        asyncio.run(main())
    said = {line["event"]: line for line in log}
    assert any("File" in line for line in said["process answers again"]["trace"])
