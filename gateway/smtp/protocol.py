"""The SMTP session as a machine without sockets: octets in, events out, decisions back in.

`receive` takes octets of any size; `next_event` gives the next thing to do, or `None` until more octets come or the
event before is decided. What grammar, sequence or limits decide comes as `Say`, ready to be written; what the house
must decide (`Mail`, `Rcpt`, `Content`) waits for `decide(reply)`. Within one turn of the client the events are the
same whether its octets come whole or one by one.

States: not greeted -> greeted -> in a transaction (MAIL) -> content (DATA, or BDAT until the last chunk) -> greeted. A
new transaction is a new envelope; STARTTLS forgets everything that was said (RFC 3207 section 4.2).

Refused with the connection closed, because each lets two parsers disagree: bare octets in a command; octets glued
behind EHLO, DATA or STARTTLS before our reply (RFC 2920 section 3.1, CVE-2011-0411); another protocol's words; a BDAT
that does not say how many octets follow; content that smuggles (see `reader`). A BDAT out of turn is read all the same
and its octets dropped.

RFC 5321 sections 3 and 4, RFC 2034, 2920, 3030, 3207, 3461, 9422. Called by `connection`.
"""

from collections.abc import Callable

from gateway.mail.envelope import Envelope
from gateway.mail.message import Message, MessageWriter
from gateway.mail.reply import Reply, SyntaxRefused
from gateway.smtp import chunks, grammar, xclient
from gateway.smtp.chunks import ChunkReader
from gateway.smtp.events import Become, Content, Event, Greeted, Mail, Rcpt, Rules, Say, StartTls
from gateway.smtp.intake import Intake
from gateway.smtp.offer import GO, HELP, OK, VRFY, offer, sequence
from gateway.smtp.reader import DataReader
from gateway.smtp.tally import Tally

_BEFORE_TLS = frozenset({b"EHLO", b"HELO", b"NOOP", b"STARTTLS", b"QUIT", b"RSET", b"XCLIENT"})


class Dialogue:
    """One client's session.

    `tls` says that the connection began inside TLS; `tls_ready` is asked at STARTTLS whether a certificate is at
    hand; `writer` makes the place where a message is collected; `xclient` allows XCLIENT.
    """

    # fmt: off
    __slots__ = ("_buffer", "_closed", "_envelope", "_esmtp", "_first", "_greeted", "_intake", "_pending",
                 "_recipients", "_rules", "_tally", "_tls", "_tls_ready", "_xclient")
    # fmt: on

    def __init__(
        self,
        rules: Rules,
        *,
        tls: bool = False,
        tls_ready: Callable[[], bool] = lambda: True,
        writer: Callable[[], MessageWriter] = MessageWriter,
        xclient: bool = False,
    ) -> None:
        self._rules = rules
        self._xclient = xclient
        self._tls = tls
        self._tls_ready = tls_ready
        self._intake = Intake(rules.message, writer)
        self._buffer = bytearray()
        self._pending: Mail | Rcpt | Content | StartTls | Become | None = None
        self._closed = False
        self._first = True  # no line has come yet
        self._tally = Tally()
        self._forget()

    def _forget(self) -> None:
        self._greeted = False
        self._esmtp = False
        self._envelope: Envelope | None = None
        self._recipients = 0
        self._tally.begun_anew()

    @property
    def in_transaction(self) -> bool:
        """True between an accepted MAIL and the end of its transaction."""
        return self._envelope is not None

    @property
    def reading(self) -> DataReader | ChunkReader | None:
        """The reader while content comes, or another chunk of it is due: for rates, and for the log."""
        return self._intake.reading

    @property
    def brings_mail(self) -> bool:
        """True while a message comes that has a recipient; a chunk that nobody asked for is none."""
        return self._envelope is not None and self._recipients > 0 and self._intake.reading is not None

    @property
    def waiting_octets(self) -> int:
        """Octets received and not yet looked at, for backpressure."""
        return len(self._buffer)

    def receive(self, octets: bytes) -> None:
        """Takes what came from the client. Content goes to its reader at once and is never held here."""
        if not self._closed:
            self._buffer += self._intake.feed(octets)

    def next_event(self) -> Event | None:
        """What to do next; `None` when more octets or a decision must come first."""
        if self._closed or self._pending is not None:
            return None
        try:
            if self._intake.open:
                return self._content() if self._intake.whole else None
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
                    self._envelope, self._recipients = envelope, 0
                    self._tally.opened()
            case Rcpt():
                self._recipients += reply.accepted
            case Content():
                self._envelope = None
                self._tally.message()
            case _:
                raise RuntimeError("there is nothing to decide")
        return self.hang_up(reply, "refused") if reply.code == 421 else Say(reply)

    def secured(self) -> None:
        """The handshake is done: a new session begins, inside TLS."""
        self._pending = None
        self._tls = True

    def become(self, reply: Reply, writer: Callable[[], MessageWriter] | None = None, *, xclient: bool = True) -> Say:
        """The client is another one now (XCLIENT): it has to greet, or is refused with a 421. `writer` is its own, and
        so is the right to say XCLIENT: nginx passes on what its client says, as it came."""
        self._pending = None
        self._xclient = xclient
        if writer is not None:
            self._intake = Intake(self._rules.message, writer)
        self._forget()
        return Say(reply) if reply.accepted else self.hang_up(reply, "")

    def hang_up(self, reply: Reply, why: str) -> Say:
        """Ends the session with this reply. No event will come any more; what was read of a message is dropped."""
        ended = self._end(why)
        self._closed = True
        self._buffer.clear()
        self._intake.abandon()
        return Say(reply, close=True, ended=ended)

    def _refused(self, fault: SyntaxRefused) -> Say:
        too_many = self._tally.error(fault.reply)
        if fault.close or too_many:
            return self.hang_up(fault.reply if fault.close else too_many or fault.reply, "refused")
        return Say(fault.reply)

    def _command(self, line: bytes) -> Event | None:
        first, self._first = self._first, False
        word, argument = grammar.word_and_argument(line, first=first, esmtp=self._esmtp)
        run = _COMMANDS.get(word)
        if run is None:
            raise SyntaxRefused(Reply(500, "5.5.1", ("Unknown command",)))
        too_many = self._tally.command(word)
        if too_many:
            return self.hang_up(too_many, "refused")
        if word == b"BDAT":  # its octets must be read before anything can be refused
            return self._bdat(argument)
        self._in_clear_text(word)
        return run(self, argument)

    def _in_clear_text(self, word: bytes) -> None:
        if self._rules.starttls == "required" and not self._tls and word not in _BEFORE_TLS:
            raise SyntaxRefused(Reply(530, "5.7.0", ("STARTTLS first",)))

    # Commands, in the order of RFC 5321 section 4.1.1

    def _ehlo(self, argument: bytes) -> Event:
        starttls = self._rules.starttls != "off" and not self._tls
        return self._hello(argument, offer(self._rules, starttls=starttls, xclient=self._xclient), esmtp=True)

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
            raise sequence("EHLO first")
        if self._envelope is not None:
            raise sequence("One MAIL at a time")
        envelope = grammar.mail(argument, esmtp=self._esmtp)
        too_many = self._tally.mail(self._rules.messages)
        return self.hang_up(too_many, "") if too_many else self._wait(Mail(envelope))

    def _rcpt(self, argument: bytes) -> Event:
        self._before_content()
        assert self._envelope is not None
        recipient = grammar.rcpt(argument, smtputf8=self._envelope.smtputf8, esmtp=self._esmtp)
        too_many = self._tally.recipient(self._rules.recipients)
        if too_many:
            return self.hang_up(too_many, "refused")
        if self._recipients >= self._rules.recipients:
            return Say(Reply(452, "4.5.3", ("Too many recipients, bring the others in the next transaction",)))
        return self._wait(Rcpt(recipient))

    def _before_content(self) -> None:
        if self._envelope is None:
            raise sequence("MAIL first")
        if self._intake.chunked:
            raise sequence("BDAT has begun: go on with it, or RSET")

    def _data(self, argument: bytes) -> Event:
        grammar.nothing(argument, "DATA")
        self._before_content()
        if not self._recipients:
            raise sequence("No recipient was accepted")
        self._alone("5.5.0")
        self._intake.data()
        return GO

    def _bdat(self, argument: bytes) -> Event | None:
        octets, last = chunks.announced(argument)
        wanted = self._envelope is not None and self._recipients > 0 and self._esmtp
        left = self._intake.chunk(octets, last=last, wanted=wanted).left
        taken = bytes(self._buffer[:left])
        del self._buffer[:left]
        self._intake.feed(taken)
        return self._content() if self._intake.whole else None

    def _content(self) -> Event:
        try:
            content = self._intake.finish()
        except SyntaxRefused as fault:
            why = f"content refused: {fault.__cause__ or fault}"
            if fault.close:  # octets that smuggle make every further octet suspect: never read on behind them
                return self.hang_up(fault.reply, why)
            return Say(fault.reply, ended=self._end(why))
        match content:
            case Message():
                return self._wait(Content(content))
            case int():
                return Say(Reply(250, "2.0.0", (f"{content} octets received",)))
        self._in_clear_text(b"BDAT")
        why = "MAIL first" if self._envelope is None else "No recipient was accepted"
        said = self._refused(sequence(why if self._esmtp else "EHLO first"))  # not offered after HELO
        # The transaction has failed, or the chunks to come would be taken for the whole (RFC 3030 section 2).
        return said if said.close else Say(said.reply, ended=self._end("a chunk out of turn"))

    def _rset(self, argument: bytes) -> Event:
        grammar.nothing(argument, "RSET")
        return Say(OK.reply, ended=self._end("RSET"))

    def _noop(self, _: bytes) -> Event:
        return OK

    def _vrfy(self, argument: bytes) -> Event:
        if not argument:
            raise grammar.syntax("VRFY user")
        return VRFY

    def _help(self, _: bytes) -> Event:
        return HELP

    def _unoffered(self, _: bytes) -> Event:
        raise SyntaxRefused(Reply(502, "5.5.1", ("Command not offered",)))

    def _starttls(self, argument: bytes) -> Event:
        if self._rules.starttls == "off":
            return self._unoffered(argument)
        grammar.nothing(argument, "STARTTLS")
        if self._tls:
            raise sequence("TLS is in force")
        self._alone("5.5.0")
        if not self._tls_ready():
            return Say(Reply(454, "4.7.0", ("TLS is not available now",)))
        event = StartTls(Reply(220, "2.0.0", ("Go ahead",)), self._end("STARTTLS"))
        self._forget()
        self._pending = event
        return event

    def _become(self, argument: bytes) -> Event:
        if not self._xclient or self._envelope is not None:
            raise SyntaxRefused(Reply(*((503, "5.5.1") if self._xclient else (550, "5.7.0")), ("No",)), close=True)
        told = xclient.attributes(argument)
        self._alone("5.5.0")
        event = self._pending = Become(told)
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
        self._intake.abandon()
        return ended


_COMMANDS: dict[bytes, Callable[[Dialogue, bytes], Event | None]] = {
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
    b"XCLIENT": Dialogue._become,
}
