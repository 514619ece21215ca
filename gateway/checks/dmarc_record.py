"""The DMARC policy record: TXT at `_dmarc.<domain>`, read as tolerantly as RFC 9989 asks and no more.

RFC 9989 sections 4.7 and 4.8. What carries no version tag first is no record (`None`). Unknown tags and bad values of
the minor tags are dropped; a bad `p`, `sp` or `np` is kept as `Word.BAD`, because rule P (section 4.10.1, `applied`)
needs to know. Case: literals of the ABNF ignore it, the version does not. A tag given twice: the last counts (RFC
6376 would drop the whole record; a typo shall not leave a domain unprotected). Pure.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

_WSP = b" \t\r\n"
_VALUE = bytes(range(0x20, 0x3B)) + bytes(range(0x3C, 0x7F)) + b"\t"
_URI = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?#[]@$&'()*+;=%")
_ALPHA = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SCHEME = _ALPHA | frozenset(b"0123456789+-.")
_LENGTH_LIMIT = 16 * 1024
_MEMO_OCTETS = 1_024


class Word(StrEnum):
    """A policy word; `ABSENT` and `BAD` tell why there is none."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"
    ABSENT = ""
    BAD = "?"


_WEAKER = {Word.REJECT: Word.QUARANTINE, Word.QUARANTINE: Word.NONE}
_GOOD = frozenset({Word.NONE, Word.QUARANTINE, Word.REJECT})


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `psd` is "y", "n" or "u"; `reported` is true when `rua` holds a syntactically valid URI."""

    p: Word = Word.ABSENT
    sp: Word = Word.ABSENT
    np: Word = Word.ABSENT
    psd: str = "u"
    testing: bool = False
    strict_dkim: bool = False
    strict_spf: bool = False
    reported: bool = False
    #: Historic since RFC 9989 (appendix A.6); counts only where an operator asks for the old way.
    percentage: int = 100

    def applied(self) -> "Record | None":
        """The record as it binds a message (rule P), or None when DMARC is not applied at all."""
        if self.p in _GOOD and self.sp is not Word.BAD and self.np is not Word.BAD:
            return self
        if not self.reported:
            return None
        return Record(
            Word.NONE, psd=self.psd, testing=self.testing, strict_dkim=self.strict_dkim, strict_spf=self.strict_spf,
            reported=True,
        )  # fmt: skip

    def wanted(self, *, at_author: bool, exists: bool) -> Word:
        """The policy for a failing mail of a name at this record, or below it (section 4.7)."""
        word = self.p
        if not at_author:
            word = self.sp or self.p
            if not exists:
                word = self.np or word
        return _WEAKER.get(word, word) if self.testing else word

    def sampled(self, word: Word, drawn: int) -> Word:
        """`word` for a mail that drew that lot of 100 (RFC 7489 section 6.6.4): not chosen is one step weaker."""
        return word if drawn < self.percentage else _WEAKER.get(word, word)


def parse(octets: bytes) -> Record | None:
    """The record that one TXT record (its strings joined) is, or None when it is no DMARC record."""
    if len(octets) <= _MEMO_OCTETS:
        return _parse_memo(octets)
    return _parse(octets)


def _parse(octets: bytes) -> Record | None:
    if len(octets) > _LENGTH_LIMIT:
        return None
    version, *elements = octets.split(b";")
    name, equals, value = version.partition(b"=")
    # White space before v is outside the grammar and everywhere; the value is case-sensitive (%s"DMARC1").
    if not equals or name.strip(_WSP).lower() != b"v" or value.strip(_WSP) != b"DMARC1":
        return None
    tags: dict[bytes, bytes] = {}
    for element in elements:
        name, equals, value = element.partition(b"=")
        value = value.strip(_WSP)
        if equals and value and not value.translate(None, _VALUE):
            tags[name.strip(_WSP).lower()] = value
        elif equals and name.strip(_WSP).lower() in {b"p", b"sp", b"np"}:
            tags[name.strip(_WSP).lower()] = b"?"
    psd = tags.get(b"psd", b"u").lower()
    return Record(
        _word(tags, b"p"),
        _word(tags, b"sp"),
        _word(tags, b"np"),
        psd.decode("ascii") if psd in {b"y", b"n"} else "u",
        tags.get(b"t", b"").lower() == b"y",
        tags.get(b"adkim", b"").lower() == b"s",
        tags.get(b"aspf", b"").lower() == b"s",
        any(_is_uri(uri) for uri in tags.get(b"rua", b"").split(b",")),
        _percentage(tags.get(b"pct", b"100")),
    )


_parse_memo = lru_cache(maxsize=4_096)(_parse)  # a pure function of at most 1 KB; the same few records all day


def _word(tags: dict[bytes, bytes], tag: bytes) -> Word:
    if tag not in tags:
        return Word.ABSENT
    try:
        word = Word(tags[tag].lower().decode("ascii"))
    except ValueError:
        return Word.BAD
    return word if word in _GOOD else Word.BAD


def _percentage(value: bytes) -> int:
    return int(value) if value.isdigit() and len(value) <= 3 and int(value) <= 100 else 100


def _is_uri(octets: bytes) -> bool:
    """RFC 3986, with the obsolete size `!10m` behind it."""
    uri = octets.strip(_WSP).partition(b"!")[0]
    scheme, colon, rest = uri.partition(b":")
    return bool(
        colon and rest and scheme and scheme[0] in _ALPHA and _SCHEME.issuperset(scheme) and _URI.issuperset(rest)
    )
