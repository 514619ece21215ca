"""Files and mails for the tests of attachments, made here and nowhere copied from."""

import binascii
import io
import struct
import tarfile
import zipfile
import zlib

PROGRAM = b"MZ\x90\0\x03\0\0\0" + b"\0" * 60
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def mail(*parts: bytes, boundary: bytes = b"b", header: bytes = b"") -> bytes:
    """A multipart of these parts."""
    top = b"From: a@example.org\r\nMIME-Version: 1.0\r\n" + header
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return (
        top
        + b'Content-Type: multipart/mixed; boundary="'
        + boundary
        + b'"\r\n\r\n'
        + body
        + b"--"
        + boundary
        + b"--\r\n"
    )


def part(octets: bytes, name: str = "", media: str = "application/octet-stream", *, base64: bool = True) -> bytes:
    """A part that holds `octets`."""
    header = f"Content-Type: {media}\r\n".encode()
    if name:
        header += f'Content-Disposition: attachment; filename="{name}"\r\n'.encode()
    if not base64:
        return header + b"\r\n" + octets
    plain = binascii.b2a_base64(octets, newline=False)
    lines = b"\r\n".join(plain[at : at + 76] for at in range(0, len(plain), 76))
    return header + b"Content-Transfer-Encoding: base64\r\n\r\n" + lines


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, octets in files.items():
            archive.writestr(name, octets)
    return made.getvalue()


def locked(octets: bytes) -> bytes:
    """The zip with its entries marked as encrypted."""
    changed = bytearray(octets)
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = changed.find(mark)
        while at >= 0:
            changed[at + flags] |= 1
            at = changed.find(mark, at + 4)
    return bytes(changed)


def tarred(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, octets in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(octets)
            archive.addfile(entry, io.BytesIO(octets))
    return made.getvalue()


def gzipped(octets: bytes) -> bytes:
    """A gzip file."""
    return zlib.compress(octets, wbits=31)


def ole(*names: str, class_id: bytes = bytes(16), extra: bytes = b"") -> bytes:
    """An OLE file of a header and one directory sector with these entries."""
    header = bytearray(512)
    header[:8] = OLE
    struct.pack_into("<H", header, 30, 9)
    struct.pack_into("<L", header, 48, 0)
    entries = b""
    for name in ("Root Entry", *names):
        entry = bytearray(128)
        wide = name.encode("utf-16-le")
        entry[: len(wide)] = wide
        entry[80:96] = class_id if name == "Root Entry" else bytes(16)
        entries += bytes(entry)
    return bytes(header) + entries + extra
