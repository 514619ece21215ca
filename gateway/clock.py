"""Time and names of transactions, injected everywhere so that tests own both."""

import secrets
import time
from typing import Protocol

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no letter to mistake on the telephone


class Clock(Protocol):
    """Where the time comes from, and the ids."""

    def now(self) -> float:
        """Epoch seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""

    def new_id(self) -> str:
        """A fresh id of a session or transaction: 12 characters, letters and digits."""


class SystemClock:
    """The machine's clock; ids sort by time (7 characters) and end in chance (5)."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def new_id(self) -> str:
        value = (int(time.time()) & 0x7FFFFFFFF) << 25 | secrets.randbits(25)
        return "".join(_ALPHABET[value >> shift & 31] for shift in range(55, -1, -5))


class ManualClock:
    """A clock that only moves when told, with counted ids: for tests, `check` and golden transcripts."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._ids = 0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Moves both clocks on."""
        self._now += seconds

    def new_id(self) -> str:
        self._ids += 1
        return f"T{self._ids:011d}"
