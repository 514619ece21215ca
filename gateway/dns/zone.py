"""Answers from a mapping instead of the network: for `gatepost check`, the demo, trials and tests.

The form is owner name (lower case, no final dot) -> type -> list of presentation strings (RFC 1035 section 5.1), or
one of the words SERVFAIL, TIMEOUT, NXDOMAIN; the type `"*"` stands for every type not listed. An empty list is an
existing name without such records, and so is a name above a listed one (RFC 8020); every other name does not exist.
TIMEOUT is `Unavailable` at once, nobody waits. Aliases and their loops are the resolver's business.

Owner names may be anything: one that no question can reach is simply never found. A value that is no such record
is a `ValueError` that names owner and type (in a file: a `ConfigError` with its position).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from gateway.dns.answer import TYPE_NUMBERS, Record, Resource, Response
from gateway.files import Files
from gateway.mail.terms import Unavailable
from gateway.yamlfile import ConfigError, Problem, load

TTL = 300.0
MARKERS = frozenset({"SERVFAIL", "TIMEOUT", "NXDOMAIN"})

Types = Mapping[str, Sequence[str] | str]


class Zone:
    """A `Source` that knows exactly what it was given."""

    def __init__(self, mapping: Mapping[str, Types]) -> None:
        self._owners: dict[str, dict[str, str | tuple[Record, ...]]] = {}
        self._above: set[str] = set()
        for (*place,), what in self._faults(mapping):
            raise ValueError(f"{' '.join(_short(step) for step in place) or 'DNS'}: {what}")

    @classmethod
    def load(cls, path: Path, files: Files) -> "Zone":
        """The zone of a JSON (or YAML) file. Raises `ConfigError` with every fault and where it stands."""
        document = load(path, files)
        zone = cls({})
        faults = list(zone._faults(document.data))
        if faults:
            hint = 'a zone is {"owner.example": {"TXT": ["\\"text\\""]}}'
            raise ConfigError([Problem(document.position(loc), what, hint) for loc, what in faults])
        return zone

    async def ask(self, name: str, rdtype: str, timeout: float) -> Response:
        """The response of the file; `timeout` is not used, nothing takes time."""
        types = self._owners.get(name)
        if types is None:
            return Response(nxdomain=name not in self._above, negative_ttl=TTL)
        found_type = rdtype
        found = types.get(rdtype)
        if found is None and (found := types.get("CNAME")) is not None:
            found_type = "CNAME"
        if found is None:
            found = types.get("*", ())
        match found:
            case "NXDOMAIN":
                return Response(nxdomain=True, negative_ttl=TTL)
            case str():
                raise Unavailable(f"DNS: {found} for {name} {rdtype}")
        if not found:
            return Response(negative_ttl=TTL)
        return Response(tuple(Resource(name, found_type, TTL, value) for value in found))

    def _faults(self, mapping: object) -> Iterator[tuple[tuple[str, ...], str]]:
        """Takes everything in; yields the owner and type of each fault, and what it is."""
        if not isinstance(mapping, Mapping):
            yield (), "must be a mapping of owner names"
            return
        for owner, types in mapping.items():
            if not isinstance(types, Mapping):
                yield (owner,), "must be a mapping of types"
                continue
            name = owner.lower().removesuffix(".")
            known = self._owners.setdefault(name, {})
            for rdtype, values in types.items():
                try:
                    known[rdtype.upper()] = _values(rdtype.upper(), values)
                except ValueError as why:
                    yield (owner, rdtype), str(why)
            dot = name.rfind(".")
            while dot >= 0 and len(name) - dot <= 254:  # longer ones nobody can ask for
                self._above.add(name[dot + 1 :])
                dot = name.rfind(".", 0, dot)


def _short(text: object) -> str:
    return ascii(text)[1:-1][:80]


def _values(rdtype: str, values: object) -> str | tuple[Record, ...]:
    if isinstance(values, str):
        if values not in MARKERS:
            raise ValueError(f"must be a list, or one of {', '.join(sorted(MARKERS))}")
        return values
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise ValueError("must be a list of strings")
    if rdtype == "*" and values:
        raise ValueError('"*" takes a word or an empty list')
    return tuple(value_of(rdtype, v) for v in values) if rdtype in TYPE_NUMBERS else ()


def value_of(rdtype: str, text: str) -> Record:
    """The value of one record from its presentation form; `ValueError` when it is none."""
    match rdtype:
        case "A":
            return _address(text, AF_INET)
        case "AAAA":
            return _address(text, AF_INET6)
        case "TXT" | "SPF":
            return character_strings(text)
        case "MX":
            preference, _, host = text.strip().partition(" ")
            if not (preference.isascii() and preference.isdigit() and int(preference) < 65536) or not host.strip():
                raise ValueError('an MX record is "PREFERENCE HOST"')
            return int(preference), _name(host)
        case "TLSA":
            return _tlsa(text)
        case _:
            return _name(text)


def _address(text: str, family: int) -> str:
    try:
        return inet_ntop(family, inet_pton(family, text.strip()))
    except (OSError, ValueError):
        raise ValueError(f"{_short(text)} is no IPv{4 if family == AF_INET else 6} address") from None


def _name(text: str) -> str:
    return text.strip().lower().removesuffix(".")


def _tlsa(text: str) -> Record:
    words = text.split()
    numbers = [int(w) for w in words[:3] if w.isascii() and w.isdigit() and len(w) < 4]
    if len(words) < 4 or len(numbers) < 3 or max(numbers) > 255:
        raise ValueError('a TLSA record is "USAGE SELECTOR MATCHING HEX"')
    return numbers[0], numbers[1], numbers[2], bytes.fromhex("".join(words[3:]))


_PIECE = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))', re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:([0-9]{3})|(.))", re.DOTALL)


def character_strings(text: str) -> bytes:
    r"""The octets of a TXT record: quoted strings joined, `\"` and `\DDD` resolved, other text in UTF-8.

    Text that does not begin with a quote is one string as it stands, blanks included.
    """
    if not text.lstrip().startswith('"'):
        return _unescape(text)
    octets, at, text = [], 0, text.rstrip()
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise ValueError("a quote is not closed")
        octets.append(_unescape(piece[2] if piece[1] is None else piece[1]))
        at = piece.end()
    return b"".join(octets)


def _unescape(text: str) -> bytes:
    octets = text.encode("utf-8", "surrogatepass")
    if b"\\" not in octets:
        return octets
    return _ESCAPE.sub(_unescaped, octets)


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match[1] is None:
        return match[2]
    if (number := int(match[1])) > 255:
        raise ValueError(f"\\{number} is no octet")
    return bytes((number,))
