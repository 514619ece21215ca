"""From octets to a `Document`: libyaml's events, and our own rules for what they mean.

Events instead of nodes: anchors, tags and aliases are seen as they were typed, and neither the composer's recursion
nor its expansion of aliases ("billion laughs") exists. Bounded: octets, depth, number of values.
"""

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from gateway.files import Files
from gateway.yamlfile import scanner
from gateway.yamlfile.document import Data, Document, Place
from gateway.yamlfile.problem import PROBLEMS_LIMIT, ConfigError, Loc, Problem, shown
from gateway.yamlfile.scalars import first_forbidden, resolve, why_forbidden

FILE_LIMIT = 1_000_000  # octets; policies of hundreds of rules stay under a tenth of it
DEPTH_LIMIT = 32
VALUES_LIMIT = 100_000

_NO_ALIAS = "anchors and aliases are not supported"
_INDENTED_TAB = re.compile(r"^ *(\t)", re.MULTILINE)


def load(path: Path, files: Files, *, strict: bool = True) -> Document:
    """Reads one YAML file. Raises `ConfigError` with everything that is wrong.

    With `strict=False` what the loader can step over (duplicate keys, aliases, tags ...) is left in
    `Document.problems`, for `validate` to report together with its own findings.
    """
    document = Document(str(path), "")
    document.text = _text(path, files, document)
    try:
        _Builder(document).build()
    except _Stop:
        raise ConfigError(document.problems) from None
    if strict and document.problems:
        raise ConfigError(document.problems)
    return document


class _Stop(Exception):  # noqa: N818 - control flow inside this file
    """The rest of the file cannot be read; what is wrong stands in `Document.problems`."""


def _text(path: Path, files: Files, document: Document) -> str:
    """The file's characters, line ends as LF, without byte order mark."""

    def refuse(what: str, hint: str, index: int = 0) -> ConfigError:
        return ConfigError([Problem(document.at(index), what, hint)])

    try:
        octets = files.read(path)
    except OSError as error:
        what, hint = unreadable(error)
        raise refuse(what, hint if isinstance(error, PermissionError) else "check the path") from None
    if len(octets) > FILE_LIMIT:
        raise refuse(f"the file has {len(octets)} octets, {FILE_LIMIT} are allowed", "is it the right file?")
    octets = octets.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    if octets.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refuse("the file is UTF-16", "save it as UTF-8")
    try:
        document.text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        document.text = octets[: error.start].decode("utf-8")
        what = f"the octet 0x{octets[error.start]:02x} is not UTF-8"
        raise refuse(what, "save the file as UTF-8", len(document.text)) from None
    text = document.text
    index = first_forbidden(text)
    if index is not None:
        raise refuse(*why_forbidden(text[index]), index)
    if match := _INDENTED_TAB.search(text):
        raise refuse("a tab at the beginning of the line", "use spaces", match.start(1))
    return text


def unreadable(error: OSError, noun: str = "file") -> tuple[str, str]:
    """What is wrong and the mend, for a file or folder that cannot be read."""
    match error.errno:
        case errno.ENOENT:
            hint = "check the path: relative ones start at the folder of the configuration"
            return f"there is no such {noun}", hint if noun == "file" else f"create it, or {hint}"
        case errno.EACCES | errno.EPERM:
            return f"the {noun} may not be read", "give the user that Gatepost runs as permission to read it"
        case errno.EISDIR:
            return "this is a folder", "name a file in it"
        case errno.ENOTDIR:
            return "this is no folder", "name the folder that holds the files"
        case _:
            return f"the {noun} cannot be read: {error.strerror or error}", "check the path"


def _events(document: Document) -> Iterator[yaml.Event]:
    parser = yaml.CSafeLoader(document.text)
    last: yaml.Event | None = None
    try:
        while (event := parser.get_event()) is not None and not isinstance(event, yaml.StreamEndEvent):
            last = event
            yield event
    except yaml.MarkedYAMLError as error:
        document.problems.append(scanner.explain(error, document, last))
        raise _Stop from None
    except yaml.YAMLError as error:  # a reader's error: `_text` let nothing through that could cause one
        document.problems.append(Problem(document.at(0), f"the file cannot be read as YAML: {error}"))
        raise _Stop from None
    finally:
        parser.dispose()


def _start(event: yaml.Event) -> int:
    return event.start_mark.index if event.start_mark else 0


def _end(event: yaml.Event) -> int:
    return event.end_mark.index if event.end_mark else 0


class _Builder:
    """Turns events into data, places and problems."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._events = _events(document)
        self._values = 0

    def build(self) -> None:
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse(
                        event, "a second document begins here", "remove the line '---'; one file, one document"
                    )
                    raise _Stop
                if event.version or event.tags:
                    self._refuse(event, "directives are not supported", "remove the line that begins with '%'")
            elif not isinstance(event, yaml.StreamStartEvent | yaml.DocumentEndEvent):
                self._document.data = self._value(event, (), 0)

    def _refuse(self, event: yaml.Event, what: str, hint: str) -> None:
        problems = self._document.problems
        problems.append(Problem(self._document.at(_start(event)), what, hint))
        if len(problems) >= PROBLEMS_LIMIT:
            raise _Stop

    def _value(self, event: yaml.Event, loc: Loc | None, depth: int) -> Data:
        """The value that begins with `event`. `loc` None: read, checked, and left out (a duplicate)."""
        self._values += 1
        if depth > DEPTH_LIMIT or self._values > VALUES_LIMIT:
            what = f"nested deeper than {DEPTH_LIMIT} levels" if depth > DEPTH_LIMIT else "too many values"
            self._refuse(event, what, "is it the right file?")
            raise _Stop
        if isinstance(event, yaml.AliasEvent):
            hint = "write the value out, or put it in quotes if it begins with '*'"
            self._refuse(event, _NO_ALIAS, hint)
            if loc is not None:
                self._document.broken.add(loc)
            return None
        self._refuse_properties(event, loc)
        style = getattr(event, "style", None) or ""
        if loc is not None:
            self._document.places[loc] = Place(_start(event), _end(event), style)
        match event:
            case yaml.ScalarEvent():
                return self._scalar(event, loc)
            case yaml.SequenceStartEvent():
                return self._sequence(loc, depth)
            case _:
                return self._mapping(loc, depth)

    def _refuse_properties(self, event: yaml.Event, loc: Loc | None) -> None:
        tag, anchor = getattr(event, "tag", None), getattr(event, "anchor", None)
        if anchor is not None:
            self._refuse(event, _NO_ALIAS, "write the value out, or put it in quotes if it begins with '&'")
        if tag is not None:
            what = f"the tag {shown(tag.replace('tag:yaml.org,2002:', '!!'))} is not supported"
            self._refuse(event, what, "remove it, or put the value in quotes if it begins with '!'")
        if loc is not None and (tag is not None or anchor is not None):
            self._document.broken.add(loc)

    def _scalar(self, event: yaml.ScalarEvent, loc: Loc | None) -> Data:
        value: str = event.value
        if not event.style:
            return resolve(value)
        # Escapes in double quotes can spell what may not be typed.
        if event.style == '"' and (index := first_forbidden(value)) is not None:
            what = f"the escape for the character U+{ord(value[index]):04X} is not allowed"
            self._refuse(event, what, "leave it out")
            if loc is not None:
                self._document.broken.add(loc)
        return value

    def _sequence(self, loc: Loc | None, depth: int) -> Data:
        items: list[Data] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, None if loc is None else (*loc, len(items)), depth + 1))
        return items

    def _mapping(self, loc: Loc | None, depth: int) -> Data:
        found: dict[str, Data] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, depth)
            child = None if loc is None or key is None else (*loc, key)
            if key is None:
                self._value(next(self._events), None, depth + 1)
            elif key in found:
                what = f"the key {shown(key)} stands twice, first in line {lines[key]}"
                self._refuse(event, what, "keep one of them")
                self._value(next(self._events), None, depth + 1)
            else:
                lines[key] = self._document.at(_start(event)).line
                if child is not None:
                    self._document.keys[child] = _start(event)
                found[key] = self._value(next(self._events), child, depth + 1)
        return found

    def _key(self, event: yaml.Event, depth: int) -> str | None:
        """The key, always as the text that was typed; None when it was refused."""
        if not isinstance(event, yaml.ScalarEvent):
            hint = "put the key in quotes" if not isinstance(event, yaml.AliasEvent) else "put it in quotes"
            self._refuse(event, "a key is plain text, not a list, a mapping or an alias", hint)
            if not isinstance(event, yaml.AliasEvent):
                self._value(event, None, depth + 1)
            return None
        self._refuse_properties(event, None)
        if not event.style and event.value == "<<":
            self._refuse(event, "merge keys ('<<') are not supported", "write the keys out")
            return None
        if event.value == "":
            self._refuse(event, "a key is missing before the ':'", "write it, or remove the line")
            return None
        self._scalar(event, None)
        return str(event.value)
