"""The content of BDAT: announced octets, taken as they are, in as many chunks as the client likes.

No dots and no end to look for; the announced number alone says where commands begin again. A chunk that is refused is
read to its end and dropped first, else its octets would be commands. A bare CR, a bare LF or a NUL refuses the message
as in DATA (see `reader`), a CR at a chunk's end being judged with the next one. A message that ends without CRLF gets
one: our way on may be DATA, which cannot say otherwise; no signature covers the difference (RFC 6376 section 3.4.3).

RFC 3030 sections 2 and 3. Used by `protocol`.
"""

import re

from gateway.mail.message import Message, MessageWriter
from gateway.mail.octets import clean
from gateway.mail.reply import Reply, SyntaxRefused
from gateway.mail.terms import Unavailable

CHUNKS_LIMIT = 10_000  # of one message; what is real has far fewer

_ANNOUNCED = re.compile(rb"(\d{1,20})(?: +(LAST))?", re.IGNORECASE)


def announced(argument: bytes) -> tuple[int, bool]:
    """Octets of the chunk, and whether it is the last. Whatever else is said, nobody knows where commands go on."""
    match = _ANNOUNCED.fullmatch(argument)
    if match is None:
        raise SyntaxRefused(Reply(501, "5.5.4", ("Syntax: BDAT octets [LAST]",)), close=True)
    return int(match[1]), match[2] is not None


class ChunkReader:
    """Reads the chunks of one message of at most `limit` octets into `writer`; without a writer it drops them."""

    __slots__ = (
        "_bare",
        "_chunks",
        "_cr",
        "_ends",
        "_failed",
        "_last",
        "_left",
        "_limit",
        "_octets",
        "_writer",
        "size",
    )

    def __init__(self, limit: int, writer: MessageWriter | None) -> None:
        self._limit = limit
        self._writer = writer
        self._chunks = 0
        self._octets = self._left = 0  # of the chunk
        self._last = False
        self._cr = False  # what came so far ends in a CR, which is still held back
        self._ends = True  # what came so far ends a line
        self._bare = False
        self._failed = ""
        self.size = 0  # octets of all chunks so far, whether kept or not

    def begin(self, octets: int, *, last: bool) -> None:
        """A chunk was announced."""
        self._octets = self._left = octets
        self._last = last
        self._chunks += 1

    def feed(self, octets: bytes) -> bytes | None:
        """Takes the next octets. `None` until the chunk is whole, then what follows it (often nothing)."""
        piece, rest = octets[: self._left], octets[self._left :]
        self._left -= len(piece)
        self.size += len(piece)
        self._take(piece)
        return None if self._left else rest

    def finish(self) -> Message | int:
        """After a whole chunk: the message after the last one, else the chunk's octets. `SyntaxRefused` as in DATA."""
        if self._last and self._writer is not None and not self._refusing:
            if self._cr:
                self._bare = True
            elif not self._ends:
                self._keep(b"\r\n")
        if self._bare:
            self.abandon()
            raise SyntaxRefused(Reply(554, "5.6.0", ("A bare CR, a bare LF or a NUL in the message",)), close=True)
        if self.size > self._limit:
            raise SyntaxRefused(Reply(552, "5.3.4", (f"The message is larger than {self._limit} octets",)))
        if self._chunks > CHUNKS_LIMIT:
            self.abandon()
            raise SyntaxRefused(Reply(421, "4.7.0", ("Too many chunks",)), close=True)
        if not self._failed:
            if not self._last or self._writer is None:
                return self._octets
            try:
                return self._writer.finish()
            except Unavailable as why:
                self._failed = str(why)
        refused = SyntaxRefused(Reply(452, "4.3.1", ("No room for the message now, try again later",)))
        raise refused from Unavailable(self._failed)  # the cause is for the log

    def abandon(self) -> None:
        """Drops what was read."""
        if self._writer is not None:
            self._writer.abandon()

    @property
    def left(self) -> int:
        """Octets of the chunk that have not come yet."""
        return self._left

    @property
    def _refusing(self) -> bool:
        return self._bare or bool(self._failed) or self.size > self._limit

    def _take(self, piece: bytes) -> None:
        if self._writer is None or not piece:
            return
        if self._cr:
            piece, self._cr = b"\r" + piece, False
        if piece.endswith(b"\r"):
            piece, self._cr = piece[:-1], True
        if not self._bare:
            self._bare = not clean(piece)
        if piece:
            self._ends = piece.endswith(b"\n")
        if self._refusing:
            self._writer.abandon()
        elif piece:
            self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        assert self._writer is not None
        try:
            self._writer.write(piece)
        except Unavailable as why:
            self._failed = str(why)
            self._writer.abandon()
