"""Rates: the store's limit against the definition, its bounds, and a shared count."""

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Limited, Store

NOW = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(SqliteStore(tmp_path / "state.db", ManualClock())) as opened:
        yield opened


def test_as_many_as_the_rate_at_once_and_then_an_even_pace(store: SqliteStore) -> None:
    def one(at: float) -> Limited:
        return store.limit("k", now=NOW + at, rate=60, per=60.0)

    assert [one(0) for _ in range(60)] == [Limited(True, 0.0)] * 60
    assert one(0) == Limited(False, 1.0)
    assert one(0.5) == Limited(False, 0.5)
    assert one(1).allowed
    assert not one(1).allowed
    assert [one(11).allowed for _ in range(11)] == [True] * 10 + [False]
    assert [one(1000).allowed for _ in range(61)] == [True] * 60 + [False]


def test_one_in_a_while(store: SqliteStore) -> None:
    assert store.limit("k", now=NOW, rate=1, per=3600.0).allowed
    assert store.limit("k", now=NOW + 600, rate=1, per=3600.0) == Limited(False, 3000.0)
    assert store.limit("k", now=NOW + 3600, rate=1, per=3600.0).allowed


def test_keys_do_not_know_each_other(store: SqliteStore) -> None:
    assert store.limit("a", now=NOW, rate=1, per=60.0).allowed
    assert store.limit("b", now=NOW, rate=1, per=60.0).allowed
    assert not store.limit("a", now=NOW, rate=1, per=60.0).allowed


def test_a_refused_attempt_counts_nothing(store: SqliteStore) -> None:
    store.limit("k", now=NOW, rate=1, per=60.0)
    for second in range(60):
        assert not store.limit("k", now=NOW + second, rate=1, per=60.0).allowed
    assert store.limit("k", now=NOW + 60, rate=1, per=60.0).allowed


def test_a_clock_set_back_and_a_rule_made_tighter_lock_nobody_out(store: SqliteStore) -> None:
    store.limit("k", now=NOW + 1e8, rate=1, per=60.0)
    assert store.limit("k", now=NOW, rate=1, per=60.0).allowed
    assert not store.limit("k", now=NOW, rate=1, per=60.0).allowed
    assert store.limit("long", now=NOW, rate=1, per=86400.0).allowed
    assert store.limit("long", now=NOW, rate=1, per=60.0).allowed


def test_clocks_that_differ_a_little_loosen_nothing(store: SqliteStore) -> None:
    assert store.limit("k", now=NOW, rate=1, per=10.0).allowed
    assert store.limit("k", now=NOW - 5, rate=1, per=10.0) == Limited(False, 15.0)
    assert not store.limit("k", now=NOW + 9, rate=1, per=10.0).allowed
    assert store.limit("k", now=NOW + 10, rate=1, per=10.0).allowed


@pytest.mark.parametrize("key", ["", "x" * 100_000, "quote ' \" \\ \0 \x1f", "\udc80", "ü@例.example"])
def test_a_key_may_be_anything(store: SqliteStore, key: str) -> None:
    assert store.limit(key, now=NOW, rate=1, per=60.0).allowed
    assert not store.limit(key, now=NOW, rate=1, per=60.0).allowed


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.lists(st.sampled_from([0.0, 0.1, 3.0, 10.0, 60.0, 200.0]), max_size=60))
def test_no_window_sees_more_than_twice_the_rate_and_the_pace_is_kept(rate: int, pauses: list[float]) -> None:
    """The bucket's law: in any stretch of time t at most rate + t * rate / per are allowed, and never fewer than
    a full pause has earned."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(SqliteStore(Path(folder) / "s.db", ManualClock())) as store,
    ):
        against_the_law(store, rate, pauses)


def against_the_law(store: Store, rate: int, pauses: list[float]) -> None:
    per, allowed, now = 60.0, [], NOW
    for pause in pauses:
        now += pause
        if store.limit("k", now=now, rate=rate, per=per).allowed:
            allowed.append(now)
        else:
            assert pause < per
    for first, begin in enumerate(allowed):
        for last, end in enumerate(allowed[first:], first):
            assert last - first + 1 <= rate + (end - begin) * rate / per + 0.01


def test_workers_share_one_count(tmp_path: Path) -> None:
    results: list[bool] = []

    def work() -> None:
        with contextlib.closing(SqliteStore(tmp_path / "s.db", ManualClock())) as mine:
            results.extend(mine.limit("k", now=NOW, rate=50, per=3600.0).allowed for _ in range(40))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(results) == 50


def test_a_flood_of_keys_is_bounded_and_spares_whom_it_limits(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path / "s.db", ManualClock(), rows=500)) as store:
        for _ in range(10):
            store.limit("limited", now=NOW, rate=10, per=60.0)
        for number in range(3000):
            store.limit(f"flood-{number}", now=NOW, rate=10, per=60.0)
        store.purge(NOW)
        assert store._file.database is not None
        assert store._file.database.execute("SELECT count(*) FROM rate").fetchone()[0] <= 500
        assert not store.limit("limited", now=NOW, rate=10, per=60.0).allowed


def test_purge_removes_what_is_free_again(store: SqliteStore) -> None:
    store.limit("k", now=NOW, rate=10, per=60.0)
    assert store.purge(NOW) == 0
    assert store.purge(NOW + 6) == 1
