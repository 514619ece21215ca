"""The reading side of the journal, for `gatepost journal`; never writes, works beside running workers."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.journal.entry import Entry, decode
from gateway.journal.words import Wanted
from gateway.mail.terms import Unavailable

_BUSY_SECONDS = 1.0
_AT_ONCE = 500
#: The version of the file from which on there are words.
SEARCHABLE = 2


class Reader:
    """The reading side. Raises `Unavailable` when there is no journal or it cannot be read."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise Unavailable(f"{path}: no journal there yet")
        try:
            self._database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
            self._database.execute("SELECT n, id, time, entry FROM entry LIMIT 1").fetchone()
            self._version = int(self._database.execute("PRAGMA user_version").fetchone()[0])
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
        return max((number for number, _ in self.numbered(1)), default=0)

    def after(self, number: int, limit: int = 1000) -> list[tuple[int, Entry]]:
        """Entries written since the one of that number, oldest first: for following."""
        return self._rows("SELECT n, entry FROM entry WHERE n > ? ORDER BY n LIMIT ?", number, limit)

    def get(self, transaction_id: str) -> Entry | None:
        """The entry of that transaction; `None` when the journal has none (any more)."""
        found = self._rows("SELECT n, entry FROM entry WHERE id = ?", transaction_id)
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
        if self._version < SEARCHABLE:
            raise Unavailable("journal: of an older version; it can be searched when the gateway has written to it")
        condition = " AND ".join(where) or "1"
        statement = f"SELECT n, entry FROM entry WHERE {condition} ORDER BY n DESC LIMIT ?"  # noqa: S608 - our words
        return [entry for _, entry in self._rows(statement, *values, limit)][::-1]

    def since(self, moment: float) -> Iterator[Entry]:
        """Every entry of transactions that began then or later, oldest first; read as they are asked for."""
        last, statement = 0, "SELECT n, entry FROM entry WHERE n > ? AND time >= ? ORDER BY n LIMIT ?"
        while rows := self._rows(statement, last, moment, _AT_ONCE):
            yield from (entry for _, entry in rows)
            last = rows[-1][0]

    def count(self, moment: float) -> int:
        """How many these are."""
        try:
            found = self._database.execute("SELECT count(*) FROM entry WHERE time >= ?", (moment,)).fetchone()
        except sqlite3.Error as error:
            raise Unavailable(f"journal: {error}") from error
        return int(found[0])

    def follow(self, number: int, pause: float = 0.3) -> Iterator[Entry]:
        """Entries after the one of that number, for ever."""
        while True:
            for last, entry in self.after(number):
                number = last
                yield entry
            time.sleep(pause)

    def close(self) -> None:
        """Ends the reading."""
        self._database.close()

    def _rows(self, statement: str, *values: object) -> list[tuple[int, Entry]]:
        try:
            return [(number, _decoded(number, octets)) for number, octets in self._database.execute(statement, values)]
        except sqlite3.Error as error:
            raise Unavailable(f"journal: {error}") from error


def _decoded(number: int, octets: bytes) -> Entry:
    try:
        return decode(octets)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise Unavailable(f"journal: its entry {number} is damaged ({type(error).__name__})") from error
