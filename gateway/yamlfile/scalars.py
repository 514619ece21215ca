"""What a plain scalar means, and what characters a file may hold."""

import re
import unicodedata

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
# Joiners are part of words in Persian and Indic scripts, and of emoji.
_JOINERS = "\u200c\u200d"


def resolve(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar: what looks like a plain decimal number is one, `true`, `false`, `null` and
    nothing at all are what they say, everything else is the text (no 0600, 12:30, 1_000, no, 2027-03-31, 1e3)."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text


def forbidden(character: str) -> bool:
    """True for characters that a reader cannot see or that make the text look different from what it says: control
    characters, spaces that YAML takes for letters (pasted from a web page), line separators of YAML 1.1 only, byte
    order marks inside, bidirectional overrides (CVE-2021-42574)."""
    if character in "\n\t " or character in _JOINERS:
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs") or character in "\ufffe\uffff"


_SUSPECT = re.compile("[^\n\t -~\u00a1-\u00ac\u00ae-\u02ff]")


def first_forbidden(text: str) -> int | None:
    """The index of the first forbidden character, or None."""
    return next((match.start() for match in _SUSPECT.finditer(text) if forbidden(match[0])), None)


def why_forbidden(character: str) -> tuple[str, str]:
    """What is wrong with it, and what to do."""
    if character == "\r":
        return "a carriage return stands alone", "end the lines with LF (or CR LF)"
    what = f"the character U+{ord(character):04X} must not stand in this file"
    return what, "it is invisible or looks like a space; delete it and type the line again"
