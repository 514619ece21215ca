"""Which hosts are put aside, and for how long: tables."""

import pytest

from gateway.relay.health import Health
from gateway.relay.targets import Endpoint

HOST, OTHER = Endpoint("one.example", 25, "one.example"), Endpoint("two.example", 25, "two.example")


def test_pauses_grow() -> None:
    health, now, pauses = Health(), 0.0, []
    for _ in range(9):
        assert not health.ill(HOST, now)
        health.failed(HOST, now, now)
        pause = next(seconds for seconds in range(1, 400) if not health.ill(HOST, now + seconds))
        pauses.append(pause)
        now += pause
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_the_first_failure_is_news() -> None:
    health = Health()
    assert health.failed(HOST, 0, 0)
    assert not health.failed(HOST, 6, 6)
    assert health.healed(HOST)
    assert not health.healed(HOST)
    assert health.failed(HOST, 7, 7)
    assert not health.ill(HOST, 12)  # healed: the pauses begin anew


@pytest.mark.parametrize(
    ("failures", "until"),
    [
        ([(moment, 20.0) for moment in range(20)], 25),  # twenty mails under way when it died: one failure
        ([(0, 20), (19.9, 39)], 44),  # the last of them finds out late: it is ill still
        ([(0, 20), (20, 20)], 30),  # begun at the very moment: it counts
        ([(0, 20), (26, 40)], 50),
    ],
)
def test_what_was_under_way_when_it_died_is_one_failure(failures: list[tuple[float, float]], until: float) -> None:
    """Each failure: when its dialogue began, and when it failed."""
    health = Health()
    for began, now in failures:
        health.failed(HOST, began, now)
    assert health.ill(HOST, until - 0.1)
    assert not health.ill(HOST, until)


def test_one_tries_while_the_others_wait() -> None:
    health = Health()
    health.tried(HOST, 0)  # well: nobody is kept away
    assert not health.ill(HOST, 0)
    health.failed(HOST, 0, 0)
    assert not health.ill(HOST, 5)
    health.tried(HOST, 5)
    assert health.ill(HOST, 34)
    assert not health.ill(HOST, 35)
    health.failed(HOST, 5, 25)  # the trial's end counts, not the others' patience
    assert health.ill(HOST, 34)
    assert not health.ill(HOST, 35)
    health.failed(HOST, 35, 300)
    health.tried(HOST, 301)  # a trial does not shorten a pause
    assert health.ill(HOST, 319)


def test_hosts_are_ill_alone_and_forgotten() -> None:
    health = Health()
    health.failed(HOST, 0, 0)
    assert not health.ill(OTHER, 0)
    health.forget(OTHER)
    health.forget(HOST)
    assert not health.ill(HOST, 0)
    assert not health.healed(HOST)
