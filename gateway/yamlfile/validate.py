"""A document against a pydantic model: every finding with its position, in words for people.

Models derive from `Model` (unknown keys refused, frozen). Their validators raise `Fault` for findings of their own;
pydantic's are translated here, and nowhere does its jargon or a link to its manual reach an operator.
"""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from gateway.yamlfile.document import Document
from gateway.yamlfile.problem import ConfigError, Fault, Loc, Problem, shown, visible

M = typing.TypeVar("M", bound=BaseModel)


class Model(BaseModel):
    """A mapping in a file: closed and frozen; docstrings under fields become descriptions of the JSON schema."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


def validate(document: Document, model: type[M], *, context: object = None) -> M:
    """`document` as a `model`. Raises `ConfigError` with all that is wrong, the loader's findings included.

    `context` is handed to the model's validators (`ValidationInfo.context`).
    """
    problems = list(document.problems)
    try:
        made = model.model_validate(document.data, context=context)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            if not any(details["loc"][: len(broken)] == broken for broken in document.broken if broken):
                problems.append(_problem(document, model, details))
    else:
        if not problems:
            return made
    raise ConfigError(problems)


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` with the nearest of `known`, or "" when none is near."""
    names = list(known)
    folded = {name.lower().replace("-", "_"): name for name in reversed(names)}
    asked = word.lower().replace("-", "_").strip(" :\"'")
    close = difflib.get_close_matches(asked, folded, n=1, cutoff=0.6)
    if not close and len(asked) > 2:  # `cert` for certificate, `max_recipients` for recipients
        close = [name for name in folded if name.startswith(asked) or (len(name) > 3 and name in asked)][:1]
    return f"did you mean '{folded[close[0]]}'?" if close else ""


def known_keys(annotation: object, loc: Loc) -> list[str]:
    """The keys that may stand in the mapping at `loc` below a value of type `annotation`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return known_keys(arguments[0], loc)
    if origin in (typing.Union, types.UnionType):
        # pydantic puts the tag of a union's member between the steps.
        found = [key for member in arguments for path in (loc, loc[1:]) for key in known_keys(member, path)]
        return list(dict.fromkeys(found))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
        if not loc:
            return list(fields)
        step = fields.get(str(loc[0]))
        return known_keys(step.annotation, loc[1:]) if step else []
    if not loc:
        return []
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return known_keys(arguments[1], loc[1:])
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return known_keys(arguments[0], loc[1:]) if isinstance(loc[0], int) else known_keys(arguments[0], loc)
    return []


def _problem(document: Document, model: type[BaseModel], details: ErrorDetails) -> Problem:
    loc, kind, value = details["loc"], details["type"], details["input"]
    context = details.get("ctx", {})
    name = next((step for step in reversed(document.known(loc)) if isinstance(step, str)), "")
    subject = shown(name) if name else "the file"
    at = document.position(loc)
    match kind:
        case "value_error" if isinstance(fault := context.get("error"), Fault):
            return Problem(document.position((*loc, *fault.at), key=fault.key), fault.what, fault.hint)
        case "extra_forbidden":
            key = str(loc[-1])
            known = known_keys(model, loc[:-1])
            hint = nearest(key, known) or (f"known here: {', '.join(known)}" if known else "remove it")
            if ":" in key.rstrip(":") and value is None:
                hint = "put a space after the colon"
            return Problem(document.position(loc, key=True), f"unknown key {shown(key)}", hint)
        case "missing":
            owner = f" in {subject}" if name else ""
            position = document.position(loc, key=True)
            return Problem(position, f"the key '{loc[-1]}' is missing{owner}", f"add '{loc[-1]}: ...'")
        case _ if value is None:
            return Problem(at, f"{subject} has no value", "write one, or remove the key")
        case "string_type":
            return Problem(at, f"{subject} must be text, not {_named(value)}", "put it in quotes")
        case "bool_type" | "bool_parsing":
            hint = "write true or false, without quotes"
            if isinstance(value, str) and (meant := _truth(value)):
                hint = f"write {meant}"
            return Problem(at, f"{subject} must be true or false, not {_named(value)}", hint)
        case "int_type" | "int_parsing" | "int_from_float" | "float_type" | "float_parsing":
            return Problem(at, f"{subject} must be a number, not {_named(value)}", "write digits, without quotes")
        case "list_type" | "tuple_type":
            return Problem(at, f"{subject} must be a list, not {_named(value)}", "write [a, b], or '- ' before each")
        case "dict_type" | "model_type" | "model_attributes_type" | "dataclass_type":
            hint = "write 'key: value' lines, indented below it" if name else "write 'key: value' lines"
            if isinstance(value, str) and ":" in value:
                hint = "put a space after the colon"
            return Problem(at, f"{subject} must be a mapping, not {_named(value)}", hint)
        case "literal_error" | "enum":
            expected = str(context.get("expected", ""))
            hint = nearest(str(value), [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")])
            return Problem(at, f"{subject} must be {expected}, not {_named(value)}", hint)
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            sign, bound = next((sign, context[sign]) for sign in ("ge", "gt", "le", "lt") if sign in context)
            words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}[sign]
            return Problem(at, f"{subject} must be {words} {bound}, not {_named(value)}", f"write {words} {bound}")
        case "too_short" | "too_long":
            bound = context.get("min_length", context.get("max_length"))
            words = "at least" if kind == "too_short" else "at most"
            return Problem(at, f"{subject} needs {words} {bound} {'entry' if bound == 1 else 'entries'}", "")
        case _:
            what = details["msg"].replace("Value error, ", "").replace("Input should be", "it must be")
            return Problem(at, f"{subject}: {visible(what)}", "")


def _truth(word: str) -> str:
    low = word.lower()
    return "true" if low in ("yes", "on", "true", "y") else "false" if low in ("no", "off", "false", "n") else ""


def _named(value: object) -> str:
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
