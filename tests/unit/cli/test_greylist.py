"""`gatepost greylist` on a state file."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import greylist as command
from gateway.clock import SystemClock
from gateway.config import Sqlite
from gateway.mail.terms import Unavailable
from gateway.state.sqlite import SqliteStore
from gateway.state.store import GreylistKey


@dataclass
class Configured:
    """As much of a configuration as the command asks for."""

    state: Sqlite


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state.db"
    monkeypatch.setattr(command, "load_config", lambda *_: Configured(Sqlite(path)))
    return path


@pytest.fixture
def filled(path: Path) -> Path:
    clock = SystemClock()
    with contextlib.closing(SqliteStore(path, clock)) as store:
        for sender in ("a@x.example", "b\x1b[31m@x.example"):
            key = GreylistKey("net:192.0.2.0/24", sender, "r@y.example")
            store.greylist(key, now=clock.now(), wait=300, window=86400, keep=86400)
    return path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command.app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.usefixtures("filled")
def test_list() -> None:
    code, text = run("list")
    assert code == 0
    assert "waiting  net:192.0.2.0/24  <a@x.example> -> <r@y.example>  since " in text
    assert "1 attempts" in text
    assert "\x1b" not in text
    assert run("list", "z.example") == (0, "nothing\n")
    rows = [json.loads(line) for line in run("list", "192.0.2.0/24", "--json")[1].splitlines()]
    assert {row["state"] for row in rows} == {"waiting"}
    assert len(rows) == 2


def test_release_and_forget(filled: Path) -> None:
    assert run("release", "a@x.example") == (0, "1 released\n")
    clock = SystemClock()
    with contextlib.closing(SqliteStore(filled, clock)) as store:
        key = GreylistKey("net:192.0.2.0/24", "a@x.example", "r@y.example")
        assert store.greylist(key, now=clock.now(), wait=300, window=86400, keep=86400).passed
    code, text = run("release", "a@x.example")
    assert code == 1
    assert "nothing waits" in text
    assert run("forget", "y.example", "--json") == (0, '{"forgotten": 2}\n')
    assert run("forget", "y.example")[0] == 1


def test_without_a_state_nothing_is_created(path: Path) -> None:
    with pytest.raises(Unavailable, match="no state there yet"):
        run("list")
    assert not path.exists()
