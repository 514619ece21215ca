"""The octets of a MIME leaf: decoded as far as somebody needs them, never twice, never with an exception.

RFC 2045 section 6. What is no base64 is passed over, as readers do. Called by `scan`.
"""

import binascii

from gateway.checks.mime import Part

_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))


def head_of(octets: bytes, part: Part, most: int) -> bytes:
    """The first octets of a leaf, decoded."""
    match part.encoding:
        case "base64":
            raw = octets[part.start : min(part.stop, part.start + most * 3 // 2)]
            return _base64(raw.partition(b"=")[0])[:most]
        case "quoted-printable":
            return binascii.a2b_qp(octets[part.start : min(part.stop, part.start + 3 * most)])[:most]
        case _:
            return octets[part.start : min(part.stop, part.start + most)]


def agreed(octets: bytes, part: Part) -> bool:
    """False where readers see different octets: some read on behind base64's padding, few know uuencoded parts."""
    if part.encoding != "base64":
        return part.encoding in ("", "7bit", "8bit", "binary", "quoted-printable")
    padding = octets.find(b"=", part.start, part.stop)
    if padding < 0:
        return True
    rest = octets[padding : min(part.stop, padding + 1_000)].translate(None, _NOT_BASE64)
    return not rest and not octets[padding + 1_000 : part.stop].strip(b"\r\n")


def whole_of(octets: bytes, part: Part) -> bytes:
    """A leaf decoded; of base64 what stands before its padding."""
    raw = octets[part.start : part.stop]
    match part.encoding:
        case "base64":
            return _base64(raw)
        case "quoted-printable":
            return binascii.a2b_qp(raw)
        case _:
            return raw


def size_of(octets: bytes, part: Part) -> int:
    """Octets of a leaf when decoded, near enough for a limit, without decoding it."""
    length = part.stop - part.start
    if part.encoding != "base64":
        return length
    line = octets.find(b"\r\n", part.start, part.stop) - part.start
    return (length - 2 * (length // (line + 2)) if line > 0 else length) * 3 // 4


def _base64(raw: bytes) -> bytes:
    try:
        return binascii.a2b_base64(raw)
    except binascii.Error:  # cut, or padding left out
        clean = raw.translate(None, _NOT_BASE64)
        return binascii.a2b_base64(clean[: len(clean) - len(clean) % 4] + _tail(clean))


def _tail(clean: bytes) -> bytes:
    rest = clean[len(clean) - len(clean) % 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""
