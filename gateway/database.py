"""Opening SQLite files that several processes share: private, in WAL mode, of a known schema, damaged ones set aside.

Used by the state store and by the journal. Raises `Unavailable` with a sentence for the operator. WAL survives
SIGKILL of any process at any moment; `synchronous = NORMAL` means that a power cut may cost the last rows, never
the file.
"""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.clock import Clock
from gateway.log import log
from gateway.mail.terms import Unavailable

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def damaged(error: BaseException) -> bool:
    """True when SQLite says that the file itself is broken."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


#: How every SQLite file begins.
_MAGIC = b"SQLite format 3\0"


def unusable(path: Path) -> str:
    """Why a database cannot live at `path`, with a hint; "" when it can. Also for `config check`."""
    folder = path.parent
    if not folder.is_dir():
        return f"{path}: the folder {folder} does not exist; create it and give it to the gateway's user"
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{path}: the file system of {folder} is read-only; mount it for writing, or name another folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{path}: no right to write in the folder {folder}; give it to the gateway's user"
    if path.exists() and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        return f"{path}: not a file that may be read and written; give it to the gateway's user"
    if path.exists() and not _ours(path):
        return f"{path}: a file of another kind is there; name another file, or move that one away"
    return ""


def _ours(path: Path) -> bool:
    """False for what was never a database of ours: a key or a policy must not be set aside as a damaged one."""
    if os.path.exists(f"{path}.lock"):  # we opened it before, whatever a disk has made of it since
        return True
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) in {_MAGIC, b""}


def open_database(
    path: Path,
    schema: str,
    version: int,
    clock: Clock,
    *,
    upgrades: Mapping[int, str] | None = None,
    busy: float,
    patience: float = 5.0,
    thorough: bool = False,
) -> sqlite3.Connection:
    """A connection in autocommit mode that waits at most `busy` seconds for locks.

    `schema` is run on a file that is new or of an older version, and must not mind what is there; before it, in one
    transaction with it, `upgrades` of each version that the file has to leave. `thorough` reads the whole file for
    damage (after an error said that there is some); else only what opening it shows. `patience` limits the wait for
    other processes that are opening it now.
    """
    if why := unusable(path):
        raise Unavailable(why)
    try:
        with _alone(path, patience):
            try:
                return _connect(path, schema, version, upgrades or {}, busy, thorough=thorough)
            except sqlite3.DatabaseError as error:
                if not damaged(error):
                    raise
                aside = _set_aside(path, clock)
                log.warning("database damaged, a new one begun", path=str(path), aside=str(aside), why=str(error))
                return _connect(path, schema, version, upgrades or {}, busy, thorough=False)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"{path}: {error}") from error


def _set_aside(path: Path, clock: Clock) -> Path:
    """Renames it, so that nobody loses what could be rescued; its side files go with it."""
    aside = path.with_name(f"{path.name}.damaged-{int(clock.now())}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


@contextlib.contextmanager
def _alone(path: Path, patience: float) -> Iterator[None]:
    """Opens one process at a time: else the second could set aside what the first has just begun."""
    lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Unavailable(f"{path}: another process has been opening it for {patience:g} s") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(lock)


def _connect(
    path: Path, schema: str, version: int, upgrades: Mapping[int, str], busy: float, *, thorough: bool
) -> sqlite3.Connection:
    # SQLite would create it by the umask; who writes to whom is nobody else's business.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    database = sqlite3.connect(path, timeout=busy, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        if thorough and (found := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            error = sqlite3.DatabaseError(found)
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found > version:
            raise Unavailable(f"{path}: written by a newer version of the gateway (schema {found}, ours is {version})")
        if found < version:
            steps = [upgrades.get(each, "") for each in range(max(found, 1), version)] if found else []
            script = ";".join((*steps, schema))
            database.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {version}; COMMIT;")
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        database.close()
        raise
    return database
