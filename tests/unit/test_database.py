"""Opening shared SQLite files: private, versioned, alone, and what is refused in words."""

import contextlib
import fcntl
import os
import sqlite3
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.clock import ManualClock
from gateway.database import damaged, open_database, unusable
from gateway.mail.terms import Unavailable

SCHEMA = "CREATE TABLE thing (name TEXT)"


def opened(path: Path, **named: float | bool) -> "contextlib.closing[sqlite3.Connection]":
    return contextlib.closing(
        open_database(path, SCHEMA, 1, ManualClock(5.0), busy=0.1, **named)  # type: ignore[arg-type]
    )


def test_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with opened(path) as database, opened(path) as other:
        database.execute("INSERT INTO thing VALUES ('x')")
        assert other.execute("SELECT name FROM thing").fetchall() == [("x",)]
        assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}


def test_a_file_system_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To change rights, as root would be told to, mends nothing there."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY | os.ST_NOSUID))
    assert unusable(tmp_path / "a.db").endswith(" is read-only; mount it for writing, or name another folder")


def test_what_cannot_be(tmp_path: Path) -> None:
    assert unusable(tmp_path / "a.db") == ""
    assert "does not exist; create it" in unusable(tmp_path / "no" / "a.db")
    assert "not a file" in unusable(tmp_path / ".." / tmp_path.name)
    with pytest.raises(Unavailable, match="not a file"):
        open_database(tmp_path / ".", SCHEMA, 1, ManualClock(), busy=0.1)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "a.db").symlink_to(tmp_path / "target")
    with pytest.raises(Unavailable):
        open_database(tmp_path / "a.db", SCHEMA, 1, ManualClock(), busy=0.1)


def test_one_opens_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with opened(path):
        pass
    lock = os.open(f"{path}.lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another process has been opening it"):
            open_database(path, SCHEMA, 1, ManualClock(), busy=0.1, patience=0.05)
    finally:
        os.close(lock)
    with opened(path, patience=0.05):
        pass


def test_a_thorough_look_finds_what_opening_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with opened(path) as database:
        database.executemany("INSERT INTO thing VALUES (?)", [("x" * 500,)] * 100)
    octets = bytearray(path.read_bytes())
    octets[4096:] = b"\xff" * (len(octets) - 4096)
    path.write_bytes(octets)
    with opened(path):
        pass
    with opened(path, thorough=True) as database:
        assert database.execute("SELECT count(*) FROM thing").fetchone() == (0,)
    assert (tmp_path / "a.db.damaged-5").read_bytes() == octets


def test_only_damage_is_damage() -> None:
    assert not damaged(ValueError())
    assert not damaged(sqlite3.OperationalError("locked"))
