"""`gatepost recipients` on a state file."""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import recipients as command
from gateway.clock import SystemClock
from gateway.config import DomainRoute, Sqlite
from gateway.mail.terms import Unavailable
from gateway.state.sqlite import SqliteStore


@dataclass
class Configured:
    """As much of a configuration as the command asks for."""

    state: Sqlite
    domains: dict[str, DomainRoute] = field(default_factory=lambda: {"example.com": DomainRoute(backend="main")})


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state.db"
    monkeypatch.setattr(command, "load_config", lambda *_: Configured(Sqlite(path)))
    return path


@pytest.fixture
def filled(path: Path) -> Path:
    clock = SystemClock()
    with contextlib.closing(SqliteStore(path, clock)) as store:
        store.remember_recipient("main", "sue@example.com", True, clock.now() + 100)
        store.remember_recipient("main", "no@example.com", False, clock.now() + 100)
        store.remember_recipient("main", "@example.com", True, clock.now() + 100)
    return path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command.app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.usefixtures("filled")
def test_show() -> None:
    code, said = run("show", "sue@EXAMPLE.com", "no@example.com", "else@example.com", "@example.com")
    assert code == 0
    assert said.splitlines() == [
        "sue@EXAMPLE.com  backend main: known",
        "no@example.com  backend main: not known",
        "else@example.com  backend main: not asked lately",
        "@example.com  backend main: takes everybody",
    ]
    code, said = run("show", "--json", "no@example.com")
    assert json.loads(said) == {"address": "no@example.com", "backend": "main", "known": False}
    assert run("show", "else@example.com")[0] == 1


@pytest.mark.usefixtures("filled")
def test_forget() -> None:
    assert run("forget", "sue@example.com", "else@example.com")[0] == 0
    assert run("show", "sue@example.com") == (1, "sue@example.com  backend main: not asked lately\n")
    assert run("forget", "sue@example.com")[0] == 1
    assert run("forget", "--json", "no@example.com") == (0, '{"forgotten": 1}\n')


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("address", ["sue", "sue@elsewhere.example", "@", "a b@example.com", "\x1b[31m@x"])
def test_bad_calls(address: str) -> None:
    code, said = run("show", address)
    assert code == 2
    assert "\x1b[31m" not in said


@pytest.mark.usefixtures("path")
def test_no_state_is_made() -> None:
    with pytest.raises(Unavailable):
        run("show", "sue@example.com")
