"""Mails whose fate is open, noted where the death of this process does not hide them.

Before the dot goes to a backend its entry, fate `unknown`, goes into a slot of a file of this process beside the
journal: one `pwrite`, in the kernel's hands when it returns, so that SIGKILL cannot lose it (a power cut may). The true
fate takes its place there while it waits for the journal, or the mails of the last moment, answered long since, would
all be in doubt. Once the journal has it the slot is free again. Of a process that ended in between the file remains and
its lock is gone: the next journal that looks writes down what is in it (`collect`) and removes it.

Bounded: `_SLOTS` mails, `_SLOT` octets each, `_FILES` files. Where nothing can be noted (a full disk) mail goes on, and
log and `gatepost_intents_dropped_total` say so. RFC 1047 (why a fate can be open). Used by `writer`.
"""

import contextlib
import fcntl
import glob
import os
import secrets
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson

from gateway import metrics
from gateway.journal.entry import UNREADABLE, Entry, Judged, decode
from gateway.log import log

_SLOT = 8192
_SLOTS = 1024
_HEAD = 8  # octets of a slot before its entry: length and CRC-32. Length 0: free
_FREE = bytes(4)
#: Slots whose place on the disk is had at once: a disk that fills up later does not take them away.
_RESERVED = 64
#: Files of ended processes that may wait for a journal that cannot be written; beyond it no more are begun.
_FILES = 64
_RETRY_SECONDS = 1.0


class Intents:
    """Those of one process. `done` may come from any thread, the rest from the event loop; none raises or waits."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._file: Path | None = None
        self._descriptor = -1
        # One slot is touched by one thread at a time; list and dictionary are atomic in what is asked of them here.
        self._slots: dict[str, int] = {}
        self._free = list(range(_SLOTS - 1, -1, -1))
        self._retry_at = 0.0
        self._failing = False

    def note(self, entry: Entry) -> None:
        """The fate of that mail is open from now on."""
        slot = self._slots.get(entry.id, -1)
        try:
            if self._descriptor < 0:
                self._open()
            if slot < 0:
                if not self._free:
                    raise OSError(f"more than {_SLOTS} fates are open")
                slot = self._slots[entry.id] = self._free.pop()
            self._put(slot, entry)
            self._failing = False
        except OSError as error:
            metrics.intent_dropped()
            if not self._failing:
                self._failing = True
                why = error.strerror or str(error)
                log.warning("open fates cannot be noted, mail goes on", beside=str(self._journal), why=why)

    def answered(self, entry: Entry) -> None:
        """The fate of that mail is known, and this is its entry, though not in the journal yet."""
        slot = self._slots.get(entry.id, -1)
        if slot >= 0:
            with contextlib.suppress(OSError):  # it stays in doubt, and log and metrics know why
                self._put(slot, entry)

    def done(self, transaction_id: str) -> None:
        """Its fate is in the journal, or the journal cannot have it."""
        slot = self._slots.pop(transaction_id, -1)
        if slot >= 0:
            with contextlib.suppress(OSError):  # then it is read again, and the journal's entry stands
                os.pwrite(self._descriptor, _FREE, slot * _SLOT)
            self._free.append(slot)

    def close(self) -> None:
        """Removes the file; one with open fates stays for the next journal."""
        if self._file is not None:
            if not self._slots:
                self._file.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._file, self._descriptor = None, -1

    def _put(self, slot: int, entry: Entry) -> None:
        octets = _encoded(entry)
        head = len(octets).to_bytes(4, "little") + zlib.crc32(octets).to_bytes(4, "little")
        if os.pwrite(self._descriptor, head + octets, slot * _SLOT) != _HEAD + len(octets):
            raise OSError("no room on the disk")

    def _open(self) -> None:
        if time.monotonic() < self._retry_at:
            raise OSError("no file for them")
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        if sum(1 for _ in _files(self._journal)) >= _FILES:
            raise OSError(f"{_FILES} files of ended processes wait beside the journal")
        file = self._journal.with_name(f"{self._journal.name}.open-{os.getpid()}-{secrets.token_hex(4)}")
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(descriptor).st_nlink:  # another process found it without a lock, and empty
                raise FileNotFoundError("another process removed it")
        except OSError:
            os.close(descriptor)
            file.unlink(missing_ok=True)
            raise
        with contextlib.suppress(OSError):
            os.posix_fallocate(descriptor, 0, _RESERVED * _SLOT)
        self._file, self._descriptor = file, descriptor


def collect(journal: Path, keep: Callable[[list[Entry]], None]) -> None:
    """Gives `keep` what ended processes left beside that journal, and removes it. Files stay where `keep` raises."""
    for file in _files(journal):
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # gone, or root's
            continue
        try:
            if _abandoned(descriptor):
                keep(list(_entries(descriptor)))
                file.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _files(journal: Path) -> Iterator[Path]:
    return journal.parent.glob(f"{glob.escape(journal.name)}.open-*")


def _abandoned(descriptor: int) -> bool:
    """True when its process has ended, and nobody else looks after it; the lock is then ours."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_nlink > 0  # 0: done by another while we waited


def _entries(descriptor: int) -> Iterator[Entry]:
    for slot in range(_SLOTS):
        octets = os.pread(descriptor, _SLOT, slot * _SLOT)
        if not octets:
            return
        length, checksum = int.from_bytes(octets[:4], "little"), int.from_bytes(octets[4:_HEAD], "little")
        octets = octets[_HEAD : _HEAD + length]
        # One that does not agree was being written when the process ended: the dot was not sent yet.
        if length and len(octets) == length and zlib.crc32(octets) == checksum:
            with contextlib.suppress(*UNREADABLE):  # of a newer version
                yield decode(octets)


def _encoded(entry: Entry) -> bytes:
    """The entry as JSON that fits: whole, or without what was found out, or as little as names the mail."""
    for shorter in (_whole, _bare, _least):
        with contextlib.suppress(TypeError):  # lone surrogates and huge integers: not in what is left
            octets = orjson.dumps(shorter(entry), default=str)
            if len(octets) <= _SLOT - _HEAD:
                return octets
    raise OSError("the entry does not fit")


def _whole(entry: Entry) -> Entry:
    return entry


def _bare(entry: Entry) -> Entry:
    few = entry.recipients[:10]
    without = replace(entry, facts={}, failed={}, dns={}, asked=(), verdicts=(), observed=(), notes=(), recipients=few)
    return replace(without, judged=Judged(entry.judged.action, entry.judged.rule), fired=(), timings={})


def _least(entry: Entry) -> Entry:
    few = tuple(_plain(each) for each in entry.recipients[:3])
    return Entry(
        entry.id, entry.time, entry.client, _plain(entry.sender), few, session=entry.session, size=entry.size,
        stage=entry.stage, action=entry.action, rule=_plain(entry.rule), reply=_plain(entry.reply),
        backend=entry.backend, fate=entry.fate, fate_detail=_plain(entry.fate_detail), revision=entry.revision,
    )  # fmt: skip


def _plain(text: str) -> str:
    return text[:400].encode("ascii", "replace").decode()
