"""Which hosts are put aside, and for how long: growing pauses, pure (the time is given).

A host that fails is tried last for five seconds, then twice as long each time, at most five minutes. Only a dialogue
from beginning to end heals it: a host may take connections, shake hands, and then say nothing. When its pause is over
one dialogue tries it; the others go on to the next host meanwhile.

Called by `hosts`.
"""

from dataclasses import dataclass

from gateway.relay.targets import Endpoint

_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 300.0
_TRIAL_SECONDS = 30.0  # how long the others leave a host to the one that tries it


@dataclass(slots=True)
class _Illness:
    since: float  # when it failed last
    until: float
    pause: float


class Health:
    """The hosts of one backend, as this worker has met them. `now` is a monotonic clock's."""

    def __init__(self) -> None:
        self._ill: dict[Endpoint, _Illness] = {}

    def ill(self, endpoint: Endpoint, now: float) -> bool:
        """True while the host is put aside."""
        illness = self._ill.get(endpoint)
        return illness is not None and illness.until > now

    def failed(self, endpoint: Endpoint, began: float, now: float) -> bool:
        """The host failed in a dialogue that began then; true when that is news.

        Twenty mails that were under way when it died are one failure: only what was begun since counts again.
        """
        illness = self._ill.get(endpoint)
        if illness is None:
            self._ill[endpoint] = _Illness(now, now + _PAUSE_SECONDS, _PAUSE_SECONDS)
            return True
        if began >= illness.since:
            illness.since = now
            illness.pause = min(illness.pause * 2, _LONGEST_PAUSE_SECONDS)
            illness.until = now + illness.pause
        else:  # it is ill still, and no worse
            illness.until = max(illness.until, now + illness.pause)
        return False

    def tried(self, endpoint: Endpoint, now: float) -> None:
        """A connection to it is being opened: where it was ill, the others wait for what comes of that."""
        illness = self._ill.get(endpoint)
        if illness is not None:
            illness.until = max(illness.until, now + _TRIAL_SECONDS)

    def healed(self, endpoint: Endpoint) -> bool:
        """A whole dialogue was held; true when the host had been ill."""
        return self._ill.pop(endpoint, None) is not None

    def forget(self, endpoint: Endpoint) -> None:
        """It is none of the backend's hosts any more."""
        self._ill.pop(endpoint, None)
