"""A backend's replies out of its octets: sans-I/O, strict and bounded.

Octets in (`feed`), whole `Response`s out, or `Garbled`: a line that is no reply line, lines of one reply whose codes
disagree, more than 100 lines or 64 KB. A reader that guesses here would pair a reply with the wrong command, and the
wrong reply with a mail. In one piece or octet by octet, the outcome is the same.

RFC 5321 sections 4.2 and 4.2.1. Called by `client`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

LINES_LIMIT = 100
OCTETS_LIMIT = 64 * 1024

# RFC 5321 section 4.2: a code alone, without the space, is to be accepted.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)


class Garbled(Exception):  # noqa: N818 - what the peer sent, not a mistake of ours
    """These octets are no SMTP reply. The text is for the log and holds none of them."""


@dataclass(frozen=True, slots=True)
class Response:
    """One reply as the backend gave it; `lines` are its texts, undecoded octets as Latin-1, not yet safe to repeat."""

    code: int
    lines: tuple[str, ...]


class ResponseReader:
    """Collects octets and gives the replies in them."""

    __slots__ = ("_buffer", "_code", "_lines", "_octets")

    def __init__(self) -> None:
        self._buffer = b""
        self._code = 0
        self._lines: list[str] = []
        self._octets = 0

    @property
    def partial(self) -> bool:
        """True when octets of an unfinished reply are held."""
        return bool(self._buffer or self._lines)

    def feed(self, octets: bytes) -> Iterator[Response]:
        """The replies that these octets complete, in order; to be read to its end.

        Raises `Garbled` behind the replies that came whole before; the reader is of no use afterwards.
        """
        *whole, self._buffer = (self._buffer + octets).split(b"\n")
        for line in whole:
            response = self._line(line)
            if response is not None:
                yield response
        if self._octets + len(self._buffer) > OCTETS_LIMIT:
            raise Garbled("reply longer than 64 KB")

    def _line(self, line: bytes) -> Response | None:
        if not line.endswith(b"\r"):
            raise Garbled("bare LF in a reply")
        self._octets += len(line) + 1
        if self._octets > OCTETS_LIMIT:
            raise Garbled("reply longer than 64 KB")
        match = _LINE.fullmatch(line[:-1])
        if match is None or b"\r" in line[:-1]:
            raise Garbled("not a reply line")
        code = int(match[1])
        if self._lines and code != self._code:
            raise Garbled("codes of one reply differ")
        self._code = code
        self._lines.append((match[3] or b"").decode("latin-1"))
        if match[2] == b"-":
            if len(self._lines) >= LINES_LIMIT:
                raise Garbled("reply of more than 100 lines")
            return None
        response = Response(code, tuple(self._lines))
        self._lines, self._octets = [], 0
        return response
