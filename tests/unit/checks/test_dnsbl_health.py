"""The health of a list by a clock moved by hand (RFC 5782 section 5)."""

import pytest
from structlog.testing import capture_logs

from gateway.checks.dnsbl_health import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, TEST_EVERY, ListHealth, Word, word_of
from gateway.clock import ManualClock

LISTED, CLEAR, NOTHING, ERROR, FOREIGN = Word.LISTED, Word.CLEAR, Word.NOTHING, Word.ERROR, Word.FOREIGN


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def health(clock: ManualClock) -> ListHealth:
    found = ListHealth("bl.example.org", clock)
    found.tested(CLEAR, LISTED)
    return found


def test_a_new_zone_is_tested_first(clock: ManualClock) -> None:
    health = ListHealth("bl.example.org", clock)
    assert (health.due(), health.proved, health.off) == (True, False, False)
    health.tested(CLEAR, LISTED)
    assert (health.due(), health.proved, health.off) == (False, True, False)
    clock.advance(TEST_EVERY)
    assert health.due()


@pytest.mark.parametrize("word", [ERROR, FOREIGN])
def test_a_wrong_reply_is_enough(word: Word, health: ListHealth) -> None:
    with capture_logs() as logs:
        health.heard(word)
    assert health.off
    assert [(line["log_level"], line["zone"], line["seconds"]) for line in logs] == [
        ("warning", "bl.example.org", FIRST_PAUSE)
    ]


@pytest.mark.parametrize(
    ("clear", "listed"), [(LISTED, LISTED), (ERROR, ERROR), (CLEAR, ERROR), (FOREIGN, FOREIGN), (CLEAR, FOREIGN)]
)
def test_a_test_that_fails(clear: Word, listed: Word, clock: ManualClock) -> None:
    health = ListHealth("bl.example.org", clock)
    health.tested(clear, listed)
    assert health.off


def test_failures_count_in_a_row_only(health: ListHealth) -> None:
    for _ in range(3):
        for _ in range(FAILURES - 1):
            health.heard(NOTHING)
        health.heard(CLEAR)
    assert not health.off
    for _ in range(FAILURES):
        health.heard(NOTHING)
    assert health.off


def test_pauses_grow_and_end(health: ListHealth, clock: ManualClock) -> None:
    health.heard(ERROR)
    pauses = []
    for _ in range(8):
        pause = 0
        while not health.due():
            clock.advance(10)
            pause += 10
        pauses.append(pause)
        health.tested(NOTHING, NOTHING)
        assert health.off
    assert pauses == [60, 120, 240, 480, 960, 1800, 1800, LONGEST_PAUSE]
    clock.advance(LONGEST_PAUSE)
    with capture_logs() as logs:
        health.tested(CLEAR, LISTED)
    assert not health.off
    assert [line["event"] for line in logs] == ["dnsbl: list is on again"]


def test_a_zone_that_comes_and_goes_rests_longer_until_it_was_well_for_an_hour(
    health: ListHealth, clock: ManualClock
) -> None:
    health.heard(ERROR)
    clock.advance(FIRST_PAUSE)
    health.tested(CLEAR, LISTED)
    health.heard(ERROR)
    clock.advance(FIRST_PAUSE)
    assert not health.due()
    clock.advance(FIRST_PAUSE)
    health.tested(CLEAR, LISTED)
    clock.advance(TEST_EVERY)
    health.tested(CLEAR, LISTED)
    health.heard(ERROR)
    clock.advance(FIRST_PAUSE)
    assert health.due()


def test_one_lost_test_does_not_switch_a_good_zone_off(health: ListHealth, clock: ManualClock) -> None:
    clock.advance(TEST_EVERY)
    health.tested(NOTHING, LISTED)
    assert not health.off
    assert health.due()
    for _ in range(FAILURES):
        health.tested(NOTHING, NOTHING)
    assert health.off


def test_a_zone_without_test_entry_is_mentioned_and_used(clock: ManualClock) -> None:
    health = ListHealth("bl.example.org", clock)
    with capture_logs() as logs:
        health.tested(CLEAR, CLEAR)
    assert not health.off
    assert "no test entry" in logs[0]["event"]


def test_late_words_change_nothing(health: ListHealth) -> None:
    health.heard(ERROR)
    health.heard(CLEAR)
    health.heard(ERROR)
    health.tested(CLEAR, LISTED)
    assert health.off


@pytest.mark.parametrize(
    ("records", "word"),
    [
        ([], CLEAR),
        (["127.0.0.2"], LISTED),
        (["127.0.0.1"], CLEAR),
        (["127.255.255.0"], ERROR),
        (["127.255.254.1"], LISTED),
        (["127.0.0.2", "127.255.255.254"], ERROR),
        (["128.0.0.2"], FOREIGN),
        (["1.27.0.2"], FOREIGN),
    ],
)
def test_words(records: list[str], word: Word) -> None:
    assert word_of(records, None) is word
    assert word_of(records, lambda address: True) in {word, LISTED if word is CLEAR and records else word}
    assert word_of(["127.0.0.9"], lambda address: False) is CLEAR
