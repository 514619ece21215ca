"""`gatepost recipients` on a state file."""

import contextlib
import json
import re
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
        store.remember_recipient("more", "zoe@example.net", True, clock.now() + 100)
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
    assert re.sub(r"for 1m \d+s", "for 1m 40s", said).splitlines() == [
        "sue@example.com  backend main: known, for 1m 40s",
        "no@example.com  backend main: not known, for 1m 40s",
        "else@example.com  backend main: not asked lately",
        "@example.com  backend main: takes everybody, for 1m 40s",
    ]
    code, said = run("show", "--json", "no@example.com")
    told = json.loads(said)
    assert told.pop("until") > SystemClock().now()
    assert told == {"address": "no@example.com", "backend": "main", "known": False}
    code, said = run("show", "--json", "else@example.com")
    assert (code, json.loads(said)["until"]) == (1, None)
    assert run("show", "--backend", "other", "sue@example.com")[0] == 2


def test_show_in_capitals(path: Path) -> None:
    """As `list` and `forget` do; of two spellings both are told."""
    clock = SystemClock()
    with contextlib.closing(SqliteStore(path, clock)) as store:
        store.remember_recipient("main", "Sue@example.com", True, clock.now() + 100)
        store.remember_recipient("main", "sue@example.com", False, clock.now() + 100)
        store.remember_recipient("more", "SUE@example.com", False, clock.now() + 100)
    code, said = run("show", "sUE@Example.COM")
    assert code == 0
    assert [line.partition(", for")[0] for line in said.splitlines()] == [
        "Sue@example.com  backend main: known",
        "sue@example.com  backend main: not known",
    ]
    rows = [json.loads(line) for line in run("show", "--json", "SUE@example.com")[1].splitlines()]
    assert [(row["address"], row["known"]) for row in rows] == [("Sue@example.com", True), ("sue@example.com", False)]
    assert run("show", "su@example.com")[0] == 1


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("words", [["list"], ["show"]])
def test_list(words: list[str]) -> None:
    code, said = run(*words)
    assert code == 0
    assert [line.partition(", for")[0] for line in said.splitlines()] == [
        "@example.com  backend main: takes everybody",
        "no@example.com  backend main: not known",
        "sue@example.com  backend main: known",
        "zoe@example.net  backend more: known",
    ]
    pages = [run(*words, "--limit", "2", "--offset", f"{offset}")[1].splitlines() for offset in (0, 2, 4)]
    assert [len(page) for page in pages] == [3, 2, 1]
    assert pages[0][-1] == "gatepost: there are more: --offset 2"
    assert pages[2] == ["nothing"]
    rows = [json.loads(line) for line in run(*words, "--json", "--backend", "more")[1].splitlines()]
    assert [row | {"until": 0} for row in rows] == [
        {"backend": "more", "address": "zoe@example.net", "known": True, "until": 0}
    ]
    assert run(*words, "--json", "--backend", "none") == (0, "")


@pytest.mark.usefixtures("filled")
def test_list_of_somebody() -> None:
    for whom, count in (("EXAMPLE.com", 3), ("sue@Example.com", 1), ("@example.com", 1), ("example", 0)):
        assert len(run("list", "--json", whom)[1].splitlines()) == count, whom


@pytest.mark.usefixtures("filled")
def test_forget() -> None:
    code, said = run("forget", "sue@example.com", "else@example.com")
    assert code == 0
    assert sorted(said.splitlines()) == ["1 forgotten", "gatepost: nothing is remembered of else@example.com"]
    assert run("show", "sue@example.com") == (1, "sue@example.com  backend main: not asked lately\n")
    assert run("forget", "sue@example.com")[0] == 1
    assert run("forget", "--json", "no@example.com") == (0, '{"forgotten": 1}\n')


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["example.com"], 3),
        (["@example.com"], 1),
        (["--backend", "main"], 3),
        (["--backend", "main", "example.net"], 0),
        (["--all"], 4),
        (["example.com", "example.net"], 4),
    ],
)
def test_forget_many(words: list[str], gone: int) -> None:
    code, said = run("forget", *words)
    assert code == int(not gone)
    assert f"{gone} forgotten" in said.splitlines()
    assert len(run("list", "--json")[1].splitlines()) == 4 - gone


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "words", [[], ["--all", "sue@example.com"], ["--all", "--backend", "main"], ["a b@example.com"]]
)
def test_forget_wants_to_know_whom(words: list[str]) -> None:
    code, said = run("forget", *words)
    assert code == 2
    assert "forgotten" not in said
    assert len(run("list", "--json")[1].splitlines()) == 4


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
