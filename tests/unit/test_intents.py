"""Open fates: noted before the dot, found again whatever kills the process, and never of a mail that is settled."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import metrics
from gateway.clock import ManualClock
from gateway.journal import Asked, Entry, Journal, Judged, Reader, Spoken, intents, writer
from gateway.journal.intents import Intents, collect
from tests.support.wait import until

OPEN = Entry(
    id="T00000000001",
    time=1_700_000_000.0,
    client="192.0.2.1",
    sender="a@x.example",
    recipients=("b@y.example",),
    session="S00000000001",
    size=4000,
    facts={"spf.result": "pass", "dkim.domains": ["x.example"]},
    verdicts=(Spoken("rcpt", "reject", "", "550 5.1.1 no", "", "c@y.example"),),
    asked=(Asked("b@y.example", "rcpt", {"rcpt.count": 1}, {}, "", "", taken=True),),
    judged=Judged("accept", "fine", {}, (("X-Seen", "yes"),)),
    fate="unknown",
    fate_detail="192.0.2.25:25 was sent the final dot",
    revision="r1",
    timings={"spf": 0.5},
)
DONE = replace(OPEN, fate="delivered", action="accept", reply="250 2.0.0 OK")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted: list[int] = []
    monkeypatch.setattr(metrics, "intent_dropped", lambda: counted.append(1))
    return counted


def files(path: Path) -> list[Path]:
    return sorted(path.parent.glob("journal.db.open-*"))


def found(path: Path) -> list[Entry]:
    """What `collect` hands over."""
    entries: list[Entry] = []
    collect(path, entries.extend)
    return entries


def die(noted: Intents) -> None:
    """What the end of a process does: its descriptors close, and nothing else happens."""
    os.close(noted._descriptor)


@contextlib.contextmanager
def journal(path: Path) -> Iterator[Journal]:
    """A journal that has looked for what others left."""
    opened = Journal(path, 1e12, ManualClock(OPEN.time))
    try:
        assert opened.flush()
        yield opened
    finally:
        opened.close()


def entry(path: Path, transaction_id: str = OPEN.id) -> Entry | None:
    with contextlib.closing(Reader(path)) as reader:
        return reader.get(transaction_id)


def test_what_a_dead_process_left_open_is_in_the_journal_once(path: Path) -> None:
    left = Intents(path)
    left.note(OPEN)
    die(left)
    with journal(path):
        assert entry(path) == OPEN
        assert files(path) == []
    with journal(path), contextlib.closing(Reader(path)) as reader:
        assert reader.tail(10) == [OPEN]


def test_a_settled_mail_leaves_nothing(path: Path) -> None:
    with journal(path) as opened:
        opened.note(OPEN)
        assert len(files(path)) == 1
        opened.record(replace(OPEN, fate="none"))  # an early word on a refused recipient: the mail goes on
        assert opened.flush()
        assert opened._intents._slots
        opened.record(DONE)
        assert opened.flush()
        assert not opened._intents._slots
    assert files(path) == []
    assert entry(path) == DONE


def test_an_answer_that_waits_for_the_journal_is_no_doubt(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with journal(path) as opened:
        monkeypatch.setattr(opened, "_write", lambda _: stuck.wait(10))
        stuck = threading.Event()
        opened.note(OPEN)
        opened.record(replace(OPEN, fate="none"))  # no answer
        assert [*intents._entries(opened._intents._descriptor)] == [OPEN]
        opened.record(DONE)
        assert [*intents._entries(opened._intents._descriptor)] == [DONE]
        opened.record(replace(DONE, id="T00000000002"))  # never handed over: it needs no place
        assert len(opened._intents._slots) == 1
        stuck.set()


def test_what_was_settled_and_not_yet_struck_out_stays_settled(path: Path) -> None:
    with journal(path) as opened:
        opened.record(DONE)
    left = Intents(path)
    left.note(OPEN)
    die(left)
    with journal(path):
        pass
    assert entry(path) == DONE


def test_an_early_word_gives_way(path: Path) -> None:
    with journal(path) as opened:
        opened.record(replace(OPEN, fate="none", recipients=("c@y.example",)))
    left = Intents(path)
    left.note(OPEN)
    die(left)
    with journal(path):
        pass
    assert entry(path) == OPEN


def test_a_living_process_is_left_alone(path: Path) -> None:
    alive = Intents(path)
    alive.note(OPEN)
    assert found(path) == []
    with journal(path) as second:  # as after a reload: another journal of the same process
        second.note(replace(OPEN, id="T00000000002"))
        assert found(path) == []
        second.record(replace(DONE, id="T00000000002"))
    assert len(files(path)) == 1
    alive.done(OPEN.id)
    alive.close()
    assert files(path) == []


def test_two_that_look_at_once_get_it_once(path: Path) -> None:
    left = Intents(path)
    for number in range(20):
        left.note(replace(OPEN, id=f"T{number:011d}"))
    die(left)
    got: list[Entry] = []
    threads = [threading.Thread(target=collect, args=(path, got.extend)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.id for each in got) == [f"T{number:011d}" for number in range(20)]


def test_what_cannot_be_kept_stays(path: Path) -> None:
    left = Intents(path)
    left.note(OPEN)
    die(left)

    def broken(_: list[Entry]) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        collect(path, broken)
    assert found(path) == [OPEN]
    assert files(path) == []


def test_the_journal_that_cannot_be_written_gets_it_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(writer, "_RETRY_SECONDS", 0.0)
    left = Intents(path)
    left.note(OPEN)
    die(left)
    path.mkdir()  # in its way
    with journal(path) as opened:
        assert len(files(path)) == 1
        path.rmdir()
        until(lambda: opened.flush() and not files(path), "what was left to be taken up")
    assert entry(path) == OPEN


@pytest.mark.parametrize("cut", [1, 7, 8, 100])
def test_half_a_note_is_none(path: Path, cut: int) -> None:
    """The process was killed while it noted: the dot was not sent."""
    left = Intents(path)
    left.note(OPEN)
    left.note(replace(OPEN, id="T00000000002"))
    octets = os.pread(left._descriptor, 8192, 0).rstrip(b"\0")
    os.pwrite(left._descriptor, bytes(8192), 0)
    os.pwrite(left._descriptor, octets[:cut], 0)
    die(left)
    assert [each.id for each in found(path)] == ["T00000000002"]


@pytest.mark.parametrize("octets", [b"", b"\xff" * 9000, b"garbage", b"\0" * 9000, b"\x05\0\0\0" + b"\0" * 20])
def test_a_strange_file_is_no_trouble(path: Path, octets: bytes) -> None:
    path.with_name("journal.db.open-1-abc").write_bytes(octets)
    assert found(path) == []
    assert files(path) == []


def test_what_is_no_file_is_left(path: Path) -> None:
    path.with_name("journal.db.open-folder").mkdir()
    os.mkfifo(path.with_name("journal.db.open-fifo"))
    path.with_name("journal.db.open-link").symlink_to("/dev/zero")
    assert found(path) == []


def test_a_long_entry_is_cut_to_what_names_the_mail(path: Path) -> None:
    left = Intents(path)
    left.note(replace(OPEN, id="A", facts={"message.subject": "x" * 9000}))
    left.note(replace(OPEN, id="B", facts={"n": 2**70, "s": "\udc80"}))
    left.note(replace(OPEN, id="C", helo="\0" * 9000, recipients=("r" * 9000 + "@y.example",) * 100))
    left.note(replace(OPEN, id="D", sender="\udc80" * 9000))
    left.note(replace(DONE, id="E", helo="\0" * 9000))
    die(left)
    a, b, c, d, e = found(path)
    assert (a.facts, a.sender, a.judged.rule, a.fate, a.revision) == ({}, OPEN.sender, "fine", "unknown", "r1")
    assert (b.facts, b.recipients) == ({}, OPEN.recipients)
    assert (c.helo, len(c.recipients), c.sender, c.size) == ("", 3, OPEN.sender, 4000)
    assert d.sender == "?" * 400
    assert (e.fate, e.outcome, e.reply) == ("delivered", "accepted", DONE.reply)


def test_no_room_is_counted_once_a_mail_and_told_once(
    path: Path, dropped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(intents.log, "warning", lambda event, **_: told.append(event))
    full = Intents(path)
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: None)
    full.note(OPEN)
    monkeypatch.setattr(os, "pwrite", lambda *_: 3)  # a short write is how a full disk begins
    for number in range(3):
        full.note(replace(OPEN, id=f"F{number}"))
    assert (len(dropped), told) == (3, ["open fates cannot be noted, mail goes on"])
    monkeypatch.undo()
    for number in range(3):
        full.done(f"F{number}")
    full.done(OPEN.id)
    full.close()
    assert files(path) == []


def test_where_no_file_can_be_made_mail_goes_on(tmp_path: Path, dropped: list[int]) -> None:
    nowhere = Intents(tmp_path / "gone" / "journal.db")
    nowhere.note(OPEN)
    nowhere.note(OPEN)
    nowhere.done(OPEN.id)
    nowhere.close()
    assert len(dropped) == 2


def test_their_number_is_bounded(path: Path, dropped: list[int]) -> None:
    many = Intents(path)
    for number in range(intents._SLOTS + 5):
        many.note(replace(OPEN, id=f"T{number}"))
    assert len(dropped) == 5
    assert files(path)[0].stat().st_size <= intents._SLOTS * intents._SLOT
    many.done("T0")
    many.note(replace(OPEN, id="again"))
    assert len(dropped) == 5
    die(many)
    assert len(found(path)) == intents._SLOTS
    for number in range(intents._FILES):
        path.with_name(f"journal.db.open-{number}").touch()
    Intents(path).note(OPEN)
    assert len(dropped) == 6


def test_dropped_by_the_journal_is_settled_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted as dropped; that its fate was unknown would be untrue."""
    path.mkdir()
    monkeypatch.setattr(metrics, "journal_dropped", lambda _: None)
    with journal(path) as opened:
        opened.note(OPEN)
        opened.record(DONE)
        assert opened.flush()
        assert not opened._intents._slots
    assert files(path) == []


KILLED = """
import sys
from pathlib import Path
from gateway.clock import ManualClock
from gateway.journal import Journal
from gateway.journal.entry import decode
journal = Journal(Path(sys.argv[1]), 1e12, ManualClock())
journal.note(decode(sys.argv[2].encode()))
print("noted", flush=True)
sys.stdin.read()
"""


def test_sigkill_right_after_the_note(path: Path) -> None:
    octets = intents._encoded(OPEN).decode()
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), octets], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"noted\n"
        assert found(path) == []
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with journal(path):
        assert entry(path) == OPEN
