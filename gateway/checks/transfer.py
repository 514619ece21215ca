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


def whole_of(octets: bytes, part: Part) -> tuple[bytes, bool]:
    """A leaf decoded, and whether readers agree on it: what follows base64's padding is read by some alone."""
    raw = octets[part.start : part.stop]
    match part.encoding:
        case "base64":
            padding = raw.find(b"=")
            if padding < 0 or not raw[padding:].translate(None, _NOT_BASE64):
                return _base64(raw), True
            return _base64(raw[:padding]), False
        case "quoted-printable":
            return binascii.a2b_qp(raw), True
        case _:
            return raw, True


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
