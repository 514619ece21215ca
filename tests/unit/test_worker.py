"""The reload of one worker: what it cannot run leaves nothing behind, and the refusal always arrives."""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gateway import worker as module
from gateway.build import plan
from gateway.clock import SystemClock
from gateway.control import LIMIT, Message, cut
from gateway.files import RecordingFiles
from gateway.smtp import census
from gateway.worker import Worker

CONFIG = {
    "hostname": "mx.example.com",
    "listeners": [{"bind": ["127.0.0.1:0"], "starttls": "off"}],
    "domains": {"example.com": {"backend": "main"}},
    "backends": {"main": {"hosts": ["127.0.0.1:1"]}},
    "policies": "policies",
    "state": "sqlite:state.db",
    "journal": {"path": "journal.db", "keep": "30d"},
    "dns": {"zone": "zone.json"},
}


class Line:
    """The control line, as the worker sees it."""

    def __init__(self) -> None:
        self.said: list[Message] = []

    def send(self, message: Message, descriptor: int | None = None) -> bool:
        self.said.append(message)
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "10.yaml").write_text("rules: []\n")
    (tmp_path / "zone.json").write_text("{}")
    write(tmp_path)
    return tmp_path


def write(folder: Path, **more: object) -> None:
    (folder / "gatepost.yaml").write_text(yaml.safe_dump(CONFIG | more))


def bundle(folder: Path) -> int:
    files = RecordingFiles()
    plan(folder / "gatepost.yaml", files, SystemClock(), today=False)
    descriptor = os.memfd_create("bundle")
    os.write(descriptor, files.bundle())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def play(folder: Path, scene: Callable[[Worker, Line], None]) -> None:
    """One worker with its scene, ended as at a drain."""

    async def run() -> None:
        counters = os.memfd_create("census")
        os.ftruncate(counters, census.octets(1))
        made = plan(folder / "gatepost.yaml", RecordingFiles(), SystemClock(), today=False)
        worker, line = Worker(made, folder / "gatepost.yaml", 0, 1, counters), Line()
        worker._control = line  # type: ignore[assignment]
        scene(worker, line)
        await asyncio.gather(*worker._retiring)
        await worker._retire(worker._pipeline.house)
        os.close(counters)

    asyncio.run(run())


def open_files(file: Path) -> int:
    """Descriptors of this process on that file."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        try:
            found += os.readlink(each) == str(file)
        except OSError:
            continue
    return found


def journals() -> int:
    return sum(thread.name == "journal" for thread in threading.enumerate())


def test_what_was_opened_for_a_house_that_was_not_built_is_closed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = journals()

    def scene(worker: Worker, line: Line) -> None:
        old = worker._pipeline.house
        write(folder, state="sqlite:new-state.db", journal={"path": "new-journal.db", "keep": "30d"})
        monkeypatch.setattr(module, "build", broken)
        worker._reload(bundle(folder))
        assert line.said == [{"refused": "internal error, see the log: RuntimeError: no house"}]
        assert worker._pipeline.house is old
        assert (worker._store, worker._journal) == (old.store, old.journal)

    def broken(*_: object, **__: object) -> None:
        assert open_files(folder / "new-state.db") > 0
        assert journals() == before + 2
        raise RuntimeError("no house")

    play(folder, scene)
    assert journals() == before
    for name in ("new-state.db", "new-journal.db", "state.db", "journal.db"):
        assert open_files(folder / name) == 0


def test_a_journal_that_cannot_be_had_refuses_before_anything_is_opened(folder: Path) -> None:
    before = journals()

    def scene(worker: Worker, line: Line) -> None:
        with contextlib.closing(sqlite3.connect(folder / "newer.db")) as database:
            database.execute("PRAGMA user_version = 99")
        write(folder, journal={"path": "newer.db", "keep": "30d"})
        worker._reload(bundle(folder))
        (said,) = line.said
        newer = f"{folder / 'newer.db'}: written by a newer version of the gateway (schema 99, ours is 2)"
        assert said == {"refused": newer}
        write(folder, journal={"path": "other.db", "keep": "30d"})
        worker._reload(bundle(folder))
        assert "reloaded" in line.said[-1]

    play(folder, scene)
    assert journals() == before
    assert open_files(folder / "other.db") == 0


def test_a_long_refusal_arrives_and_says_that_it_was_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scene(worker: Worker, line: Line) -> None:
        def broken(*_: object, **__: object) -> None:
            raise OSError("\0" * 100_000)

        monkeypatch.setattr(module, "build", broken)
        worker._reload(bundle(folder))
        why = str(line.said[0]["refused"])
        assert why.endswith("\n(96000 more characters)")
        assert len(str(line.said[0])) < LIMIT

    play(folder, scene)


def test_what_is_short_is_not_cut() -> None:
    assert cut("x" * 4000) == "x" * 4000
    assert cut("x" * 4001) == "x" * 4000 + "\n(1 more characters)"
