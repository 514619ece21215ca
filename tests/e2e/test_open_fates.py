"""SIGKILL between the backend's reception of the dot and our answer: the journal says `unknown`, and only then."""

import contextlib
import json
import os
import resource
import signal
import sqlite3
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.testca import Pair, TestCa
from tests.support.gateway import Gateway, Site, Tree, run, serving, site
from tests.support.ports import free_port
from tests.support.recorder import Recorder, recorder
from tests.support.smtp import Closed
from tests.support.wait import until

SENDER = "sue@sender.example"


@pytest.fixture
def backend(leaf: Pair, tmp_path: Path) -> Iterator[Recorder]:
    with recorder(leaf, tmp_path / "taken") as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, authority: TestCa, backend: Recorder) -> Site:
    return site(tmp_path / "site", backend.port, authority, workers=1)


def send(gateway: Gateway, number: int) -> int:
    """The code of the answer to that mail; 0 when there was none."""
    try:
        with gateway.client() as client:
            client.ehlo()
            return int(client.deliver(SENDER, ["alice@example.com"], b"X-Test-Id: %d\r\n\r\nx\r\n" % number).code)
    except (Closed, OSError):
        return 0


@contextlib.contextmanager
def at_the_dot(gateway: Gateway, backend: Recorder) -> Iterator[list[int]]:
    """The backend has mail 1 and has not said so. The list holds the client's answer at the end."""
    codes: list[int] = []
    backend.hold()
    client = threading.Thread(target=lambda: codes.append(send(gateway, 1)))
    client.start()
    until(lambda: backend.ids() == ["1"], f"the dot; {gateway.words()}")
    yield codes
    client.join(20)
    backend.go_on()


def entries(place: Site) -> list[Tree]:
    """What the journal has of the sender, oldest first."""
    found = run("journal", "search", "-c", str(place.file), "--sender", SENDER, "--json")
    return [json.loads(line) for line in found.stdout.splitlines()]


def left(place: Site) -> list[Path]:
    return list(place.directory.glob("journal.db.open-*"))


def explained(place: Site, entry: Tree) -> None:
    """One command from the id to what is known of a mail that the gateway did not survive."""
    assert (entry["fate"], entry["reply"], entry["recipients"]) == ("unknown", "", ["alice@example.com"])
    assert entry["facts"]["mail.domain"] == "sender.example"
    shown = run("journal", "show", entry["id"], "-c", str(place.file))
    assert shown.returncode == 0, shown
    assert "fate     unknown at main" in shown.stdout
    assert "was sent the final dot, and the gateway ended before it wrote down the answer" in shown.stdout
    told = run("policy", "explain", entry["id"], "-c", str(place.file))
    assert told.returncode == 0, told
    replayed = run("policy", "replay", "-c", str(place.file), "--policies", str(place.policies), "--json")
    assert replayed.returncode == 0, replayed


def test_a_killed_worker_leaves_an_unknown_fate(place: Site, backend: Recorder) -> None:
    with serving(place) as gateway:
        with at_the_dot(gateway, backend) as codes:
            os.kill(gateway.worker_pids()[0], signal.SIGKILL)
        assert codes == [0]
        until(lambda: entries(place), f"an entry; {gateway.words()}")
        assert send(gateway, 1) == 250  # the sender tries again: a duplicate, and both are on record
        first, second = until(lambda: (found := entries(place)) and len(found) == 2 and found, "the second entry")
        explained(place, first)
        assert second["fate"] == "delivered"
        assert len(gateway.events("a fate stays unknown")) == 1
        assert gateway.stop() == 0
    assert left(place) == []
    assert backend.ids() == ["1", "1"]


def test_a_killed_gateway_leaves_an_unknown_fate(place: Site, backend: Recorder) -> None:
    place.configuration["workers"] = 2
    with serving(place) as gateway, at_the_dot(gateway, backend) as codes:
        gateway.kill()
    assert codes == [0]
    assert entries(place) == []
    for _ in range(2):  # once: another start finds nothing more
        with serving(place) as again:
            until(lambda: entries(place), f"an entry; {again.words()}")
            (entry,) = entries(place)
            explained(place, entry)
            assert again.stop() == 0
        assert left(place) == []


def test_a_killed_supervisor_leaves_no_doubt(place: Site, backend: Recorder) -> None:
    """Its workers finish what is past the dot."""
    with serving(place) as gateway:
        worker = gateway.worker_pids()[0]
        with at_the_dot(gateway, backend) as codes:
            os.kill(gateway.pid, signal.SIGKILL)
            backend.go_on()
            until(lambda: codes, "the answer")
            backend.hold()
        assert codes == [250]
        until(lambda: not Path(f"/proc/{worker}/exe").exists(), "the worker's end")
        gateway.stop()
    assert [entry["fate"] for entry in entries(place)] == ["delivered"]
    assert left(place) == []


def test_what_is_settled_is_never_in_doubt(place: Site, backend: Recorder) -> None:
    with serving(place) as gateway:
        assert {send(gateway, number) for number in range(40)} == {250}
        until(lambda: len(entries(place)) == 40, "the entries")
        gateway.kill()
    with serving(place) as gateway:
        assert send(gateway, 40) == 250
        until(lambda: len(entries(place)) == 41, "the last entry")
        gateway.stop()
    assert {entry["fate"] for entry in entries(place)} == {"delivered"}
    assert left(place) == []


def test_what_was_answered_is_no_doubt_though_the_journal_had_to_wait(place: Site, backend: Recorder) -> None:
    with serving(place) as gateway:
        assert send(gateway, 0) == 250
        until(lambda: len(entries(place)) == 1, "the first entry")
        with contextlib.closing(sqlite3.connect(place.journal, isolation_level=None)) as held:
            held.execute("BEGIN IMMEDIATE")
            assert send(gateway, 1) == 250
            os.kill(gateway.worker_pids()[0], signal.SIGKILL)
            held.execute("ROLLBACK")
        until(lambda: len(entries(place)) == 2, f"the second entry; {gateway.words()}")
        assert [(entry["fate"], entry["reply"][:4]) for entry in entries(place)] == [("delivered", "250 ")] * 2
        assert gateway.events("a fate stays unknown") == []
        gateway.stop()


def test_a_full_disk_stops_no_mail_and_is_told(place: Site, backend: Recorder) -> None:
    place.configuration["admin"] = {"bind": f"127.0.0.1:{free_port()}"}
    with serving(place) as gateway:
        worker = gateway.worker_pids()[0]
        _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        with contextlib.closing(sqlite3.connect(place.directory / "state.db")) as state:
            # The state was there before the disk was full; only the journal and what stands beside it is new.
            assert state.execute("PRAGMA user_version").fetchone()[0] > 0
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (0, hard))
        assert {send(gateway, number) for number in range(3)} == {250}
        assert len(gateway.events("open fates cannot be noted, mail goes on")) == 1
        with urllib.request.urlopen(f"http://{place.configuration['admin']['bind']}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        assert "gatepost_intents_dropped_total 3.0" in lines
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
        until(lambda: send(gateway, 4) == 250 and entries(place), "the journal's return")
        assert gateway.stop() == 0
    assert left(place) == []
