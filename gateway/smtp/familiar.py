"""Networks that are no strangers: mail from them was taken lately, so their banner need not wait.

A bounded memory of this worker alone; what it forgets costs somebody a tenth of a second. The unit is the network
(/24 or /64), because large senders come from many addresses. Asked by the edge through `pipeline`.
"""

from collections import OrderedDict

from gateway.smtp.census import network

KEEP_SECONDS = 24 * 3600.0
MOST = 10_000  # networks; the one that was met longest ago goes first


class Familiar:
    """Times are seconds of the monotonic clock, handed in."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def met(self, ip: str, now: float) -> None:
        """Mail from that address was taken."""
        name = network(ip)
        self._until[name] = now + KEEP_SECONDS
        self._until.move_to_end(name)
        if len(self._until) > MOST:
            self._until.popitem(last=False)

    def knows(self, ip: str, now: float) -> bool:
        """True when mail from its network was taken lately."""
        return self._until.get(network(ip), 0.0) > now
