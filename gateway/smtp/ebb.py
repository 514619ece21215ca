"""Gives the memory of a crowd that has gone back to the machine.

glibc keeps what was freed for the next crowd: after a thousand connections inside TLS 12 MB of 17 a worker. Its
`malloc_trim` takes some milliseconds, so it is called when most of a crowd has left and not for each who leaves.
Where the C library has none, memory stays as it is. Used by `server`.
"""

import ctypes

CROWD = 200  # connections; fewer are not worth the time
PART = 4  # of the crowd are left: then most have gone


class Ebb:
    """Watches how many there are."""

    __slots__ = ("_most", "_trim")

    def __init__(self) -> None:
        self._most = 0  # since memory was given back
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def seen(self, connections: int) -> bool:
        """So many are there now. True when memory was given back."""
        self._most = max(self._most, connections)
        if self._most < CROWD or connections * PART > self._most:
            return False
        self._most = connections
        if self._trim is not None:
            self._trim(0)
        return True
