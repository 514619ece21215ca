"""The syntax tree of a compiled expression, read from the octets in which the CEL compiler hands it over.

The compiler's only way out for a tree is protobuf (`cel.expr.CheckedExpr`, or `ParsedExpr` where it was not type
checked). The few messages of that schema are decoded here, so that no protobuf run-time is needed. The octets come
from the compiler in our own process, never from a stranger. Names like `dmarc.result` are one `Name`; macros
(`exists`, `all`, `filter`, `map`) arrive expanded into `Fold`. Called by `expression`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Const:
    """A literal. `at` is, as in every node, the offset of its token in the expression."""

    value: str | int | bool
    at: int


@dataclass(frozen=True, slots=True)
class Name:
    """A fact, a list, a unit, or a variable of a macro."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Member:
    """A field of an attachment that a macro's variable stands for, see `members`."""

    variable: str
    field: str
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """An operator (`_==_`, `@in`, `_[_]` ...) or a function; the target of a method is the first argument."""

    function: str
    args: tuple["Node", ...]
    at: int


@dataclass(frozen=True, slots=True)
class Items:
    """A list literal."""

    items: tuple["Node", ...]
    at: int


@dataclass(frozen=True, slots=True)
class Fold:
    """A loop over `range`: `accu` starts as `start`, becomes `step` while `condition`, and `result` is the value."""

    variable: str
    range: "Node"
    accu: str
    start: "Node"
    condition: "Node"
    step: "Node"
    result: "Node"
    at: int


@dataclass(frozen=True, slots=True)
class Other:
    """What the language of policies leaves out of CEL: maps, messages, doubles, null, `has` ..."""

    what: str
    at: int


Node = Const | Name | Member | Call | Items | Fold | Other


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, outermost first, left to right."""
    yield node
    match node:
        case Call(args=parts) | Items(items=parts):
            below = parts
        case Fold():
            below = (node.range, node.start, node.condition, node.step, node.result)
        case _:
            below = ()
    for part in below:
        yield from walk(part)


def decode(octets: bytes) -> Node:
    """The tree of a serialized expression."""
    body = _first(octets, 2)  # google.protobuf.Any: the message itself
    kind = _first(octets, 1).rsplit(b".", 1)[-1]
    tree, source = (4, 5) if kind == b"CheckedExpr" else (2, 3)
    positions: dict[int, int] = {}
    for number, value in _fields(_first(body, source)):
        if number == 4 and isinstance(value, bytes):
            pair = dict(_fields(value))
            positions[_int(pair.get(1, 0))] = _int(pair.get(2, 0))
    return _expr(_first(body, tree), positions)


def _expr(octets: bytes, positions: dict[int, int]) -> Node:
    at, node_octets, kind = 0, b"", 0
    for number, value in _fields(octets):
        if number == 2:
            at = positions.get(_int(value), 0)
        elif isinstance(value, bytes):
            kind, node_octets = number, value
    match kind:
        case 3:
            return _const(node_octets, at)
        case 4:
            return Name(_text(node_octets, 1), at)
        case 5:
            return _select(node_octets, at, positions)
        case 6:
            target = _all(node_octets, 1)
            args = tuple(_expr(part, positions) for part in [*target, *_all(node_octets, 3)])
            return Call(_text(node_octets, 2), args, at)
        case 7:
            return Items(tuple(_expr(part, positions) for part in _all(node_octets, 1)), at)
        case 9:
            over, start, condition, step, result = (_expr(_first(node_octets, n), positions) for n in (2, 4, 5, 6, 7))
            return Fold(_text(node_octets, 1), over, _text(node_octets, 3), start, condition, step, result, at)
        case _:
            return Other("a map", at)


def _select(octets: bytes, at: int, positions: dict[int, int]) -> Node:
    operand, field = _expr(_first(octets, 1), positions), _text(octets, 2)
    if any(number == 3 for number, _ in _fields(octets)):
        return Other("has()", at)
    if isinstance(operand, Name):
        return Name(f"{operand.name}.{field}", operand.at)
    return Other(f"the field '.{field}'", at)


_CONSTS: dict[int, Literal["bool", "int", "string"]] = {2: "bool", 3: "int", 6: "string"}
_OTHER_CONSTS = {1: "null", 4: "an unsigned number", 5: "a decimal fraction", 7: "a byte string"}


def _const(octets: bytes, at: int) -> Node:
    for number, value in _fields(octets):
        match _CONSTS.get(number):
            case "bool":
                return Const(bool(value), at)
            case "int":
                signed = _int(value)
                return Const(signed - (1 << 64) if signed >> 63 else signed, at)
            case "string" if isinstance(value, bytes):
                return Const(value.decode(), at)
        return Other(_OTHER_CONSTS.get(number, "this literal"), at)
    return Other("this literal", at)


def _fields(octets: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of one message (protobuf wire types 0, 1, 2 and 5)."""
    at = 0
    while at < len(octets):
        key, at = _varint(octets, at)
        match key & 7:
            case 0:
                value, at = _varint(octets, at)
                yield key >> 3, value
            case 2:
                length, at = _varint(octets, at)
                yield key >> 3, octets[at : at + length]
                at += length
            case wire:
                width = 8 if wire == 1 else 4
                yield key >> 3, octets[at : at + width]
                at += width


def _varint(octets: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        octet = octets[at]
        value |= (octet & 127) << shift
        at, shift = at + 1, shift + 7
        if octet < 128:
            return value, at


def _all(octets: bytes, wanted: int) -> list[bytes]:
    return [value for number, value in _fields(octets) if number == wanted and isinstance(value, bytes)]


def _first(octets: bytes, wanted: int) -> bytes:
    found = _all(octets, wanted)
    return found[0] if found else b""


def _text(octets: bytes, wanted: int) -> str:
    return _first(octets, wanted).decode()


def _int(value: int | bytes) -> int:
    return value if isinstance(value, int) else 0
