"""One entry of the journal, and its bounded form as JSON."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import cast

import orjson

#: Bounds inside one entry: a stranger fills in most of it.
_TEXT = 2000  # characters
_LIST = 1000
_DEPTH = 6
_OCTETS = 256_000


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
    stage: str = ""
    action: str = ""
    rule: str = ""
    because: str = ""
    reply: str = ""
    verdicts: tuple[Spoken, ...] = ()
    backend: str = ""
    fate: str = ""  # "delivered", "refused", "unknown", "none" (never got so far), "aborted"
    fate_detail: str = ""  # the backend's host and words, or why it was aborted
    revision: str = ""  # of the policy
    timings: dict[str, float] = field(default_factory=dict)  # step to seconds


def encode(entry: Entry) -> bytes:
    """One entry as JSON, bounded."""
    shallow: dict[str, object] = {key: getattr(entry, key) for key in _KEYS}  # `asdict` copies deeply: 40 µs
    plain = _bounded(shallow | {"verdicts": [asdict(verdict) for verdict in entry.verdicts]})
    try:
        octets = orjson.dumps(plain, default=str)
    except TypeError:  # lone surrogates, integers over 64 bits: what orjson refuses
        octets = json.dumps(plain, default=str).encode()
    if len(octets) > _OCTETS:
        facts: dict[str, object] = {"truncated": f"the entry was longer than {_OCTETS} octets"}
        return encode(replace(entry, facts=facts, failed={}, verdicts=(), recipients=entry.recipients[:10], timings={}))
    return octets


def decode(octets: bytes) -> Entry:
    """An entry again; keys of another version are ignored, absent ones empty."""
    values: dict[str, object] = {"id": "", "time": 0.0, "client": "", "sender": ""}
    values.update((key, value) for key, value in json.loads(octets).items() if key in _KEYS)
    values["recipients"] = tuple(cast("list[str]", values.get("recipients", [])))
    values["verdicts"] = tuple(
        Spoken(**verdict) for verdict in cast("list[dict[str, str]]", values.get("verdicts", []))
    )
    return Entry(**values)  # type: ignore[arg-type] # our own JSON


_KEYS = tuple(each.name for each in fields(Entry))


def _bounded(value: object, depth: int = _DEPTH) -> object:
    match value:
        case str():
            return value if len(value) <= _TEXT else value[:_TEXT] + "..."
        case dict() if depth:
            return {str(key)[:_TEXT]: _bounded(each, depth - 1) for key, each in list(value.items())[:_LIST]}
        case list() | tuple() | set() | frozenset() if depth:
            return [_bounded(each, depth - 1) for each in list(value)[:_LIST]]
        case bool() | int() | float() | None:
            return value
        case _:
            return str(value)[:_TEXT]
