"""How a message comes in: by DATA, or by BDAT in chunks; one at a time, and its octets to the right reader.

Between two chunks commands are read again, and the message so far waits here. A chunk that nobody asked for (no MAIL,
no recipient) is read and dropped. Used by `protocol`.
"""

from collections.abc import Callable

from gateway.mail.message import Message, MessageWriter
from gateway.smtp.chunks import ChunkReader
from gateway.smtp.reader import DataReader


class Intake:
    """At most `limit` octets a message; `writer` makes the place where one is collected."""

    __slots__ = ("_chunks", "_limit", "_reader", "_writer", "whole")

    def __init__(self, limit: int, writer: Callable[[], MessageWriter]) -> None:
        self._limit = limit
        self._writer = writer
        self._reader: DataReader | ChunkReader | None = None
        self._chunks: ChunkReader | None = None
        self.whole = False  # what is read has come to its end

    @property
    def open(self) -> bool:
        """True while octets are content, and until `finish` was asked for it."""
        return self._reader is not None

    @property
    def chunked(self) -> bool:
        """True once a chunk of this message came: no DATA any more, and no further recipient."""
        return self._chunks is not None

    @property
    def reading(self) -> DataReader | ChunkReader | None:
        """Who reads, or waits for the next chunk."""
        return self._chunks if self._reader is None or self.whole else self._reader

    def data(self) -> None:
        """DATA: content follows until its end."""
        self._reader, self.whole = DataReader(self._limit, self._writer()), False

    def chunk(self, octets: int, *, last: bool, wanted: bool) -> ChunkReader:
        """BDAT: so many octets follow. Feed the reader with those that are here, and set `whole`."""
        if wanted and self._chunks is None:
            self._chunks = ChunkReader(self._limit, self._writer())
        reader = self._chunks if wanted and self._chunks is not None else ChunkReader(octets, None)
        reader.begin(octets, last=last)
        self._reader, self.whole = reader, False
        return reader

    def feed(self, octets: bytes) -> bytes:
        """Takes what is content; gives the rest."""
        if self._reader is None or self.whole:
            return octets
        rest = self._reader.feed(octets)
        self.whole = rest is not None
        return rest or b""

    def finish(self) -> Message | int | None:
        """After `whole`: the message, the octets of a chunk that was not the last, or `None` for one that nobody
        wanted. Raises `SyntaxRefused`."""
        reader, self._reader = self._reader, None
        assert reader is not None
        if isinstance(reader, ChunkReader) and reader is not self._chunks:
            return None
        done = reader.finish()
        if isinstance(done, Message):
            self._chunks = None
        return done

    def abandon(self) -> None:
        """Drops what was read."""
        for reader in (self._reader, self._chunks):
            if reader is not None:
                reader.abandon()
        self._reader = self._chunks = None
