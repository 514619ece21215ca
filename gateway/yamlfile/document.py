"""A loaded YAML file: plain data, and where each piece of it stood."""

import re
from bisect import bisect_right
from dataclasses import dataclass, field

from gateway.yamlfile.problem import Loc, Position, Problem

Data = dict[str, "Data"] | list["Data"] | str | int | float | bool | None

_ESCAPE = re.compile(r"x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|\n[ \t]*|.", re.DOTALL)
_BLANK_ESCAPES = frozenset("tnrvfN_LP \t")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stood: characters from `start` to `end`, and its style ("" plain, ' " | > or a collection's)."""

    start: int
    end: int
    style: str


@dataclass(slots=True)
class Document:
    """What `load` gives. `data` is plain; positions are asked by the path of keys and indices to a value."""

    file: str
    text: str
    data: Data = None
    #: What the loader refused and could step over; `validate` reports it with its own findings.
    problems: list[Problem] = field(default_factory=list)
    #: Values that are not there because the loader refused them: what a model says about them is noise.
    broken: set[Loc] = field(default_factory=set)
    places: dict[Loc, Place] = field(default_factory=dict)
    keys: dict[Loc, int] = field(default_factory=dict)
    _lines: list[int] = field(default_factory=list)

    def at(self, index: int) -> Position:
        """The position of the `index`-th character of the file."""
        if not self._lines:
            self._lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        line = bisect_right(self._lines, index)
        return Position(self.file, line, index - self._lines[line - 1] + 1)

    def known(self, loc: Loc) -> Loc:
        """`loc` without the steps that lead nowhere: pydantic's tags of unions, an index into what is no list, a
        key that is missing."""
        found: Loc = ()
        for step in loc:
            if (*found, step) in self.places:
                found = (*found, step)
        return found

    def position(self, loc: Loc, *, key: bool = False) -> Position:
        """Where the value at `loc` begins, or its key. Steps that lead nowhere are passed over."""
        found = self.known(loc)
        if key and found in self.keys:
            return self.at(self.keys[found])
        place = self.places.get(found)
        return self.at(place.start if place else 0)

    def scalar_position(self, loc: Loc, offset: int) -> Position:
        """Where the `offset`-th character of the scalar at `loc` stood in the file.

        Exact for every character that is no white space, in every style; white space between two words that the
        author folded over lines is placed by its distance from the word before.
        """
        found = self.known(loc)
        place, value = self.places.get(found), self._value(found)
        if place is None or not isinstance(value, str):
            return self.position(loc)
        if place.style == "" and "\n" not in self.text[place.start : place.end]:
            return self.at(place.start + min(max(offset, 0), place.end - place.start))
        offset = min(max(offset, 0), len(value))
        words = self._words(place)
        before = sum(not c.isspace() for c in value[:offset])
        if offset < len(value) and not value[offset].isspace() and before < len(words):
            return self.at(words[before][0])
        if before == 0 or before > len(words):
            opening = place.style in ("'", '"')
            return self.at(min(place.start + (offset if not before else 0) + opening, place.end))
        gap = offset - len(value[:offset].rstrip())
        return self.at(words[before - 1][1] + gap)

    def _value(self, loc: Loc) -> Data:
        data = self.data
        for step in loc:
            if isinstance(data, dict) and isinstance(step, str):
                data = data.get(step)
            elif isinstance(data, list) and isinstance(step, int):
                data = data[step]
            else:
                return None
        return data

    def _words(self, place: Place) -> list[tuple[int, int]]:
        """Start and end in the file of each character of a scalar that is not white space, in order."""
        text, index, end = self.text, place.start, place.end
        spans: list[tuple[int, int]] = []
        if place.style in ("|", ">"):  # the header line: indicators and perhaps a comment
            index = text.find("\n", index, end) + 1 or end
        elif place.style in ("'", '"'):
            index, end = index + 1, end - 1
        while index < end:
            step = 1
            blank = text[index].isspace()
            if place.style == "'" and text[index] == "'":
                step = 2
            elif place.style == '"' and text[index] == "\\" and (match := _ESCAPE.match(text, index + 1)):
                step = 1 + len(match[0])
                blank = _is_blank_escape(match[0])
            if not blank:
                spans.append((index, index + step))
            index += step
        return spans


def _is_blank_escape(escape: str) -> bool:
    if escape[0] in "xuU" and len(escape) > 1:
        return chr(int(escape[1:], 16)).isspace()
    return escape[0] == "\n" or escape in _BLANK_ESCAPES
