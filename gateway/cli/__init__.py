"""One file a command. Ctrl-C ends each without a traceback, also while `main` is still importing."""

import sys
from types import TracebackType

_told = sys.excepthook


def _quietly(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        _told(kind, error, where)


sys.excepthook = _quietly
