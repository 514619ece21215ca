"""The journal: what goes in comes out, nobody waits, and what breaks breaks the journal alone."""

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import metrics
from gateway.clock import ManualClock
from gateway.journal import Asked, Entry, Journal, Reader, Spoken, writer
from gateway.journal.entry import _at_once, _piece_by_piece, decode, encode
from gateway.mail.terms import Unavailable

NOW = 1_700_000_000.0
ENTRY = Entry(
    id="T00000000001",
    time=NOW,
    client="192.0.2.1",
    sender="a@x.example",
    recipients=("b@y.example", "c@y.example"),
    facts={"spf.result": "pass", "message.hops": 3, "from.valid": True, "dkim.domains": ["x.example"]},
    failed={"dmarc": "no answer in 20 s"},
    stage="data",
    action="reject",
    rule="dmarc-reject",
    reply="550 5.7.26 Refused T00000000001",
    verdicts=(Spoken("rcpt", "defer", "grey", "451 4.7.1 Wait", "strangers wait", "c@y.example"),),
    fate="none",
    timings={"total": 0.25},
)


class Counted:
    """How many entries were dropped."""

    def __init__(self) -> None:
        self.entries = 0

    def add(self, entries: int) -> None:
        self.entries += entries


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(metrics, "journal_dropped", counted.add)
    return counted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = Journal(path, 3600.0, ManualClock(NOW))
    yield opened
    opened.close()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Reader]:
    with contextlib.closing(Reader(path)) as reader:
        yield reader


def numbered(number: int) -> Entry:
    return replace(ENTRY, id=f"T{number:011d}")


def test_what_goes_in_comes_out(journal: Journal, path: Path) -> None:
    for number in range(5):
        journal.record(numbered(number))
    assert journal.flush()
    with reading(path) as reader:
        assert reader.tail(3) == [numbered(number) for number in (2, 3, 4)]
        assert reader.get("T00000000001") == ENTRY
        assert reader.get("nobody") is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_later_entry_replaces_the_earlier_and_is_followed(journal: Journal, path: Path) -> None:
    journal.record(ENTRY)
    assert journal.flush()
    with reading(path) as reader:
        last = reader.last()
        journal.record(replace(ENTRY, fate="delivered"))
        assert journal.flush()
        assert [entry.fate for _, entry in reader.after(last)] == ["delivered"]
        assert [entry.fate for entry in reader.tail(10)] == ["delivered"]
        assert next(reader.follow(last)).fate == "delivered"


def test_words_are_given_as_text(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite 3.45.0 takes no JSON out of a BLOB; the later ones do so for the sake of old mistakes."""
    said: list[str] = []

    def traced(*arguments: Any, **more: Any) -> sqlite3.Connection:
        database = opened(*arguments, **more)
        database.set_trace_callback(said.append)
        return database

    opened = writer.opened
    monkeypatch.setattr(writer, "opened", traced)
    with contextlib.closing(Journal(path, 3600.0, ManualClock(NOW))) as journal:
        journal.record(ENTRY)
        assert journal.flush()
    (statement,) = [each for each in said if "json_each" in each]
    assert "json_each('[" in statement


def test_both_of_one_batch(journal: Journal, path: Path) -> None:
    journal.record(ENTRY)
    journal.record(replace(ENTRY, fate="delivered"))
    assert journal.flush()
    with reading(path) as reader:
        assert [entry.fate for entry in reader.tail(10)] == ["delivered"]


def test_closing_writes_what_is_queued(path: Path) -> None:
    journal = Journal(path, 3600.0, ManualClock(NOW))
    for number in range(1200):
        journal.record(numbered(number))
    journal.close()
    with reading(path) as reader:
        assert len(reader.tail(5000)) == 1200


def test_too_old_and_too_many_go(path: Path) -> None:
    clock = ManualClock(NOW)
    with contextlib.closing(Journal(path, 3600.0, clock, rows=10)) as journal:
        for number in range(30):
            journal.record(numbered(number))
        journal.flush()
    with contextlib.closing(Journal(path, 3600.0, clock, rows=10)) as journal:
        journal.record(numbered(30))
        journal.flush()
    with reading(path) as reader:
        assert [entry.id for entry in reader.tail(100)] == [numbered(number).id for number in range(21, 31)]
    clock.advance(3601)
    with contextlib.closing(Journal(path, 3600.0, clock)) as journal:
        journal.record(replace(ENTRY, time=clock.now()))
        journal.flush()
    with reading(path) as reader:
        assert len(reader.tail(100)) == 1


def test_too_large_a_file_loses_its_oldest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_SLICE", 10)
    monkeypatch.setattr(writer, "_MORE_SECONDS", 0.0)
    with contextlib.closing(Journal(path, 3600.0, ManualClock(NOW), octets=80_000)) as journal:
        for number in range(100):
            journal.record(numbered(number))
        journal.flush()
        for number in range(100, 103):
            journal.record(numbered(number))
            journal.flush()
    with reading(path) as reader:
        kept = reader.tail(1000)
    assert 10 <= len(kept) <= 80
    assert kept[-1].id == numbered(102).id


def test_a_missing_folder_stops_the_journal_not_the_mail(tmp_path: Path, dropped: Counted) -> None:
    with contextlib.closing(Journal(tmp_path / "no" / "journal.db", 3600.0, ManualClock(NOW))) as journal:
        journal.record(ENTRY)
        assert journal.flush()
        assert dropped.entries == 1


def test_a_full_disk_stops_the_journal_is_said_once_and_heals(
    path: Path, dropped: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [8]
    opened = writer.open_database

    def small(*values: object, **named: object) -> sqlite3.Connection:
        database = opened(*values, **named)  # type: ignore[arg-type]
        database.execute(f"PRAGMA max_page_count = {pages[0]}")
        return database

    said: list[str] = []
    monkeypatch.setattr(writer, "open_database", small)
    monkeypatch.setattr(writer.log, "warning", lambda event, **_: said.append(event), raising=False)
    monkeypatch.setattr(writer, "_RETRY_SECONDS", 0.0)
    with contextlib.closing(Journal(path, 3600.0, ManualClock(NOW))) as journal:
        for number in range(300):
            journal.record(numbered(number))
            if number % 100 == 99:
                assert journal.flush()
        assert dropped.entries >= 200
        assert said == ["journal stopped, mail goes on"]
        pages[0] = 100_000
        journal.record(numbered(1000))
        assert journal.flush()
    assert said == ["journal stopped, mail goes on", "journal works again"]
    with reading(path) as reader:
        assert reader.tail(1)[0].id == numbered(1000).id


def test_a_damaged_file_is_set_aside(path: Path, dropped: Counted) -> None:
    path.write_bytes(b"not a database, really not" * 500)
    path.with_name(f"{path.name}.lock").touch()  # it was ours before
    with contextlib.closing(Journal(path, 3600.0, ManualClock(NOW))) as journal:
        journal.record(ENTRY)
        assert journal.flush()
    with reading(path) as reader:
        assert reader.tail(1) == [ENTRY]
    assert list(path.parent.glob("journal.db.damaged-*"))
    assert dropped.entries == 0


def test_recording_never_waits_and_a_full_queue_drops(path: Path, dropped: Counted) -> None:
    path.write_bytes(b"")
    with contextlib.closing(Journal(path, 3600.0, ManualClock(NOW))) as journal:
        journal.record(ENTRY)
        journal.flush()
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            for number in range(5000):
                journal.record(numbered(number))
            assert time.monotonic() - began < 1.0
            assert dropped.entries >= 2000
            holder.execute("ROLLBACK")


PROGRAM = """
import sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.journal import Entry, Journal
journal = Journal(Path(sys.argv[1]), 3600.0, SystemClock())
number = 0
while True:
    journal.record(Entry(id=f"{sys.argv[2]}{number}", time=SystemClock().now(), client="192.0.2.1", sender=""))
    number += 1
    if number % 50 == 0:
        journal.flush()
        print(number, flush=True)
"""


def test_sigkill_of_writers_leaves_a_sound_file(path: Path) -> None:
    """What was flushed before the kill is there, the file is whole, and others write on."""
    flushed = {}
    writers = {
        name: subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), name], stdout=subprocess.PIPE)
        for name in ("A", "B")
    }
    for name, process in writers.items():
        assert process.stdout is not None
        for _ in range(5):
            flushed[name] = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with reading(path) as reader:
        for name, count in flushed.items():
            assert reader.get(f"{name}{count - 1}") is not None
    with contextlib.closing(Journal(path, 3600.0, ManualClock(NOW))) as journal:
        journal.record(ENTRY)
        assert journal.flush()


def test_reading_where_there_is_none(path: Path) -> None:
    with pytest.raises(Unavailable, match="no journal there yet"):
        Reader(path)
    path.write_bytes(b"not a database, really not" * 500)
    with pytest.raises(Unavailable):
        Reader(path)


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.text(st.characters(categories=["Cs", "Cc"]))
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=20), values, max_size=10), st.text(st.characters()))
def test_any_facts_can_be_kept(facts: dict[str, object], text: str) -> None:
    back = decode(encode(replace(ENTRY, facts=facts, sender=text, reply=text)))
    assert back.sender == text
    assert set(back.facts) == set(facts)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=20), leaves | st.lists(leaves)), st.sampled_from(["short", "x" * 2000]))
def test_the_quick_way_writes_the_same_octets(facts: dict[str, object], text: str) -> None:
    asked = Asked(text, facts={"a": text}, outcomes={"a": text})
    for one in (replace(ENTRY, facts=facts), replace(ENTRY, facts={"a": [{"b": [[text]]}]}, asked=(asked,))):
        assert _at_once(one) in {b"", _piece_by_piece(one)}
    assert _at_once(ENTRY)


@pytest.mark.parametrize(
    "facts",
    [{"a": "x" * 8000}, {"a": [1] * 4000}, {"a": {1: 2}}, {"a": {1, 2}}],
    ids=["text", "list", "number as name", "set"],
)
def test_what_is_long_or_must_be_converted_goes_the_slow_way(facts: dict[str, object]) -> None:
    assert _at_once(replace(ENTRY, facts=facts)) == b""


def test_only_a_long_entry_is_cut() -> None:
    facts: dict[str, object] = {"a": "x" * 2001}
    assert decode(encode(replace(ENTRY, facts=facts))).facts == facts
    cut = decode(encode(replace(ENTRY, facts={**facts, "b": "y" * 6000}))).facts
    assert cut == {"a": "x" * 2000 + "...", "b": "y" * 2000 + "..."}


def test_an_entry_is_bounded() -> None:
    huge = replace(ENTRY, sender="x" * 10_000_000, recipients=tuple("r" * 5000 for _ in range(5000)))
    octets = encode(huge)
    assert len(octets) < 260_000
    assert decode(octets).rule == ENTRY.rule
    assert len(encode(replace(ENTRY, facts={"a": ["x" * 100_000] * 100_000}))) < 260_000


def test_an_entry_of_another_version_is_read() -> None:
    assert decode(b'{"id": "X", "time": 1, "client": "192.0.2.1", "sender": "", "new": 1}').id == "X"
