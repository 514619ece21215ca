"""`python -m tests.bench.attachments`: what looking into hostile mails costs, against base64 of that size alone.

Each row is a mail of 25 MB made to be expensive. CPU time of this process; the ratio is what can be compared between
machines. Not a test: a bound of work is tested by counts (tests/unit/checks/test_scan.py).
"""

import binascii
import io
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from random import Random

from gateway.checks.scan import scan

SIZE = 25_000_000
HEAD = b"From: a@example.org\r\nMIME-Version: 1.0\r\n"


def lines(octets: bytes) -> bytes:
    """Base64 in lines of 76 characters."""
    plain = binascii.b2a_base64(octets, newline=False)
    return b"\r\n".join(plain[at : at + 76] for at in range(0, len(plain), 76))


def mixed(*parts: bytes, boundary: bytes = b"b") -> bytes:
    """A multipart of these parts."""
    body = b"".join(b"\r\n--" + boundary + b"\r\n" + part for part in parts)
    return (
        b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n" + body + b"\r\n--" + boundary + b"--\r\n"
    )


def attached(octets: bytes, name: bytes) -> bytes:
    """A part with a file."""
    header = b"Content-Type: application/octet-stream; name=" + name + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return header + lines(octets)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, octets in files.items():
            archive.writestr(name, octets)
    return made.getvalue()


def many_entries(octets: int) -> bytes:
    """A zip whose directory lists as much as fits, every entry at the same place."""
    entry = struct.pack("<4sHHHHHHLLLHHHHHLL", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, 100, 100, 1, 0, 0, 0, 0, 0, 0) + b"a"
    local = struct.pack("<4sHHHHHLLLHH", b"PK\3\4", 20, 0, 8, 0, 0, 0, 100, 100, 1, 0) + b"a" + zlib.compress(b"x" * 90)
    count = (octets - len(local)) // len(entry)
    end = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, count & 0xFFFF, count & 0xFFFF, count * len(entry), len(local), 0)
    return local + entry * count + end


def nested_mail(depth: int, inner: bytes) -> bytes:
    """Mails in mails, each encoded again."""
    for _ in range(depth):
        header = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        inner = HEAD + mixed(header + lines(inner))
    return inner


def cases() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name and maker of each mail."""
    noise = Random(1).randbytes
    raw = SIZE * 3 // 4
    yield "one large image", lambda: HEAD + mixed(attached(b"\xff\xd8\xff" + noise(raw), b"a.jpg"))
    yield "one large honest zip", lambda: HEAD + mixed(attached(zipped({"a.txt": noise(raw)}), b"a.zip"))
    yield "zip of 400,000 entries", lambda: HEAD + mixed(attached(many_entries(raw), b"a.zip"))
    yield (
        "zip of 1,500 small files",
        lambda: HEAD + mixed(attached(zipped({f"{n}.bin": noise(12_000) for n in range(1_500)}), b"a.zip")),
    )
    bomb = zipped({f"{n}.zip": zipped({"x.txt": b"\0" * 12_000_000}) for n in range(1_000)})
    yield "zips of zips of zeros", lambda: HEAD + mixed(attached(bomb, b"a.zip"))
    huge = zipped({f"{n}.zip": b"PK\3\4" + b"\0" * 15_000_000 for n in range(40)})
    yield "members that inflate to 15 MB", lambda: HEAD + mixed(attached(huge, b"a.zip"))
    yield (
        "gzip of zeros",
        lambda: HEAD + mixed(attached(zlib.compress(b"PK\3\4" + b"\0" * 500_000_000, wbits=31), b"a.gz")),
    )
    yield "100,000 parts", lambda: HEAD + mixed(*[b"Content-Type: text/plain\r\n\r\nx"] * 100_000)
    yield (
        "500 parts of long headers",
        lambda: (
            HEAD
            + mixed(
                *[b"Content-Type: text/plain; " + b"a=b;" * 400 + b"\r\n" + b"X: y\r\n" * 200 + b"\r\nx" * 1_000] * 500
            )
        ),
    )
    yield "lines that are nearly boundaries", lambda: HEAD + mixed(b"\r\n\r\n" + b"\r\n--bx" * (SIZE // 6))
    deep = b"x" * 20_000_000
    for level in range(30):
        deep = mixed(deep, boundary=b"n%d" % level)
    yield "30 multiparts in one another", lambda: HEAD + deep
    yield "mails in mails, encoded each", lambda: nested_mail(6, HEAD + b"\r\n" + noise(3_000_000))
    yield (
        "names of streams, unaligned",
        lambda: (
            HEAD
            + mixed(
                attached(
                    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" + "_VBA_PROJEC".encode("utf-16-le") * 800_000, b"a.doc"
                )
            )
        ),
    )
    yield "a text of 'begin 644 a'", lambda: HEAD + b"\r\n" + b"\r\nbegin 644 a" * (SIZE // 13)
    printable = b"Content-Type: application/x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    yield "500 parts of quoted-printable", lambda: HEAD + mixed(*[printable + b"=41=\r\n" * 8_000] * 490)
    yield "a quoted-printable zip", lambda: HEAD + mixed(printable + b"PK=03=04" + b"=41=\r\n" * (SIZE // 6))
    names = b"".join(b";filename*%d*=%%41%%42" % n for n in range(60)) + b';name="=?utf-8?q?' + b"=41" * 60 + b'?="'
    clever = b"Content-Type: a/b" + names[-200:] + b"\r\nContent-Disposition: attachment" + names + b"\r\n\r\nx"
    yield "500 parts of clever names", lambda: HEAD + mixed(*[clever] * 490)
    small = attached(zipped({f"{n}.js": b"x" for n in range(3)}), b"a.zip")
    yield "490 small zips", lambda: HEAD + mixed(*[small] * 490)
    yield (
        "no boundary at all",
        lambda: HEAD + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"\r\n--y" * (SIZE // 5),
    )
    tar = b"".join(
        (b"a" + b"\0" * 123 + b"%011o\0" % 0 + b"\0" * 20 + b"0").ljust(257, b"\0").ljust(512, b"\0")
        for _ in range(30_000)
    )
    tar = tar[:257] + b"ustar" + tar[262:]
    yield "tar of 30,000 empty files", lambda: HEAD + mixed(attached(tar, b"a.tar"))


def cpu(work: Callable[[], object]) -> float:
    """Seconds of CPU, the best of three."""
    took = []
    for _ in range(3):
        started = time.process_time()
        work()
        took.append(time.process_time() - started)
    return min(took)


def main() -> None:
    """One row a mail."""
    only = sys.argv[1:]
    body = lines(b"\1" * (SIZE * 3 // 4))
    floor = cpu(lambda: binascii.a2b_base64(body))
    print(f"floor: base64 of {len(body):,} octets {floor * 1000:.0f} ms")
    for name, make in cases():
        if only and not any(word in name for word in only):
            continue
        mail = make()
        took = cpu(lambda mail=mail: scan(mail))  # type: ignore[misc]
        found = scan(mail)
        kinds = sorted({one.kind for one in found})
        print(f"{name:34} {len(mail):>11,} octets {took * 1000:7.1f} ms {took / floor:5.1f}", end=" ")
        print(f"{len(found):4} {' '.join(kinds)}")


if __name__ == "__main__":
    main()
