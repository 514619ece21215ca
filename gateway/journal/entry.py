"""One entry of the journal, and its bounded form as JSON."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, cast

import orjson

#: What became of a mail, by the action that ended it: words of log, counters and search.
_OUTCOMES = {
    "accept": "accepted",
    "reject": "rejected",
    "defer": "deferred",
    "quarantine": "quarantined",
    "greylist": "greylisted",
    "limit": "limited",
}
OUTCOMES = (*_OUTCOMES.values(), "aborted")
#: Octets up to which nothing is cut.
_SHORT = 8000
#: Bounds inside a longer entry: a stranger fills in most of it.
_TEXT = 2000  # characters
_LIST = 1000
_CUT = "..."
_DEPTH = 6
_OCTETS = 256_000
#: What `decode` raises where the octets are not ours, or of a version that we cannot read.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError)


@dataclass(frozen=True, slots=True)
class Spoken:
    """One decision that was spoken: at RCPT there may be one for each recipient."""

    stage: str  # "connect", "helo", "mail", "rcpt", "data"
    action: str  # "accept", "reject", "defer", "quarantine"
    rule: str  # "" where no policy rule decided (unknown recipient, relay denied, backend)
    reply: str  # as it went to the client, lines joined by a space
    because: str = ""
    recipient: str = ""  # "" means: all of them


@dataclass(frozen=True, slots=True)
class Asked:
    """What the policy was asked about one recipient, and its own word: for explanations and replays.

    `stage` is "rcpt", or "connect" where it spoke at the banner and there was no recipient. `action` is "" where the
    policy let the recipient pass, which says nothing yet of the frame (other class) and of the backend: see `taken`.
    """

    recipient: str
    stage: str = "rcpt"
    facts: dict[str, object] = field(default_factory=dict)  # `rcpt.*`, and the size as announced
    outcomes: dict[str, str] = field(default_factory=dict)  # what effects answered, by who asked what
    action: str = ""
    rule: str = ""
    taken: bool = False  # the recipient was answered 250


@dataclass(frozen=True, slots=True)
class Judged:
    """The policy's own word on the whole message, whatever the backend made of it. `action` "": it was not asked."""

    action: str = ""
    rule: str = ""
    outcomes: dict[str, str] = field(default_factory=dict)
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction. Strings may be anything a stranger said: they are escaped where they are shown."""

    id: str
    time: float  # epoch seconds of its begin
    client: str  # address
    sender: str  # "" is the null reverse-path
    recipients: tuple[str, ...] = ()
    client_name: str = ""  # verified reverse name
    helo: str = ""
    tls: str = ""
    session: str = ""  # id of the session
    size: int = 0  # octets
    facts: dict[str, object] = field(default_factory=dict)  # dotted name to value
    failed: dict[str, str] = field(default_factory=dict)  # check to why it failed
    dns: dict[str, str] = field(default_factory=dict)  # question ("example.org TXT") to the answer in short
    stage: str = ""
    action: str = ""
    rule: str = ""
    because: str = ""
    reply: str = ""
    verdicts: tuple[Spoken, ...] = ()
    asked: tuple[Asked, ...] = ()  # one a recipient
    judged: Judged = field(default_factory=Judged)
    fired: tuple[str, ...] = ()  # every rule whose action was taken, or would have been
    observed: tuple[tuple[str, str], ...] = ()  # rule in `mode: observe`, what it would have done
    notes: tuple[tuple[str, str], ...] = ()  # rule, its remark
    backend: str = ""
    fate: str = ""  # "delivered", "refused", "unknown", "none" (never got so far), "aborted"
    fate_detail: str = ""  # the backend's host and words, or why it was aborted
    revision: str = ""  # of the policy
    timings: dict[str, float] = field(default_factory=dict)  # step to seconds

    @property
    def outcome(self) -> str:
        """What became of it in a word of `OUTCOMES`."""
        if self.fate == "aborted":
            return "aborted"
        return _OUTCOMES.get(self.action, self.action or "aborted")


def encode(entry: Entry) -> bytes:
    """One entry as JSON, bounded."""
    octets = _at_once(entry) or _piece_by_piece(entry)
    if len(octets) > _OCTETS:
        facts: dict[str, object] = {"truncated": f"the entry was longer than {_OCTETS} octets"}
        small = replace(
            entry, facts=facts, failed={}, verdicts=(), asked=(), judged=Judged(), fired=(), observed=(), notes=()
        )
        return encode(replace(small, recipients=entry.recipients[:10], dns={}, timings={}))
    return octets


def _at_once(entry: Entry) -> bytes:
    """The entry as it is, for a tenth of the cost; b"" where it is long, or something in it must be converted."""
    try:
        octets = orjson.dumps(entry)
    except TypeError:  # lone surrogates, integers over 64 bits, a set: what orjson refuses
        return b""
    return octets if len(octets) <= _SHORT else b""


def _piece_by_piece(entry: Entry) -> bytes:
    shallow: dict[str, object] = {key: getattr(entry, key) for key in _KEYS}  # `asdict` copies deeply: 40 µs
    lists = {
        "verdicts": [asdict(verdict) for verdict in entry.verdicts],
        "asked": [asdict(asked) for asked in entry.asked],
        "judged": asdict(entry.judged),
    }
    plain = _bounded(shallow | lists)
    try:
        return orjson.dumps(plain, default=str)
    except TypeError:
        return json.dumps(plain, default=str).encode()


def whole(value: object) -> bool:
    """False for a text or list that may have been cut for the journal."""
    match value:
        case str():
            return len(value) != _TEXT + len(_CUT) or not value.endswith(_CUT)
        case list():
            return len(value) < _LIST and all(whole(each) for each in value)
        case dict():
            return all(whole(each) for each in value.values())
        case _:
            return True


def decode(octets: bytes) -> Entry:
    """An entry again; keys of another version are ignored, absent ones empty. Raises one of `UNREADABLE`."""
    values: dict[str, object] = {"id": "", "time": 0.0, "client": "", "sender": ""}
    values.update((key, value) for key, value in _loads(octets).items() if key in _KEYS)
    values["recipients"] = tuple(cast("list[str]", values.get("recipients", [])))
    values["verdicts"] = tuple(Spoken(**each) for each in _objects(values.get("verdicts"), Spoken))
    values["asked"] = tuple(Asked(**each) for each in _objects(values.get("asked"), Asked))
    judged = Judged(**(_objects([values.get("judged", {})], Judged)[0]))
    values["judged"] = replace(judged, tags=_pairs(judged.tags))
    values["fired"] = tuple(cast("list[str]", values.get("fired", [])))
    values["observed"] = _pairs(values.get("observed", []))
    values["notes"] = _pairs(values.get("notes", []))
    entry = Entry(**values)  # type: ignore[arg-type] # its types are looked at next
    for one in (entry, entry.judged, *entry.asked, *entry.verdicts):
        for name, kinds in _TYPES[one.__class__]:
            if type(getattr(one, name)) not in kinds:
                raise TypeError(f"'{name}' is a {type(getattr(one, name)).__name__}")
    return entry


def _loads(octets: bytes) -> dict[str, object]:
    try:
        return cast("dict[str, object]", orjson.loads(octets))
    except orjson.JSONDecodeError:  # what orjson refused to write, too
        return cast("dict[str, object]", json.loads(octets))


def _objects(value: object, kind: type[Spoken] | type[Asked] | type[Judged]) -> list[dict[str, Any]]:
    known = _NAMES[kind]
    found = cast("list[dict[str, Any]]", value or [])
    return [each if each.keys() <= known else {k: v for k, v in each.items() if k in known} for each in found]


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    return tuple((one, two) for one, two in cast("list[tuple[str, str]]", value))


_NAMES: dict[type, set[str]] = {kind: {each.name for each in fields(kind)} for kind in (Entry, Spoken, Asked, Judged)}
_TYPES: dict[type, list[tuple[str, set[type]]]] = {
    type(empty): [
        (each.name, {float, int} if (kind := type(getattr(empty, each.name))) is float else {kind})
        for each in fields(empty)
    ]
    for empty in (Entry("", 0.0, "", ""), Judged(), Asked(""), Spoken("", "", "", ""))
}
_KEYS = tuple(each.name for each in fields(Entry))


def _bounded(value: object, depth: int = _DEPTH) -> object:
    match value:
        case str():
            return value if len(value) <= _TEXT else value[:_TEXT] + _CUT
        case dict() if depth:
            return {str(key)[:_TEXT]: _bounded(each, depth - 1) for key, each in list(value.items())[:_LIST]}
        case list() | tuple() | set() | frozenset() if depth:
            return [_bounded(each, depth - 1) for each in list(value)[:_LIST]]
        case bool() | int() | float() | None:
            return value
        case _:
            return str(value)[:_TEXT]
