"""Durations (`5m`, `24h`, `100ms`) and sizes (`35MB`, powers of 1000), and strict counts, for models.

A model says `timeout: Duration` and gets seconds as float, `message: Size` and gets octets as int; written back they
are `5m` and `35MB` again. `duration("100ms", "5m")` and `size("1KB", "1GB")` bound them.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, Strict, WithJsonSchema

from gateway.yamlfile.problem import Fault, shown
from gateway.yamlfile.wording import named

_SECONDS = {"w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_OCTETS = {"GB": 10**9, "MB": 10**6, "KB": 10**3, "B": 1}
_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,6})?)"
_DURATION = re.compile(_NUMBER + "(ms|s|m|h|d|w)")
_SPOKEN = re.compile(_NUMBER + r"\s*(?:(sec|min|hr|hour|day|week|second|minute)s?|([smhdw]))", re.IGNORECASE)
_SIZE = re.compile(_NUMBER + "(B|KB|MB|GB)")


def parse_duration(value: object) -> float:
    """Seconds, from `5m` and the like. Raises `Fault`."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(match[1]) * _SECONDS[match[2]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise Fault(f"the duration {value} has no unit", f"write {value}s, {value}m or {value}h")
    if isinstance(value, str) and (meant := _SPOKEN.fullmatch(value)):
        raise Fault(f"{shown(value)} is no duration", f"did you mean {meant[1]}{(meant[2] or meant[3])[0].lower()}?")
    raise Fault(f"{named(value)} is no duration", "write a number and one of ms s m h d w, as in 5m or 24h")


def parse_size(value: object) -> int:
    """Octets, from `35MB` and the like. Raises `Fault`."""
    if isinstance(value, str):
        if (match := _SIZE.fullmatch(value)) and (octets := float(match[1]) * _OCTETS[match[2]]).is_integer():
            return int(octets)
        meant = re.fullmatch(_NUMBER + r"\s*([kmg])i?b?", value, re.IGNORECASE)
        if meant:
            raise Fault(f"{shown(value)} is no size", f"did you mean {meant[1]}{meant[2].upper()}B (powers of 1000)?")
    if isinstance(value, int | float) and not isinstance(value, bool):
        hint = (
            f"write {spell_size(int(value))} if octets are meant" if value >= 1000 else f"write {value}MB or {value}KB"
        )
        raise Fault(f"the size {value} has no unit", hint)
    raise Fault(f"{named(value)} is no size", "write a number and one of B KB MB GB, as in 35MB")


def spell_duration(seconds: float) -> str:
    """The shortest spelling that reads back as the same number of seconds."""
    for unit, length in _SECONDS.items():
        if seconds >= length and (seconds / length).is_integer():
            return f"{int(seconds / length)}{unit}"
    milliseconds = seconds * 1000
    if abs(milliseconds - round(milliseconds)) < 1e-9:
        return f"{round(milliseconds)}ms" if seconds else "0s"
    return f"{seconds:.6f}".rstrip("0") + "s"


def spell_size(octets: int) -> str:
    """The shortest spelling that reads back as the same number of octets."""
    unit = next((unit for unit, length in _OCTETS.items() if octets >= length and octets % length == 0), "B")
    return f"{octets // _OCTETS[unit]}{unit}"


class _Bounds:
    """A range, spelled as the operator would."""

    def __init__(self, least: float, most: float, spelled: str) -> None:
        self._least, self._most, self._spelled = least, most, spelled

    def check(self, value: float, typed: object) -> None:
        """Raises `Fault` outside the range."""
        if not self._least <= value <= self._most:
            raise Fault(f"{typed} is out of range", self._spelled)


def _duration(least: str, most: str) -> BeforeValidator:
    bounds = _Bounds(parse_duration(least), parse_duration(most), f"write a value from {least} to {most}")

    def read(value: object) -> float:
        seconds = parse_duration(value)
        bounds.check(seconds, value)
        return seconds

    return BeforeValidator(read)


def _size(least: str, most: str) -> BeforeValidator:
    bounds = _Bounds(parse_size(least), parse_size(most), f"write a value from {least} to {most}")

    def read(value: object) -> int:
        octets = parse_size(value)
        bounds.check(octets, value)
        return octets

    return BeforeValidator(read)


_DURATION_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["5m", "24h"]})
_SIZE_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$", "examples": ["35MB"]})
_SPELLED_DURATION = PlainSerializer(spell_duration, return_type=str)
_SPELLED_SIZE = PlainSerializer(spell_size, return_type=str)

Duration = Annotated[float, BeforeValidator(parse_duration), _SPELLED_DURATION, _DURATION_SCHEMA]
Size = Annotated[int, BeforeValidator(parse_size), _SPELLED_SIZE, _SIZE_SCHEMA]
#: A whole number from 1, typed without quotes.
Count = Annotated[int, Strict(), Field(ge=1)]
#: `true` or `false` and nothing else: `off` is a text here, and must not silently become one or the other.
Bool = Annotated[bool, Strict()]


def duration(least: str, most: str) -> tuple[object, ...]:
    """Metadata of a bounded duration: `Annotated[float, *duration("100ms", "5m")]`."""
    return _duration(least, most), _SPELLED_DURATION, _DURATION_SCHEMA


def size(least: str, most: str) -> tuple[object, ...]:
    """Metadata of a bounded size: `Annotated[int, *size("1KB", "1GB")]`."""
    return _size(least, most), _SPELLED_SIZE, _SIZE_SCHEMA
