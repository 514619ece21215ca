"""The SQLite store: the greylist against a model, many workers, bounds, and what breaks."""

import contextlib
import os
import sqlite3
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.mail.terms import Unavailable
from gateway.state.sqlite import SqliteStore
from gateway.state.store import POLICIES, TRUSTED_AFTER, Greylisted, GreylistKey, PolicyRow, RecipientRow, Store

NOW = 1_700_000_000.0
WAIT, WINDOW, KEEP = 300.0, 3600.0, 36 * 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(SqliteStore(tmp_path / "state.db", ManualClock())) as opened:
        yield opened


def attempt(store: Store, at: float, identity: str = "net:192.0.2.0/24", sender: str = "a@x.example") -> Greylisted:
    key = GreylistKey(identity, sender, "b@y.example")
    return store.greylist(key, now=NOW + at, wait=WAIT, window=WINDOW, keep=KEEP)


def fill(store: SqliteStore) -> None:
    for number in range(2000):
        attempt(store, 0, sender=f"{number}@x.example")


def test_the_life_of_a_triplet(store: SqliteStore) -> None:
    assert attempt(store, 0) == Greylisted(False, WAIT)
    assert attempt(store, 100) == Greylisted(False, WAIT - 100)
    assert attempt(store, WAIT) == Greylisted(True, 0.0)
    assert attempt(store, WAIT + KEEP - 1).passed  # remembered, and counted anew from here
    assert attempt(store, WAIT + 2 * KEEP - 2).passed
    assert attempt(store, WAIT + 3 * KEEP) == Greylisted(False, WAIT)


def test_a_retry_after_the_window_starts_anew(store: SqliteStore) -> None:
    attempt(store, 0)
    assert attempt(store, WINDOW) == Greylisted(False, WAIT)
    assert attempt(store, WINDOW + WAIT - 1) == Greylisted(False, 1)
    assert attempt(store, WINDOW + WAIT).passed


def test_a_window_shorter_than_the_wait_still_lets_somebody_pass(store: SqliteStore) -> None:
    key = GreylistKey("i", "s", "r")
    assert not store.greylist(key, now=NOW, wait=300, window=10, keep=KEEP).passed
    assert store.greylist(key, now=NOW + 301, wait=300, window=10, keep=KEEP).passed


def test_a_clock_set_back_does_not_make_anybody_wait_longer(store: SqliteStore) -> None:
    attempt(store, 1e8)
    assert attempt(store, 0) == Greylisted(False, WAIT)
    assert attempt(store, WAIT).passed


def test_an_identity_that_passed_enough_is_exempt_until_unused_for_keep(store: SqliteStore) -> None:
    for number in range(TRUSTED_AFTER):
        assert not attempt(store, 0, sender=f"{number}").passed
        assert not attempt(store, 1, sender="new").passed
    for number in range(TRUSTED_AFTER):
        assert attempt(store, WAIT, sender=f"{number}").passed
    assert attempt(store, WAIT, sender="never seen").passed
    assert not attempt(store, WAIT, identity="net:198.51.100.0/24").passed
    assert attempt(store, KEEP, sender="never seen").passed
    assert attempt(store, 2 * KEEP - 1, sender="never seen").passed
    assert not attempt(store, 4 * KEEP, sender="never seen").passed


def test_the_same_triplet_five_times_earns_no_exemption(store: SqliteStore) -> None:
    for at in (0, WAIT, WAIT + 1, WAIT + 2, WAIT + 3, WAIT + 4):
        attempt(store, at)
    assert not attempt(store, WAIT + 5, sender="other").passed


steps = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 299.0, 300.0, 3300.0, 3600.0, KEEP]), st.integers(0, 6)), max_size=40
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_it_is_the_model(taken: list[tuple[float, int]]) -> None:
    """Any history gives what a dozen lines of Python say."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(SqliteStore(Path(folder) / "s.db", ManualClock())) as store,
    ):
        against_the_model(store, taken)


def against_the_model(store: Store, taken: list[tuple[float, int]]) -> None:
    first: dict[int, float] = {}
    until: dict[int, float] = {}
    passed: dict[int, bool] = {}
    exempt = 0.0
    now = NOW
    for pause, number in taken:
        now += pause
        got = store.greylist(GreylistKey("i", str(number), "r"), now=now, wait=WAIT, window=WINDOW, keep=KEEP)
        if now < exempt:
            assert got.passed
            if now + KEEP - exempt > 3600:
                exempt = now + KEEP
            continue
        if now >= until.get(number, 0.0):
            first[number], until[number], passed[number] = now, now + WINDOW, False
        elif passed[number] or now >= first[number] + WAIT:
            new = not passed[number]
            passed[number], until[number] = True, now + KEEP
            if new and sum(passed[n] and until[n] > now for n in passed) >= TRUSTED_AFTER:
                exempt = now + KEEP
        assert got.passed == passed[number]
        assert got.wait_left == (0.0 if got.passed else first[number] + WAIT - now)


def test_workers_share_one_count(tmp_path: Path) -> None:
    """Four workers race on few triplets: no attempt is lost, none passes early."""
    results: list[Greylisted] = []

    def work() -> None:
        with contextlib.closing(SqliteStore(tmp_path / "s.db", ManualClock())) as mine:
            results.extend(attempt(mine, 0, sender=str(number % 3)) for number in range(60))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 240
    assert not any(result.passed for result in results)
    with contextlib.closing(SqliteStore(tmp_path / "s.db", ManualClock())) as store:
        assert sorted(row.attempts for row in store.greylist_list(NOW)) == [80, 80, 80]


def test_a_flood_is_bounded_and_spares_those_that_passed(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path / "s.db", ManualClock(), rows=500)) as store:
        attempt(store, 0)
        attempt(store, WAIT)
        for number in range(5000):
            attempt(store, WAIT, sender=f"flood-{number}")
        store.purge(NOW + WAIT)
        rows = store.greylist_list(NOW + WAIT, limit=10_000)
        assert len(rows) <= 501
        assert attempt(store, WAIT + 1).passed
        assert {row.sender for row in rows} >= {f"flood-{number}" for number in range(4600, 5000)}


def test_those_that_passed_are_bounded_too(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path / "s.db", ManualClock(), rows=20)) as store:
        for number in range(60):
            for at in (0, WAIT):
                attempt(store, at + number, identity=f"i{number}")
        store.purge(NOW + 1000)
        assert len(store.greylist_list(NOW + 1000)) == 20


def test_purge_removes_what_expired(store: SqliteStore) -> None:
    attempt(store, 0)
    store.remember_recipient("main", "b@y.example", True, NOW + 10)
    assert store.purge(NOW) == 0
    assert store.purge(NOW + WINDOW) == 2


def test_recipients(store: Store) -> None:
    yes = RecipientRow("main", "b@y.example", True, NOW + 10)
    assert store.recipient("main", "b@y.example", NOW) is None
    store.remember_recipient("main", "b@y.example", True, NOW + 10)
    store.remember_recipient("main", "c@y.example", False, NOW + 10)
    assert store.recipient("main", "b@y.example", NOW) == yes
    assert store.recipient("main", "c@y.example", NOW) == RecipientRow("main", "c@y.example", False, NOW + 10)
    assert store.recipient("other", "b@y.example", NOW) is None
    assert store.recipient("main", "b@y.example", NOW + 10) is None
    store.remember_recipient("main", "b@y.example", False, NOW + 10)
    found = store.recipient("main", "b@y.example", NOW)
    assert found is not None
    assert not found.known
    store.forget_recipient("main", "b@y.example")
    assert store.recipient("main", "b@y.example", NOW) is None


def test_recipients_are_listed_and_forgotten(store: Store) -> None:
    for number in range(30):
        store.remember_recipient("main", f"u{number:02}@y.example", number % 3 == 0, NOW + 10)
    store.remember_recipient("main", "u@a.y.example", True, NOW + 10)
    store.remember_recipient("main", "@y.example", True, NOW + 10)
    store.remember_recipient("more", 'u"01@y.example', False, NOW + 10)
    store.remember_recipient("more", "gone@y.example", False, NOW)

    def listed(**how: Any) -> list[str]:
        return [row.address for row in store.recipient_list(NOW, **how)]

    everybody = listed()
    assert len(everybody) == 33
    assert everybody[:2] == ["@y.example", "u00@y.example"]
    assert everybody[-2:] == ["u@a.y.example", 'u"01@y.example']
    assert listed(limit=10) + listed(limit=10, offset=10) + listed(limit=20, offset=20) == everybody
    assert listed(backend="more") == ['u"01@y.example']
    store.remember_recipient("main", "[u]*?@z.example", True, NOW + 10)
    assert listed(match="[u]*?@z.example") == ["[u]*?@z.example"]  # no pattern
    assert listed(match="u*@y.example") == listed(match="*") == listed(backend="*") == []
    assert store.recipient_forget(NOW, match="z.example") == 1
    assert listed(backend="none") == listed(match="example") == []
    assert listed(match="a.y.example") == ["u@a.y.example"]
    assert listed(match="u07@y.example") == ["u07@y.example"]
    assert listed(match="@y.example") == ["@y.example"]
    assert len(listed(match="y.example")) == 32
    assert [row.known for row in store.recipient_list(NOW, backend="main", match="y.example", limit=3, offset=1)] == [
        True, False, False,
    ]  # fmt: skip
    assert store.recipient_forget(NOW, match="u07@y.example") == 1
    assert store.recipient_forget(NOW, match="u07@y.example") == 0
    assert store.recipient_forget(NOW, backend="more", match="y.example") == 1
    assert store.recipient_forget(NOW, match="y.example") == 30
    assert listed() == ["u@a.y.example"]
    assert store.recipient_forget(NOW) == 1
    assert listed() == []


def test_a_recipient_is_forgotten_however_its_senders_spell_it(store: Store) -> None:
    spelt = ["Mary.Smith@y.example", "mary.smith@y.example"]
    for address in (*spelt, "mary-smith@y.example", "\u00e4Z@y.example"):
        store.remember_recipient("main", address, False, NOW + 10)
    assert [row.address for row in store.recipient_list(NOW, match="mary.SMITH@y.example")] == spelt
    assert store.recipient_forget(NOW, match="MARY.smith@y.example") == 2
    assert store.recipient_forget(NOW, match="\u00e4z@y.example") == 1


def test_many_recipients_are_forgotten_in_slices(store: Store) -> None:
    for number in range(2500):
        store.remember_recipient("main", f"u{number}@y.example", number % 2 == 0, NOW + 10)
    assert store.recipient_forget(NOW, backend="main") == 2500
    assert store.recipient_list(NOW) == []


def test_policies(store: Store) -> None:
    row = PolicyRow("20260101", "version: STSv1\nmode: enforce\nmx: mx.y.example\nmax_age: 86400\n", NOW + 10)
    assert store.policy("y.example", NOW) is None
    store.remember_policy("y.example", row)
    assert store.policy("y.example", NOW) == row
    assert store.policy("z.example", NOW) is None
    assert store.policy("y.example", NOW + 10) is None
    other = PolicyRow("2", "version: STSv1", NOW + 20)
    store.remember_policy("y.example", other)
    assert store.policy("y.example", NOW + 10) == other
    assert store.purge(NOW + 20) == 1
    for number in range(POLICIES + 50):
        store.remember_policy(f"y{number}.example", PolicyRow("1", "t", NOW + number))
    assert store.policy(f"y{POLICIES + 49}.example", NOW) is not None
    store.purge(NOW - 1)
    assert store.purge(NOW + 2 * POLICIES) == POLICIES


def test_senders(store: Store) -> None:
    assert store.sender("k", NOW) is None
    store.remember_sender("k", now=NOW, keep=100)
    assert store.sender("k", NOW + 99) == NOW
    assert store.sender("other", NOW) is None
    store.remember_sender("k", now=NOW + 99, keep=100)
    assert store.sender("k", NOW + 198) == NOW  # since the first, kept from the last
    assert store.sender("k", NOW + 199) is None
    store.remember_sender("k", now=NOW + 200, keep=100)
    assert store.sender("k", NOW + 200) == NOW + 200  # who was forgotten begins anew
    store.remember_sender("k", now=NOW, keep=100)  # the clock was set back
    assert store.sender("k", NOW) == NOW
    assert store.purge(NOW + 99) == 0
    assert store.purge(NOW + 100) == 1
    assert store.sender("k", NOW) is None


def test_an_old_file_gets_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with contextlib.closing(SqliteStore(path, ManualClock(NOW))) as store:
        attempt(store, 0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript("DROP TABLE sender; DROP TABLE policy; PRAGMA user_version = 2")
    with contextlib.closing(SqliteStore(path, ManualClock(NOW))) as store:
        store.remember_sender("k", now=NOW, keep=100)
        assert store.sender("k", NOW) == NOW
        assert attempt(store, WAIT).passed


def test_senders_are_bounded(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path / "s.db", ManualClock(), rows=100)) as store:
        for number in range(1500):
            store.remember_sender(f"{number}", now=NOW + number, keep=10_000)
        store.purge(NOW + 1500)
        assert [store.sender(f"{number}", NOW + 1500) for number in (1399, 1400)] == [None, NOW + 1400]


def test_list_release_forget(store: SqliteStore) -> None:
    attempt(store, 0, "spf:x.example")
    attempt(store, 1, "net:192.0.2.0/24", sender="a@z.example")
    assert [row.identity for row in store.greylist_list(NOW + 1)] == ["net:192.0.2.0/24", "spf:x.example"]
    for match in ("x.example", "spf:x.example", "a@x.example", "X.Example"):
        assert [row.identity for row in store.greylist_list(NOW + 1, match=match)] == ["spf:x.example"], match
    assert store.greylist_list(NOW + 1, match="example") == []
    assert store.greylist_release("x.example", now=NOW + 2, keep=KEEP) == 1
    assert store.greylist_release("x.example", now=NOW + 2, keep=KEEP) == 0
    assert attempt(store, 3, "spf:x.example").passed
    assert not attempt(store, 3, "net:192.0.2.0/24", sender="a@z.example").passed
    assert store.greylist_forget("y.example") == 2
    assert not attempt(store, 4, "spf:x.example").passed


def test_forget_takes_the_exemption(store: SqliteStore) -> None:
    for at in (0, WAIT):
        for number in range(TRUSTED_AFTER):
            attempt(store, at, "spf:x.example", sender=str(number))
    assert [row.state for row in store.greylist_list(NOW + WAIT, match="x.example")] == ["exempt"] + ["passed"] * 5
    store.greylist_forget("spf:x.example")
    assert not attempt(store, WAIT, "spf:x.example").passed


def test_the_file_is_private(store: SqliteStore, tmp_path: Path) -> None:
    attempt(store, 0)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"folder .* does not exist; create it"):
        SqliteStore(tmp_path / "no" / "state.db", ManualClock())


@pytest.mark.parametrize("octets", [b"this is no database " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(octets)
    (tmp_path / "state.db.lock").touch()  # it was ours before
    with contextlib.closing(SqliteStore(path, ManualClock(NOW))) as store:
        assert not attempt(store, 0).passed
    assert (tmp_path / f"state.db.damaged-{int(NOW)}").read_bytes() == octets


def test_a_file_that_was_never_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mx.key"
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(Unavailable, match="another kind"):
        SqliteStore(path, ManualClock(NOW))
    assert path.read_bytes() == b"-----BEGIN PRIVATE KEY-----\n"
    assert [file.name for file in tmp_path.iterdir()] == ["mx.key"]


def test_damage_found_on_the_way_is_unavailable_once_and_then_healed(tmp_path: Path) -> None:
    path, clock = tmp_path / "state.db", ManualClock(NOW)
    with contextlib.closing(SqliteStore(path, clock)) as store:
        fill(store)
    octets = bytearray(path.read_bytes())
    octets[8192:] = os.urandom(len(octets) - 8192)
    path.write_bytes(octets)
    with contextlib.closing(SqliteStore(path, clock)) as store:
        with pytest.raises(Unavailable):
            fill(store)
        with pytest.raises(Unavailable, match="a moment ago"):
            attempt(store, 0)
        clock.advance(1)
        assert not attempt(store, 0).passed
    assert list(tmp_path.glob("state.db.damaged-*"))


def test_a_file_that_was_replaced_is_followed(tmp_path: Path) -> None:
    path, clock = tmp_path / "state.db", ManualClock(NOW)
    with contextlib.closing(SqliteStore(path, clock)) as store, contextlib.ExitStack() as other:
        attempt(store, 0)
        for each in tmp_path.glob("state.db*"):
            each.unlink()
        fresh = SqliteStore(path, clock)
        other.callback(fresh.close)
        attempt(fresh, 0, sender="fresh")
        store.purge(NOW)
        assert [row.sender for row in store.greylist_list(NOW)] == ["fresh"]


def test_a_locked_file_is_unavailable_in_time(store: SqliteStore, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(Unavailable, match="locked"):
            attempt(store, 0)
        assert time.monotonic() - began < 2.0  # 250 ms, and a machine that is busy with other things
        with pytest.raises(Unavailable, match="a moment ago"):
            attempt(store, 0)


def test_a_full_disk_is_unavailable_and_heals(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    with contextlib.closing(SqliteStore(tmp_path / "state.db", clock)) as store:
        assert store._file.database is not None
        store._file.database.execute("PRAGMA max_page_count = 30")
        with pytest.raises(Unavailable, match="full"):
            fill(store)
        store._file.database.execute("PRAGMA max_page_count = 100000")
        clock.advance(1)
        assert not attempt(store, 0).passed


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(Unavailable, match="newer version"):
        SqliteStore(path, ManualClock())
