"""The SMTP session as a machine without sockets: octets in, events out, decisions back in.

`receive` takes octets of any size; `next_event` gives the next thing to do, or `None` until more octets come or the
event before is decided. What grammar, sequence or limits decide comes as `Say`, ready to be written; what the house
must decide (`Mail`, `Rcpt`, `Content`) waits for `decide(reply)`. Within one turn of the client the events are the
same whether its octets come whole or one by one.

States: not greeted -> greeted -> in a transaction (MAIL) -> content (DATA) -> greeted. A new transaction is a new
envelope; STARTTLS forgets everything that was said (RFC 3207 section 4.2).

Refused with the connection closed, because each lets two parsers disagree: bare octets in a command; octets glued
behind EHLO, DATA or STARTTLS before our reply (RFC 2920 section 3.1, CVE-2011-0411); another protocol's words; BDAT,
whose octets we did not offer to read; content that smuggles (see `reader`).

RFC 5321 sections 3 and 4, RFC 2034, 2920, 3207. Called by `server`.
"""

from collections.abc import Callable
from functools import lru_cache

from gateway.mail.envelope import Envelope, Recipient
from gateway.mail.message import MessageWriter
from gateway.mail.reply import Reply, SyntaxRefused
from gateway.smtp import grammar
from gateway.smtp.events import Content, Event, Greeted, Mail, Rcpt, Rules, Say, StartTls
from gateway.smtp.reader import DataReader

ERRORS_LIMIT = 20  # faults of syntax and sequence in one session; a size that is too large is no such fault
IDLE_COMMANDS_LIMIT = 100  # commands other than MAIL, RCPT and DATA since the last message
RCPT_COMMANDS_FACTOR = 10  # RCPT commands in a transaction, times the recipients allowed

_MAIL_COMMANDS = frozenset({b"MAIL", b"RCPT", b"DATA"})
_BEFORE_TLS = frozenset({b"EHLO", b"HELO", b"NOOP", b"STARTTLS", b"QUIT", b"RSET"})

_GO = Say(Reply(354, "", ("End data with <CR><LF>.<CR><LF>",)))
_OK = Say(Reply(250, "2.0.0", ("OK",)))
_VRFY = Say(Reply(252, "2.0.0", ("Cannot verify, but send it and see",)))
_HELP = Say(Reply(214, "2.0.0", ("EHLO HELO STARTTLS MAIL RCPT DATA RSET NOOP VRFY HELP QUIT", "See RFC 5321")))


class Dialogue:
    """One client's session.

    `tls` says that the connection began inside TLS; `tls_ready` is asked at STARTTLS whether a certificate is at
    hand; `writer` makes the place where a message is collected.
    """

    # fmt: off
    __slots__ = ("_buffer", "_closed", "_complete", "_envelope", "_errors", "_esmtp", "_first", "_greeted",
                 "_idle_commands", "_pending", "_rcpt_commands", "_reader", "_recipients", "_rules", "_tls",
                 "_tls_ready", "_writer")
    # fmt: on

    def __init__(
        self,
        rules: Rules,
        *,
        tls: bool = False,
        tls_ready: Callable[[], bool] = lambda: True,
        writer: Callable[[], MessageWriter] = MessageWriter,
    ) -> None:
        self._rules = rules
        self._tls = tls
        self._tls_ready = tls_ready
        self._writer = writer
        self._buffer = bytearray()
        self._reader: DataReader | None = None
        self._complete = False  # the reader has seen its end
        self._pending: Mail | Rcpt | Content | StartTls | None = None
        self._closed = False
        self._first = True  # no line has come yet
        self._errors = 0
        self._forget()

    def _forget(self) -> None:
        self._greeted = False
        self._esmtp = False
        self._envelope: Envelope | None = None
        self._recipients = 0
        self._rcpt_commands = 0
        self._idle_commands = 0

    @property
    def in_transaction(self) -> bool:
        """True between an accepted MAIL and the end of its transaction."""
        return self._envelope is not None

    @property
    def reading(self) -> DataReader | None:
        """The reader while content comes: for rates, and for the log."""
        return None if self._complete else self._reader

    @property
    def waiting_octets(self) -> int:
        """Octets received and not yet looked at, for backpressure."""
        return len(self._buffer)

    def receive(self, octets: bytes) -> None:
        """Takes what came from the client. Content goes to its reader at once and is never held here."""
        if self._closed:
            return
        if self._reader is not None and not self._complete:
            rest = self._reader.feed(octets)
            if rest is None:
                return
            self._complete = True
            octets = rest
        self._buffer += octets

    def next_event(self) -> Event | None:
        """What to do next; `None` when more octets or a decision must come first."""
        if self._closed or self._pending is not None:
            return None
        try:
            if self._reader is not None:
                return self._content() if self._complete else None
            line = grammar.take_line(self._buffer)
            return None if line is None else self._command(line)
        except SyntaxRefused as fault:
            return self._refused(fault)

    def decide(self, reply: Reply) -> Say:
        """The house's answer to the event that waits. A 421 hangs up."""
        event, self._pending = self._pending, None
        match event:
            case Mail(envelope):
                if reply.accepted:
                    self._envelope, self._recipients, self._rcpt_commands = envelope, 0, 0
            case Rcpt():
                self._recipients += reply.accepted
            case Content():
                self._envelope = None
                self._idle_commands = 0
            case _:
                raise RuntimeError("there is nothing to decide")
        return self.hang_up(reply, "refused") if reply.code == 421 else Say(reply)

    def secured(self) -> None:
        """The handshake is done: a new session begins, inside TLS."""
        self._pending = None
        self._tls = True

    def hang_up(self, reply: Reply, why: str) -> Say:
        """Ends the session with this reply. No event will come any more; what was read of a message is dropped."""
        ended = self._end(why)
        self._closed = True
        self._buffer.clear()
        if self._reader is not None:
            self._reader.abandon()
            self._reader = None
        return Say(reply, close=True, ended=ended)

    def _refused(self, fault: SyntaxRefused) -> Say:
        self._errors += fault.reply.code != 552
        if fault.close:
            return self.hang_up(fault.reply, "refused")
        if self._errors > ERRORS_LIMIT:
            return self.hang_up(Reply(421, "4.7.0", ("Too many errors",)), "refused")
        return Say(fault.reply)

    def _command(self, line: bytes) -> Event:
        first, self._first = self._first, False
        word, argument = grammar.word_and_argument(line, first=first, esmtp=self._esmtp)
        run = _COMMANDS.get(word)
        if run is None:
            raise SyntaxRefused(Reply(500, "5.5.1", ("Unknown command",)))
        if self._rules.starttls == "required" and not self._tls and word not in _BEFORE_TLS:
            raise SyntaxRefused(Reply(530, "5.7.0", ("STARTTLS first",)))
        if word not in _MAIL_COMMANDS:
            self._idle_commands += 1
            if self._idle_commands > IDLE_COMMANDS_LIMIT:
                return self.hang_up(Reply(421, "4.7.0", ("Too many commands without a message",)), "refused")
        return run(self, argument)

    # Commands, in the order of RFC 5321 section 4.1.1

    def _ehlo(self, argument: bytes) -> Event:
        offer = _offer(self._rules, starttls=self._rules.starttls != "off" and not self._tls)
        return self._hello(argument, offer, esmtp=True)

    def _helo(self, argument: bytes) -> Event:
        return self._hello(argument, Reply(250, "", (self._rules.hostname,)), esmtp=False)

    def _hello(self, argument: bytes, reply: Reply, *, esmtp: bool) -> Event:
        name = grammar.greeting(argument)
        self._alone("")
        ended = self._end("EHLO" if esmtp else "HELO")
        self._greeted, self._esmtp = True, esmtp
        return Greeted(name, esmtp, reply, ended)

    def _mail(self, argument: bytes) -> Event:
        if not self._greeted:
            raise _sequence("EHLO first")
        if self._envelope is not None:
            raise _sequence("One MAIL at a time")
        return self._wait(Mail(grammar.mail(argument, esmtp=self._esmtp, size_limit=self._rules.message)))

    def _rcpt(self, argument: bytes) -> Event:
        if self._envelope is None:
            raise _sequence("MAIL first")
        mailbox = grammar.rcpt(argument, smtputf8=self._envelope.smtputf8)
        self._rcpt_commands += 1
        if self._rcpt_commands > RCPT_COMMANDS_FACTOR * self._rules.recipients:
            return self.hang_up(Reply(421, "4.7.0", ("Too many recipients",)), "refused")
        if self._recipients >= self._rules.recipients:
            return Say(Reply(452, "4.5.3", ("Too many recipients, bring the others in the next transaction",)))
        return self._wait(Rcpt(Recipient(mailbox)))

    def _data(self, argument: bytes) -> Event:
        grammar.nothing(argument, "DATA")
        if self._envelope is None:
            raise _sequence("MAIL first")
        if not self._recipients:
            raise _sequence("No recipient was accepted")
        self._alone("5.5.0")
        self._reader = DataReader(self._rules.message, self._writer())
        self._complete = False
        return _GO

    def _content(self) -> Event:
        reader, self._reader = self._reader, None
        assert reader is not None
        try:
            return self._wait(Content(reader.finish()))
        except SyntaxRefused as fault:
            why = f"content refused: {reader.failed or fault}"
            if fault.close:  # octets that smuggle make every further octet suspect: never read on behind them
                return self.hang_up(fault.reply, why)
            return Say(fault.reply, ended=self._end(why))

    def _rset(self, argument: bytes) -> Event:
        grammar.nothing(argument, "RSET")
        return Say(_OK.reply, ended=self._end("RSET"))

    def _noop(self, _: bytes) -> Event:
        return _OK

    def _vrfy(self, argument: bytes) -> Event:
        if not argument:
            raise grammar.syntax("VRFY user")
        return _VRFY  # never a word on who exists (RFC 5321 section 7.3)

    def _help(self, _: bytes) -> Event:
        return _HELP

    def _unoffered(self, _: bytes) -> Event:
        raise SyntaxRefused(Reply(502, "5.5.1", ("Command not offered",)))

    def _bdat(self, _: bytes) -> Event:
        # The chunk follows unasked; read as commands, its octets would be a smuggled transaction.
        raise SyntaxRefused(Reply(502, "5.5.1", ("CHUNKING is not offered",)), close=True)

    def _starttls(self, argument: bytes) -> Event:
        if self._rules.starttls == "off":
            return self._unoffered(argument)
        grammar.nothing(argument, "STARTTLS")
        if self._tls:
            raise _sequence("TLS is in force")
        self._alone("5.5.0")
        if not self._tls_ready():
            return Say(Reply(454, "4.7.0", ("TLS is not available now",)))
        event = StartTls(Reply(220, "2.0.0", ("Go ahead",)), self._end("STARTTLS"))
        self._forget()
        self._pending = event
        return event

    def _quit(self, argument: bytes) -> Event:
        grammar.nothing(argument, "QUIT")
        return self.hang_up(Reply(221, "2.0.0", ("Bye",)), "QUIT")

    def _wait(self, event: Mail | Rcpt | Content) -> Event:
        self._pending = event
        return event

    def _alone(self, status: str) -> None:
        """This command ends a group (RFC 2920 section 3.1): what is glued behind it was not meant for us."""
        if self._buffer:
            raise SyntaxRefused(Reply(503, status, ("Wait for the reply before you go on",)), close=True)

    def _end(self, why: str) -> str:
        """Ends the transaction; `why`, or "" when there was none."""
        ended = why if self._envelope is not None else ""
        self._envelope = None
        return ended


_COMMANDS: dict[bytes, Callable[[Dialogue, bytes], Event]] = {
    b"EHLO": Dialogue._ehlo,
    b"HELO": Dialogue._helo,
    b"MAIL": Dialogue._mail,
    b"RCPT": Dialogue._rcpt,
    b"DATA": Dialogue._data,
    b"RSET": Dialogue._rset,
    b"NOOP": Dialogue._noop,
    b"QUIT": Dialogue._quit,
    b"VRFY": Dialogue._vrfy,
    b"EXPN": Dialogue._unoffered,
    b"HELP": Dialogue._help,
    b"AUTH": Dialogue._unoffered,
    b"BDAT": Dialogue._bdat,
    b"STARTTLS": Dialogue._starttls,
}


@lru_cache(maxsize=64)
def _offer(rules: Rules, *, starttls: bool) -> Reply:
    lines = [rules.hostname, f"SIZE {rules.message}", "PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
    return Reply(250, "", (*lines, *(["STARTTLS"] if starttls else [])))


def _sequence(why: str) -> SyntaxRefused:
    return SyntaxRefused(Reply(503, "5.5.1", (why,)))
