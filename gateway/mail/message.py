"""The octets of one mail, immutable, behind one buffer face: in memory, or in a file without a name.

Nobody above knows which: `view` and `chunks` give the same zero-copy slices. The header is parsed once, on first
use, by our own code in linear time, and bounded: what another parser might read differently (a first line that
continues nothing, a line without a colon, octets that no field name may have) makes the message `malformed`, and we
never resynchronise behind such a line. Field values stay raw and folded.

RFC 5322 sections 2.1, 2.2 and 4.5 (`Name :`); RFC 6532 section 3.2 (names stay ASCII). Written by `smtp/reader`.
"""

import contextlib
import mmap
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from gateway.mail.octets import clean
from gateway.mail.terms import Unavailable

HEADER_LIMIT = 256 * 1024  # octets of a header; longer ones are an attack on whoever reads them
FIELDS_LIMIT = 1_000
SPOOL_ABOVE = 1_000_000  # octets kept in memory

_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
_FIELD_END = re.compile(rb"\r\n(?![ \t])")


@dataclass(frozen=True, slots=True)
class Field:
    """One header field: `name` as written, without space before the colon, `raw` the whole of it with its CRLF, and
    `key` the name in lower case, which a dozen readers look at."""

    name: bytes
    raw: bytes
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.name.lower())

    @property
    def value(self) -> bytes:
        """What follows the colon, still folded, without the final CRLF."""
        return self.raw.partition(b":")[2].removesuffix(b"\r\n")


@dataclass(frozen=True, slots=True)
class _Header:
    fields: tuple[Field, ...]
    malformed: str
    end: int


class Message:
    """The octets of one mail. Lines end in CRLF (the reader refuses others)."""

    __slots__ = ("__weakref__", "_header", "_map", "_released", "_view", "size")

    def __init__(self, octets: bytes | mmap.mmap, released: Callable[[], None] | None = None) -> None:
        """`released` is called once, by the first `close`."""
        self._released = released
        self._map = octets if isinstance(octets, mmap.mmap) else None
        self._view = memoryview(octets)
        self._header: _Header | None = None
        self.size = len(self._view)

    @classmethod
    def from_octets(cls, octets: bytes) -> "Message":
        """A message held in memory."""
        return cls(octets)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The header's fields in their order; of a malformed header those before the fault."""
        return self._parsed().fields

    @property
    def malformed(self) -> str:
        """ "" or, in words for the log, why the header cannot be trusted to mean one thing."""
        return self._parsed().malformed

    @property
    def body_offset(self) -> int:
        """Octets before the body: header and empty line. Equal to `size` when there is no body."""
        return self._parsed().end

    @property
    def spooled(self) -> bool:
        """True when the octets are in a file (for metrics and tests alone)."""
        return self._map is not None

    def view(self, start: int = 0, stop: int | None = None) -> memoryview:
        """The octets from `start` to `stop` without a copy."""
        return self._view[start:stop]

    def chunks(self, start: int = 0, size: int = 256 * 1024) -> Iterator[memoryview]:
        """The octets from `start` on, in pieces of at most `size`, without a copy."""
        for offset in range(start, self.size, size):
            yield self._view[offset : offset + size]

    def close(self) -> None:
        """Gives memory or file back. Views that others hold stay valid; new ones raise `ValueError`."""
        self._view.release()
        if self._map is not None:
            with contextlib.suppress(BufferError):  # someone still reads: the last view that goes frees it
                self._map.close()
            self._map = None
        released, self._released = self._released, None
        if released is not None:
            released()

    def _parsed(self) -> _Header:
        if self._header is None:
            self._header = _parse(self._view)
        return self._header


def _parse(view: memoryview) -> _Header:
    if bytes(view[:2]) == b"\r\n":
        return _Header((), "", 2)
    # The usual header fits the first try; none is looked at beyond the limit.
    for reach in (8 * 1024, HEADER_LIMIT):
        head = bytes(view[:reach])
        end = head.find(b"\r\n\r\n")
        if end >= 0 or reach >= len(view):
            break
    if end >= 0:
        return _fields(head[: end + 2], end + 4)
    if len(view) > HEADER_LIMIT:
        fields = _fields(head[: head.rfind(b"\r\n") + 2], len(view))
        return _Header(fields.fields, "the header is too long", len(view))
    return _fields(head, len(view))


def _fields(head: bytes, body_offset: int) -> _Header:
    fields: list[Field] = []
    malformed = ""
    if not clean(head):
        malformed = "the header has a bare CR, a bare LF or a NUL"
    start = 0
    while start < len(head) and not malformed:
        found = _FIELD_END.search(head, start)
        stop = found.end() if found else len(head)
        name = _NAME.match(head, start, stop)
        if name is None:
            malformed = _fault(head[start : start + 1])
        elif len(fields) == FIELDS_LIMIT:
            malformed = "the header has too many fields"
        else:
            fields.append(Field(name[1], head[start:stop]))
        start = stop
    return _Header(tuple(fields), malformed, body_offset)


def _fault(first: bytes) -> str:
    if first in (b" ", b"\t"):
        return "the header's first line is a continuation"
    return "the header has a line that is no field"


class MessageWriter:
    """Collects a message: in memory up to `spool_above` octets, then in a file that has no name.

    A full disk raises `Unavailable` (452 4.3.1 to the client) and leaves nothing behind. `counted` hears of every
    octet that is kept, and as many below zero when writer or message gave them back; it may raise `Unavailable` where
    there is no room for more.
    """

    __slots__ = ("_counted", "_directory", "_file", "_held", "_memory", "_spool_above", "size")

    def __init__(
        self,
        spool_above: int = SPOOL_ABOVE,
        directory: str | None = None,
        counted: Callable[[int], None] | None = None,
    ) -> None:
        self._spool_above = spool_above
        self._directory = directory
        self._counted = counted
        self._held = 0  # octets that `counted` has heard of
        self._memory = bytearray()  # not a list of pieces: a client that drips octets would cost 40 times its message
        self._file: BinaryIO | None = None
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """Adds `chunk`."""
        if self._counted is not None:
            self._counted(len(chunk))
            self._held += len(chunk)
        self.size += len(chunk)
        if self._file is None:
            self._memory += chunk
            if self.size > self._spool_above:
                self._spool()
        else:
            self._put(chunk)

    def finish(self) -> Message:
        """The message, which now owns the octets. The writer is empty afterwards."""
        if self._file is None:
            octets: bytes | mmap.mmap = bytes(self._memory)
        else:
            try:
                octets = mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_READ)
            except OSError as why:
                self.abandon()
                raise Unavailable(f"spool: {why}") from why
        released = None if self._counted is None else partial(self._counted, -self._held)
        self._held = 0
        self.abandon()
        return Message(octets, released)

    def abandon(self) -> None:
        """Drops what was written."""
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._held and self._counted is not None:
            held, self._held = self._held, 0
            self._counted(-held)

    def _spool(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115 - kept open
        except OSError as why:
            self.abandon()
            raise Unavailable(f"spool: {why}") from why
        memory, self._memory = self._memory, bytearray()
        self._put(memory)

    def _put(self, chunk: bytes | bytearray) -> None:
        assert self._file is not None
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as why:  # ENOSPC, EDQUOT, EIO: the sender keeps the mail
            self.abandon()
            raise Unavailable(f"spool: {why}") from why
