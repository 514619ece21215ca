"""Who guesses recipients: unknown ones counted by network, answered ever later, and at last with 421.

A directory is harvested by asking for thousands of names and noting which are taken. Each miss raises the level of the
network (/24 or /64), each hit and every half minute lowers it by one. A few misses cost nothing, as a list with old
addresses has them; then each reply waits twice as long as the one before, and beyond `MOST_MISSES` the connection
ends. A bounded memory of this worker; a harvester that fills it with other networks pays with those.

RFC 5321 section 7.3 (directory harvesting). Used by `visit`; kept by `strangers`.
"""

from collections import OrderedDict

from gateway.mail.reply import Reply
from gateway.smtp.census import network

FREE_MISSES = 5
MOST_MISSES = 20
DECAY_SECONDS = 30.0
LONGEST_SECONDS = 8.0  # far below the patience that RFC 5321 section 4.5.3.2.3 asks of clients
_FIRST_SECONDS = 0.25
_MOST_NETWORKS = 10_000

#: Enhanced statuses of "no such recipient": no or another mailbox; a policy's refusals harvest nothing.
_MISSES = ("5.0.", "5.1.", "5.2.1")


class Harvest:
    """Times are seconds of the monotonic clock, handed in."""

    def __init__(self) -> None:
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # network: level, when it was that

    def heard(self, ip: str, reply: Reply, now: float) -> float | None:
        """Counts the answer to a RCPT: seconds to hold it back, `None` when the connection has to end instead."""
        missed = reply.permanent and reply.status.startswith(_MISSES)
        if not missed and not (reply.accepted and self._levels):
            return 0.0
        name = network(ip)
        level, since = self._levels.get(name, (0.0, now))
        level = max(0.0, level - (now - since) / DECAY_SECONDS) + (1 if missed else -1)
        if level <= 0:
            self._levels.pop(name, None)
            return 0.0
        self._levels[name] = (level, now)
        self._levels.move_to_end(name)
        if len(self._levels) > _MOST_NETWORKS:
            self._levels.popitem(last=False)
        if not missed or level <= FREE_MISSES:
            return 0.0
        if level > MOST_MISSES:
            return None
        return min(LONGEST_SECONDS, _FIRST_SECONDS * 2 ** (level - FREE_MISSES - 1))
