"""Gives the memory of a crowd that has gone back to the machine.

What connections leave behind in circles waits for the collector, which comes seldom (`worker`), and glibc keeps what
was freed for the next crowd: after a thousand connections inside TLS 12 MB of 17 a worker. Collecting and `malloc_trim`
take some dozen milliseconds, so both happen when most of a crowd has left and not for each who leaves. Where the C
library has no `malloc_trim`, it keeps its part. Used by `server`.
"""

import ctypes
import gc

CROWD = 200  # connections; fewer are not worth the time
PART = 4  # of the crowd are left: then most have gone


class Ebb:
    """Counts who is inside, and who is shaking hands: most of a storm of aborted handshakes never gets further."""

    __slots__ = ("_inside", "_most", "_trim")

    def __init__(self) -> None:
        self._inside = 0
        self._most = 0  # since memory was given back
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def came(self) -> None:
        """A connection more."""
        self._inside += 1
        self._most = max(self._most, self._inside)

    def went(self) -> None:
        """A connection less."""
        self._inside -= 1

    def look(self) -> bool:
        """To be asked now and then. True when memory was given back."""
        if self._most < CROWD or self._inside * PART > self._most:
            return False
        self._most = self._inside
        gc.collect()
        if self._trim is not None:
            self._trim(0)
        return True
