"""A document against a pydantic model: every finding with its position, in words for people.

Models derive from `Model` (unknown keys refused, frozen). Their validators raise `Fault` for findings of their own;
pydantic's are put into words by `wording`, and nowhere does its jargon or a link to its manual reach an operator.
"""

import types
import typing
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from gateway.yamlfile.document import Document
from gateway.yamlfile.problem import PROBLEMS_LIMIT, ConfigError, Loc
from gateway.yamlfile.wording import WANTED, closest, said_of

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
        told = error.errors(include_url=False)[:PROBLEMS_LIMIT]
        found = [details for details in told if not _is_noise(document, details, told)]
        problems += [
            said_of(document, group, known_keys(model, group[0]["loc"][:-1]))
            for group in _grouped(document, _without_meant(model, found))
        ]
    else:
        if not problems:
            return made
    raise ConfigError(problems[:PROBLEMS_LIMIT])


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


def _is_noise(document: Document, details: ErrorDetails, told: Sequence[ErrorDetails]) -> bool:
    """True where what is wrong with this very value has been said: by the loader, or entry by entry.

    pydantic 2 calls a tuple too short when entries of it were refused.
    """
    loc = details["loc"]
    if details["type"] == "too_short" and any(loc == other["loc"][: len(loc)] != other["loc"] for other in told):
        return True
    places = (loc, document.known(loc))
    return any(place[: len(broken)] == broken for broken in document.broken for place in places)


def _without_meant(model: type[BaseModel], found: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """`found` without the missing keys that stand there misspelt: one mistake, one message."""
    meant = set()
    for details in found:
        if details["type"] == "extra_forbidden":
            owner = details["loc"][:-1]
            meant.add((*owner, closest(str(details["loc"][-1]), known_keys(model, owner))))
    return [details for details in found if details["type"] != "missing" or details["loc"] not in meant]


def _grouped(document: Document, found: Iterable[ErrorDetails]) -> list[list[ErrorDetails]]:
    """The findings one by one, except where the members of a union each complain about one value.

    Members that wanted another type altogether are silent when one member wanted this type; where all wanted
    another, they say so together.
    """
    single: list[list[ErrorDetails]] = []
    unions: dict[Loc, dict[str, list[ErrorDetails]]] = {}
    for details in found:
        loc = details["loc"]
        fork = _fork(document, loc[:-1] if details["type"] in ("missing", "extra_forbidden") else loc)
        if fork is None:
            single.append([details])
        else:
            unions.setdefault(loc[:fork], {}).setdefault(str(loc[fork]), []).append(details)
    for prefix, members in unions.items():
        place = document.known(prefix)
        close = [ones for ones in members.values() if not (len(ones) == 1 and _is_other_type(document, ones[0], place))]
        if close:
            single += [[details] for details in min(close, key=len)]
        else:
            single.append([details for ones in members.values() for details in ones])
    return single


def _fork(document: Document, loc: Loc) -> int | None:
    """The index of the first step that is no place of the document: the tag of a union's member."""
    found: Loc = ()
    for index, step in enumerate(loc):
        if (*found, step) in document.places:
            found = (*found, step)
        elif isinstance(step, str) and step != "[key]":
            return index
    return None


def _is_other_type(document: Document, details: ErrorDetails, place: Loc) -> bool:
    """True when the value at `place` itself is of another type or word than a union's member wanted."""
    typed = details["type"] in WANTED or details["type"] in ("literal_error", "enum")
    return typed and document.known(details["loc"]) == place
