"""The writing side of the journal: a bounded queue, one thread, batches."""

import contextlib
import math
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from gateway import metrics
from gateway.clock import Clock
from gateway.database import damaged, open_database
from gateway.journal.entry import UNREADABLE, Entry, decode, encode
from gateway.journal.intents import Intents, collect
from gateway.journal.reader import VERSION
from gateway.journal.words import words
from gateway.log import log
from gateway.mail.terms import Unavailable

# A row of `word` may outlive its entry (which a later one replaced): it finds nothing, and goes with the next older.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
  n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, time REAL NOT NULL, entry BLOB NOT NULL,
  outcome TEXT NOT NULL DEFAULT '', found INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS word (n INTEGER NOT NULL, word TEXT NOT NULL, PRIMARY KEY (n, word)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entry_time ON entry (time);
CREATE INDEX IF NOT EXISTS entry_outcome ON entry (outcome, n);
CREATE INDEX IF NOT EXISTS entry_not_found ON entry (n) WHERE found = 0;
CREATE INDEX IF NOT EXISTS word_word ON word (word, n)
"""
_UPGRADES = {
    1: """ALTER TABLE entry ADD COLUMN outcome TEXT NOT NULL DEFAULT '';
    ALTER TABLE entry ADD COLUMN found INTEGER NOT NULL DEFAULT 0"""
}
#: Fates of mails that were not handed to a backend.
_NO_FATE = ("", "none")
_QUEUE = 2000  # entries; at 4 KB each 8 MB
_BATCH = 500
#: The thread lets entries gather for a moment: one transaction for a hundred mails instead of a hundred.
_GATHER_SECONDS = 0.1
#: A worker that is stopped, or a slow disk, may hold the file for so long; entries wait in the queue meanwhile.
_BUSY_SECONDS = 5.0
_PURGE_SECONDS = 60.0
_LOOK_SECONDS = 60.0  # for what ended processes left; the first time at once
_MORE_SECONDS = 0.1  # where one slice was not enough
_RETRY_SECONDS = 1.0
_SLICE = 2000
_WORD_SLICE = 10 * _SLICE
_UPGRADE_SLICE = 200
_INSERT = "INSERT OR REPLACE INTO entry (id, time, entry, outcome, found) VALUES (?, ?, ?, ?, 1)"
_REMOVE = "DELETE FROM entry WHERE n IN (SELECT n FROM entry"
_REMOVE_WORDS = """DELETE FROM word WHERE (n, word) IN (SELECT n, word FROM word
  WHERE n < coalesce((SELECT min(n) FROM entry), 9e18) ORDER BY n LIMIT ?)"""
#: All words of a batch, pairs in JSON: each statement hands the interpreter's lock to the event loop and waits for it.
#: As text, for SQLite 3.45.0 takes no JSON out of a BLOB.
_WORDS = """INSERT OR IGNORE INTO word (n, word)
  SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)"""
#: Octets of the file, beyond which the oldest entries go.
_FILE = 4_000_000_000


class Journal:
    """The writing side; one a process. Use from one event loop or many threads; never raises, never waits."""

    def __init__(self, path: Path, keep: float, clock: Clock, *, rows: int = 2_000_000, octets: int = _FILE) -> None:
        self._path = path
        self._keep = keep
        self._clock = clock
        self._rows = rows
        self._octets = octets
        self._queue: queue.SimpleQueue[Entry | threading.Event] = queue.SimpleQueue()
        self._hurry = threading.Event()  # ends the gathering
        self._database: sqlite3.Connection | None = None
        self._failing = ""
        self._lost = 0
        self._retry_at = 0.0
        self._thorough = False
        self._inode = 0
        self._intents = Intents(path)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def note(self, entry: Entry) -> None:
        """The fate of that mail is open: should this process end before it records one, this entry will be there.

        From the event loop, and with the fate `unknown`; `record` must follow with the true one.
        """
        self._intents.note(entry)

    def record(self, entry: Entry) -> None:
        """Keeps the entry in place of an earlier one of the same id; drops and counts it when the queue is full.

        The entry must not change any more.
        """
        waiting = self._queue.qsize()
        if waiting >= _QUEUE:
            metrics.journal_dropped(1)
            self._intents.done(entry.id)
            return
        if entry.fate not in _NO_FATE:
            self._intents.answered(entry)  # before the thread can see it, and strike it out
        self._queue.put(entry)
        if waiting >= _BATCH:
            self._hurry.set()

    def flush(self, patience: float = 5.0) -> bool:
        """Waits until everything recorded so far is written or dropped; False when that took too long."""
        written = threading.Event()
        self._queue.put(written)
        self._hurry.set()
        return written.wait(patience)

    def close(self, patience: float = 5.0) -> None:
        """Writes what is queued and ends the thread."""
        self.flush(patience)
        self._ending.set()
        self._queue.put(threading.Event())  # wakes it
        self._thread.join(patience)

    # Everything below runs in the thread

    def _run(self) -> None:
        purge_at = look_at = 0.0
        while not self._ending.is_set():
            batch, waiting = self._gather(look_at if self._database is None else min(purge_at, look_at))
            unwritten = len(batch)
            try:
                self._write(batch)
                unwritten = 0
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + _LOOK_SECONDS
                    collect(self._path, self._inherit)
                if time.monotonic() >= purge_at and self._database is not None:
                    more = self._purge() or self._upgrade()
                    purge_at = time.monotonic() + (_MORE_SECONDS if more else _PURGE_SECONDS)
            except (sqlite3.Error, Unavailable, OSError) as error:
                self._fail(error, unwritten)
            except Exception as error:  # a bug of ours must not end the journal for good
                log.exception("journal crashed")
                self._fail(error, unwritten)
            for entry in batch:
                if entry.fate not in _NO_FATE:  # an early word on a mail that goes on
                    self._intents.done(entry.id)
            for event in waiting:
                event.set()
        if self._database is not None:
            self._database.close()
        self._intents.close()

    def _gather(self, until: float) -> tuple[list[Entry], list[threading.Event]]:
        """The next batch, and who waits for it to be done. Returns at `until`, when other work is due, without one."""
        batch: list[Entry] = []
        waiting: list[threading.Event] = []
        with contextlib.suppress(queue.Empty):
            item = self._queue.get(timeout=max(until - time.monotonic(), 0.0))
            if isinstance(item, Entry) and self._queue.qsize() < _BATCH:
                # Not at the queue: there each entry would wake this thread, to take the GIL from the event loop.
                self._hurry.wait(_GATHER_SECONDS)
                self._hurry.clear()
            while isinstance(item, Entry):
                batch.append(item)
                if len(batch) == _BATCH:
                    return batch, waiting
                item = self._queue.get_nowait()
            waiting.append(item)
        return batch, waiting

    def _write(self, batch: list[Entry]) -> None:
        if not batch:
            return
        if time.monotonic() < self._retry_at:
            raise Unavailable(self._failing)
        # The last of each id: the others would only be replaced.
        rows = [(entry, encode(entry), words(entry)) for entry in {entry.id: entry for entry in batch}.values()]
        pairs: list[tuple[int | None, str]] = []
        with _transaction(self._opened()) as database:
            for entry, octets, found in rows:
                number = database.execute(_INSERT, (entry.id, entry.time, octets, entry.outcome)).lastrowid
                pairs.extend((number, word) for word in found)
            database.execute(_WORDS, (orjson.dumps(pairs).decode(),))
        if self._failing:
            log.warning("journal works again", path=str(self._path), dropped=self._lost)
            self._failing, self._lost = "", 0

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = opened(self._path, self._clock, thorough=self._thorough)
            self._thorough = False
            self._inode = self._path.stat().st_ino
        return self._database

    def _inherit(self, noted: list[Entry]) -> None:
        """Writes down what a process left when it ended, unless it had written the fate itself."""
        lost = [entry for entry in noted if not self._settled(entry.id)]
        self._write(lost)
        for entry in [entry for entry in lost if entry.fate == "unknown"]:
            log.warning("a fate stays unknown", id=entry.id, sender=entry.sender, why=entry.fate_detail)

    def _settled(self, transaction_id: str) -> bool:
        row = self._opened().execute("SELECT entry FROM entry WHERE id = ?", (transaction_id,)).fetchone()
        try:
            return row is not None and decode(row[0]).fate not in _NO_FATE
        except UNREADABLE:
            return False

    def _fail(self, error: Exception, entries: int) -> None:
        """Drops a batch. The log hears of the first failure only; until `_retry_at` nothing is tried."""
        metrics.journal_dropped(entries)
        self._lost += entries
        if not self._failing:
            self._failing = str(error) or type(error).__name__
            log.warning("journal stopped, mail goes on", path=str(self._path), why=self._failing)
        if time.monotonic() >= self._retry_at:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        self._thorough = self._thorough or damaged(error)

    def _purge(self) -> bool:
        """Removes a slice of what is too old or too much; True when there may be more. Row numbers only grow, so
        nothing has to be counted."""
        database = self._database
        assert database is not None
        if self._path.stat().st_ino != self._inode:  # another worker has set a damaged file aside
            database.close()
            self._database = None
            return False
        values = {"old": self._clock.now() - self._keep, "rows": self._rows, "slice": _SLICE}
        more = False
        for where in ("time < :old", "n <= (SELECT max(n) FROM entry) - :rows"):
            more |= database.execute(f"{_REMOVE} WHERE {where} LIMIT :slice)", values).rowcount == _SLICE
        if database.execute(_REMOVE_WORDS, (_WORD_SLICE,)).rowcount == _WORD_SLICE:
            return True  # the file cannot be measured before they are gone
        size, pages, free = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
        )
        over = (pages - free) * size - self._octets
        if over <= 0:
            return more
        first, last = database.execute("SELECT min(n), max(n) FROM entry").fetchone()
        if first is not None:
            share = math.ceil((last - first + 1) * over / ((pages - free) * size))
            database.execute(f"{_REMOVE} ORDER BY n LIMIT :slice)", {"slice": min(share, _SLICE)})
        return first is not None

    def _upgrade(self) -> bool:
        """Makes a slice of what an older version wrote findable, the newest first; True when there may be more."""
        if self._database is None:
            return False
        statement = "SELECT n, entry FROM entry WHERE found = 0 ORDER BY n DESC LIMIT ?"
        rows = self._database.execute(statement, (_UPGRADE_SLICE,)).fetchall()
        if rows:
            with _transaction(self._database) as database:
                for number, octets in rows:
                    try:
                        entry = decode(octets)
                    except UNREADABLE:  # what nobody can read nobody searches
                        entry = Entry("", 0.0, "", "")
                    pairs = [(number, word) for word in words(entry)]
                    database.execute(_WORDS, (orjson.dumps(pairs).decode(),))
                    database.execute("UPDATE entry SET found = 1, outcome = ? WHERE n = ?", (entry.outcome, number))
        return len(rows) == _UPGRADE_SLICE


def opened(path: Path, clock: Clock, *, thorough: bool = False) -> sqlite3.Connection:
    """The journal's file, made where there is none. Raises `Unavailable`."""
    return open_database(path, _SCHEMA, VERSION, clock, upgrades=_UPGRADES, busy=_BUSY_SECONDS, thorough=thorough)


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled it back already
            database.execute("ROLLBACK")
        raise
