"""The log: one JSON object a line on standard error, whatever the words inside.

structlog binds and renders. A line is printable ASCII: what a stranger said can never make a second line (CWE-117), and
no escape sequence, C1 control or letter that turns the writing direction reaches a terminal (CWE-150). Levels: `info`
one line a transaction and life-cycle events, `warning` what an operator should mend, `error` our bugs with their
traceback.

A line that cannot be written (a full disk, a reader that has gone) is lost and counted, and raises nothing: between a
backend's 250 and ours an exception would be a duplicate, in the supervisor the end of the gateway.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Protocol, cast

import orjson
import structlog


class File(Protocol):
    """Where lines go, unbuffered: how many octets were taken, `None` for none; raises `OSError`."""

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
        self._lock = threading.Lock()
        self._lost = 0
        self._torn = False

    def __call__(self, *_: object) -> "_Lines":
        return self

    def msg(self, text: bytes) -> None:
        with self._lock:
            octets = b"\n" * self._torn + text + b"\n"  # the piece of a line stands alone
            try:
                taken = self._file.write(octets) or 0
            except OSError:
                taken = 0
            if taken:
                self._torn = taken < len(octets)
            if taken < len(octets):
                self._lost += 1
                return
            lost, self._lost = self._lost, 0
        if lost:
            log.warning("log works again", lost=lost)

    debug = info = warning = error = critical = msg


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
