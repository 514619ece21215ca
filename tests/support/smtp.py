"""An SMTP client that sends the octets it is given, right or wrong, and reads the replies.

For tests that must break the rules (bare LF, no dot, half a line), so nothing is corrected on the way but by `deliver`,
which stuffs the dots and ends the message.
"""

import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply as it came: the code, and the text of each line with its enhanced status."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.lines)

    @property
    def id(self) -> str:
        """The last word: the transaction's id where there is one."""
        return self.lines[-1].rsplit(" ", 1)[-1]

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Closed(Exception):  # noqa: N818 - a state of the connection, not a mistake
    """The server closed or reset the connection."""


class Client:
    """One connection. `source` is the address to come from: any of 127.0.0.0/8 is ours on loopback."""

    def __init__(
        self, port: int, host: str = "127.0.0.1", *, source: str = "127.0.0.1", timeout: float = 30, banner: bool = True
    ) -> None:
        self.socket: socket.socket | ssl.SSLSocket = socket.create_connection(
            (host, port), timeout=timeout, source_address=(source, 0)
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.banner: Answer | None = self.answer() if banner else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(self, octets: bytes | memoryview) -> None:
        """Those octets and nothing else."""
        try:
            self.socket.sendall(octets)
        except (ConnectionError, ssl.SSLEOFError) as why:
            raise Closed(str(why)) from why

    def line(self) -> bytes:
        """The next line of the server, without its CRLF. A line that ends otherwise is a fault."""
        while b"\n" not in self._buffer:
            try:
                more = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLEOFError) as why:
                raise Closed(str(why)) from why
            if not more:
                raise Closed(f"end of file after {self._buffer!r}")
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        assert line.endswith(b"\r"), f"a reply line ends in CRLF, not {line!r}"
        return line[:-1]

    def answer(self) -> Answer:
        """The next reply, with all its lines (RFC 5321 section 4.2.1)."""
        lines: list[str] = []
        while True:
            line = self.line().decode("ascii")
            assert re.match(r"[2-5]\d\d[ -]", line), f"no reply line: {line!r}"
            lines.append(line[4:])
            if line[3] == " ":
                return Answer(int(line[:3]), tuple(lines))

    def command(self, line: str) -> Answer:
        """One command, its CRLF added, and its reply."""
        self.send(line.encode("utf-8") + b"\r\n")
        return self.answer()

    def ehlo(self, name: str = "client.example.net") -> Answer:
        return self.command(f"EHLO {name}")

    def starttls(self, ca: Path, name: str) -> Answer:
        """STARTTLS, the handshake with the certificate verified, nothing after it."""
        answer = self.command("STARTTLS")
        if answer.code == 220:
            context = ssl.create_default_context(cafile=str(ca))
            self.socket = context.wrap_socket(self.socket, server_hostname=name)
        return answer

    def envelope(self, sender: str, *recipients: str, parameters: str = "") -> list[Answer]:
        """MAIL and RCPT one by one; all the replies."""
        return [
            self.command(f"MAIL FROM:<{sender}>{parameters}"),
            *(self.command(f"RCPT TO:<{recipient}>") for recipient in recipients),
        ]

    def deliver(self, sender: str, recipients: list[str], message: bytes) -> Answer:
        """A whole transaction. The reply to the final dot, or the first refusal (then the transaction is reset)."""
        for answer in self.envelope(sender, *recipients):
            if answer.code >= 400:
                self.command("RSET")
                return answer
        return self.data(message)

    def data(self, message: bytes) -> Answer:
        """DATA with that message (CRLF line ends), dots stuffed."""
        answer = self.command("DATA")
        if answer.code == 354:
            self.send(stuffed(message))
            answer = self.answer()
        return answer

    def at_end(self) -> bool:
        """True when the server closes without another octet."""
        try:
            return not self._buffer and self.socket.recv(1) == b""
        except (ConnectionError, ssl.SSLEOFError):
            return True

    def close(self) -> None:
        """Closes without a farewell."""
        self.socket.close()

    def quit(self) -> None:
        self.command("QUIT")
        self.close()


def stuffed(message: bytes) -> bytes:
    """The message as DATA carries it: dots doubled at line starts, a final CRLF when there is none, the dot."""
    octets = message.replace(b"\r\n.", b"\r\n..")
    if octets.startswith(b"."):
        octets = b"." + octets
    if not octets.endswith(b"\r\n") and octets:
        octets += b"\r\n"
    return octets + b".\r\n"
