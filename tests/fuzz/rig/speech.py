"""What SMTP clients say, right and wrong: dialogues by a grammar, for `conversation` to be mutated further.

`spoken` makes one: a few messages by DATA or BDAT after a greeting, with commands left out, doubled and swapped,
contents that smuggle, sizes that are wrong, lines that have no end, and words of other protocols.
"""

import random
import struct

from tests.fuzz.rig.words import (
    ASIDES,
    BODIES,
    ENDINGS,
    GREETINGS,
    HEADERS,
    OF_MAIL,
    OF_RCPT,
    RECIPIENTS,
    SENDERS,
    SIGNATURE,
    TURN,
    USUAL_GREETINGS,
    USUAL_RECIPIENTS,
    USUAL_SENDERS,
    XCLIENTS,
)


def _usual(chance: random.Random, usual: list[bytes], other: list[bytes]) -> bytes:
    """Mostly what honest clients say: else hardly anything would get as far as the relay."""
    return chance.choice(usual if chance.random() < 0.8 else other)


def spoken(chance: random.Random) -> bytes:
    """One dialogue: the octet of a profile, then turns."""
    profile = chance.randrange(7)
    parts: list[bytes] = []
    if profile in {4, 6} and chance.random() < 0.95:
        parts.append(_introduction(chance))
        if profile == 6:
            parts.append(TURN)
    if profile in {5, 6} and chance.random() < 0.5:
        parts += [chance.choice(XCLIENTS) + b"\r\n", TURN]
    parts += [_usual(chance, USUAL_GREETINGS, GREETINGS) + b"\r\n", TURN]
    if chance.random() < (0.9 if profile == 2 else 0.2):
        parts += [b"STARTTLS\r\n", TURN, _usual(chance, USUAL_GREETINGS, GREETINGS) + b"\r\n", TURN]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        parts += _message(chance)
    if chance.random() < 0.5:
        parts.append(b"QUIT\r\n")
    while chance.random() < 0.3:
        _disturb(parts, chance)
    return bytes([48 + profile]) + b"".join(parts)


def _message(chance: random.Random) -> list[bytes]:
    """MAIL, RCPT and the content, pipelined or not."""
    pause = [TURN] if chance.random() < 0.5 else []
    words = b"".join(b" " + chance.choice(OF_MAIL) for _ in range(chance.choice((0, 0, 0, 0, 1, 2))))
    parts = [b"MAIL FROM:" + _usual(chance, USUAL_SENDERS, SENDERS) + words + b"\r\n", *pause]
    for _ in range(chance.choice((1, 1, 1, 2, 3, 7))):
        words = b"".join(b" " + chance.choice(OF_RCPT) for _ in range(chance.choice((0, 0, 0, 0, 0, 1, 2))))
        parts += [b"RCPT TO:" + _usual(chance, USUAL_RECIPIENTS, RECIPIENTS) + words + b"\r\n", *pause]
    content = b"".join(_usual(chance, HEADERS[:4], HEADERS) for _ in range(chance.choice((1, 1, 2, 4)))) + b"\r\n"
    content += b"".join(chance.choice(BODIES) for _ in range(chance.choice((0, 1, 1, 2))))
    if chance.random() < 0.15:
        following = b"MAIL FROM:<a@sender.example>\r\nRCPT TO:<u9@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\n"
        content = content.removesuffix(b"\r\n") + chance.choice(ENDINGS) + following
    if chance.random() < 0.04:  # a directory is harvested
        parts += [b"RCPT TO:<no%d@example.com>\r\n" % number for number in range(chance.choice((7, 22)))]
    return [*parts, *(_chunks(content, chance) if chance.random() < 0.4 else _data(content, chance))]


def _data(content: bytes, chance: random.Random) -> list[bytes]:
    if chance.random() < 0.9:
        content = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    return [b"DATA\r\n", *([TURN] if chance.random() < 0.95 else []), content, b".\r\n"]


def _chunks(content: bytes, chance: random.Random) -> list[bytes]:
    parts: list[bytes] = []
    while content or not parts:
        size = chance.choice((len(content), len(content), chance.randint(0, len(content)), 1))
        piece, content = content[:size], content[size:]
        told = size + (chance.choice((-1, 1, 7)) if chance.random() < 0.05 else 0)
        last = b" LAST" if not content and chance.random() < 0.9 else b""
        parts += [b"BDAT %d%s\r\n" % (told, last), piece, *([TURN] if chance.random() < 0.2 else [])]
        if len(parts) > 20:
            break
    return parts


def _introduction(chance: random.Random) -> bytes:
    """A PROXY header, mostly right."""
    four = bytes((192, 0, 2, 99, 198, 51, 100, 25)) + struct.pack("!HH", 1000, 25)
    return chance.choice(
        [
            *(b"PROXY TCP4 192.0.2.99 198.51.100.25 1000 25\r\n", b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN x y\r\n"),
            *(b"PROXY TCP6 2001:db8::9 2001:db8::1 1 2\r\n", b"PROXY TCP6 ::ffff:192.0.2.99 ::1 1 2\r\n"),
            *(
                b"PROXY TCP4 192.0.2.099 192.0.2.1 1 2\r\n",
                b"PROXY TCP4 192.0.2.9 192.0.2.1 1 65536\r\n",
                b"PROXY TCP4\n",
            ),
            SIGNATURE + b"\x21\x11\0\x0c" + four,
            SIGNATURE + b"\x21\x11\0\x0f" + four + b"\x04\0\0",
            SIGNATURE + b"\x20\0\0\0",
            SIGNATURE + b"\x21\x21\0\x24" + bytes(range(32)) + b"\0\1\0\2",
            SIGNATURE + b"\x21\x12\0\x0c" + four,
            SIGNATURE + b"\x31\x11\0\x0c" + four,
        ]
    )


def _disturb(parts: list[bytes], chance: random.Random) -> None:
    """One thing is wrong, or merely unusual."""
    at = chance.randrange(len(parts))
    other = chance.randrange(len(parts))
    match chance.randrange(9):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, parts[other])
        case 2:
            parts[at], parts[other] = parts[other], parts[at]
        case 3 | 4:
            parts.insert(at, chance.choice(ASIDES) + b"\r\n")
        case 5:
            parts.insert(at, TURN)
        case 6:
            parts[at] = parts[at].replace(b"\r\n", chance.choice((b"\n", b"\r", b"", b"\r\n\r\n")), 1)
        case 7:
            parts.insert(at, chance.choice((b"\xffT", b"\xffR", *ENDINGS)))
        case _:
            parts[at] = parts[at][: chance.randint(0, len(parts[at]))]
    if not parts:
        parts.append(b"")


def _plain(profile: int, *turns: bytes) -> bytes:
    return bytes([48 + profile]) + TURN.join(turns)


_HELLO = b"EHLO client.example\r\n"
_ENVELOPE = b"MAIL FROM:<a@sender.example>\r\nRCPT TO:<u1@example.com>\r\n"
_CONTENT = b"Subject: hello\r\n\r\n..\r\nbody\r\n.\r\n"
SEEDS = [
    _plain(
        0, _HELLO, _ENVELOPE + b"DATA\r\n", _CONTENT + _ENVELOPE + b"BDAT 2\r\nX:BDAT 7 LAST\r\n y\r\n\r\nzQUIT\r\n"
    ),
    _plain(0, _HELLO, b"STARTTLS\r\n", _HELLO, _ENVELOPE + b"DATA\r\n", _CONTENT + b"QUIT\r\n"),
    _plain(0, _HELLO, _ENVELOPE + b"STARTTLS\r\n", b"RCPT TO:<u2@example.com>\r\nDATA\r\n", _CONTENT),
    _plain(
        1, b"HELO client.example\r\n", _ENVELOPE, b"RSET\r\nDATA\r\n", _ENVELOPE + b"DATA\r\n", b"x\n.\n" + _CONTENT
    ),
    _plain(1, _HELLO, _ENVELOPE, _HELLO, b"DATA\r\n", _ENVELOPE + b"DATA\r\n", _CONTENT),
    _plain(
        1,
        _HELLO,
        _ENVELOPE + b"RSET\r\n" + b"MAIL FROM:<>\r\nDATA\r\n",
        b"RCPT TO:<u2@example.com>\r\nDATA\r\n",
        _CONTENT,
    ),
    _plain(2, _HELLO, _ENVELOPE, b"STARTTLS\r\n" + _HELLO, b"QUIT\r\n"),
    _plain(3, _HELLO, _ENVELOPE + b"BDAT 4\r\nX:\r\nRCPT TO:<u2@example.com>\r\nBDAT 0 LAST\r\n", b"NOOP\r\n"),
    _plain(4, b"PROXY TCP4 192.0.2.99 198.51.100.25 1 25\r\n" + _HELLO, _ENVELOPE + b"DATA\r\n", _CONTENT),
    _plain(4, SIGNATURE + b"\x20\0\0\0", _HELLO, _ENVELOPE, b"PROXY UNKNOWN\r\n"),
    _plain(5, b"XCLIENT ADDR=192.0.2.77 HELO=other.example\r\n", _HELLO, _ENVELOPE + b"DATA\r\n", _CONTENT),
    _plain(6, b"PROXY UNKNOWN\r\n", b"XCLIENT ADDR=192.0.2.77\r\n", _HELLO, _ENVELOPE + b"DATA\r\n", _CONTENT),
    _plain(0, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", _HELLO),
    _plain(0, _HELLO, _ENVELOPE + b"BDAT 5 LAST\r\nA: b\r" + b"MAIL FROM:<>\r\n"),
]
