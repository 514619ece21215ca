"""Octets that two parsers may read differently, through the whole gateway: what the backend gets of them, be it by
DATA or by BDAT, is what the client plainly said, or nothing.

Beside the published sequences (`test_smuggling`): sizes that lie, chunks that part CRLF or CRLF.CRLF, dots that are
content here and must be stuffed there, ends of data that never come (RFC 3030 section 2, RFC 5321 section 4.5.2).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.outages.backend import FEATURES, Backend
from tests.outages.front import Client, Front
from tests.outages.rig import Rig, run

HEAD = b"From: <a@example.org>\r\nSubject: x\r\n\r\n"
EVIL = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<u@c0.example.com>\r\nBDAT 3 LAST\r\nA: "
OFFERS = {"DATA": FEATURES, "BDAT": (*FEATURES, "CHUNKING")}


def last(octets: bytes) -> bytes:
    """One chunk, and the only one."""
    return b"BDAT %d LAST\r\n%b" % (len(octets), octets)


def two(first: bytes, second: bytes) -> bytes:
    return b"BDAT %d\r\n%b%b" % (len(first), first, last(second))


#: What is said behind MAIL and RCPT, the replies, and what the backend gets behind our fields.
TAKEN: dict[str, tuple[bytes, list[str], bytes]] = {
    "a lone dot": (last(HEAD + b"a\r\n.\r\nb\r\n"), ["250"], HEAD + b"a\r\n.\r\nb\r\n"),
    "a lone dot at the end": (last(HEAD + b"a\r\n.\r\n"), ["250"], HEAD + b"a\r\n.\r\n"),
    "two dots are two": (last(HEAD + b"..\r\n..a\r\n.a\r\n"), ["250"], HEAD + b"..\r\n..a\r\n.a\r\n"),
    "a dialogue is content": (last(HEAD + b".\r\n" + EVIL + b"\r\n"), ["250"], HEAD + b".\r\n" + EVIL + b"\r\n"),
    "BDAT is content": (last(HEAD + b"BDAT 3 LAST\r\nA: \r\n"), ["250"], HEAD + b"BDAT 3 LAST\r\nA: \r\n"),
    "CR | LF": (two(HEAD + b"a\r", b"\nb\r\n"), ["250", "250"], HEAD + b"a\r\nb\r\n"),
    "CR LF | dot CR LF": (two(HEAD + b"a\r\n", b".\r\nb\r\n"), ["250", "250"], HEAD + b"a\r\n.\r\nb\r\n"),
    "CR LF dot | CR LF": (two(HEAD + b"a\r\n.", b"\r\nb\r\n"), ["250", "250"], HEAD + b"a\r\n.\r\nb\r\n"),
    "CR LF dot CR | LF": (two(HEAD + b"a\r\n.\r", b"\nb\r\n"), ["250", "250"], HEAD + b"a\r\n.\r\nb\r\n"),
    "CR | nothing | LF": (b"BDAT 1\r\n\rBDAT 0\r\n" + last(b"\n" + HEAD), ["250"] * 3, b"\r\n" + HEAD),
    "an empty end": (two(HEAD + b"a\r\n", b""), ["250", "250"], HEAD + b"a\r\n"),
    "no CRLF at the end": (last(HEAD + b"a"), ["250"], HEAD + b"a\r\n"),
    "a dot and no CRLF": (last(HEAD + b"a\r\n."), ["250"], HEAD + b"a\r\n.\r\n"),
    "zeros before the number": (b"BDAT 0%b" % last(HEAD)[5:], ["250"], HEAD),
    "LAST in odd case": (last(HEAD).replace(b"BDAT", b"bDaT").replace(b"LAST", b"lAsT"), ["250"], HEAD),
    "two spaces before LAST": (last(HEAD).replace(b" LAST", b"  LAST"), ["250"], HEAD),
    "less announced than sent": (last(HEAD) + b"NOTHING\r\n.\r\n", ["250", "500", "500"], HEAD),
    "DATA: two dots are one": (b"DATA\r\n" + HEAD + b"..\r\n..a\r\n.\r\n", ["354", "250"], HEAD + b".\r\n.a\r\n"),
}  # fmt: skip

#: What is said, the replies, and whether the server hangs up by itself; the backend gets nothing.
REFUSED: dict[str, tuple[bytes, list[str], bool]] = {
    "NUL": (last(HEAD + b"a\0b\r\n"), ["554"], True),
    "CR | no LF": (two(HEAD + b"a\r", b"b\r\n"), ["250", "554"], True),
    "CR at the end": (last(HEAD + b"a\r"), ["554"], True),
    "LF at the beginning": (two(HEAD + b"a\r\n", b"\nb\r\n"), ["250", "554"], True),
    "a dialogue behind a bare LF": (last(HEAD + b"\n.\r\n") + EVIL, ["554"], True),
    "negative": (b"BDAT -1 LAST\r\n" + EVIL, ["501"], True),
    "with a sign": (b"BDAT +1 LAST\r\n" + EVIL, ["501"], True),
    "hexadecimal": (b"BDAT 0x10 LAST\r\n" + EVIL, ["501"], True),
    "no number": (b"BDAT LAST\r\n" + EVIL, ["501"], True),
    "more than 64 bits": (b"BDAT 123456789012345678901 LAST\r\n" + EVIL, ["501"], True),
    "two spaces before it": (b"BDAT  5 LAST\r\n" + EVIL, ["501"], True),
    "words behind LAST": (b"BDAT 5 LAST 6\r\n" + EVIL, ["501"], True),
    "half a LAST": (b"BDAT 5 LAS\r\n" + EVIL, ["501"], True),
    "a bare LF behind the number": (b"BDAT 5\n" + EVIL, ["500"], True),
    "more announced than sent": (b"BDAT 99999999999999999999 LAST\r\n" + HEAD + b"QUIT\r\n", [], False),
    "one more than was sent": (last(HEAD + b"x")[:-1], [], False),
    "less announced, and a bare LF": (b"BDAT 3 LAST\r\n" + b"a\nb" + HEAD, ["554"], True),
    "a chunk and no end": (b"BDAT 3\r\nA: QUIT\r\n", ["250", "221"], True),
    "chunks, then RSET": (b"BDAT 3\r\nA: RSET\r\n" + last(b"\r\n") + b"QUIT\r\n", ["250", "250", "503", "221"], True),
    "chunks, then DATA": (b"BDAT 3\r\nA: DATA\r\nQUIT\r\n", ["250", "503", "221"], True),
    "DATA: no end": (b"DATA\r\n" + HEAD + b"a\r\n.\r", ["354"], False),
    "DATA: a dot and no line": (b"DATA\r\n" + HEAD + b"a\r\n.QUIT\r\n", ["354"], False),
    "DATA: BDAT is content": (b"DATA\r\n" + HEAD + b"a\r\nBDAT 5 LAST\r\n\r\n.\r", ["354"], False),
}  # fmt: skip


@contextlib.asynccontextmanager
async def talking(rig: Rig, offer: str) -> AsyncIterator[tuple[Client, Backend]]:
    """A client that has begun a transaction, and the backend behind the gateway; everything ended afterwards."""
    backend = await rig.backend(features=OFFERS[offer])
    front = Front(rig, [[backend.port]], 5.0)
    await front.start()
    client = await Client.connected(front.port)
    try:
        await client.envelope("u@c0.example.com")
        yield client, backend
    finally:
        await client.close()
        await front.stop()


async def codes(client: Client, count: int) -> list[str]:
    async with asyncio.timeout(10):
        return [(await client.reply())[:3] for _ in range(count)]


@pytest.mark.parametrize("pieces", ["whole", "octet by octet"])
@pytest.mark.parametrize("offer", OFFERS)
def test_the_backend_gets_what_was_plainly_said(tmp_path: Path, offer: str, pieces: str) -> None:
    async def test(rig: Rig) -> None:
        async with talking(rig, offer) as (client, backend):
            for name, (octets, replies, content) in TAKEN.items():
                backend.mails.clear()
                if octets.startswith(b"DATA\r\n"):
                    assert (await client.say("DATA"))[:3] == replies[0]
                    octets, replies = octets[6:], replies[1:]
                for piece in [octets] if pieces == "whole" else [bytes([octet]) for octet in octets]:
                    await client.write(piece)
                assert await codes(client, len(replies)) == replies, name
                assert len(backend.mails) == 1, name
                ours = backend.mails[0].index(b"Received: ")
                assert backend.mails[0][backend.mails[0].index(b"+0000\r\n", ours) + 7 :] == content, name
                await client.envelope("u@c0.example.com")
            # What stands behind the octets, in the same write.
            backend.mails.clear()
            await client.write(last(HEAD) + b"NOOP\r\nMAIL FROM:<>\r\nRCPT TO:<u@c0.example.com>\r\nDATA\r\n")
            assert await codes(client, 5) == ["250", "250", "250", "250", "354"]
            await client.write(HEAD + b"a\r\n.\r\nQUIT\r\n")
            assert await codes(client, 2) == ["250", "221"]
            assert [mail[mail.index(HEAD) :] for mail in backend.mails] == [HEAD, HEAD + b"a\r\n"]
            said = {line.split(" ")[0] for line in backend.lines()}
            assert said == {"EHLO", "MAIL", "RCPT", *({"BDAT", "RSET"} if offer == "BDAT" else {"DATA"})}
            assert not [line for line in backend.lines() if "evil" in line]

    run(tmp_path, test, loop="uvloop")


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("name", REFUSED)
def test_or_nothing(tmp_path: Path, name: str, offer: str) -> None:
    octets, replies, closes = REFUSED[name]

    async def test(rig: Rig) -> None:
        async with talking(rig, offer) as (client, backend):
            rest, expected = octets, replies
            if rest.startswith(b"DATA\r\n"):
                assert (await client.say("DATA"))[:3] == expected[0]
                rest, expected = rest[6:], expected[1:]
            await client.write(rest)
            if not closes:
                client.half_close()
            assert await codes(client, len(expected)) == expected
            with pytest.raises(asyncio.IncompleteReadError) as end:
                await codes(client, 1)
            assert end.value.partial == b""
        assert backend.connections == 0
        assert backend.mails == []

    run(tmp_path, test, loop="uvloop")
