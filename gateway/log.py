"""The log: one JSON object a line on standard error, whatever the words inside.

structlog binds and renders. A line is printable ASCII: what a stranger said can never make a second line (CWE-117), and
no escape sequence, C1 control or letter that turns the writing direction reaches a terminal (CWE-150). Levels: `info`
one line a transaction and life-cycle events, `warning` what an operator should mend, `error` our bugs with their
traceback.
"""

import json
import sys
from collections.abc import Callable
from typing import BinaryIO, cast

import orjson
import structlog


def configure(level: str = "info", file: BinaryIO | None = None) -> None:
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
        logger_factory=structlog.BytesLoggerFactory(file=file or sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )


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
