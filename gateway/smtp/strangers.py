"""What a worker knows of strangers, at all its listeners: whom it waits for, who guesses recipients,
what was logged of them.

One for all of them, because `limits.connections` is: who fills the house at the IPv6 listener, or at port 465, must
not shut the others. Used by `server`; made by `worker`.
"""

from typing import Protocol

from gateway import metrics
from gateway.smtp.harvest import Harvest
from gateway.smtp.troubles import Troubles

SILENCE_SECONDS = 1.0  # after which a stranger gives way to a newcomer when the house is full
#: The same for one in a TLS handshake: there we may be the slow ones.
HANDSHAKE_SILENCE_SECONDS = 5.0


class Guest(Protocol):
    """Who may be sent away."""

    def give_way(self) -> bool:
        """Ends the session for a newcomer's sake. False where it stays."""


class Strangers:
    """Times are seconds of the monotonic clock, handed in."""

    def __init__(self) -> None:
        self.harvest = Harvest()
        self.troubles = Troubles()
        self._silent: dict[Guest, float] = {}  # the longest silent first; since when
        self._shaking: dict[Guest, float] = {}  # likewise those whose TLS handshake is under way

    def fell_silent(self, guest: Guest, now: float) -> None:
        """It is this one's turn to speak."""
        self.left(guest)
        self._silent[guest] = now

    def shakes(self, guest: Guest, now: float) -> None:
        """Its handshake has begun."""
        self.left(guest)
        self._shaking[guest] = now

    def left(self, guest: Guest) -> None:
        """The connection has ended, or the handshake."""
        self._silent.pop(guest, None)
        self._shaking.pop(guest, None)

    def displaced(self, now: float) -> bool:
        """The house is full: the one who is silent longest gives way, for a mail client speaks when it is asked.

        Who only holds connections, from however many networks, then keeps nobody out. False where nobody is silent.
        """
        for waiting, seconds in ((self._silent, SILENCE_SECONDS), (self._shaking, HANDSHAKE_SILENCE_SECONDS)):
            while waiting:
                guest, since = next(iter(waiting.items()))
                if now - since < seconds:
                    break
                del waiting[guest]
                if guest.give_way():
                    metrics.connection_displaced()
                    return True
        return False
