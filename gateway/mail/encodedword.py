"""Encoded-words read: what a person sees of a Subject or a display name.

RFC 2047 sections 2 and 6 in linear time, without regular expressions: the text is a stranger's. Called by
`mail/author` and `checks/content`. Only character sets of mail are decoded: Python's `punycode` and `idna` codecs take
quadratic time, others run a little program. What does not decode stays as it was typed. `visible` takes out what
could forge a line, turn the writing direction or hide between two letters.
"""

import binascii
import unicodedata

_LIMIT = 2_000  # characters of a decoded text; nobody reads a longer subject
_CHARSETS = frozenset(
    ["us-ascii", "ascii", "utf-8", "utf8", "utf-16", "utf-16be", "utf-16le", "koi8-r", "koi8-u", "big5", "big5-hkscs"]
    + ["gb2312", "gbk", "gb18030", "shift_jis", "sjis", "cp932", "euc-jp", "iso-2022-jp", "euc-kr", "ks_c_5601-1987"]
    + ["iso-2022-kr", "tis-620", "macintosh"]
    + [f"iso-8859-{n}" for n in range(1, 17) if n != 12]
    + [f"windows-125{n}" for n in range(9)]
    + [f"cp125{n}" for n in range(9)]
)
_HEX = frozenset("0123456789abcdefABCDEF")


def visible(text: str) -> str:
    """`text` on one line, without control, format and bidirectional characters, at most 2,000 characters."""
    if text.isascii() and text.isprintable() and len(text) <= _LIMIT:
        return text.strip()
    kept = []
    for c in text[: 4 * _LIMIT]:
        category = unicodedata.category(c)
        if category in {"Cc", "Zl", "Zp", "Zs"}:
            kept.append(" ")
        elif category not in {"Cf", "Cs", "Cn", "Co"}:
            kept.append(c)
    return "".join(kept).strip()[:_LIMIT]


def decoded(text: str) -> str:
    """`text` with its encoded-words decoded; white space between two of them vanishes (RFC 2047 section 6.2)."""
    out: list[str] = []
    octets, charset = b"", ""  # of adjacent words: some senders split a character between two
    gap = ""
    at = 0
    while True:
        start = text.find("=?", at)
        plain = text[at:start] if start >= 0 else text[at:]
        word = _word(text, start) if start >= 0 else None
        if plain.strip(" \t\r\n") or word is None:
            out.append(_decode(octets, charset) + gap + plain)
            octets, charset, gap = b"", "", ""
        else:
            gap = plain if not charset else ""
        if word is None:
            if start < 0:
                return "".join(out)
            out.append("=?")
            at = start + 2
            continue
        if word[0] != charset:
            out.append(_decode(octets, charset) + gap)
            octets, charset, gap = b"", word[0], ""
        octets += word[1]
        at = word[2]


def _decode(octets: bytes, charset: str) -> str:
    return octets.decode(charset, "replace") if charset else ""


def _word(text: str, start: int) -> tuple[str, bytes, int] | None:
    """(character set, octets, end) of the encoded-word at `start`, or None. Looks at 75 to 1,000 characters."""
    reach = start + 1_000
    first = text.find("?", start + 2, start + 60)
    if first < 0 or text[first + 2 : first + 3] != "?":
        return None
    end = text.find("?=", first + 3, reach)
    charset = text[start + 2 : first].partition("*")[0].lower()  # RFC 2231: a language after the asterisk
    if end < 0 or charset not in _CHARSETS:
        return None
    payload, encoding = text[first + 3 : end], text[first + 1].lower()
    try:
        if encoding == "b":
            octets = binascii.a2b_base64(payload + "=" * (-len(payload) % 4))
        elif encoding == "q":
            octets = _quoted_printable(payload)
        else:
            return None
    except (ValueError, binascii.Error):
        return None
    return charset, octets, end + 2


def _quoted_printable(payload: str) -> bytes:
    pieces = payload.replace("_", " ").split("=")
    out = [pieces[0].encode("utf-8")]
    for piece in pieces[1:]:
        if len(piece) >= 2 and _HEX.issuperset(piece[:2]):
            out.append(bytes((int(piece[:2], 16),)) + piece[2:].encode("utf-8"))
        else:
            out.append(b"=" + piece.encode("utf-8"))
    return b"".join(out)
