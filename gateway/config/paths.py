"""Paths of the configuration: relative ones start at the folder of the file, and what is named must be there."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from gateway.files import Files
from gateway.yamlfile import Fault
from gateway.yamlfile.loader import unreadable


@dataclass(frozen=True, slots=True)
class Reading:
    """What validators need to know of the file they are about (`ValidationInfo.context`)."""

    folder: Path
    files: Files


def _reading(info: ValidationInfo) -> Reading:
    context: object = info.context
    if not isinstance(context, Reading):
        raise TypeError("configuration is read by load_config")
    return context


def _resolved(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise Fault("a path was expected here", "write it as text; relative paths start at this file's folder")
    return _reading(info).folder / value


def read_bytes(path: Path, info: ValidationInfo) -> bytes:
    """The file, for a validator; raises `Fault`."""
    try:
        return _reading(info).files.read(path)
    except OSError as error:
        what, hint = unreadable(error)
        raise Fault(f"{what}: {path}", hint) from None


def _readable(path: Path, info: ValidationInfo) -> Path:
    read_bytes(path, info)
    return path


def _listed(path: Path, info: ValidationInfo, pattern: str) -> None:
    try:
        _reading(info).files.names(path, pattern)
    except OSError as error:
        what, hint = unreadable(error, "folder")
        raise Fault(f"{what}: {path}", hint) from None


def _in_folder(path: Path, info: ValidationInfo) -> Path:
    # The pattern matches nothing: only the folder's existence is asked (and recorded).
    _listed(path.parent, info, "")
    return path


def _policies(value: object, info: ValidationInfo) -> Path:
    path = _resolved(value, info)
    _listed(path, info, "*.yaml")
    _listed(path, info, "*.yml")
    return path


def _lists(value: object, info: ValidationInfo) -> Path:
    if value is None:  # where nobody said there need not be any: lists may as well stand beside the policies
        policies: Path = info.data.get("policies", _reading(info).folder / "policies")
        try:
            _listed(policies / "lists", info, "*.txt")
        except Fault:
            return policies
        return policies / "lists"
    path = _resolved(value, info)
    _listed(path, info, "*.txt")
    return path


def written(value: object, info: ValidationInfo) -> Path:
    """A file that we make; its folder must be there."""
    return _in_folder(_resolved(value, info), info)


_PATH = WithJsonSchema({"type": "string", "minLength": 1})
_ABSOLUTE = PlainSerializer(os.path.abspath, return_type=str)
ReadFile = Annotated[Path, BeforeValidator(_resolved), AfterValidator(_readable), _ABSOLUTE, _PATH]
WrittenFile = Annotated[Path, BeforeValidator(_resolved), AfterValidator(_in_folder), _ABSOLUTE, _PATH]
PolicyFolder = Annotated[Path, PlainValidator(_policies), _ABSOLUTE, _PATH]
ListFolder = Annotated[
    Path, PlainValidator(_lists), _ABSOLUTE, WithJsonSchema({"type": ["string", "null"], "minLength": 1})
]
