"""The file of the SQLite store: opened when it is needed, let go when another process set it aside, bounded in time.

Nothing waits longer than a quarter of a second; a locked or full disk raises `Unavailable`, and for a moment after
that every call fails at once (`breaker`). A file that an error called damaged is closed, and the next call reads it
through and sets it aside if so. Called by `sqlite`.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from gateway.clock import Clock
from gateway.database import damaged, open_database
from gateway.mail.terms import Unavailable
from gateway.state.breaker import Breaker

_BUSY_SECONDS = 0.2


class SqliteFile:
    """One a process. Raises `Unavailable` when the file cannot be had."""

    def __init__(self, path: Path, schema: str, version: int, clock: Clock) -> None:
        self._path = path
        self._schema = schema
        self._version = version
        self._clock = clock
        self._breaker = Breaker(str(path), clock)
        self._damaged = False
        self._inode = 0
        self.database: sqlite3.Connection | None = self._open(patience=5.0)

    @contextlib.contextmanager
    def asked(self, call: str) -> Iterator[sqlite3.Connection]:
        """The open database for one call; SQLite's errors leave as `Unavailable`."""
        self._breaker.enter(call)
        try:
            if self.database is None:
                self.database = self._open(patience=_BUSY_SECONDS)
            yield self.database
        except (sqlite3.Error, Unavailable) as error:
            if damaged(error):
                self._damaged = True
                self.close()  # the next call opens it again and, if so, sets it aside
            raise self._breaker.failed(call, error) from error
        self._breaker.worked(call)

    def follow(self) -> None:
        """Lets go of a file that another worker set aside, or that an operator removed: the next call opens anew."""
        try:
            same = self._path.stat().st_ino == self._inode
        except OSError:
            same = False
        if not same:
            self.close()

    def close(self) -> None:
        """Ends the use of the file, for now."""
        if self.database is not None:
            self.database.close()
            self.database = None

    def _open(self, *, patience: float) -> sqlite3.Connection:
        """Opens the file; after an error that spoke of damage, reads it through first."""
        database = open_database(
            self._path,
            self._schema,
            self._version,
            self._clock,
            busy=_BUSY_SECONDS,
            patience=patience,
            thorough=self._damaged,
        )
        self._damaged = False
        self._inode = self._path.stat().st_ino
        return database
