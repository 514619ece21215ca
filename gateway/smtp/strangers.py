"""What a worker knows of strangers, at all its listeners: whom it waits for, and who guesses recipients.

One for all of them, because `limits.connections` is: who fills the house at the IPv6 listener, or at port 465, must
not shut the others. Used by `server`; made by `worker`.
"""

from typing import TYPE_CHECKING

from gateway import metrics
from gateway.smtp.harvest import Harvest
from gateway.smtp.patience import SILENCE_SECONDS

if TYPE_CHECKING:
    from gateway.smtp.connection import Connection


class Strangers:
    """Times are seconds of the monotonic clock, handed in."""

    def __init__(self) -> None:
        self.harvest = Harvest()
        self._silent: dict[Connection, float] = {}  # the longest silent first; since when

    def fell_silent(self, connection: "Connection", now: float) -> None:
        """It is this one's turn to speak."""
        self._silent.pop(connection, None)
        self._silent[connection] = now

    def left(self, connection: "Connection") -> None:
        """The connection has ended."""
        self._silent.pop(connection, None)

    def displaced(self, now: float) -> bool:
        """The house is full: the one who is silent longest gives way, for a mail client speaks when it is asked.

        Who only holds connections, from however many networks, then keeps nobody out. False where nobody is silent.
        """
        while self._silent:
            connection, since = next(iter(self._silent.items()))
            if now - since < SILENCE_SECONDS:
                return False
            del self._silent[connection]
            if connection.give_way():
                metrics.connection_displaced()
                return True
        return False
