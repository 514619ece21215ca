"""How often a client may err, idle and try again: counted for one session, bounded each. Used by `protocol`."""

from gateway.mail.reply import Reply

ERRORS_LIMIT = 20  # faults of syntax and sequence in one session; a size that is too large is no such fault
IDLE_COMMANDS_LIMIT = 100  # commands other than those that bring a message, since the last one
RCPT_COMMANDS_FACTOR = 10  # RCPT commands in a transaction, times the recipients allowed

_MAIL_COMMANDS = frozenset({b"MAIL", b"RCPT", b"DATA", b"BDAT"})


class Tally:
    """Each method counts, and gives the 421 that is due or `None`."""

    __slots__ = ("_errors", "_idle", "_messages", "_rcpt")

    def __init__(self) -> None:
        self._errors = self._idle = self._messages = self._rcpt = 0

    def error(self, reply: Reply) -> Reply | None:
        """A command was refused with this reply."""
        self._errors += reply.code != 552
        return Reply(421, "4.7.0", ("Too many errors",)) if self._errors > ERRORS_LIMIT else None

    def command(self, word: bytes) -> Reply | None:
        """A command came."""
        self._idle += word not in _MAIL_COMMANDS
        idle = self._idle > IDLE_COMMANDS_LIMIT
        return Reply(421, "4.7.0", ("Too many commands without a message",)) if idle else None

    def recipient(self, allowed: int) -> Reply | None:
        """A RCPT came in a transaction that may have so many recipients."""
        self._rcpt += 1
        return Reply(421, "4.7.0", ("Too many recipients",)) if self._rcpt > RCPT_COMMANDS_FACTOR * allowed else None

    def mail(self, allowed: int) -> Reply | None:
        """A MAIL came in a session that may bring so many messages; those that were begun count."""
        return (
            Reply(421, "4.7.0", ("Too many messages, come back with the others",))
            if self._messages >= allowed
            else None
        )

    def opened(self) -> None:
        """A transaction began."""
        self._messages += 1
        self._rcpt = 0

    def message(self) -> None:
        """A message came to its end."""
        self._idle = 0

    def begun_anew(self) -> None:
        """TLS: all that was said is forgotten; errors and messages are not."""
        self._idle = self._rcpt = 0
