"""The reading side of the journal, for `gatepost journal`; never writes, works beside running workers."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.journal.entry import UNREADABLE, Entry, decode
from gateway.journal.words import Wanted
from gateway.mail.terms import Unavailable

_BUSY_SECONDS = 1.0
_AT_ONCE = 500
_AFTER = "SELECT n, entry FROM entry WHERE n > ? ORDER BY n LIMIT ?"
#: The version of the file as this gateway writes it; from the second on there are words.
VERSION = 2
_SEARCHABLE = 2


class Reader:
    """The reading side. Raises `Unavailable` when there is no journal or it cannot be read."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise Unavailable(f"{path}: no journal there yet")
        #: The numbers of entries that could not be read and were left out.
        self.damaged: list[int] = []
        try:
            self._database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
            self._version = int(self._database.execute("PRAGMA user_version").fetchone()[0])
            if self._version > VERSION:
                what = f"written by a newer version of the gateway (schema {self._version}, ours is {VERSION})"
                raise Unavailable(f"{path}: {what}; read it with the gatepost that wrote it")
            self._database.execute("SELECT n, id, time, entry FROM entry LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise Unavailable(f"{path}: no journal that can be read: {error}") from error

    def tail(self, count: int) -> list[Entry]:
        """The last entries, oldest first."""
        return [entry for _, entry in self.numbered(count)]

    def numbered(self, count: int) -> list[tuple[int, Entry]]:
        """The same with their numbers, from which `after` goes on."""
        return self._rows("SELECT n, entry FROM entry ORDER BY n DESC LIMIT ?", count)[::-1]

    def last(self) -> int:
        """The number of the last entry; 0 when there is none."""
        return int(self._select("SELECT coalesce(max(n), 0) FROM entry")[0][0])

    def after(self, number: int, limit: int = 1000) -> list[tuple[int, Entry]]:
        """Entries written since the one of that number, oldest first: for following."""
        return self._rows(_AFTER, number, limit)

    def get(self, transaction_id: str) -> Entry | None:
        """The entry of that transaction; `None` when the journal has none (any more)."""
        found = self._rows("SELECT n, entry FROM entry WHERE id = ?", transaction_id)
        if not found and self.damaged:
            raise Unavailable(f"journal: its entry {self.damaged[-1]}, of {transaction_id}, is damaged")
        return found[0][1] if found else None

    def search(self, wanted: Wanted, limit: int = 1000) -> list[Entry]:
        """The newest entries of that kind, oldest first. Raises `ValueError` where the client is no address."""
        where: list[str] = []
        values: list[object] = []
        for span in wanted.spans():
            where.append("n IN (SELECT n FROM word WHERE word >= ? AND word < ?)")
            values += [span.first, span.end]
        if wanted.id:
            where.append("id >= ? AND id < ?")
            values += [wanted.id.upper(), wanted.id.upper() + "~"]
        for clause, value in (("outcome = ?", wanted.outcome), ("time >= ?", wanted.since), ("time < ?", wanted.until)):
            if value:
                where.append(clause)
                values.append(value)
        if self._version < _SEARCHABLE:
            raise Unavailable("journal: of an older version; it can be searched when the gateway has written to it")
        condition = " AND ".join(where) or "1"
        statement = f"SELECT n, entry FROM entry WHERE {condition} ORDER BY n DESC LIMIT ?"  # noqa: S608 - our words
        return [entry for _, entry in self._rows(statement, *values, limit)][::-1]

    def since(self, moment: float) -> Iterator[Entry]:
        """Every entry of transactions that began then or later, oldest first; read as they are asked for.

        What is written meanwhile is not: a mail that ends gets a new entry, and would be told twice.
        """
        first, last = 0, self.last()
        statement = "SELECT n, entry FROM entry WHERE n > ? AND n <= ? AND time >= ? ORDER BY n LIMIT ?"
        while rows := self._select(statement, first, last, moment, _AT_ONCE):
            yield from (entry for _, entry in self._readable(rows))
            first = rows[-1][0]

    def count(self, moment: float) -> int:
        """How many these are."""
        return int(self._select("SELECT count(*) FROM entry WHERE time >= ?", moment)[0][0])

    def follow(self, number: int, pause: float = 0.3) -> Iterator[Entry]:
        """Entries after the one of that number, for ever."""
        while True:
            rows = self._select(_AFTER, number, _AT_ONCE)
            yield from (entry for _, entry in self._readable(rows))
            number = rows[-1][0] if rows else number
            time.sleep(pause)

    def close(self) -> None:
        """Ends the reading."""
        self._database.close()

    def _rows(self, statement: str, *values: object) -> list[tuple[int, Entry]]:
        return self._readable(self._select(statement, *values))

    def _readable(self, rows: list[tuple[int, bytes]]) -> list[tuple[int, Entry]]:
        found: list[tuple[int, Entry]] = []
        for number, octets in rows:
            try:
                found.append((number, decode(octets)))
            except UNREADABLE:  # one of them hides no other
                self.damaged.append(number)
        return found

    def _select(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"journal: {error}") from error
