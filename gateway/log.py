"""The log: one JSON object a line on standard error, whatever the words inside.

structlog binds and renders through orjson, which escapes every control octet: a stranger's text can never make a
second line (CWE-117). Levels: `info` one line a transaction and life-cycle events, `warning` what an operator should
mend, `error` our bugs with their traceback.
"""

import sys
from typing import cast

import orjson
import structlog


def configure(level: str = "info") -> None:
    """Sets the process up to write log lines of at least `level` to standard error. Call once, at start."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=orjson.dumps, default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )


log = cast(structlog.typing.FilteringBoundLogger, structlog.get_logger())
