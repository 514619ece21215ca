"""When a silent process is told of, asked where it is, and killed; and what condemns nobody."""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from gateway import watchdog
from gateway.watchdog import LIMIT_SECONDS, START_SECONDS, Silence, Step, watch

ANSWERS = "the process answers"
HANGS = [(10, Step.TELL), (60, Step.TRACE), (61, Step.KILL)]
#: What happens, in order: that many ticks of so many seconds each, or an answer.
Events = list[tuple[int, float] | str]


@pytest.mark.parametrize(
    ("what", "steps"),
    [
        pytest.param([(200, 1.0)], HANGS, id="hung"),
        pytest.param([(9, 1.0), ANSWERS, (9, 1.0), ANSWERS], [], id="slow"),
        pytest.param([(59, 1.0), ANSWERS, (9, 1.0)], [(10, Step.TELL)], id="back in time"),
        pytest.param([(60, 1.0), ANSWERS, (9, 1.0)], [(10, Step.TELL), (60, Step.TRACE)], id="back in the last second"),
        pytest.param([(1, 3600.0), ANSWERS], [], id="suspended machine"),
        pytest.param([(59, 1.0), (1, 3600.0), ANSWERS], [(10, Step.TELL)], id="both stopped, late"),
        pytest.param([(1, 70.0)] * 50, [], id="suspended again and again"),
        pytest.param([(1000, 1.6)], [], id="starved supervisor"),
        pytest.param([(5, 1.0), (100, 5.0), (5, 1.0)], [(110, Step.TELL)], id="starved for a while"),
        pytest.param([(200, 1.4)], HANGS, id="a little late"),
    ],
)
def test_silence(what: Events, steps: list[tuple[int, Step]]) -> None:
    silence = Silence()
    silence.answered()
    assert silence.tick(1.0) is Step.ASK
    assert played(silence, what) == steps


def played(silence: Silence, what: Events) -> list[tuple[int, Step]]:
    """The steps, each with the tick since the question at which it was taken."""
    found, ticks = [], 0
    for event in what:
        if isinstance(event, str):
            silence.answered()
            ticks = 0
            assert silence.tick(1.0) is Step.ASK
            continue
        for _ in range(event[0]):
            ticks += 1
            if (step := silence.tick(event[1])) is not Step.NONE:
                found.append((ticks, step))
    return found


def test_who_is_not_ready_is_not_asked_and_has_longer() -> None:
    started = [(int(START_SECONDS), Step.TRACE), (int(START_SECONDS) + 1, Step.KILL)]
    assert played(Silence(), [(300, 1.0)]) == started
    assert played(Silence(2.0), [(300, 1.0)]) == started
    assert played(Silence(), [(119, 1.0), (1, 3600.0)]) == []
    assert START_SECONDS > LIMIT_SECONDS


def test_who_answers_in_time_is_asked_for_ever_and_no_more() -> None:
    silence = Silence()
    silence.answered()
    for _ in range(1000):
        assert silence.tick(1.0) is Step.ASK
        silence.answered()
    assert silence.seconds == 0


class Counting:
    """Counts its ticks; the first `bad` of them crash."""

    def __init__(self, bad: int) -> None:
        self.ticks: list[float] = []
        self._bad = bad

    def tick(self, elapsed: float) -> None:
        self.ticks.append(elapsed)
        if len(self.ticks) <= self._bad:
            raise RuntimeError("a bug")


def watched(monkeypatch: pytest.MonkeyPatch, alive: Callable[[], None], *everyone: Counting) -> None:
    """Watches with short ticks until each was called five times."""
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.001)

    async def main() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch(lambda: everyone, alive))
            while min(len(each.ticks) for each in everyone) < 5:
                await asyncio.sleep(0)
            watching.cancel()

    asyncio.run(main())


def test_a_bug_in_the_watch_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Counting(5)
    bad, good = Counting(5), Counting(0)
    with capture_logs() as log:
        watched(monkeypatch, lambda: said.tick(1.0), bad, good)
    assert len(good.ticks) >= 5
    assert all(0 < elapsed < 5 for elapsed in good.ticks)
    assert log == [{"event": "the watch over a process crashed", "exc_info": True, "log_level": "error"}]
