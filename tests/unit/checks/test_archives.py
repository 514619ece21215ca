"""Archives as hostile senders make them: listed or `fault`, within the budget (APPNOTE, pax, RFC 1952, MS-CFB)."""

import struct
import tarfile
import zipfile

import pytest

from gateway.checks.archives import Member, Work, gzip_head, inflated, ole_kind, tar_listing, unpacked, zip_listing
from tests.unit.checks.made import gzipped, locked, ole, tarred, zipped

TWO = {"a.txt": b"hello" * 100, "dir/b.exe": b"MZ\0\0"}


def names(octets: bytes) -> list[str]:
    return [name for member in zip_listing(octets, Work()).members for name in member.names]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_zip(method: int) -> None:
    octets = zipped(TWO, method)
    listing = zip_listing(octets, Work())
    assert listing.fault == ""
    assert [(m.names, m.size, m.encrypted) for m in listing.members] == [
        (("a.txt",), 500, False),
        (("dir/b.exe",), 4, False),
    ]
    assert [m.head for m in listing.members] == list(TWO.values())
    assert [unpacked(octets, m, Work()) for m in listing.members] == list(TWO.values())


def test_junk_before_and_after_is_what_readers_allow() -> None:
    assert zip_listing(b"junk" * 100 + zipped(TWO), Work()).fault == ""
    assert zip_listing(zipped(TWO) + b"\r\n" * 100, Work()).fault == ""
    assert zip_listing(zipped({}), Work()) == zip_listing(b"PK\5\6" + bytes(18), Work())


def test_encrypted() -> None:
    octets = locked(zipped(TWO))
    assert [(m.encrypted, m.head) for m in zip_listing(octets, Work()).members] == [(True, b"")] * 2
    assert unpacked(octets, zip_listing(octets, Work()).members[0], Work()) is None


def changed(octets: bytes, old: bytes, new: bytes) -> bytes:
    at = octets.index(old)
    return octets[:at] + new + octets[at + len(new) :]


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"", "no zip directory"),
        (b"PK\3\4", "no zip directory"),
        (zipped(TWO)[:-10], "no zip directory"),
        (zipped(TWO).replace(b"PK\1\2", b"PK\1\1"), "the zip directory contradicts itself"),
        (changed(zipped(TWO), b"b.exe", b"b.txt"), "directory and entry name two files"),
        (zipped(TWO).replace(b"PK\3\4", b"PK\3\3"), "directory and entry name two files"),
        (zipped(TWO, zipfile.ZIP_BZIP2), "a compression that is not looked into"),
        (zipped(TWO, zipfile.ZIP_LZMA), "a compression that is not looked into"),
    ],
)
def test_faults(octets: bytes, fault: str) -> None:
    assert zip_listing(octets, Work()).fault == fault


def test_both_names_of_an_entry_are_told() -> None:
    assert names(changed(zipped({"a.exe": b"x"}), b"a.exe", b"a.txt")) == ["a.exe", "a.txt"]


def entry(name: bytes, packed: int, size: int, at: int = 0) -> bytes:
    return (
        struct.pack("<4sHHHHHHLLLHHHHHLL", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, packed, size, len(name), 0, 0, 0, 0, 0, at)
        + name
    )


def directory(entries: list[bytes], before: bytes) -> bytes:
    listed = b"".join(entries)
    count = len(entries) & 0xFFFF
    return before + listed + struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, count, count, len(listed), len(before), 0)


LOCAL = struct.pack("<4sHHHHHLLLHH", b"PK\3\4", 20, 0, 8, 0, 0, 0, 9, 9, 1, 0) + b"a" + b"x" * 90


def test_overlapping_entries() -> None:
    assert zip_listing(directory([entry(b"a", 90, 100)] * 100, LOCAL), Work()).fault == "members overlap"


def test_a_bomb() -> None:
    assert zip_listing(directory([entry(b"a", 90, 4_000_000_000)], LOCAL), Work()).fault == "a zip bomb"


def test_a_zip_of_a_million_entries_costs_its_budget() -> None:
    work = Work(members=100)
    listing = zip_listing(directory([entry(b"a", 1, 1)] * 70_000, LOCAL), work)
    assert (len(listing.members), listing.fault, work.members) == (100, "too many members", -1)


def test_zip64() -> None:
    plain = zipped(TWO)
    at = plain.rindex(b"PK\5\6")
    _, _, _, _, count, length, offset, _ = struct.unpack_from("<4sHHHHLLH", plain, at)
    record = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    end = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    assert names(plain[:at] + record + locator + end) == list(TWO)
    assert zip_listing(plain[:at] + end, Work()).fault == "no zip directory"


def test_two_directories() -> None:
    """Some readers trust the offset, some the place before the end record."""
    hidden = zipped({"b.exe": b"MZ"})
    shown = zipped({"a.txt": b"hello"})
    at = hidden.index(b"PK\1\2")
    where = shown.rindex(b"PK\5\6")
    both = hidden + shown[:where] + shown[where : where + 16] + struct.pack("<L", at) + shown[where + 20 :]
    assert zip_listing(both, Work()).fault != ""


def test_inflating_is_bounded() -> None:
    bomb = gzipped(b"\0" * 10_000_000)
    work = Work(inflated=100_000)
    assert inflated(bomb, 31, work) is None
    assert work.inflated == 0
    assert inflated(gzipped(b"abc"), 31, Work()) == b"abc"
    assert inflated(gzipped(b"abc")[:-9], 31, Work()) is None
    assert inflated(b"nonsense", 31, Work()) is None


def test_members_out_of_all_ratio_are_not_unpacked() -> None:
    octets = zipped({"a.zip": b"\0" * 9_000_000})
    work = Work()
    assert unpacked(octets, zip_listing(octets, work).members[0], work) is None
    assert work.inflated == Work().inflated
    stored = zipped({"a.zip": b"\0" * 9_000}, zipfile.ZIP_STORED)
    work = Work(inflated=8_999)
    assert unpacked(stored, zip_listing(stored, work).members[0], work) is None


def test_a_stored_member_that_lies_about_its_size() -> None:
    member = Member(("a.zip",), 1, at=0, packed=90)
    work = Work(inflated=50)
    assert unpacked(b"x" * 100, member, work) is None
    assert work.inflated == 50


def test_gzip_head() -> None:
    assert gzip_head(gzipped(b"hello")) == b"hello"
    assert gzip_head(b"\x1f\x8b\x08nonsense") is None


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar(form: int) -> None:
    long = "d/" * 60 + "b.exe"
    listing = tar_listing(tarred({"a.txt": b"hello", long: b"MZ", "c": b""}, form), Work())
    assert [(m.names, m.size, m.head) for m in listing.members] == [
        (("a.txt",), 5, b"hello"),
        ((long,), 2, b"MZ"),
        (("c",), 0, b""),
    ]
    assert listing.fault == ""


def test_damaged_tars() -> None:
    plain = tarred({"a": b"x" * 1000})
    assert tar_listing(b"", Work()).fault == "an empty tar file"
    assert tar_listing(plain[:124] + b"nonsense" + plain[132:], Work()).fault == "a damaged tar header"
    assert tar_listing(plain[:124] + b"\xff" * 12 + plain[136:], Work()).fault == "a damaged tar header"
    assert tar_listing(plain[:900], Work()).fault == "a damaged tar header"
    assert tar_listing(b"\0" * 511 + b"x", Work()).fault == "a damaged tar header"
    assert tar_listing(tarred({str(n): b"" for n in range(20)}), Work(members=10)).fault == "too many members"
    large = bytearray(plain)
    large[124:136] = b"\x80" + (1000).to_bytes(11, "big")
    assert tar_listing(bytes(large), Work()).members[0].size == 1000


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (ole("WordDocument"), "document"),
        (ole("WordDocument", "_VBA_PROJECT"), "macro"),
        (ole("Workbook", "_VBA_PROJECT_CUR"), "macro"),
        (ole("EncryptionInfo", "EncryptedPackage"), "encrypted"),
        (ole("x", class_id=bytes.fromhex("84100c0000000000c000000000000046")), "executable"),
        (ole("Workbook", extra=b"\x85\0\x0e\0\0\0\0\0\0\x01\x06\0Macro1"), "macro"),
        (ole("Workbook", extra=b"\x85\0\x0e\0\0\0\0\0\0\x00\x06\0Sheet1"), "document"),
        (ole("Workbook", extra=b"x" + "_VBA_PROJECT".encode("utf-16-le")), "document"),
        (ole("Workbook", extra=b"x" + "_VBA_PROJECT".encode("utf-16-le") * 100), "macro"),
        (b"", "document"),
        (b"\xff" * 600, "document"),
    ],
)
def test_ole(octets: bytes, kind: str) -> None:
    assert ole_kind(octets) == kind
