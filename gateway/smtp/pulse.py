"""Is this worker too busy? Measured by how late its own timer comes.

A timer asks for a turn every `BEAT_SECONDS`; how much later it gets it is how long any client waits for a word. Busy
is who is late twice in a row, or once by a second; at ease again who is in time for half a second. A busy worker stops
accepting: its colleagues take the newcomers, or the kernel's queue holds them, and clients already inside are served.
Never for longer than `LONGEST_SECONDS` at a stretch: a machine that is slow for reasons of its own must not shut out
everybody. Driven by `server`.
"""

BEAT_SECONDS = 0.1
LATE_SECONDS = 0.25
VERY_LATE_SECONDS = 1.0
EASE_SECONDS = 0.05
EASE_BEATS = 5
LONGEST_SECONDS = 5.0


class Pulse:
    """The judgement alone; the timer is the caller's."""

    __slots__ = ("_late", "_since", "_well", "busy")

    def __init__(self) -> None:
        self.busy = False
        self._late = 0  # beats in a row
        self._well = 0
        self._since = 0.0

    def beat(self, late: float, now: float) -> bool:
        """The timer came `late` seconds after its time. True when `busy` has changed."""
        self._late = self._late + 1 if late > LATE_SECONDS else 0
        self._well = self._well + 1 if late < EASE_SECONDS else 0
        before = self.busy
        if not before:
            self.busy = self._late >= 2 or late > VERY_LATE_SECONDS
            self._since = now
        elif self._well >= EASE_BEATS or now - self._since > LONGEST_SECONDS:
            self.busy, self._late = False, 0
        return self.busy != before
