"""SPF records and macro strings, parsed strictly: the grammar of RFC 7208 section 12, and nothing besides.

`parse` takes the octets of a record and gives its directives and modifiers; a record with a fault anywhere has
`error` set and nothing else (section 4.6: syntax errors anywhere in the record are permerror, before evaluation).
`Macros` expand later, when sender and client are known (section 7). Pure; parsed records are remembered, because
the records of large senders come with every second mail.

Bounds, since every octet is a stranger's: 8,192 octets, 300 terms and 200 percent signs a record (real ones have 50
terms at most; RFC section 3.4 wants them to fit one UDP datagram), expansions stop at the length somebody can use.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_pton

from gateway.mail.terms import Result

MAX_OCTETS = 8192
MAX_TERMS = 300
MAX_PERCENTS = 200

QUALIFIERS = {"+": Result.PASS, "-": Result.FAIL, "~": Result.SOFTFAIL, "?": Result.NEUTRAL}

# Section 12: a term is a name and what follows it; ":" and "/" belong to mechanisms, "=" to modifiers.
_TERM = re.compile(r"([+\-?~]?)([A-Za-z][A-Za-z0-9._-]*)(.*)")
_CIDR = re.compile(r"(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?")
_CIDR_TAIL = re.compile(r"(?:/[0-9]+)?(?://[0-9]+)?\Z")
_MACRO = re.compile(r"%(?:\{([a-z])([0-9]*)(r?)([.\-+,/_=]*)\}|([%_-]))", re.IGNORECASE)
_TOP_LABEL = re.compile(r"(?=[A-Za-z0-9-]*[A-Za-z-])[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\Z")
_ESCAPED = {"%": "%", "_": " ", "-": "%20"}
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986


class Malformed(ValueError):  # noqa: N818 - what the record is
    """A record, term or macro string that the grammar does not have; the text says which."""


@dataclass(frozen=True, slots=True)
class Macro:
    """`%{...}`: a lower-case letter, how many parts from the right (0: all), reversed, split where, URL-escaped."""

    letter: str
    parts: int
    reverse: bool
    delimiters: str
    escape: bool

    def of(self, value: str) -> str:
        """`value` transformed (section 7.3)."""
        if self.parts or self.reverse or self.delimiters != ".":
            for delimiter in self.delimiters[1:]:
                value = value.replace(delimiter, self.delimiters[0])
            pieces = value.split(self.delimiters[0])
            if self.reverse:
                pieces.reverse()
            value = ".".join(pieces[-self.parts :])
        if self.escape:
            value = "".join(c if c in _UNRESERVED else "".join(f"%{o:02X}" for o in _octets(c)) for c in value)
        return value


def _octets(character: str) -> bytes:
    return character.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Macros:
    """A macro string: literal text and macros in turn; `closed` when it ends in `%...`, not in literal text."""

    pieces: tuple[str | Macro, ...]
    letters: frozenset[str]
    closed: bool

    def domain(self, value: Callable[[str], str]) -> str:
        """The target name: at most 253 characters, whole labels dropped on the left to fit (section 7.3).

        Expanded from the right until nothing more can fit, so that a thousand macros cost no more than one name.
        """
        name = ""
        for piece in reversed(self.pieces):
            name = (piece if isinstance(piece, str) else piece.of(value(piece.letter))) + name
            if len(name) > 255:
                break
        name = name.removesuffix(".")
        return name if len(name) <= 253 else name[-254:].partition(".")[2]

    def text(self, value: Callable[[str], str], limit: int) -> str:
        """The expansion as text; `Malformed` when it grows beyond `limit` characters."""
        words, length = [], 0
        for piece in self.pieces:
            words.append(piece if isinstance(piece, str) else piece.of(value(piece.letter)))
            length += len(words[-1])
            if length > limit:
                raise Malformed("the explanation is too long")
        return "".join(words)


@dataclass(frozen=True, slots=True)
class Directive:
    """A mechanism with what it says on a match. `network` is the ip4 or ip6 network without its `shift` host bits."""

    result: Result
    kind: str  # all include a mx ptr ip4 ip6 exists
    spec: Macros | None = None  # `None`: the current domain
    network: int = 0
    shift4: int = 0  # host bits to ignore: 32 - prefix length
    shift6: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed record, or (`error`) why it is none."""

    directives: tuple[Directive, ...] = ()
    redirect: Macros | None = None
    exp: Macros | None = None
    error: str = ""


def is_spf(octets: bytes) -> bool:
    """True for a TXT record that is an SPF record: its first word is the version (section 4.5)."""
    return octets[:6].lower() == b"v=spf1" and octets[6:7] in {b"", b" "}


def parse(octets: bytes) -> Record:
    """The record; never raises. Small records are remembered."""
    if len(octets) > MAX_OCTETS:
        return Record(error=f"the record has more than {MAX_OCTETS} octets")
    return _remembered(octets) if len(octets) <= 1500 else _parse(octets)


def _parse(octets: bytes) -> Record:
    try:
        return _record(octets)
    except Malformed as why:
        return Record(error=str(why))


_remembered = lru_cache(maxsize=1000)(_parse)


def _record(octets: bytes) -> Record:
    try:
        text = octets.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("the record is not ASCII") from None
    if not text.isprintable():
        raise Malformed("the record has control characters")
    terms = [term for term in text.split(" ")[1:] if term]
    if len(terms) > MAX_TERMS:
        raise Malformed(f"more than {MAX_TERMS} terms")
    if text.count("%") > MAX_PERCENTS:
        raise Malformed(f"more than {MAX_PERCENTS} macros")
    directives: list[Directive] = []
    modifiers: dict[str, Macros] = {}
    for term in terms:
        match = _TERM.fullmatch(term)
        if match is None:
            raise Malformed(f"no such term: {term[:80]}")
        qualifier, name, rest = match.groups()
        name = name.lower()
        if rest.startswith("=") and not qualifier:
            if name in {"redirect", "exp"}:
                if name in modifiers:
                    raise Malformed(f"{name}= twice")
                modifiers[name] = domain_spec(rest[1:])
            else:
                macros(rest[1:])
        else:
            directives.append(_directive(QUALIFIERS[qualifier or "+"], name, rest))
    return Record(tuple(directives), modifiers.get("redirect"), modifiers.get("exp"))


def _directive(result: Result, kind: str, rest: str) -> Directive:
    match kind:
        case "all" if not rest:
            return Directive(result, kind)
        case "include" | "exists" if rest.startswith(":"):
            return Directive(result, kind, domain_spec(rest[1:]))
        case "ptr" if not rest:
            return Directive(result, kind)
        case "ptr" if rest.startswith(":"):
            return Directive(result, kind, domain_spec(rest[1:]))
        case "a" | "mx" if rest[:1] in {"", ":", "/"}:
            return _addressed(result, kind, rest)
        case "ip4" | "ip6" if rest.startswith(":"):
            return _network(result, kind, rest[1:])
    raise Malformed(f"no such mechanism: {kind}{rest}"[:100])


def _addressed(result: Result, kind: str, rest: str) -> Directive:
    tail = _CIDR_TAIL.search(rest)
    start = tail.start() if tail else len(rest)
    cidr = _CIDR.fullmatch(rest, start)
    if cidr is None:
        raise Malformed(f"no prefix length: {rest[:80]}")
    shift4, shift6 = 32 - int(cidr[1] or 32), 128 - int(cidr[2] or 128)
    if shift4 < 0 or shift6 < 0:
        raise Malformed(f"no prefix length: {rest[:80]}")
    spec = rest[:start]
    if spec and not spec.startswith(":"):
        raise Malformed(f"no domain: {rest[:80]}")
    return Directive(result, kind, domain_spec(spec[1:]) if spec else None, 0, shift4, shift6)


def _network(result: Result, kind: str, text: str) -> Directive:
    address, slash, prefix = text.partition("/")
    bits = 32 if kind == "ip4" else 128
    try:
        network = int.from_bytes(inet_pton(AF_INET if kind == "ip4" else AF_INET6, address))
    except OSError:
        raise Malformed(f"no address: {kind}:{text[:80]}") from None
    length = bits
    if slash:
        if not (prefix.isdigit() and len(prefix) < 4 and str(int(prefix)) == prefix and int(prefix) <= bits):
            raise Malformed(f"no prefix length: {kind}:{text[:80]}")
        length = int(prefix)
    shift = bits - length
    return Directive(result, kind, None, network >> shift, shift, shift)


def domain_spec(text: str) -> Macros:
    """A `domain-spec`: a macro string that ends in a macro, or in a dot and a top label."""
    spec = macros(text)
    if not spec.closed:
        _, dot, label = text[text.rfind("%") + 1 :].removesuffix(".").rpartition(".")
        if not dot or not _TOP_LABEL.match(label):
            raise Malformed(f"no domain: {text[:80]}")
    return spec


def macros(text: str, *, explanation: bool = False) -> Macros:
    """A `macro-string`, or an `explain-string`, which may hold spaces and the letters c, r and t (section 7.2)."""
    pieces: list[str | Macro] = []
    literal: list[str] = []
    at = 0
    while (percent := text.find("%", at)) >= 0:
        literal.append(text[at:percent])
        match = _MACRO.match(text, percent)
        if match is None:
            raise Malformed(f"no macro: {text[percent : percent + 80]}")
        at = match.end()
        if match[5]:
            literal.append(_ESCAPED[match[5]])
            continue
        if joined := "".join(literal):
            pieces.append(joined)
        literal.clear()
        pieces.append(_macro(match))
    if joined := "".join([*literal, text[at:]]):
        pieces.append(joined)
    if not (text.isascii() and text.isprintable()) or (" " in text and not explanation):
        raise Malformed("a character that no macro string has")
    letters = frozenset(p.letter for p in pieces if isinstance(p, Macro))
    if not explanation and not letters.isdisjoint("crt"):
        raise Malformed(f"a macro for explanations only: {text[:80]}")
    return Macros(tuple(pieces), letters, closed=bool(text) and at == len(text))


def _macro(match: "re.Match[str]") -> Macro:
    letter, digits = match[1].lower(), match[2].lstrip("0")
    if letter not in "slodiphcrtv" or (match[2] and not digits):
        raise Malformed(f"no macro: {match[0][:80]}")
    # No text we expand has a thousand parts.
    return Macro(letter, min(int(digits[:4] or 0), 1000), bool(match[3]), match[4] or ".", match[1].isupper())
