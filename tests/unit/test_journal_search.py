"""Searching the journal: by sender, recipient, client, rule, id, outcome, time; files of an older version; bounds."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.journal import Entry, Journal, Reader, Spoken, Wanted, writer
from gateway.journal.entry import encode
from gateway.journal.words import words
from gateway.mail.terms import Unavailable
from tests.support.wait import until

NOW = 1_700_000_000.0
MAILS = [
    Entry(id="A1", time=NOW, client="192.0.2.7", sender="Ann@News.example", recipients=("bob@example.com",),
          action="accept", fate="delivered", fired=("tag-news",)),
    Entry(id="A2", time=NOW + 10, client="192.0.3.7", sender="", recipients=("bob@example.com", "eve@sub.example.com"),
          action="reject", rule="bounces",
          verdicts=(Spoken("rcpt", "defer", "grey", "451"), Spoken("data", "reject", "bounces", "550"))),
    Entry(id="B3", time=NOW + 20, client="2001:db8::25", sender="x@sub.news.example", recipients=("carol@example.org",),
          action="greylist", rule="grey", observed=(("no-such-helo", "reject"),)),
    Entry(id="B4", time=NOW + 30, client="not an address", sender="x@example@odd", action="accept", fate="aborted"),
]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@contextlib.contextmanager
def keeping(path: Path, *, at: float = NOW, octets: int = 4_000_000_000, rows: int = 2_000_000) -> Iterator[Journal]:
    with contextlib.closing(Journal(path, 3600.0, ManualClock(at), octets=octets, rows=rows)) as journal:
        yield journal


def ids(path: Path, **wanted: object) -> list[str]:
    with contextlib.closing(Reader(path)) as reader:
        return [entry.id for entry in reader.search(Wanted(**wanted))]  # type: ignore[arg-type]


SEARCHES: list[tuple[dict[str, object], list[str]]] = [
    ({}, ["A1", "A2", "B3", "B4"]),
    ({"sender": "ann@news.example"}, ["A1"]),
    ({"sender": "<Ann@NEWS.example>"}, ["A1"]),
    ({"sender": "news.example"}, ["A1"]),
    ({"sender": "@news.example"}, ["A1"]),
    ({"sender": "ews.example"}, []),
    ({"sender": "ann@"}, []),
    ({"sender": "<>"}, ["A2"]),
    ({"sender": "x@example@odd"}, ["B4"]),
    ({"recipient": "bob@example.com"}, ["A1", "A2"]),
    ({"recipient": "example.com"}, ["A1", "A2"]),
    ({"recipient": "sub.example.com"}, ["A2"]),
    ({"client": "192.0.2.7"}, ["A1"]),
    ({"client": "192.0.2.0/23"}, ["A1", "A2"]),
    ({"client": "2001:db8::/32"}, ["B3"]),
    ({"client": "::/0"}, ["B3"]),
    ({"client": "0.0.0.0/0"}, ["A1", "A2"]),
    ({"rule": "grey"}, ["A2", "B3"]),
    ({"rule": "Bounces"}, ["A2"]),
    ({"rule": "tag-news"}, ["A1"]),
    ({"rule": "no-such-helo"}, ["B3"]),
    ({"rule": "gre"}, []),
    ({"id": "a1"}, ["A1"]),
    ({"id": "B"}, ["B3", "B4"]),
    ({"outcome": "accepted"}, ["A1"]),
    ({"outcome": "aborted"}, ["B4"]),
    ({"outcome": "greylisted"}, ["B3"]),
    ({"since": NOW + 10}, ["A2", "B3", "B4"]),
    ({"until": NOW + 10}, ["A1"]),
    ({"recipient": "bob@example.com", "client": "192.0.2.7"}, ["A1"]),
    ({"recipient": "bob@example.com", "outcome": "rejected", "since": NOW, "rule": "grey"}, ["A2"]),
    ({"recipient": "bob@example.com", "sender": "x@sub.news.example"}, []),
]


@pytest.mark.parametrize(("wanted", "found"), SEARCHES)
def test_search(path: Path, wanted: dict[str, object], found: list[str]) -> None:
    with keeping(path) as journal:
        for entry in MAILS:
            journal.record(entry)
    assert ids(path, **wanted) == found


def test_what_is_no_address_is_said(path: Path) -> None:
    with keeping(path) as journal:
        journal.record(MAILS[0])
    with pytest.raises(ValueError, match="does not appear to be"):
        ids(path, client="news.example")


def test_the_newest_are_found_and_told_oldest_first(path: Path) -> None:
    with keeping(path) as journal:
        for number in range(30):
            journal.record(replace(MAILS[0], id=f"T{number:02}"))
    with contextlib.closing(Reader(path)) as reader:
        found = reader.search(Wanted(sender="news.example"), limit=3)
    assert [entry.id for entry in found] == ["T27", "T28", "T29"]


def test_a_later_entry_is_found_by_its_own_words_alone(path: Path) -> None:
    with keeping(path) as journal:
        journal.record(replace(MAILS[0], rule="first"))
        journal.flush()
        journal.record(replace(MAILS[0], rule="second"))
    assert ids(path, rule="first") == []
    assert ids(path, rule="second") == ["A1"]
    assert ids(path, sender="news.example") == ["A1"]


VERSION_1 = """
CREATE TABLE entry (
  n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, time REAL NOT NULL, entry BLOB NOT NULL
);
CREATE INDEX entry_time ON entry (time);
PRAGMA user_version = 1
"""


def test_a_file_of_version_1_is_kept_and_becomes_findable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_UPGRADE_SLICE", 2)
    monkeypatch.setattr(writer, "_MORE_SECONDS", 0.0)
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(VERSION_1)
        old.executemany(
            "INSERT INTO entry (id, time, entry) VALUES (?, ?, ?)", [(e.id, e.time, encode(e)) for e in MAILS]
        )
        old.execute("INSERT INTO entry (id, time, entry) VALUES ('BROKEN', ?, x'ff')", (NOW,))
        old.commit()
    with contextlib.closing(Reader(path)) as reader:
        assert reader.get("A1") == MAILS[0]
        with pytest.raises(Unavailable, match="older version"):
            reader.search(Wanted(sender="news.example"))
    with keeping(path) as journal:
        journal.record(replace(MAILS[0], id="NEW"))
        journal.flush()
        journal.record(replace(MAILS[0], id="NEWER"))
    assert ids(path, sender="news.example") == ["A1", "NEW", "NEWER"]
    assert ids(path, outcome="rejected") == ["A2"]
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM entry WHERE found = 0").fetchone() == (0,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def counts(path: Path) -> tuple[int, int, int]:
    """Entries, words, words without an entry that is older than the oldest."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        entries, found = (database.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("entry", "word"))
        left = database.execute("SELECT count(*) FROM word WHERE n < (SELECT min(n) FROM entry)").fetchone()[0]
    return entries, found, left


@pytest.mark.parametrize("bound", [{"rows": 20}, {"octets": 300_000}], ids=["rows", "octets"])
def test_bounded_in_rows_and_octets_with_its_words(
    path: Path, bound: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_SLICE", 50)
    monkeypatch.setattr(writer, "_WORD_SLICE", 2000)
    monkeypatch.setattr(writer, "_PURGE_SECONDS", 0.0)
    monkeypatch.setattr(writer, "_MORE_SECONDS", 0.0)
    many = tuple(f"r{number}@example.com" for number in range(20))
    with keeping(path, **bound) as journal:
        for number in range(1000):
            journal.record(replace(MAILS[0], id=f"T{number:04}", recipients=many, reply="x" * 500))
            if number % 50 == 49:
                assert journal.flush()
        until(lambda: counts(path)[2] == 0, "the words are gone")
    entries, found, left = counts(path)
    assert 10 <= entries <= 150
    assert (found, left) == (entries * 23, 0)
    assert ids(path, recipient="r3@example.com")[-1] == "T0999"
    if "octets" in bound:
        assert path.stat().st_size < 2 * bound["octets"]


@given(st.text(), st.lists(st.text(), max_size=5), st.text())
def test_words_of_anything_can_be_kept_and_are_bounded(sender: str, recipients: list[str], rule: str) -> None:
    for word in words(Entry("I", 0.0, "192.0.2.1", sender, tuple(recipients), rule=rule)):
        assert len(word.encode()) < 4000


def test_a_thousand_recipients_are_bounded() -> None:
    assert len(words(replace(MAILS[0], recipients=tuple(f"{n}@example.com" for n in range(1000))))) <= 300
