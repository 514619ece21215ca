"""How the second opinion (`reference`) reads single things: replies, paths, chunks, PROXY headers, contents.

Written from the standards for this test, as plainly as possible and without a line of `gateway`. Where something is
not what the standard says, it is an `AssertionError`: whoever took it was wrong.
"""

import ipaddress
import re
from dataclasses import dataclass

import idna

LINE = 512  # octets of a reply or command with its CRLF (RFC 5321 section 4.5.3.1)

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_LOCAL = re.compile(rf'{_ATEXT}(?:\.{_ATEXT})*|"(?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])*"')
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[2-6][0-9A-F]|\+7[0-9A-E])+")
_RESULTS = re.compile(rb"(?i)(?:arc-)?authentication-results[ \t]*:")
#: Those that are plainly somebody else's, and those that plainly claim to be ours.
_ANOTHERS = re.compile(rb"(?i)authentication-results:[ \t]*(?!mx\.example\.com)[a-z0-9]+(?:\.[a-z0-9]+)*;")
_OURS = re.compile(rb"(?im)^authentication-results *: *mx\.example\.com *;")
_PROXY_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_PROXY_TEXT = 107


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply as it came."""

    code: int
    status: str
    lines: tuple[str, ...]


def replies(octets: bytes) -> list[Reply]:
    """All of them (RFC 5321 section 4.2, RFC 2034)."""
    assert not octets or octets.endswith(b"\r\n"), octets
    found: list[Reply] = []
    lines: list[str] = []
    code = status = ""
    for line in octets.decode("ascii").split("\r\n")[:-1]:
        assert len(line) + 2 <= LINE, line
        match = re.fullmatch(r"([245]\d\d|354)([ -])(?:([245]\.\d{1,3}\.\d{1,3}) )?([ -~]*)", line)
        assert match, line
        assert not lines or (code, status) == (match[1], match[3] or ""), line
        code, status = match[1], match[3] or ""
        assert not status or status[0] == code[0], line
        lines.append(match[4])
        if match[2] == " ":
            found.append(Reply(int(code), status, tuple(lines)))
            lines = []
    assert not lines, lines
    return found


def announced(line: bytes) -> tuple[int, bool] | None:
    """Octets of the chunk that a BDAT announces, and whether it is the last; `None` when it says no such thing."""
    match = re.fullmatch(rb"BDAT ([0-9]{1,20})( +LAST)?[ \t]*", line, re.IGNORECASE)
    return (int(match[1]), bool(match[2])) if match else None


def path(argument: bytes, verb: bytes) -> tuple[str, str, list[str]]:
    """Local part, domain in one spelling, and the parameters (RFC 5321 section 4.1.2); both "" for `<>`."""
    assert argument[: len(verb)].upper() == verb, argument
    rest = argument[len(verb) :].decode("utf-8").removeprefix(" ")
    assert rest.startswith("<"), argument
    at, quoted = 1, False
    while rest[at] != ">" or quoted:
        quoted ^= rest[at] == '"'
        at += 1 + (quoted and rest[at] == "\\")
    inner, behind = rest[1:at], rest[at + 1 :].rstrip(" \t")
    assert not behind or behind.startswith(" "), argument
    words = [word for word in behind.split(" ") if word]
    if not inner or (verb == b" TO:" and inner.lower() == "postmaster"):
        return inner, "", words
    if inner.startswith("@"):  # a source route is ignored (appendix C)
        inner = inner.partition(":")[2]
    local = _LOCAL.match(inner)
    assert local, argument
    assert len(local[0].encode()) <= 64, argument
    assert inner[local.end() : local.end() + 1] == "@", argument
    return local[0], _domain(inner[local.end() + 1 :]), words


def _domain(text: str) -> str:
    if text.startswith("["):
        assert text.endswith("]"), text
        if text[1:6].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(text[6:-1])}]"
        return f"[{ipaddress.IPv4Address(text[1:-1])}]"
    name = (text if text.isascii() else idna.encode(text, uts46=True, std3_rules=True).decode()).lower()
    name = name.removesuffix(".")
    assert len(name) <= 253, text
    assert all(_LABEL.fullmatch(label) and len(label) <= 63 for label in name.split(".")), text
    return name


def parameters(words: list[str]) -> dict[str, str]:
    """Keywords in upper case and their values, each once."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        assert key.upper() not in found, words
        assert bool(equals) == (key.upper() != "SMTPUTF8"), words
        found[key.upper()] = value
    return found


def check_parameter(key: str, value: str, size: int, *, utf8: bool = False) -> None:
    """RFC 1870, 6152, 6531, 3461, 6533: what may stand there. `utf8`: MAIL has asked for SMTPUTF8."""
    match key:
        case "SIZE":
            assert re.fullmatch(r"[0-9]{1,20}", value)
            assert int(value) <= size
        case "BODY":
            assert value.upper() in {"7BIT", "8BITMIME"}
        case "RET":
            assert value.upper() in {"FULL", "HDRS"}
        case "ENVID":
            assert _XTEXT.fullmatch(value)
            assert len(value) <= 100
        case "NOTIFY":
            asked = value.upper().split(",")
            assert len(set(asked)) == len(asked)
            assert asked == ["NEVER"] or {"SUCCESS", "FAILURE", "DELAY"}.issuperset(asked)
        case "ORCPT":
            kind, _, address = value.partition(";")
            assert kind.lower() in {"rfc822", "utf-8"}
            if utf8 and kind.lower() == "utf-8":
                assert not any(0x80 <= ord(character) < 0xA0 for character in address)
                address = re.sub(r"[^\0-\x7f]", "u", address)
            assert _XTEXT.fullmatch(address)
            assert len(value) <= 500
        case _:
            assert key == "SMTPUTF8", f"{key} was taken"


def attributes(argument: bytes) -> dict[str, str]:
    """What XCLIENT tells, without what the proxy does not know."""
    found: dict[str, str] = {}
    for word in argument.split(b" "):
        key, equals, value = word.partition(b"=")
        assert equals, argument
        text = re.sub(rb"\+([0-9A-F]{2})", lambda hex_: bytes.fromhex(hex_[1].decode()), value).decode("ascii")
        name = key.decode("ascii").upper()
        assert name in {"NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"}, argument
        assert name not in found
        found[name] = text
    return {name: text for name, text in found.items() if text.upper() not in {"[UNAVAILABLE]", "[TEMPUNAVAIL]"}}


def address(text: str) -> str:
    """An IP address in one spelling; IPv4 within IPv6 is IPv4."""
    found = ipaddress.ip_address(text[5:] if text[:5].upper() == "IPV6:" else text)
    return str(getattr(found, "ipv4_mapped", None) or found)


# Contents


def bare(octets: bytes) -> bool:
    """True for a CR or an LF alone, and for a NUL."""
    return bool(re.search(rb"\r(?!\n)|(?<!\r)\n|\0", octets))


def unstuffed(octets: bytes) -> bytes:
    """What a strict server reads from DATA: it must end with the dot, and nowhere before."""
    lines = octets.split(b"\r\n")
    assert lines[-2:] == [b".", b""], octets
    assert lines.index(b".") == len(lines) - 2, octets
    return b"".join((line[1:] if line.startswith(b".") else line) + b"\r\n" for line in lines[:-2])


def same_content(given: bytes, relayed: bytes) -> None:
    """Octet for octet, but for header fields that may be taken for the gateway's own results (RFC 8601 section 5)."""
    end = given.find(b"\r\n\r\n")
    header = b"" if given.startswith(b"\r\n") else given[: end + 2] if end >= 0 else given
    position = 0
    for one in filter(None, re.split(rb"(?<=\r\n)(?![ \t])", header)):
        if relayed.startswith(one, position):
            position += len(one)
        else:
            assert _RESULTS.match(one), (one, relayed)
            assert not _ANOTHERS.match(one), (one, relayed)
    assert relayed[position:] == given[len(header) :], (given, relayed)
    assert not _OURS.search(relayed[:position]), (given, relayed)


# PROXY, versions 1 and 2


def introduced(octets: bytes) -> tuple[bool, str, bytes] | None:
    """Whether a PROXY header stands there, the client that it names ("" when it names none), and what follows it.

    `None` while it is not whole.
    """
    if len(octets) < len(_PROXY_SIGNATURE):
        return None
    if octets.startswith(_PROXY_SIGNATURE):
        end = 16 + int.from_bytes(octets[14:16], "big")
        if len(octets) < max(16, end):
            return None
        return *_binary(octets[:end]), octets[end:]
    if not octets.startswith(b"PROXY "):
        return False, "", b""
    end = octets.find(b"\n", len(_PROXY_SIGNATURE) - 1) + 1
    if not end and len(octets) < _PROXY_TEXT:
        return None
    if not 0 < end <= _PROXY_TEXT:
        return False, "", b""
    return *_text(octets[:end]), octets[end:]


def _text(line: bytes) -> tuple[bool, str]:
    words = line[:-2].split(b" ")
    if not line.endswith(b"\r\n") or re.search(rb"[\r\n]", line[:-2]):
        return False, ""
    if words[1] == b"UNKNOWN":
        return True, ""
    if len(words) != 6 or words[1] not in {b"TCP4", b"TCP6"}:
        return False, ""
    if not all(re.fullmatch(rb"0|[1-9][0-9]{0,4}", port) and int(port) < 65536 for port in words[4:]):
        return False, ""
    kind = ipaddress.IPv4Address if words[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, _ = (str(kind(word.decode("ascii"))) for word in words[2:4])
    except ValueError:
        return False, ""
    return ("%" not in source, address(source) if "%" not in source else "")


def _binary(header: bytes) -> tuple[bool, str]:
    command, family, block = header[12], header[13], header[16:]
    if command not in {0x20, 0x21} or family >> 4 > 3 or family & 15 > 2:
        return False, ""
    if command == 0x20:
        return True, ""
    size = {0x11: 4, 0x21: 16}.get(family)
    if size is None:
        return family == 0 and _extensions(block), ""
    good = len(block) >= 2 * size + 4 and _extensions(block[2 * size + 4 :])
    return good, address(str(ipaddress.ip_address(block[:size]))) if good else ""


def _extensions(octets: bytes) -> bool:
    """Well formed; a checksum (type 3) is not right by chance."""
    while octets:
        end = 3 + int.from_bytes(octets[1:3], "big")
        if len(octets) < end or octets[0] == 3:
            return False
        octets = octets[end:]
    return True
