"""After an error a store fails at once for a moment, so that one that is stuck costs nobody his patience twice.

A call that was answered, and refused (no memory left, a read-only replica, a key of another kind), costs nobody time
and stops no other call. The log hears once that it began and once that it ended; `gatepost_state_errors_total` counts
every call that failed. Used by `sqlite_file` and `redis`; safe with threads.
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
        self._refused = set[str]()

    def enter(self, call: str) -> None:
        """Before a call. Raises `Unavailable` when one failed a moment ago."""
        if self._clock.monotonic() < self._shut_until:
            metrics.state_error(call)
            raise Unavailable(f"{self._place}: failed a moment ago")

    def worked(self, call: str) -> None:
        """After a call that was done."""
        if self._failing or call in self._refused:
            with self._lock:
                told, self._failing = self._failing or call in self._refused, False
                self._refused.discard(call)
            if told:
                log.warning("state works again", place=self._place, call=call)

    def refused(self, call: str, error: BaseException) -> Unavailable:
        """After one that was answered, and not done; the error to raise."""
        metrics.state_error(call)
        with self._lock:
            told = call in self._refused
            self._refused.add(call)
        if not told:
            self._tell(call, error)
        return Unavailable(f"{self._place}: {error}")

    def failed(self, call: str, error: BaseException) -> Unavailable:
        """After one that was not answered; the error to raise."""
        metrics.state_error(call)
        with self._lock:
            self._shut_until = self._clock.monotonic() + _PAUSE_SECONDS
            told, self._failing = self._failing, True
        if not told:
            self._tell(call, error)
        return Unavailable(f"{self._place}: {error}")

    def _tell(self, call: str, error: BaseException) -> None:
        what = "state unavailable, rules that need it say what happens (on_error)"
        log.warning(what, place=self._place, call=call, why=str(error))
