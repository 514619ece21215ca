"""What is in zip, tar, gzip and OLE files, as far as names and first octets tell, within bounds.

The decompressor is the library's (`zlib`), the tables are walked here: `zipfile` builds an object an entry for as many
entries as a stranger cares to list (half a million fit into 25 MB), obeys LZMA's wish for gigabytes, and neither it nor
`tarfile` shows where two readers would see two archives. An archive that contradicts itself (local and central
names, overlapping entries, two directories, a declared size that no honest file has) is `unreadable`.

For OLE (Office before 2007, MSI, encrypted OOXML) the names of streams are searched where directory entries can be,
instead of following sector chains that the sender wrote: linear, and a macro cannot hide behind a broken chain.
Rar, 7z and others are known by their first octets alone. APPNOTE 6.3.10, POSIX pax, RFC 1952, [MS-CFB].
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

HEAD = 2_048  # octets of a member that are looked at
_TAIL = 65_557  # the end record and the longest comment
_CENTRAL = struct.Struct("<4sHHHHHHLLLHHHHHLL")
_END = struct.Struct("<4sHHHHLLH")
_STORED, _DEFLATED, _AES = 0, 8, 99
_LARGEST = 0xFFFFFFFF
_BOMB = 100_000_000  # declared octets; smaller ones harm nobody
_RATIO = 200  # text packs 20 to 1, deflate's own limit is 1032


@dataclass(slots=True)
class Work:
    """What one mail may cost in archives, all of them together."""

    members: int = 1_500
    inflated: int = 16_000_000


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive. `names` are several where the archive says two things."""

    names: tuple[str, ...]
    size: int
    head: bytes = b""
    encrypted: bool = False
    at: int = 0
    packed: int = 0
    method: int = _STORED


@dataclass(frozen=True, slots=True)
class Listing:
    """The members of an archive, and why they may not be all ("" when they are)."""

    members: tuple[Member, ...] = ()
    fault: str = ""


def zip_listing(octets: bytes, work: Work) -> Listing:
    """The central directory, each entry held against its local header."""
    found = _directory(octets)
    if found is None:
        return Listing(fault="no zip directory")
    start, end, shift, said = found
    at = start
    members: list[Member] = []
    fault = ""
    packed_total = size_total = 0
    while at + _CENTRAL.size <= end and octets.startswith(b"PK\x01\x02", at):
        work.members -= 1
        if work.members < 0:
            return Listing(tuple(members), "too many members")
        _, _, _, flags, method, _, _, _, packed, size, n, extra, comment, _, _, _, offset = _CENTRAL.unpack_from(
            octets, at
        )
        name = octets[at + _CENTRAL.size : at + _CENTRAL.size + n]
        at += _CENTRAL.size + n + extra + comment
        packed_total, size_total = packed_total + packed, size_total + size
        local, data = _local(octets, offset + shift)
        names = [_spelt(name, flags)]
        if local != name:
            fault = "directory and entry name two files"
            names += [_spelt(local, flags)] if local else []
        encrypted = bool(flags & 0x41) or method == _AES
        if method not in (_STORED, _DEFLATED, _AES):
            fault = fault or "a compression that is not looked into"
        member = Member(tuple(names), size, encrypted=encrypted, at=data, packed=packed, method=method)
        members.append(Member(tuple(names), size, _head(octets, member), encrypted, data, packed, method))
    if len(members) & 0xFFFF != said or at != end:
        fault = "the zip directory contradicts itself"
    elif packed_total > len(octets):
        fault = "members overlap"
    elif size_total > _BOMB and size_total > _RATIO * len(octets):
        fault = "a zip bomb"
    elif shift and octets.startswith(b"PK\x01\x02", start - shift):
        fault = "two zip directories"
    return Listing(tuple(members), fault)


def _directory(octets: bytes) -> tuple[int, int, int, int] | None:
    """Start and end of the central directory, what to add to its offsets, and how many entries it claims."""
    at = octets.rfind(b"PK\x05\x06", max(0, len(octets) - _TAIL))
    if at < 0 or at + _END.size > len(octets):
        return None
    _, _, _, _, said, length, offset, _ = _END.unpack_from(octets, at)
    if _LARGEST in (length, offset) or said == 0xFFFF:  # zip64: its own end record stands before
        at = octets.rfind(b"PK\x06\x06", max(0, at - 4_096), at)
        if at < 0 or at + 56 > len(octets):
            return None
        said, length, offset = struct.unpack_from("<QQQ", octets, at + 32)
        said &= 0xFFFF
    start = at - length
    return (start, at, start - offset, said) if start >= 0 else None


def _local(octets: bytes, at: int) -> tuple[bytes, int]:
    """Name and start of the data as the entry itself has them."""
    if at < 0 or at + 30 > len(octets) or not octets.startswith(b"PK\x03\x04", at):
        return b"", len(octets)
    n, extra = struct.unpack_from("<HH", octets, at + 26)
    return octets[at + 30 : at + 30 + n], at + 30 + n + extra


def _spelt(name: bytes, flags: int) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("utf-8" if flags & 0x800 else "cp437", "replace")


def _head(octets: bytes, member: Member) -> bytes:
    if member.encrypted or member.method not in (_STORED, _DEFLATED):
        return b""
    raw = octets[member.at : member.at + min(member.packed, HEAD)]
    if member.method == _STORED:
        return raw
    try:
        return zlib.decompressobj(-15).decompress(raw, HEAD)
    except zlib.error:
        return b""


def unpacked(octets: bytes, member: Member, work: Work) -> bytes | None:
    """All of a member that is an archive or document itself, or None: too large, or damaged."""
    if member.encrypted or member.packed > len(octets) or member.size > work.inflated:
        return None
    if member.method == _STORED:
        if member.packed > work.inflated:  # whatever it declares
            return None
        work.inflated -= member.packed
        return octets[member.at : member.at + member.packed]
    if member.size > _RATIO * member.packed + 1_000_000:
        return None
    return inflated(octets[member.at : member.at + member.packed], -15, work)


def inflated(octets: bytes, bits: int, work: Work) -> bytes | None:
    """The octets inflated, or None where that is more than is left of the budget."""
    most = work.inflated
    try:
        engine = zlib.decompressobj(bits)
        out = engine.decompress(octets, most + 1)
    except zlib.error:
        work.inflated -= min(len(octets), most)
        return None
    work.inflated = max(0, most - len(out))
    return out if len(out) <= most and engine.eof else None


def gzip_head(octets: bytes) -> bytes | None:
    """The first octets of what is in a gzip file; None where it is none."""
    try:
        return zlib.decompressobj(31).decompress(octets[:HEAD], HEAD)
    except zlib.error:
        return None


def tar_listing(octets: bytes, work: Work) -> Listing:
    """The headers of a tar file, with GNU's and pax's long names."""
    members: list[Member] = []
    at, longer = 0, ""
    while at + 512 <= len(octets):
        block = octets[at : at + 512]
        if not block[0]:
            return Listing(tuple(members), "" if not block.strip(b"\0") else "a damaged tar header")
        work.members -= 1
        size = _number(block[124:136])
        if work.members < 0 or size is None or at + 512 + size > len(octets) + 512:
            return Listing(tuple(members), "too many members" if work.members < 0 else "a damaged tar header")
        kind, data = block[156:157], at + 512
        if kind in (b"L", b"x"):
            said = octets[data : data + min(size, 8_192)]
            longer = _pax_path(said) if kind == b"x" else said.split(b"\0")[0].decode("utf-8", "replace")
        elif kind in (b"0", b"\0", b"7"):
            prefix = block[345:500] if block[257:262] == b"ustar" else b""
            short = b"/".join(part.split(b"\0")[0] for part in (prefix, block[:100]) if part[:1] not in (b"", b"\0"))
            name = longer or short.decode("utf-8", "replace")
            members.append(Member((name,), size, octets[data : data + min(size, HEAD)], at=data, packed=size))
            longer = ""
        at = data + (size + 511) // 512 * 512
    return Listing(tuple(members), "" if members else "an empty tar file")


def _number(text: bytes) -> int | None:
    if text[0] & 0x80:
        return int.from_bytes(text[1:], "big") if text[0] == 0x80 else None
    plain = text.strip(b" \0")
    try:
        return int(plain, 8) if plain else 0
    except ValueError:
        return None


def _pax_path(said: bytes) -> str:
    for line in said.split(b"\n")[:100]:
        if line.partition(b" ")[2].startswith(b"path="):
            return line.partition(b"=")[2].decode("utf-8", "replace")
    return ""


def _wide(name: str) -> bytes:
    return name.encode("utf-16-le")


_VBA = _wide("_VBA_PROJECT")
_ENCRYPTED = _wide("EncryptedPackage")
_INSTALLERS = (b"\x84\x10\x0c\0\0\0\0\0\xc0\0\0\0\0\0\0\x46", b"\x86\x10\x0c\0\0\0\0\0\xc0\0\0\0\0\0\0\x46")


def ole_kind(octets: bytes) -> str:
    """executable (an installer), macro, encrypted or document."""
    if len(octets) >= 512:
        shift, first = int.from_bytes(octets[30:32], "little"), int.from_bytes(octets[48:52], "little")
        root = (first + 1) << min(shift, 16)
        if octets[root + 80 : root + 96] in _INSTALLERS:
            return "executable"
    if _entry(octets, _VBA) or any(_macro_sheets(octets)):
        return "macro"
    return "encrypted" if _entry(octets, _ENCRYPTED) else "document"


def _entry(octets: bytes, name: bytes) -> bool:
    """True when the name begins a directory entry: those are 128 octets long and aligned ([MS-CFB] section 2.6.1)."""
    at = octets.find(name)
    for _ in range(64):
        if at < 0 or at % 128 == 0:
            return at >= 0
        at = octets.find(name, at + 1)
    return True  # who repeats it that often means to hide one


def _macro_sheets(octets: bytes) -> Iterator[bool]:
    """Excel 4 macro sheets: BoundSheet8 records of type 1 ([MS-XLS] section 2.4.28), by shape, in the first 256 KB."""
    at = -1
    for _ in range(2_000):
        at = octets.find(b"\x85\0", at + 1, 256 * 1024)
        if at < 0:
            return
        record = octets[at + 2 : at + 12]
        if len(record) == 10 and record[7] == 1 and record[6] & 3 < 3:
            length, letters, wide = int.from_bytes(record[:2], "little"), record[8], record[9] & 1
            yield length == 8 + letters * (1 + wide) and letters > 0
