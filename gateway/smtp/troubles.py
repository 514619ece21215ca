"""What strangers can have us log without bringing a mail: in a bounded number of lines, counted in full by a metric.

A port scanner, or a storm of handshakes that are broken off, would write a line for each connection and fill a disk.
So the first of a kind from a network is written at once, with all that is known; those that follow within the minute
are counted, and the count is one line when the minute is over. `KINDS` of them have lines of their own in a minute, and
the first of each event always, so that a flood of one hides no other; what more there is shares a line for each event.
At most `2 * KINDS` lines a minute and worker, and three for each event, whoever comes.

One for all listeners of a worker: kept by `strangers`. Told by `door`, `handshake` and `visit`.
"""

import time
from collections import Counter
from collections.abc import Callable

from gateway import metrics
from gateway.log import log
from gateway.smtp.census import network

MINUTE = 60.0
KINDS = 50


class Troubles:
    """`now` is the monotonic clock."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._counts: Counter[tuple[str, str, str]] = Counter()  # event, network, about what: how many beyond the first
        self._others: Counter[str] = Counter()  # by event
        self._events = set[str]()  # that have a line in this minute

    def tell(self, event: str, ip: str, *, about: str = "", warn: bool = False, **details: object) -> None:
        """Something that a client there did; `about` parts what is worth a line of its own (a fingerprint)."""
        metrics.trouble(event)
        self.look()
        kind = (event, network(ip), about)
        if kind in self._counts:
            self._counts[kind] += 1
        elif len(self._counts) >= KINDS and event in self._events:
            self._others[event] += 1
        else:
            self._counts[kind] = 0
            self._events.add(event)
            (log.warning if warn else log.info)(event, client=ip, **details)

    def look(self, *, ends: bool = False) -> None:
        """To be asked now and then: writes the counts when the minute is over, or `ends`."""
        seconds = self._now() - self._since
        if not self._counts:
            self._since += seconds  # a minute begins with its first line
        elif seconds >= MINUTE or ends:
            counts, others = self._counts, self._others
            self._counts, self._others, self._events, self._since = Counter(), Counter(), set(), self._now()
            for (event, place, about), more in counts.items():
                if more:
                    log.info(
                        event, network=place, more=more, seconds=round(seconds), **({"about": about} if about else {})
                    )
            for event, more in others.items():
                log.info(event, network="others", more=more, seconds=round(seconds))
