"""The content of DATA: dots removed, the one true end found, what could smuggle a second mail seen.

Octets come in pieces of any size and leave for a `MessageWriter`; every scan runs at C speed over a whole piece, never
line by line. Only CR LF . CR LF ends the content. A bare CR, a bare LF or a NUL anywhere refuses the message, after
its true end and with the connection closed: whoever sends them wants some server to see another end than we do
(CVE-2023-51764, -51765, -51766, CVE-2024-27305). Content over the limit is read to its end and thrown away.

RFC 5321 sections 2.3.8 (line ends), 4.1.1.4 (the end), 4.5.2 (transparency), 4.5.3.1.9 (552). Used by `protocol`.
"""

from gateway.mail.message import Message, MessageWriter
from gateway.mail.octets import clean, dotted
from gateway.mail.reply import Reply, SyntaxRefused
from gateway.mail.terms import Unavailable

_END = b"\r\n.\r\n"
# The DATA command's own CRLF stands before the first line, so that a dot there is a dot at a line's start.
_BEFORE = b"\r\n"


class DataReader:
    """Reads one message of at most `limit` octets (after the dots are removed) into `writer`."""

    __slots__ = ("_bare", "_failed", "_held", "_limit", "_skip", "_writer", "size")

    def __init__(self, limit: int, writer: MessageWriter) -> None:
        self._limit = limit
        self._writer = writer
        self._held = _BEFORE  # octets that may be the beginning of the end
        self._skip = len(_BEFORE)
        self._bare = False
        self._failed = ""
        self.size = 0  # octets of content so far, whether kept or not

    def feed(self, octets: bytes) -> bytes | None:
        """Takes the next octets. `None` until the end has come, then what follows it (often nothing)."""
        octets = self._held + octets
        stuffed = dotted(octets, b"\r\n.")
        end = octets.find(_END) if stuffed else -1
        if end >= 0:
            self._take(octets[: end + 2], stuffed)
            self._held = b""
            return octets[end + len(_END) :]
        kept = next((n for n in (4, 3, 2, 1) if octets.endswith(_END[:n])), 0)
        self._held = octets[len(octets) - kept :]
        self._take(octets[: len(octets) - kept], stuffed)
        return None

    def finish(self) -> Message:
        """The message, once `feed` has seen its end; else `SyntaxRefused` (4xx where the fault is ours)."""
        if self._bare:
            self._writer.abandon()
            raise SyntaxRefused(Reply(554, "5.6.0", ("A bare CR, a bare LF or a NUL in the message",)), close=True)
        if self.size > self._limit:
            raise SyntaxRefused(Reply(552, "5.3.4", (f"The message is larger than {self._limit} octets",)))
        if not self._failed:
            try:
                return self._writer.finish()
            except Unavailable as why:
                self._failed = str(why)
        refused = SyntaxRefused(Reply(452, "4.3.1", ("No room for the message now, try again later",)))
        raise refused from Unavailable(self._failed)  # the cause is for the log

    def abandon(self) -> None:
        """Drops what was read: the client is gone, or the connection will be."""
        self._writer.abandon()

    @property
    def failed(self) -> str:
        """Why the message could not be kept, for the log; "" when all is well."""
        return self._failed

    def _take(self, piece: bytes, stuffed: bool) -> None:
        # A piece never ends between CR and LF nor between CRLF and dot: those octets are held back.
        if not self._bare:
            self._bare = not clean(piece)
        if stuffed:
            piece = piece.replace(b"\r\n.", b"\r\n")
        if self._skip and piece:
            piece, self._skip = piece[self._skip :], 0
        if not piece:
            return
        self.size += len(piece)
        if self._bare or self._failed or self.size > self._limit:
            self._writer.abandon()  # refused already: what still comes is not kept
            return
        try:
            self._writer.write(piece)
        except Unavailable as why:
            self._failed = str(why)
            self._writer.abandon()
