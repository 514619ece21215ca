"""pydantic's findings in words for people, each with a mend. The only place that knows its error types (2.x)."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from pydantic_core import ErrorDetails

from gateway.yamlfile.document import Document
from gateway.yamlfile.problem import Fault, Loc, Problem, shown, visible

#: What each error of a wrong type wanted instead.
WANTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
}
_MEND = {
    "text": "put it in quotes",
    "true or false": "write true or false, without quotes",
    "a whole number": "write digits, without quotes",
    "a number": "write digits, without quotes",
    "a list": "write [a, b], or '- ' before each item",
    "a mapping": "write 'key: value', each on its own line",
}
_TIGHT = re.compile(r"[A-Za-z_]+:\S")
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_TRUTH = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` with the nearest of `known`, or "" when none is near."""
    name = closest(word, known)
    return f"did you mean '{name}'?" if name else ""


def closest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that `word` was probably meant to be, or ""."""
    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(_folded(name), name)
    asked = _folded(word)
    close = difflib.get_close_matches(asked, folded, n=1, cutoff=0.6)
    if not close and len(asked) > 2:  # `cert` for `certificate`, `max_recipients` for `recipients`
        close = [name for name in folded if name.startswith(asked) or (len(name) > 3 and name in asked)]
    return folded[close[0]] if close else ""


def _folded(name: str) -> str:
    return name[:200].lower().replace("-", "_").strip(" :\"'")


def said_of(document: Document, details: Sequence[ErrorDetails], known: Sequence[str]) -> Problem:
    """One problem for `details`: a finding, or what all members of a union said of the same value.

    `known` are the keys that may stand in the mapping that an unknown key stands in.
    """
    loc, kind, value = details[0]["loc"], details[0]["type"], details[0]["input"]
    fault = details[0].get("ctx", {}).get("error")
    if isinstance(fault, Fault):
        # A default may be at fault where nothing was typed.
        absent = f"'{loc[0]}' is not given, and " if loc and not document.known(loc) else ""
        at_key = fault.key or loc[-1:] == ("[key]",)
        return Problem(document.position((*loc, *fault.at), key=at_key), absent + fault.what, fault.hint)
    subject = _subject(document.known(loc))
    if kind == "extra_forbidden":
        key = str(loc[-1])
        hint = nearest(key, known) or (f"known here: {', '.join(known)}" if known else "remove it")
        if value is None and ":" in key.rstrip(":"):
            hint = "put a space after the colon"
        return Problem(document.position(loc, key=True), f"unknown key {shown(key)}", hint)
    if kind == "missing":
        owner = f" in {subject}" if document.known(loc) else ""
        what = f"the key '{loc[-1]}' is missing{owner}"
        return Problem(document.position(loc, key=True), what, f"add '{loc[-1]}: ...'")
    if value is None and not document.places:
        return Problem(document.at(0), "the file is empty", "write 'key: value' lines")
    if value is None:
        return Problem(document.position(loc), f"{subject} has no value", "write one, or remove the key")
    return Problem(document.position(loc), *_refused(subject, details, value))


def _subject(loc: Loc) -> str:
    name = next((step for step in reversed(loc) if isinstance(step, str)), "")
    if not name:
        return "the file" if not loc else "an entry of the file"
    return f"an entry of {shown(name)}" if isinstance(loc[-1], int) else shown(name)


def _refused(subject: str, details: Sequence[ErrorDetails], value: object) -> tuple[str, str]:
    """What is wrong with a value that is there, and the mend."""
    context: Mapping[str, object] = details[0].get("ctx", {})
    wanted = list(dict.fromkeys(_wanted(one) for one in details))
    if all(wanted):
        words = [word for one in details for word in _words(one)]
        hint = _mend(wanted[0], value) if len(wanted) == 1 else ""
        hint = hint or nearest("off" if value is False else str(value), words) or f"write {_either(words or wanted)}"
        return f"{subject} must be {_either(wanted)}, not {named(value)}", hint
    for sign, word in _BOUNDS.items():
        if sign in context:
            limit = f"{word} {context[sign]}"
            return f"{subject} must be {limit}, not {named(value)}", f"write a number that is {limit}"
    for sign, word, hint in (("min_length", "at least", "add one"), ("max_length", "at most", "make it shorter")):
        if sign in context:
            unit = "character" if isinstance(value, str) else "entry"
            return f"{subject} needs {word} {_counted(context[sign], unit)}", hint
    message = details[0]["msg"].replace("Value error, ", "").replace("Input should ", "it should ")
    return f"{subject}: {visible(message)}", "see the documentation of this key"


def _counted(number: object, unit: str) -> str:
    if number == 1:
        return f"1 {unit}"
    return f"{number} {unit[:-1]}ies" if unit.endswith("y") else f"{number} {unit}s"


def _words(details: ErrorDetails) -> list[str]:
    """The words that a literal or an enumeration would have taken."""
    expected = str(details.get("ctx", {}).get("expected", ""))
    if details["type"] not in ("literal_error", "enum"):
        return []
    return [word.strip("'\"") for word in expected.replace(" or ", ", ").split(", ")]


def _wanted(details: ErrorDetails) -> str:
    words = _words(details)
    return _either([shown(word) for word in words]) if words else WANTED.get(details["type"], "")


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _mend(wanted: str, value: object) -> str:
    if wanted == "true or false" and isinstance(value, str) and value.lower() in _TRUTH:
        return f"write {_TRUTH[value.lower()]}"
    if wanted == "a mapping" and isinstance(value, str) and _TIGHT.match(value):
        return "put a space after the colon"
    return _MEND.get(wanted, "")


def named(value: object) -> str:
    """A value in a sentence."""
    match value:
        case str():
            return f"the text {shown(value)}"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return "this"
