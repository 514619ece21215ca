"""MIME as hostile mail writes it: the leaves of a message, found in linear time and within bounds.

Our own walker, for the standard library's `email` builds the whole tree in time and memory that the sender chooses, and
resynchronises where it should be wary. This one goes along the boundaries with `bytes.find`, decodes nothing, and says
so where a mail means two things to two readers: a header that says twice what a part is, a multipart without its
boundary or with an encoding. Such a place is a `Puzzle`.

RFC 2045, 2046, 2047, 2183, 2231. Called by `scan`; `transfer` decodes the leaves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from gateway.mail.encodedword import decoded as words_decoded

HEADER_LIMIT = 256 * 1024  # octets of one header, as in `mail/message`
VALUE_LIMIT = 8 * 1024  # octets of one field
NESTING = 20  # multiparts in one another
_BOUNDARY_LIMIT = 200  # RFC 2046 section 5.1.1 allows 70
_PARAMETERS = 64
_ENCODED = ("base64", "quoted-printable", "x-uuencode", "uuencode", "x-uue")


@dataclass(slots=True)
class Budget:
    """What one mail may cost, all its nested mails together. Each goes down to 0, and then there is a `Puzzle`."""

    parts: int = 500
    header_octets: int = 1024 * 1024
    scanned: int = 0  # octets looked through for boundaries
    near_misses: int = 5_000  # lines that begin like a boundary

    def part(self, header: int) -> bool:
        """Takes one part; False when it is one too many."""
        self.parts -= 1
        self.header_octets -= header
        return self.parts >= 0 and self.header_octets >= 0


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf: what it says it is, all the names it gives itself, and where its encoded octets stand."""

    type: str
    names: tuple[str, ...]
    attachment: bool  # Content-Disposition is there and not `inline`
    encoding: str
    start: int
    stop: int
    puzzling: bool = False  # its header means two things

    @property
    def encoded(self) -> bool:
        """True when its octets are not what they are meant to be."""
        return self.encoding in _ENCODED


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A place that readers will read differently, or that is over a bound: what is in it cannot be told."""

    why: str


@dataclass(slots=True)
class _Header:
    """The fields of a part that say what it is."""

    types: list[str] = field(default_factory=list)
    dispositions: list[str] = field(default_factory=list)
    encodings: list[str] = field(default_factory=list)
    body: int = 0
    octets: int = 0
    puzzling: bool = False


def leaves(octets: bytes, start: int, stop: int, budget: Budget) -> Iterator[Part | Puzzle]:
    """The leaves of the mail in `octets[start:stop]`, in order. Nested mails are leaves."""
    # A stack and no recursion; ranges are pushed backwards, so that leaves come in order.
    pending = [(start, stop, 0, "text/plain")]
    while pending:
        start, stop, depth, default = pending.pop()
        header = _header(octets, start, stop)
        if not budget.part(header.octets):
            yield Puzzle("too many parts")
            return
        kind, parameters = _type(header, default)
        encoding = header.encodings[0] if header.encodings else ""
        if not kind.startswith("multipart/"):
            yield _leaf(kind, parameters, header, encoding, stop)
            continue
        # Forbidden, and common with quoted-printable, which every reader then ignores (RFC 2045 section 6.4).
        encoded = encoding in _ENCODED and encoding != "quoted-printable"
        if header.puzzling or encoded:
            yield Puzzle("an encoded multipart" if encoded else "a header that says two things")
        if depth == NESTING:
            yield Puzzle("multiparts nested too deeply")
            continue
        boundary = next(iter(values(parameters, "boundary")), "").rstrip(" ").encode("utf-8", "replace")
        ranges, puzzle = _split(octets, header.body, stop, boundary, budget)
        if puzzle:
            yield Puzzle(puzzle)
        inner = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        pending += [(one, end, depth + 1, inner) for one, end in reversed(ranges)]


def _leaf(kind: str, parameters: list[tuple[str, str]], header: _Header, encoding: str, stop: int) -> Part:
    disposition, about = split_value(header.dispositions[0]) if header.dispositions else ("", [])
    names = [*values(about, "filename"), *values(parameters, "name")]
    for more in header.dispositions[1:] + header.types[1:]:
        names += [name for key in ("filename", "name") for name in values(split_value(more)[1], key)]
    # A NUL ends a name for some readers.
    every = dict.fromkeys(piece for name in names for piece in (name, *name.split("\0")) if piece.strip())
    attached = bool(disposition) and disposition != "inline"
    return Part(kind, tuple(every)[:20], attached, encoding, header.body, stop, header.puzzling)


def _type(header: _Header, default: str) -> tuple[str, list[tuple[str, str]]]:
    if not header.types:
        return default, []
    kind, parameters = split_value(header.types[0])
    return (kind if "/" in kind else "application/octet-stream"), parameters


def _header(octets: bytes, start: int, stop: int) -> _Header:
    """The header at `start`. Lines that are no field are passed over, as readers do; whatever repeats is a puzzle."""
    found = _Header()
    reach = min(stop, start + HEADER_LIMIT)
    if octets.startswith(b"\r\n", start):
        found.body = start + 2
        return found
    end = octets.find(b"\r\n\r\n", start, reach)
    found.body = end + 4 if end >= 0 else reach
    found.puzzling = end < 0 and reach < stop
    block = octets[start : end if end >= 0 else reach]
    found.octets = len(block)
    if b"ontent-" not in block and b"ONTENT-" not in block and b"content-" not in block.lower():
        return found
    lines = block.split(b"\r\n")
    for number, line in enumerate(lines):
        if line[:1] not in b"cC" or not line:
            continue
        name, colon, value = line.partition(b":")
        wanted = _WANTED.get(name.rstrip(b" \t").lower()) if colon else None
        if wanted is None:
            continue
        folded = [value]
        for more in lines[number + 1 :]:
            if more[:1] not in (b" ", b"\t"):
                break
            folded.append(more)
            if len(folded) > 500:
                break
        text = b"".join(folded)[:VALUE_LIMIT].decode("utf-8", "replace").strip()
        into: list[str] = getattr(found, wanted)
        if wanted == "encodings":
            text = text.partition("(")[0].partition(";")[0].strip(' \t"').lower()
        found.puzzling = found.puzzling or (bool(into) and into[0] != text)
        if len(into) < 8:
            into.append(text)
    return found


_WANTED = {
    b"content-type": "types",
    b"content-disposition": "dispositions",
    b"content-transfer-encoding": "encodings",
}


def _split(octets: bytes, start: int, stop: int, boundary: bytes, budget: Budget) -> tuple[list[tuple[int, int]], str]:
    """The ranges between the delimiters (RFC 2046 section 5.1.1), and what is wrong."""
    if not boundary or len(boundary) > _BOUNDARY_LIMIT:
        return [], "a multipart without a boundary that can be"
    budget.scanned -= stop - start
    if budget.scanned < 0:
        return [], "large multiparts nested too deeply"
    needle = b"\r\n--" + boundary
    ranges: list[tuple[int, int]] = []
    opened = -1
    at = max(0, start - 2)
    if start == 0 and octets.startswith(needle[2:]):
        at, opened = 0, _line_end(octets, len(needle) - 2, stop)
    while (found := octets.find(needle, at, stop)) >= 0:
        after = found + len(needle)
        end = octets.find(b"\r\n", after, min(stop, after + 1_000))
        rest = octets[after : end if end >= 0 else min(stop, after + 1_000)]
        last = rest.startswith(b"--")
        at = after
        if (rest[2:] if last else rest).strip(b" \t"):
            budget.near_misses -= 1  # another boundary that begins like this one
            if budget.near_misses < 0:
                return ranges, "too many lines that are nearly a boundary"
            continue
        if opened >= 0:
            ranges.append((opened, max(opened, found)))
        if last:
            # Not every reader stops at the end, least of all where a multipart in it has the same boundary.
            more = octets.find(needle, after, stop) >= 0
            return ranges, "parts behind the end" if more else "" if ranges else "a multipart without parts"
        if len(ranges) > budget.parts:
            return ranges, "too many parts"
        opened = end + 2 if end >= 0 else stop
        at = max(after, opened - 2)  # the line's end may begin the next delimiter
    if opened >= 0:
        ranges.append((opened, stop))  # no final delimiter: readers take what is there
    return ranges, "" if ranges else "a multipart without its boundary"


def _line_end(octets: bytes, at: int, stop: int) -> int:
    end = octets.find(b"\r\n", at, min(stop, at + 1_000))
    return end + 2 if end >= 0 else stop


# Parameters


def split_value(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The word of a field in lower case and its parameters, as readers take them: quotes and their escapes resolved."""
    first, _, _ = text.partition(";")
    found: list[tuple[str, str]] = []
    at = len(first) + 1
    while at < len(text) and len(found) < _PARAMETERS:
        equals, semicolon = text.find("=", at), text.find(";", at)
        if equals < 0:
            break
        if 0 <= semicolon < equals:
            at = semicolon + 1
            continue
        name = text[at:equals].strip().lower()
        value, at = _value(text, equals + 1)
        found.append((name, value))
    return first.partition("(")[0].strip().lower(), found


def _value(text: str, at: int) -> tuple[str, int]:
    while text[at : at + 1] in (" ", "\t"):
        at += 1
    if text[at : at + 1] != '"':
        end = text.find(";", at)
        end = end if end >= 0 else len(text)
        return text[at:end].strip(), end + 1
    pieces: list[str] = []
    at += 1
    while True:
        quote, escape = text.find('"', at), text.find("\\", at)
        if quote < 0:
            return "".join(pieces) + text[at:], len(text)
        if 0 <= escape < quote:
            pieces += [text[at:escape], text[escape + 1 : escape + 2]]
            at = escape + 2
            continue
        end = text.find(";", quote)
        return "".join(pieces) + text[at:quote], (end if end >= 0 else len(text)) + 1


def values(parameters: Sequence[tuple[str, str]], name: str) -> list[str]:
    """Every value that the parameter has to some reader: RFC 2231 first, then with encoded-words decoded."""
    found: list[str] = []
    pieces: dict[int, tuple[str, bool]] = {}
    for key, value in parameters:
        base, star, rest = key.partition("*")
        if base.strip() != name:
            continue
        number, extended = rest.removesuffix("*"), rest.endswith("*") or (star and not rest)
        if not star:
            found.append(words_decoded(value) if "=?" in value else value)
        elif not number:
            found.insert(0, _percent(value, charset=True))
        elif number.isascii() and number.isdigit() and len(number) < 4:
            pieces.setdefault(int(number), (value, bool(extended)))
    if pieces:
        ordered = [pieces[number] for number in sorted(pieces)]
        joined = "".join(
            _percent(value, charset=not index) if extended else value for index, (value, extended) in enumerate(ordered)
        )
        found.insert(0, joined)
    return found


def _percent(value: str, *, charset: bool) -> str:
    # The extension is ASCII in every character set of mail: the named one is not asked.
    if charset and value.count("'") >= 2:
        value = value.split("'", 2)[2]
    octets = unquote_to_bytes(value)
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")
