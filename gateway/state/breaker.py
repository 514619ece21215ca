"""After an error a store fails at once for a moment, so that one that is stuck costs nobody his patience twice.

The log hears once that it began and once that it ended; `gatepost_state_errors_total` counts every call that failed.
Used by `sqlite` and `redis`; safe with threads.
"""

import threading

from gateway import metrics
from gateway.clock import Clock
from gateway.log import log
from gateway.mail.terms import Unavailable

_PAUSE_SECONDS = 0.5


class Breaker:
    """One a store. `place` names it in messages: no secrets in it."""

    def __init__(self, place: str, clock: Clock) -> None:
        self._place = place
        self._clock = clock
        self._lock = threading.Lock()
        self._shut_until = 0.0
        self._failing = False

    def enter(self, call: str) -> None:
        """Before a call. Raises `Unavailable` when one failed a moment ago."""
        if self._clock.monotonic() < self._shut_until:
            metrics.state_error(call)
            raise Unavailable(f"{self._place}: failed a moment ago")

    def worked(self) -> None:
        """After a call that was answered."""
        if self._failing:
            with self._lock:
                told, self._failing = self._failing, False
            if told:
                log.warning("state works again", place=self._place)

    def failed(self, call: str, error: BaseException) -> Unavailable:
        """After one that was not; the error to raise."""
        metrics.state_error(call)
        with self._lock:
            self._shut_until = self._clock.monotonic() + _PAUSE_SECONDS
            told, self._failing = self._failing, True
        if not told:
            log.warning("state unavailable, rules that need it say what happens (on_error)", place=self._place,
                        why=str(error))  # fmt: skip
        return Unavailable(f"{self._place}: {error}")
