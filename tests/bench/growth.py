"""Twice the input, how many times the CPU? Hostile inputs for every reader of a stranger's octets.

    .venv/bin/python -m tests.bench.growth

Linear code prints about 2.0, a bounded reader about 1.0, quadratic code 4.0. The exit status is 1 when a ratio is
above 3.
"""

import asyncio
import sys
import time
from collections.abc import Callable

from gateway.checks import dmarc_record, spf_record, taglist
from gateway.checks.arc import Arc
from gateway.checks.canonical import body_digest, relaxed_field
from gateway.checks.dkim import Dkim
from gateway.checks.dkim_key import Refused, usable
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.author import author
from gateway.mail.authres import claims, results
from gateway.mail.encodedword import decoded, visible
from gateway.mail.message import Field, Message

_RESOLVER = Resolver(Zone({}), ManualClock())
Reader = Callable[[bytes], object]


def _tags(data: bytes) -> object:
    try:
        return taglist.parse(data)
    except taglist.BadTagList:
        return None


def _key(data: bytes) -> object:
    try:
        return usable([data], "rsa", "sha256", 1024)
    except Refused:
        return None


def _signature(data: bytes) -> object:
    field = b"DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; h=from; bh=" + b"A" * 43 + b"=; b=AAAA; x-y="
    message = Message.from_octets(field + data.replace(b"\r\n", b"") + b"\r\nFrom: a@a.example\r\n\r\n")
    return asyncio.run(Dkim(_RESOLVER, ManualClock()).verify(message))


def _chain(data: bytes) -> object:
    fields = b"ARC-Seal: i=1; cv=none;\r\n" * (len(data) // 25)
    return asyncio.run(Arc(_RESOLVER).verify(Message.from_octets(fields + b"From: a@a.example\r\n\r\n")))


def _from(data: bytes) -> object:
    return author(Message.from_octets(b"From:" + data + b"\r\n\r\n").fields, smtputf8=True)


def _claims(data: bytes) -> object:
    return claims(Field(b"Authentication-Results", b"Authentication-Results:" + data + b"\r\n"), "mx.example.com")


def _words(data: bytes) -> object:
    return visible(decoded(data.decode("latin-1")))


def _body(data: bytes) -> object:
    return body_digest(Message.from_octets(b"A: b\r\n\r\n" + data), relaxed=True, algorithm="sha256")


#: What is read, how large the smaller input is, how it begins, and what it consists of.
ROWS: list[tuple[str, Reader, int, bytes, list[bytes]]] = [
    ("tag list", _tags, 30_000, b"", [b"a", b";", b"=", b" ", b"a=b;", b"\r\n\t", b";b="]),
    ("signature without its b=", taglist.without_signature, 100_000, b"X:", [b";", b"b=", b";b=x", b" "]),
    ("key record", _key, 10_000, b"v=DKIM1; p=", [b"A", b";", b":", b"h=:", b"p="]),
    ("DKIM-Signature", _signature, 60_000, b"", [b"a", b" ", b":", b"=41"]),
    ("ARC fields", _chain, 10_000, b"", [b"x"]),
    ("SPF record", spf_record.parse, 4_000, b"v=spf1 ", [b"a:/1", b"%{d}", b"ip4:192.0.2.1 ", b"/", b".", b"x=%{d} "]),
    ("DMARC record", dmarc_record.parse, 8_000, b"v=DMARC1; ", [b";p", b";", b",", b"rua=mailto:a,"]),
    ("From", _from, 30_000, b" ", [b"(", b"<", b",", b'"', b"a@b.c,", b"a:", b"=?utf-8?q?", b"\xc3\xa9", b"a."]),
    ("Authentication-Results", _claims, 100_000, b"", [b"(", b")", b'"', b"\\", b" ", b"a", b"(\\"]),
    ("encoded-words", _words, 50_000, b"", [b"=?", b"=?utf-8?q?", b"?=", b"=?utf-8?b?w7w=?= "]),
    ("header field, relaxed", relaxed_field, 500_000, b"X:", [b" ", b"a ", b"\t", b"\r\n ", b"  a"]),
    ("body, relaxed", _body, 2_000_000, b"", [b" ", b"\t", b"\r\n", b" \r\n", b"\r", b"a  ", b"\r\n\r\na"]),
    ("header", lambda d: Message.from_octets(d).fields, 100_000, b"", [b":", b"a:\r\n", b"a:b\r\n ", b"\r\n ", b"a"]),
    ("our own field", lambda d: results("mx.example.com", [d.decode("latin-1")]), 2_000, b"", [b" ", b'"', b"\r\n"]),
]


def cost(reader: Reader, data: bytes) -> float:
    """Seconds of CPU, the best of five runs of many."""
    reader(data)
    best, times = float("inf"), 1
    for _ in range(5):
        while True:
            started = time.process_time()
            for _ in range(times):
                reader(data)
            spent = time.process_time() - started
            if spent > 0.004:
                break
            times *= 4
        best = min(best, spent / times)
    return best


def main() -> int:
    """One row a reader: its worst input, what that costs, and the ratio."""
    print(f"{'reader':26} {'worst input':>22} {'ms':>9} {'twice':>9} {'ratio':>6}")
    broken = False
    for name, reader, size, head, pieces in ROWS:
        worst: tuple[float, bytes, float, float] = (0.0, b"", 0.0, 0.0)
        for piece in pieces:
            single = cost(reader, head + piece * (size // len(piece)))
            double = cost(reader, head + piece * (2 * size // len(piece)))
            worst = max(worst, (double / single, piece, single, double))
        ratio, piece, single, double = worst
        broken = broken or ratio > 3
        print(f"{name:26} {piece!r:>22} {single * 1e3:9.3f} {double * 1e3:9.3f} {ratio:6.2f}", flush=True)
    return broken


if __name__ == "__main__":
    sys.exit(main())
