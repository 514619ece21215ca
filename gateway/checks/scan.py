"""The files in a mail, those in archives and in nested mails included: name, type, kind, size. Pure and bounded.

A file's kind is the worse of what its name promises and what its octets are. A part that is the mail's own text is no
file. What cannot be looked into (damaged, over a bound, a puzzle for readers) has the kind `unreadable`, never an
exception: a hostile mail gives facts like any other. Names are a stranger's: on one line, of bounded length, and in
archives behind the archive's own name (`invoice.zip/invoice.pdf.exe`).

Bounds of one mail, everything in it together: `mime.Budget`, `archives.Work`, and the constants here.
"""

import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from gateway.checks import archives, filekind, mime, transfer
from gateway.checks.archives import Listing, Work
from gateway.checks.mime import Budget, Part
from gateway.mail.encodedword import visible

#: Files told of; where there are more, the most dangerous ones. The journal keeps them all.
MOST = 250
NAME_LIMIT = 160
#: Archives and mails in one another.
DEPTH = 6
HEAD = 33_000  # octets of a part that are looked at: the mark of a disk image stands at 32,769
_TEXTS = frozenset({"text/plain", "text/html", "text/enriched", "text/x-amp-html"})
_MAILS = frozenset({"message/rfc822", "message/global", "message/news"})
#: Not all of it is here.
_PIECES = frozenset({"message/partial", "message/external-body"})
#: S/MIME and PGP: what is signed in there is as hidden from us as what is encrypted.
_SEALED = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime", "application/pgp-encrypted"})
_OPENED = frozenset({"application/zip", "application/gzip", "application/x-tar", "application/x-ole-storage"})
_UNKNOWN = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One file."""

    name: str
    type: str
    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class _File:
    """A file before it is opened. `type` and `kind` are what its first octets say; `whole` gives all of them."""

    names: Sequence[str]
    type: str
    kind: str
    size: int
    whole: Callable[[], bytes | None]
    doubts: tuple[str, ...] = ()  # kinds that it has whatever is in it


def scan(octets: bytes) -> tuple[Attachment, ...]:
    """The files of the mail in `octets`, in their order; an archive stands before what is in it."""
    scanner = _Scanner(len(octets))
    scanner.mail(octets, 0, len(octets), "", 0)
    found = scanner.found
    if len(found) > MOST:
        worst = sorted(range(len(found)), key=lambda n: filekind.RANK.index(found[n].kind))[:MOST]
        found = [found[number] for number in sorted(worst)]
    return tuple(found)


class _Scanner:
    def __init__(self, size: int) -> None:
        self.found: list[Attachment] = []
        self._budget = Budget(scanned=6 * size + 1_000_000)
        self._work = Work()
        self._decoded = 2 * size + 1_000_000  # octets of transfer encodings

    # Mails

    def mail(self, octets: bytes, start: int, stop: int, path: str, depth: int) -> None:
        """The leaves of a mail; `path` is where it was found."""
        for leaf in mime.leaves(octets, start, stop, self._budget):
            if isinstance(leaf, Part):
                self._leaf(octets, leaf, path, depth)
            else:
                self._add(path, "", "unreadable", 0)

    def _leaf(self, octets: bytes, part: Part, path: str, depth: int) -> None:
        head = transfer.head_of(octets, part, HEAD)
        media, kind = filekind.by_content(head)
        size = transfer.size_of(octets, part)
        doubts = ("unreadable",) * part.puzzling + ("encrypted",) * (part.type in _SEALED)
        if part.type in _MAILS and not part.encoded:
            self._add(_joined(path, _worst_name(part.names)), part.type, filekind.worst("text", *doubts), size)
            if depth < DEPTH:
                self.mail(octets, part.start, part.stop, path, depth + 1)
            else:
                self._add(path, part.type, "unreadable", size)
        elif part.type in _TEXTS and not (part.names or part.attachment or (kind and b"\0" in head[:512])):
            # The text that people read. Only a puzzle, or files that old programs wrote into it, are worth a word.
            if doubts:
                self._add(path, part.type, "unreadable", size)
            self._uuencoded(octets, part, path, depth)
        else:
            if part.type in _MAILS:
                media = part.type
            if part.type in _PIECES or not transfer.agreed(octets, part):
                doubts = ("unreadable", *doubts)
            whole = _once(lambda: self._decode(octets, part))
            kind = kind or ("text" if part.type.startswith("text/") else "other")
            self._file(_File(part.names, media or part.type, kind, size, whole, doubts), path, depth)

    def _decode(self, octets: bytes, part: Part) -> bytes | None:
        self._decoded -= part.stop - part.start
        if self._decoded < 0:
            return None
        return transfer.whole_of(octets, part)

    def _uuencoded(self, octets: bytes, part: Part, path: str, depth: int) -> None:
        """Files as mail had them before MIME, which some programs still show as attachments."""
        at = part.start
        for _ in range(0 if part.encoded else 20):
            at = octets.find(b"\r\nbegin ", max(at - 2, 0), part.stop)
            if at < 0:
                return
            end = octets.find(b"\r\n", at + 2, min(part.stop, at + 500))
            words = octets[at + 8 : max(end, at + 8)].split(b" ", 1)
            at += 8
            if end < 0 or len(words) != 2 or not words[0].isdigit() or len(words[0]) not in (3, 4):
                continue
            head = _uu(octets[end + 2 : min(part.stop, end + 60_000)])
            media, kind = filekind.by_content(head)
            name = words[1].decode("utf-8", "replace")
            self._file(_File([name], media or _UNKNOWN, kind, len(head), lambda: None), path, depth)

    # Files

    def _file(self, file: _File, path: str, depth: int) -> None:
        """Adds one file and what is in it."""
        name = _worst_name(file.names)
        media, kind = file.type, file.kind or "other"
        mail = media in _MAILS or name.lower().endswith(".eml")
        place = len(self.found)
        self._add(_joined(path, name), media, "other", file.size)
        shown = self.found[place].name
        if mail or media in _OPENED or name.lower().endswith(".zip"):
            octets = file.whole() if depth < DEPTH else None
            inside = "unreadable"
            if octets is not None:
                inside, found = self._inside(octets, shown, media, depth, mail=mail)
                media = found if file.type in _OPENED else media
            # What is inside says better than the first octets what it is: a document is a zip, too.
            kind = inside if file.type in _OPENED else filekind.worst(kind, inside)
        kind = filekind.worst(kind, filekind.by_name(name), *file.doubts)
        self.found[place] = Attachment(shown, _media(media), kind, file.size)

    def _inside(self, octets: bytes, path: str, media: str, depth: int, *, mail: bool) -> tuple[str, str]:
        """The kind that the contents make it, and its type, now known better."""
        if mail:
            lines = octets if b"\r\n" in octets[:2_000] else octets.replace(b"\n", b"\r\n")
            self.mail(lines, 0, len(lines), path, depth + 1)
            return "text", media
        match media:
            case "application/gzip":
                return self._gzip(octets, path, depth), media
            case "application/x-tar":
                return self._members(octets, archives.tar_listing(octets, self._work), path, depth), media
            case "application/x-ole-storage":
                return archives.ole_kind(octets), media
        return self._zip(octets, path, depth)

    def _gzip(self, octets: bytes, path: str, depth: int) -> str:
        head = archives.gzip_head(octets)
        if head is None:
            return "unreadable"
        name = path.rpartition("/")[2]
        inner = name[:-4] + ".tar" if name.lower().endswith(".tgz") else name.removesuffix(".gz")
        media, kind = filekind.by_content(head)
        size = int.from_bytes(octets[-4:], "little")
        whole = _once(lambda: archives.inflated(octets, 31, self._work))
        self._file(_File([inner], media or _UNKNOWN, kind, size, whole), path, depth + 1)
        return "archive"

    def _zip(self, octets: bytes, path: str, depth: int) -> tuple[str, str]:
        listing = archives.zip_listing(octets, self._work)
        kind, media = self._document(octets, listing)
        here = len(self.found)
        inside = self._members(octets, listing, path, depth)
        if kind == "archive":
            return inside, media
        # Of a document only what does harm is worth telling: its other parts are what it is made of.
        self.found[here:] = [
            one
            for one in self.found[here:]
            if filekind.dangerous(one.kind) and not (kind == "macro" and _vba(one.name))
        ]
        return (filekind.worst(kind, inside) if inside != "archive" else kind), media

    def _document(self, octets: bytes, listing: Listing) -> tuple[str, str]:
        """What a zip is when it is more than one: kind and type by the names in it."""
        members = {member.names[0].lower(): member for member in listing.members}
        if "[content_types].xml" in members:
            said = (archives.unpacked(octets, members["[content_types].xml"], self._work) or b"")[:1_000_000].lower()
            if "appxmanifest.xml" in members:
                return "executable", "application/appx"
            macro = b"vbaproject" in said or b"macrosheet" in said
            macro = macro or any(_vba(name) or "macrosheets/" in name for name in members)
            return "macro" if macro else "document", "application/vnd.openxmlformats-officedocument"
        if "mimetype" in members and members["mimetype"].head.startswith(b"application/"):
            macro = any(name.startswith(("basic/", "scripts/")) for name in members)
            return "macro" if macro else "document", members["mimetype"].head[:80].decode("ascii", "replace")
        if "androidmanifest.xml" in members:
            return "executable", "application/vnd.android.package-archive"
        if "meta-inf/manifest.mf" in members and any(name.endswith(".class") for name in members):
            return "executable", "application/java-archive"
        return "archive", "application/zip"

    def _members(self, octets: bytes, listing: Listing, path: str, depth: int) -> str:
        kind = "unreadable" if listing.fault else "archive"
        for member in listing.members:
            if member.names[0].endswith("/") and not member.size:
                continue  # a folder
            media, sniffed = filekind.by_content(member.head)
            doubts = ("encrypted",) if member.encrypted else ()
            kind = filekind.worst(kind, *doubts)
            # An archive that contradicts itself is not worth the work, and its numbers are not to be trusted.
            whole = _nothing if listing.fault else _once(partial(archives.unpacked, octets, member, self._work))
            self._file(_File(member.names, media or _UNKNOWN, sniffed, member.size, whole, doubts), path, depth + 1)
        return kind

    def _add(self, name: str, media: str, kind: str, size: int) -> None:
        shown = visible(name)
        shown = shown if len(shown) <= NAME_LIMIT else "…" + shown[1 - NAME_LIMIT :]  # the end tells what it is
        self.found.append(Attachment(shown, _media(media), kind, size))


def _once(make: Callable[[], bytes | None]) -> Callable[[], bytes | None]:
    return cache(make)


def _nothing() -> bytes | None:
    return None


def _media(text: str) -> str:
    """A media type as it may stand in a fact: RFC 2045 wants ASCII, and a mail must not flood its own journal entry."""
    return visible(text.encode("ascii", "replace").decode())[:80]


def _worst_name(names: Sequence[str]) -> str:
    """The name of the most dangerous kind: readers differ in which of several they show."""
    return min(names, key=lambda name: filekind.RANK.index(filekind.by_name(name)), default="")


def _vba(name: str) -> bool:
    return name.rpartition("/")[2].lower().startswith("vbaproject")


def _joined(path: str, name: str) -> str:
    return f"{path}/{name}" if path and name else path or name


def _uu(lines: bytes) -> bytes:
    """The first octets of a uuencoded file."""
    out: list[bytes] = []
    for line in lines.split(b"\r\n")[:800]:
        if line == b"end":
            break
        try:
            out.append(binascii.a2b_uu(line))
        except binascii.Error:
            break
    return b"".join(out)
