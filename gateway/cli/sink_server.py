"""The mail server of `sink` and `demo`: takes mail over STARTTLS and keeps it octet for octet.

A plain, small SMTP server on asyncio streams for loopback and trials; it checks nothing that a real one must. It
offers PIPELINING, SIZE, 8BITMIME, SMTPUTF8, DSN and ENHANCEDSTATUSCODES, refuses mail outside TLS, and notes every
line that it got in clear text, so that a trial can show that no mail was among them.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

_LIMIT = 64 * 1024 * 1024  # octets of one mail
_PIECE = 256 * 1024
_FEATURES = ("PIPELINING", f"SIZE {_LIMIT}", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


@dataclass(slots=True)
class Mail:
    """One mail as it came."""

    sender: str
    sender_parameters: str
    recipients: list[str]
    octets: bytes
    tls: str


@dataclass(slots=True)
class Sink:
    """A backend in this process. `start` gives its port; `mails` is what it took.

    `refuse` maps a recipient (lower case) to the reply it gets at RCPT ("550 5.1.1 No such user"), and "MAIL" to one
    that every sender gets; `refuse_data` is a reply to every final dot. `context` None offers no STARTTLS at all, as a
    stripped connection would look; `features` are offered besides.
    """

    context: ssl.SSLContext | None
    hostname: str = "sink.example"
    refuse: dict[str, str] = field(default_factory=dict)
    refuse_data: str = ""
    on_mail: Callable[[Mail], None] | None = None
    keep: bool = True
    features: tuple[str, ...] = _FEATURES
    mails: list[Mail] = field(default_factory=list)
    clear_text: list[str] = field(default_factory=list)
    connections: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listens; returns the port."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=2 * _PIECE)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stops listening and closes all connections."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await _Dialogue(self, reader, writer).run()
        except (OSError, EOFError, asyncio.CancelledError, asyncio.LimitOverrunError):
            pass  # whoever hangs up in the middle of a trial may do so
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


class _Dialogue:
    """One connection."""

    def __init__(self, sink: Sink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sink = sink
        self._reader = reader
        self._writer = writer
        self._tls = ""
        self._mail: Mail | None = None

    async def run(self) -> None:
        self._say(f"220 {self._sink.hostname} ESMTP sink")
        while True:
            line = (await self._reader.readuntil(b"\r\n")).decode("utf-8", "replace").rstrip("\r\n")
            if not self._tls:
                self._sink.clear_text.append(line)
            verb = line.split(" ")[0].split(":")[0].upper()
            if verb == "QUIT":
                self._say("221 2.0.0 Bye")
                await self._writer.drain()
                return
            await self._command(verb, line)

    async def _command(self, verb: str, line: str) -> None:
        match verb:
            case "EHLO" | "HELO":
                self._mail = None
                features = [self._sink.hostname, *(self._sink.features if verb == "EHLO" else ())]
                if verb == "EHLO" and self._sink.context is not None and not self._tls:
                    features.append("STARTTLS")
                self._say(*(f"250{'-' if f is not features[-1] else ' '}{f}" for f in features))
            case "STARTTLS" if self._sink.context is not None and not self._tls:
                await self._start_tls(self._sink.context)
            case "NOOP" | "RSET":
                self._mail = None if verb == "RSET" else self._mail
                self._say("250 2.0.0 OK")
            case "MAIL" | "RCPT" | "DATA" if not self._tls:
                self._say("530 5.7.0 Must issue a STARTTLS command first")
            case "MAIL" if "MAIL" in self._sink.refuse:
                self._say(self._sink.refuse["MAIL"])
            case "MAIL":
                path, parameters = _path(line)
                self._mail = Mail(path, parameters, [], b"", self._tls)
                self._say("250 2.1.0 OK")
            case "RCPT" if self._mail is not None:
                path, _ = _path(line)
                refusal = self._sink.refuse.get(path.lower())
                if refusal is None:
                    self._mail.recipients.append(path)
                self._say(refusal or "250 2.1.5 OK")
            case "DATA" if self._mail is not None and self._mail.recipients:
                await self._data(self._mail)
            case "MAIL" | "RCPT" | "DATA":
                self._say("503 5.5.1 Bad sequence of commands")
            case _:
                self._say("500 5.5.1 What?")

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        self._say("220 2.0.0 Go ahead")
        await self._writer.start_tls(context)
        self._tls = str(self._writer.get_extra_info("ssl_object").version())
        self._mail = None

    async def _data(self, mail: Mail) -> None:
        self._say("354 End data with <CR><LF>.<CR><LF>")
        await self._writer.drain()
        mail.octets = await self._octets()
        self._mail = None
        if self._sink.refuse_data:
            self._say(self._sink.refuse_data)
            return
        try:
            if self._sink.on_mail is not None:
                self._sink.on_mail(mail)
        except OSError:  # a full disk is no reason to lose the mail: its sender keeps it
            self._say("452 4.3.1 Cannot keep it")
            return
        if self._sink.keep:
            self._sink.mails.append(mail)
        self._say("250 2.0.0 OK, kept")

    async def _octets(self) -> bytes:
        """Everything up to CRLF.CRLF, without the stuffed dots. A mail is all that a client sends before its reply."""
        got = bytearray(b"\r\n")  # so that a dot alone ends an empty mail, too
        while not got.endswith(b"\r\n.\r\n"):
            piece = await self._reader.read(_PIECE)
            if not piece:
                raise EOFError
            got += piece
            if len(got) > _LIMIT:
                raise EOFError
        return bytes(got[:-3]).replace(b"\r\n..", b"\r\n.")[2:]

    def _say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())


def _path(line: str) -> tuple[str, str]:
    """The path and the parameters of MAIL or RCPT: good enough for a client that writes them well."""
    start, end = line.find("<"), line.rfind(">")
    return line[start + 1 : end], line[end + 1 :].strip()
