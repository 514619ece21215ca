"""How long a client may take: until its greeting, for a command, for a message, for everything; and how slowly.

Only whole commands count: who drips octets of one gains no time. While we work, the time is ours and nobody's is up.
Times are seconds of the monotonic clock, handed in. Used by `connection`.

RFC 5321 section 4.5.3.2 (timeouts; ours may be shorter, for strangers are not waited for at any price).
"""

from dataclasses import dataclass
from math import inf

from gateway.smtp.chunks import ChunkReader
from gateway.smtp.reader import DataReader

LINGER_SECONDS = 3.0  # after our last word, for the client to read it: a reset would take it away
RATE_GRACE_SECONDS = 10.0  # before the least rate counts
STRETCH_SECONDS = 30.0  # the least rate holds for each: a fast beginning buys no long stall


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds a client may take: until its greeting, for each command, for a whole message, for everything.

    `rate` is the least octets a second of a message, after a grace of ten seconds.
    """

    greeting: float = 300.0
    command: float = 300.0
    data: float = 300.0
    session: float = 300.0
    rate: int = 1000


class Patience:
    """The deadline of one client."""

    __slots__ = ("_content_began", "_due", "_end", "_mark", "_message", "_times", "reader")

    def __init__(self, times: Deadlines, now: float) -> None:
        self._times = times
        self._end = now + times.session
        self._due = inf
        #: Who reads the content that is awaited; `None` while a command is.
        self.reader: DataReader | ChunkReader | None = None
        self._message: DataReader | ChunkReader | None = None
        self._content_began = now
        self._mark = (now, 0)  # when the present stretch began, and how much had come by then

    def working(self) -> None:
        """It is our turn."""
        self._due, self.reader = inf, None

    def command(self, now: float, *, greeted: bool) -> None:
        """A command is awaited."""
        self._due = min(now + (self._times.command if greeted else self._times.greeting), self._end)
        self.reader = self._message = None

    def content(self, now: float, reader: DataReader | ChunkReader) -> None:
        """A message is awaited; `reader` knows how much of it has come. All chunks of one have one deadline.

        The session's end does not cut it: that strikes at the command after it.
        """
        if reader is not self._message:
            self._message, self._content_began, self._mark = reader, now, (now, 0)
        self._due = self._content_began + self._times.data
        self.reader = reader

    def leaving(self, now: float) -> None:
        """Our last word is said."""
        self._due, self.reader = now + LINGER_SECONDS, None

    def session_over(self, now: float) -> bool:
        """True when everything from the banner on has taken too long, our own work included."""
        return now >= self._end

    def over(self, now: float) -> bool:
        """True when the time is up, or the message comes too slowly."""
        if self.reader is not None:
            elapsed = now - self._content_began
            if elapsed > RATE_GRACE_SECONDS and self.reader.size < self._times.rate * elapsed:
                return True
            began, size = self._mark
            if now - began >= STRETCH_SECONDS:
                if self.reader.size - size < self._times.rate * (now - began):
                    return True
                self._mark = (now, self.reader.size)
        return now >= self._due
