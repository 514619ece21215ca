"""SMTP smuggling and STARTTLS injection, by the published sequences: CVE-2023-51764, -51765, -51766, CVE-2024-27305,
CVE-2011-0411. Every sequence at every cut, in clear text and inside TLS; nothing is taken that must not be."""

import asyncio
import os
from pathlib import Path

import pytest
import uvloop
import yaml

from tests.unit.smtp.scripted import Certificates, Client, door

SHARED = Path(os.environ.get("GATEPOST_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
FILE = SHARED / "conformance" / "attacks" / "smuggling.yml"

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="../shared/conformance/attacks is not there")

SUITE = yaml.safe_load(FILE.read_text("utf-8")) if FILE.exists() else {"sequences": [], "smuggled": ""}
SMUGGLED = SUITE["smuggled"].encode("latin-1")
SEQUENCES = {case["id"]: (case["octets"].encode("latin-1"), case["expect"]) for case in SUITE["sequences"]}
# Our own beside them: a bare octet far from any dot, and a true end hidden behind each of them.
OWN = {
    "bare-cr-in-text": b" one\rtwo ",
    "bare-lf-in-text": b" one\ntwo ",
    "nul-in-text": b" one\0two ",
    "lf-before-the-end": b"\n\r\n.\r\n",
    "cr-before-the-end": b"\r\r\n.\r\n",
    "lf-cr-dot": b"\n\r.\r\n",
    "crlf-dot-nul-crlf": b"\r\n.\0\r\n",
}
HEAD = b"From: <a@attack.com>\r\nSubject: t\r\n\r\nbody"


def content(sequence: bytes) -> bytes:
    return HEAD + sequence + SMUGGLED + b".\r\n"


async def outcome(client: Client, pieces: list[bytes]) -> list[str]:
    """The replies to the content, given in these pieces, until the server closes or answers what we say last."""
    await client.begin(data=True)
    for piece in pieces:
        client.send(piece)
        await asyncio.sleep(0)
    replies = []
    while reply := await client.reply():
        replies.append(reply)
        if reply == "250 2.0.0":
            client.send(b"QUIT\r\n")
    return replies


@pytest.mark.parametrize("name", [*SEQUENCES, *OWN])
def test_no_second_message_at_any_cut(name: str) -> None:
    sequence = SEQUENCES[name][0] if name in SEQUENCES else OWN[name]
    control = name in {"crlf-dotdot-crlf", "crlf-dot-space-crlf"}
    octets = content(sequence)
    cuts = range(len(HEAD) - 1, len(HEAD) + len(sequence) + 2)

    async def talk() -> None:
        for pieces in ([octets], *([octets[:cut], octets[cut:]] for cut in cuts), [bytes([o]) for o in octets]):
            async with door() as place:
                client = await place.connect()
                replies = await outcome(client, pieces)
                await client.close()
                await place.house.gone.wait()
                if control:
                    assert replies == ["250 2.0.0", "221 2.0.0"], pieces
                    line = b"." if name == "crlf-dotdot-crlf" else b" "
                    assert place.house.messages == [HEAD + b"\r\n" + line + b"\r\n" + SMUGGLED], pieces
                else:
                    assert [reply[:3] for reply in replies] == ["554"], pieces
                    assert place.house.messages == [], pieces

    asyncio.run(talk())


@pytest.mark.parametrize("name", [*SEQUENCES, *OWN])
def test_nor_in_chunks_at_any_cut(name: str) -> None:
    """BDAT: one chunk in two pieces, and two chunks, cut at every octet of the sequence. Dots are content here."""
    octets = content(SEQUENCES[name][0] if name in SEQUENCES else OWN[name])
    bare = set(octets.replace(b"\r\n", b"")) & set(b"\r\n\0")
    cuts = range(len(HEAD) - 1, len(octets) - len(SMUGGLED))

    async def talk() -> None:
        for cut in cuts:
            first, second = octets[:cut], octets[cut:]
            one = b"BDAT %d LAST\r\n" % len(octets)
            two = b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (len(first), first, len(second), second)
            for pieces in ([one + first, second], [two], [two[:cut], two[cut:]]):
                async with door() as place:
                    client = await (await place.connect()).begin()
                    for piece in pieces:
                        client.send(piece)
                        await asyncio.sleep(0)
                    if not bare:
                        client.send(b"QUIT\r\n")
                    replies = [reply for reply in await client.all_replies() if reply != "250 2.0.0"]
                    await client.close()
                    await place.house.gone.wait()
                    assert replies == (["554 5.6.0"] if bare else ["221 2.0.0"]), (cut, pieces)
                    assert place.house.messages == ([] if bare else [octets]), (cut, pieces)

    asyncio.run(talk())


@pytest.mark.parametrize("name", SEQUENCES)
def test_nor_inside_tls(name: str, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)

    async def talk() -> None:
        async with door(starttls="offered", tls=lambda: certificates.server) as place:
            client = await place.connect()
            assert await client.say(b"EHLO attack.com\r\n") == "250"
            await client.starttls(certificates.client())
            replies = await outcome(client, [content(SEQUENCES[name][0])])
            await client.close()
            await place.house.gone.wait()
            assert len(place.house.messages) == (replies[0] == "250 2.0.0") <= 1
            assert (replies[0][:3] == "554") is ("zero messages" in SEQUENCES[name][1])

    uvloop.run(talk())


@pytest.mark.parametrize("name", SEQUENCES)
def test_all_in_one_write_is_refused_before_any_content(name: str) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await place.connect()
            assert await client.say(b"EHLO attack.com\r\n") == "250"
            envelope = b"MAIL FROM:<a@attack.com>\r\nRCPT TO:<victim@victim.com>\r\nDATA\r\n"
            client.send(envelope + content(SEQUENCES[name][0]))
            assert await client.all_replies() == ["250 2.1.0", "250 2.1.5", "503 5.5.0"]
            await client.close()
            await place.house.gone.wait()
            assert place.house.messages == []
            assert place.house.happened[-2:] == ["aborted: refused", "disconnected"]

    asyncio.run(talk())


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b" \n\r\n"])
@pytest.mark.parametrize(
    "line", [b"NOOP", b"MAIL FROM:<a@attack.com>", b"RCPT TO:<victim@victim.com>", b"DATA", b"RSET", b"EHLO a", b"\0"]
)
def test_commands_end_in_crlf_alone(line: bytes, end: bytes) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await (await place.connect()).begin()
            client.send(line + end + b"MAIL FROM:<smuggled@attack.com>\r\nNOOP\r\n")
            assert await client.all_replies() == ["500 5.5.2"]
            await client.close()
            await place.house.gone.wait()
            assert place.house.happened.count("mail") == 1

    asyncio.run(talk())


@pytest.mark.parametrize("inside", [b"a\rRCPT TO:<x>@attack.com", b"a\nRCPT@attack.com", b"a\0@attack.com"])
def test_no_bare_octet_inside_an_address(inside: bytes) -> None:
    async def talk() -> None:
        async with door() as place:
            client = await place.connect()
            assert await client.say(b"EHLO attack.com\r\n") == "250"
            client.send(b"MAIL FROM:<" + inside + b">\r\n")
            assert await client.all_replies() == ["500 5.5.2"]
            await client.close()

    asyncio.run(talk())
