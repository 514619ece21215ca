"""The store of one machine: a single SQLite file in WAL mode, shared by all workers.

The greylist's step is one upsert with RETURNING, so two workers can never both see a triplet for the first time.
Nothing waits longer than a quarter of a second, so that a stuck disk cannot hold the event loop (`sqlite_file`). The
file is a cache: a damaged one is set aside with a log line and a new one begun. Strangers choose the triplets, so
their number is bounded: the oldest waiting ones go first, and those that passed are out of a flood's reach.
"""

import sqlite3
from concurrent.futures import Executor
from pathlib import Path

from gateway.clock import Clock
from gateway.state.sqlite_file import SqliteFile
from gateway.state.store import (
    LIMIT_SKEW,
    POLICIES,
    TRUSTED_AFTER,
    Greylisted,
    GreylistKey,
    GreylistRow,
    Limited,
    PolicyRow,
    RecipientRow,
    bounded,
)

_VERSION = 3
#: Calls that may add a row, between two looks at the bounds.
_TRIM_EVERY = 1000
#: Rows one statement may delete: a few milliseconds.
_SLICE = 2000
#: Seconds by which a lifetime must grow to be worth a write: a busy exempt sender costs one write an hour.
_RENEWAL = 3600.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS greylist (
  n INTEGER PRIMARY KEY,
  identity TEXT NOT NULL, sender TEXT NOT NULL, recipient TEXT NOT NULL,
  first REAL NOT NULL, last REAL NOT NULL, expires REAL NOT NULL,
  attempts INTEGER NOT NULL, passes INTEGER NOT NULL,
  UNIQUE (identity, sender, recipient)
);
CREATE INDEX IF NOT EXISTS greylist_waiting ON greylist (n) WHERE passes = 0;
CREATE INDEX IF NOT EXISTS greylist_expires ON greylist (expires);
CREATE TABLE IF NOT EXISTS exempt (identity TEXT PRIMARY KEY, since REAL NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS recipient (
  n INTEGER PRIMARY KEY,
  backend TEXT NOT NULL, address TEXT NOT NULL, known INTEGER NOT NULL, expires REAL NOT NULL,
  UNIQUE (backend, address)
);
CREATE TABLE IF NOT EXISTS rate (key TEXT PRIMARY KEY, due REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rate_due ON rate (due);
CREATE TABLE IF NOT EXISTS policy (
  domain TEXT PRIMARY KEY, id TEXT NOT NULL, text TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sender (key TEXT PRIMARY KEY, since REAL NOT NULL, expires REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sender_expires ON sender (expires);
"""

# `first` is pulled back to now when the clock was set back, else a triplet could wait for years.
_ATTEMPT = """
INSERT INTO greylist (identity, sender, recipient, first, last, expires, attempts, passes)
VALUES (:identity, :sender, :recipient, :now, :now, :now + :window, 1, 0)
ON CONFLICT (identity, sender, recipient) DO UPDATE SET
  first = CASE WHEN expires <= :now THEN :now ELSE min(first, :now) END,
  last = :now,
  attempts = CASE WHEN expires <= :now THEN 1 ELSE attempts + 1 END,
  expires = CASE WHEN expires <= :now THEN :now + :window
                 WHEN passes > 0 OR first + :wait <= :now THEN :now + :keep
                 ELSE expires END,
  passes = CASE WHEN expires <= :now THEN 0
                WHEN passes > 0 OR first + :wait <= :now THEN passes + 1
                ELSE 0 END
RETURNING passes, first
"""
# GCRA: `due` is when all that was allowed would have come at an even pace. No row comes back where one more would be
# too many. What lies impossibly far ahead is forgotten: the clock was set back, or the rule was changed.
_LIMIT = """
INSERT INTO rate (key, due) VALUES (:key, :now + :step)
ON CONFLICT (key) DO UPDATE SET due = CASE WHEN due > :most THEN :now ELSE max(due, :now) END + :step
WHERE due > :most OR due + :step <= :now + :per + :slack
RETURNING due
"""
_MATCH = """(identity = :match OR sender = :match OR recipient = :match
  OR identity IN ('spf:' || :match, 'name:' || :match, 'net:' || :match)
  OR substr(sender, -length(:match) - 1) = '@' || :match OR substr(recipient, -length(:match) - 1) = '@' || :match)"""
_RECIPIENTS = """(:backend = '' OR backend = :backend)
  AND (:match = '' OR address = :match COLLATE NOCASE OR substr(address, -length(:match) - 1) = '@' || :match)"""
# A clock that was set back makes nobody older; who was forgotten begins anew.
_MET = """
INSERT INTO sender (key, since, expires) VALUES (:key, :now, :until)
ON CONFLICT (key) DO UPDATE SET
  since = CASE WHEN expires <= :now THEN :now ELSE min(since, :now) END, expires = :until
"""


class SqliteStore:
    """A `Store` in one file; one object a process. Raises `Unavailable` when the file cannot be had.

    May be called from threads. `purge` belongs into one: at the bounds it takes tens of milliseconds.
    """

    threads: Executor | None = None  # 20 to 60 microseconds a call

    def __init__(self, path: Path, clock: Clock, *, rows: int = 200_000) -> None:
        self._file = SqliteFile(path, _SCHEMA, _VERSION, clock)
        self._rows = rows
        self._calls = 0

    # The greylist

    def greylist(self, key: GreylistKey, *, now: float, wait: float, window: float, keep: float) -> Greylisted:
        window = window if window > wait else 2 * wait  # else no retry could ever be in time
        with self._file.asked("greylist") as database:
            row = database.execute("SELECT expires FROM exempt WHERE identity = ?", (key.identity,)).fetchone()
            if row and now < row[0]:
                if now + keep - row[0] > _RENEWAL:
                    database.execute("UPDATE exempt SET expires = ? WHERE identity = ?", (now + keep, key.identity))
                return Greylisted(True, 0.0)
            values = {"identity": key.identity, "sender": key.sender, "recipient": key.recipient}
            times = {"now": now, "wait": wait, "window": window, "keep": keep}
            passes, first = database.execute(_ATTEMPT, values | times).fetchone()
            if passes == 1:
                self._maybe_exempt(database, key.identity, now, keep)
            self._count(database)
        if passes:
            return Greylisted(True, 0.0)
        return Greylisted(False, max(first + wait - now, 0.0))

    def greylist_list(self, now: float, *, match: str = "", limit: int = 1000) -> list[GreylistRow]:
        where = f"AND {_MATCH}" if match else ""
        triplets = f"""SELECT identity, sender, recipient, CASE passes WHEN 0 THEN 'waiting' ELSE 'passed' END,
          first, last, expires, attempts FROM greylist WHERE expires > :now {where} ORDER BY last DESC LIMIT :limit"""  # noqa: S608
        identities = f"""WITH e AS (SELECT identity, '*' AS sender, '*' AS recipient, since, expires FROM exempt)
          SELECT identity, sender, recipient, 'exempt', since, since, expires, 0 FROM e
          WHERE expires > :now {where} ORDER BY since DESC LIMIT :limit"""  # noqa: S608
        values = {"now": now, "match": match.lower(), "limit": limit}
        with self._file.asked("greylist_list") as database:
            rows = database.execute(identities, values).fetchall() + database.execute(triplets, values).fetchall()
        return [GreylistRow(*row) for row in rows][:limit]

    def greylist_release(self, match: str, *, now: float, keep: float) -> int:
        statement = f"UPDATE greylist SET passes = 1, expires = :until WHERE passes = 0 AND expires > :now AND {_MATCH}"  # noqa: S608
        with self._file.asked("greylist_release") as database:
            return database.execute(statement, {"match": match.lower(), "now": now, "until": now + keep}).rowcount

    def greylist_forget(self, match: str) -> int:
        identities = """DELETE FROM exempt WHERE identity = :match
          OR identity IN ('spf:' || :match, 'name:' || :match, 'net:' || :match)"""
        values = {"match": match.lower()}
        with self._file.asked("greylist_forget") as database:
            forgotten = database.execute(f"DELETE FROM greylist WHERE {_MATCH}", values).rowcount  # noqa: S608
            return forgotten + database.execute(identities, values).rowcount

    # Rates

    def limit(self, key: str, *, now: float, rate: int, per: float) -> Limited:
        step = per / rate
        values = {"key": bounded(key), "now": now, "step": step, "per": per, "slack": step / 1000}
        values["most"] = now + 2 * per + LIMIT_SKEW
        with self._file.asked("limit") as database:
            allowed = database.execute(_LIMIT, values).fetchone() is not None
            self._count(database)
            if allowed:
                return Limited(True, 0.0)
            row = database.execute("SELECT due FROM rate WHERE key = ?", (values["key"],)).fetchone()
        return Limited(False, max(row[0] + step - now - per, 0.0) if row else 0.0)

    # The recipients that backends know

    def recipient(self, backend: str, address: str, now: float) -> RecipientRow | None:
        with self._file.asked("recipient") as database:
            row = database.execute(
                "SELECT known, expires FROM recipient WHERE backend = ? AND address = ? AND expires > ?",
                (backend, address, now),
            ).fetchone()
        return RecipientRow(backend, address, bool(row[0]), row[1]) if row else None

    def remember_recipient(self, backend: str, address: str, known: bool, until: float) -> None:
        with self._file.asked("remember_recipient") as database:
            database.execute(
                """INSERT INTO recipient (backend, address, known, expires) VALUES (?, ?, ?, ?)
                ON CONFLICT (backend, address) DO UPDATE SET known = excluded.known, expires = excluded.expires""",
                (backend, address, known, until),
            )
            self._count(database)

    def forget_recipient(self, backend: str, address: str) -> None:
        with self._file.asked("forget_recipient") as database:
            database.execute("DELETE FROM recipient WHERE backend = ? AND address = ?", (backend, address))

    def recipient_list(
        self, now: float, *, backend: str = "", match: str = "", limit: int = 1000, offset: int = 0
    ) -> list[RecipientRow]:
        statement = f"""SELECT backend, address, known, expires FROM recipient WHERE expires > :now AND {_RECIPIENTS}
          ORDER BY backend, address LIMIT :limit OFFSET :offset"""  # noqa: S608
        values = {"now": now, "backend": backend, "match": match, "limit": limit, "offset": offset}
        with self._file.asked("recipient_list") as database:
            rows = database.execute(statement, values).fetchall()
        return [RecipientRow(backend, address, bool(known), until) for backend, address, known, until in rows]

    def recipient_forget(self, now: float, *, backend: str = "", match: str = "") -> int:
        values = {"now": now, "backend": backend, "match": match}
        with self._file.asked("recipient_forget") as database:
            return database.execute(f"DELETE FROM recipient WHERE expires > :now AND {_RECIPIENTS}", values).rowcount  # noqa: S608

    # MTA-STS policies

    def policy(self, domain: str, now: float) -> PolicyRow | None:
        with self._file.asked("policy") as database:
            row = database.execute(
                "SELECT id, text, expires FROM policy WHERE domain = ? AND expires > ?", (domain, now)
            ).fetchone()
        return PolicyRow(*row) if row else None

    def remember_policy(self, domain: str, row: PolicyRow) -> None:
        with self._file.asked("remember_policy") as database:
            database.execute("INSERT OR REPLACE INTO policy VALUES (?, ?, ?, ?)", (domain, row.id, row.text, row.until))

    # Senders that we had mail from

    def sender(self, key: str, now: float) -> float | None:
        with self._file.asked("sender") as database:
            row = database.execute("SELECT since FROM sender WHERE key = ? AND expires > ?", (key, now)).fetchone()
        return row[0] if row else None

    def remember_sender(self, key: str, *, now: float, keep: float) -> None:
        with self._file.asked("remember_sender") as database:
            database.execute(_MET, {"key": key, "now": now, "until": now + keep})
            self._count(database)

    # Bounds

    def purge(self, now: float) -> int:
        self._file.follow()
        gone = 0
        with self._file.asked("purge") as database:
            gone += self._trim(database)
            for statement in (
                "DELETE FROM greylist WHERE n IN (SELECT n FROM greylist WHERE expires <= :now LIMIT :slice)",
                "DELETE FROM recipient WHERE n IN (SELECT n FROM recipient WHERE expires <= :now LIMIT :slice)",
                "DELETE FROM exempt WHERE expires <= :now",
                "DELETE FROM rate WHERE key IN (SELECT key FROM rate WHERE due <= :now LIMIT :slice)",
                "DELETE FROM policy WHERE expires <= :now",
                "DELETE FROM sender WHERE key IN (SELECT key FROM sender WHERE expires <= :now LIMIT :slice)",
                # Those that passed are bounded too: a patient stranger can retry. The next to expire goes first.
                """DELETE FROM greylist WHERE n IN (SELECT n FROM greylist WHERE passes > 0 ORDER BY expires
                LIMIT min(:slice, max(0, (SELECT count(*) FROM greylist WHERE passes > 0) - :rows)))""",
                """DELETE FROM exempt WHERE identity IN (SELECT identity FROM exempt ORDER BY expires
                LIMIT max(0, (SELECT count(*) FROM exempt) - :rows))""",
            ):
                gone += database.execute(statement, {"now": now, "slice": _SLICE, "rows": self._rows}).rowcount
        return gone

    def close(self) -> None:
        self._file.close()

    def _count(self, database: sqlite3.Connection) -> None:
        self._calls += 1
        if self._calls % _TRIM_EVERY == 0:
            self._trim(database)

    def _trim(self, database: sqlite3.Connection) -> int:
        """Row numbers only grow, so the rows beyond the newest `rows` numbers are the oldest: no counting needed."""
        gone = 0
        for table, waiting in (("greylist", "passes = 0 AND"), ("recipient", "")):
            gone += database.execute(
                f"""DELETE FROM {table} WHERE n IN (SELECT n FROM {table} WHERE {waiting}
                n <= (SELECT max(n) FROM {table}) - ? ORDER BY n LIMIT ?)""",  # noqa: S608
                (self._rows, _SLICE),
            ).rowcount
        # These have no age. The rate that is free again first goes first, so a flood of keys spares those it limits;
        # of senders the one that was silent for the longest.
        for table, key, order, most in (
            ("rate", "key", "due", self._rows),
            ("sender", "key", "expires", self._rows),
            ("policy", "domain", "expires", POLICIES),
        ):
            over = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] - most  # noqa: S608
            if over > 0:
                gone += database.execute(
                    f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} ORDER BY {order} LIMIT ?)",  # noqa: S608
                    (min(over, _SLICE),),
                ).rowcount
        return gone

    def _maybe_exempt(self, database: sqlite3.Connection, identity: str, now: float, keep: float) -> None:
        count = (
            "SELECT count(*) FROM (SELECT 1 FROM greylist WHERE identity = ? AND passes > 0 AND expires > ? LIMIT ?)"
        )
        if database.execute(count, (identity, now, TRUSTED_AFTER)).fetchone()[0] >= TRUSTED_AFTER:
            database.execute(
                """INSERT INTO exempt VALUES (?, ?, ?)
                ON CONFLICT (identity) DO UPDATE SET since = excluded.since, expires = excluded.expires""",
                (identity, now, now + keep),
            )
