"""The log: one JSON object a line on standard error, whatever the words inside.

structlog binds and renders. A line is printable ASCII: what a stranger said can never make a second line (CWE-117), and
no escape sequence, C1 control or letter that turns the writing direction reaches a terminal (CWE-150). Levels: `info`
one line a transaction and life-cycle events, `warning` what an operator should mend, `error` our bugs with their
traceback.

A line that cannot be written (a full disk, a reader that has gone) is lost and counted, and raises nothing: between a
backend's 250 and ours an exception would be a duplicate, in the supervisor the end of the gateway. Nor does it hold
anybody up: a thread writes, so a reader that reads no more stops that thread and no mail. Not O_NONBLOCK, which whoever
shares the pipe would have as well; not a look whether there is room, for another worker may take it first.
"""

import atexit
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol, cast

import orjson
import structlog

#: Octets of lines that may wait to be written: what the heaviest traffic says in some seconds. More are lost.
_ROOM = 1_000_000
#: How long the end of a process waits for its last lines, well within the patience of who waits for that end.
_FLUSH_SECONDS = 1.0


class File(Protocol):
    """Where lines go, unbuffered: how many octets were taken, `None` for none; may block, raises `OSError`."""

    def write(self, octets: bytes, /) -> int | None: ...


def configure(level: str = "info", file: File | None = None) -> None:
    """Sets the process up to write log lines of at least `level` to `file`, standard error. Call once, at start."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=line, default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Lines(file or _Descriptor()),
        cache_logger_on_first_use=False,
    )
    logging.lastResort = _Library(logging.WARNING)


class _Descriptor:
    """Standard error as the system knows it: Python's own keeps what it could not write, and fails again at exit."""

    def __init__(self) -> None:
        # Where it was closed at the start the number will be a client's, or a database's.
        self._number = 2 if sys.stderr is not None else os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def write(self, octets: bytes, /) -> int:
        return os.write(self._number, octets)


class _Lines:
    """structlog's logger, and the factory of itself: one for all threads."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._waiting: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._lock = threading.RLock()  # what the collector ends in the middle of a line may log, too
        self._room = _ROOM
        self._lost = 0
        self._torn = False
        threading.Thread(target=self._run, name="log", daemon=True).start()
        atexit.register(self.flush)

    def __call__(self, *_: object) -> "_Lines":
        return self

    def msg(self, text: bytes) -> None:
        with self._lock:
            if len(text) > self._room:
                self._lost += 1
                return
            self._room -= len(text)
            self._waiting.put(text)

    debug = info = warning = error = critical = msg

    def flush(self) -> None:
        """Waits for what was said up to now to be written, a second at most."""
        written = threading.Event()
        self._waiting.put(written)
        written.wait(_FLUSH_SECONDS)

    def _run(self) -> None:
        while True:
            text = self._waiting.get()
            if isinstance(text, threading.Event):
                text.set()
                continue
            whole, lost = self._written(text), 0
            with self._lock:
                self._room += len(text)
                if not whole:
                    self._lost += 1
                elif self._room == _ROOM:  # nothing waits any more
                    lost, self._lost = self._lost, 0
            if lost:
                log.warning("log works again", lost=lost)

    def _written(self, text: bytes) -> bool:
        octets = b"\n" * self._torn + text + b"\n"  # the piece of a line stands alone
        try:
            taken = self._file.write(octets) or 0
        except OSError:
            taken = 0
        if taken:
            self._torn = taken < len(octets)
        return taken == len(octets)


def flush() -> None:
    """Waits for the lines said up to now to be written, a second at most. An end of the process does so by itself."""
    lines = structlog.get_config()["logger_factory"]
    if isinstance(lines, _Lines):
        lines.flush()


class _Library(logging.Handler):
    """What libraries say by themselves, as asyncio of an exception that nobody awaits: a line like ours, not a raw
    traceback with a stranger's words in it, and written by the thread."""

    def emit(self, record: logging.LogRecord) -> None:
        tell = log.error if record.levelno >= logging.ERROR else log.warning
        tell("library", name=record.name, said=record.getMessage(), exc_info=record.exc_info)


def line(event: object, default: Callable[[object], object]) -> bytes:
    """`event` as one line of JSON in printable ASCII."""
    try:
        octets = orjson.dumps(event, default=default)
    except TypeError:  # a lone surrogate, or a key that is no text
        octets = b"\xff"
    if not octets.isascii():
        octets = json.dumps(event, default=default, ensure_ascii=True, skipkeys=True).encode("ascii")
    return octets.replace(b"\x7f", b"\\u007f")


log = cast(structlog.typing.FilteringBoundLogger, structlog.get_logger())
