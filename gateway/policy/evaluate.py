"""Checked expressions to Python closures, with CEL's meaning of what is not known.

`build(tree, lists)` gives a function of the facts. A fact that is absent is *unknown*: `&&` and `||` are decided
without it where the other side decides them, in either order; anything else that needs it raises `Unknown`. An error
(an index out of range, a division by zero) behaves alike and raises `Failed`. So a rule that does not depend on a
check that failed is not touched by it (DESIGN section 4, "errors are facts").

Types were checked at load; nothing is converted here. Called by `rules` and `judge`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import cast

from gateway.checks.check import Value
from gateway.policy.expression import matcher
from gateway.policy.functions import glob, under
from gateway.policy.lists import NamedList, Networks, network
from gateway.policy.syntax import Call, Const, Fold, Items, Member, Name, Node
from gateway.policy.vocabulary import UNITS

Result = Value | NamedList | dict[str, str | int] | list["Result"]
Facts = Mapping[str, Value]
#: The facts and, inside a macro, its variables.
Closure = Callable[[Facts, Mapping[str, Result]], Result]
Condition = Callable[[Facts], bool]

_NOTHING: Mapping[str, Result] = {}


class Undecided(Exception):  # noqa: N818 - a state of an evaluation
    """The value cannot be told."""


class Unknown(Undecided):
    """It depends on a fact that is not there."""


class Failed(Undecided):
    """It cannot be computed: index out of range, division by zero, no number."""


def condition(tree: Node, lists: Mapping[str, NamedList]) -> Condition:
    """The whole expression as a function of the facts. Raises `Undecided`."""
    inner = build(tree, lists)

    def decide(facts: Facts) -> bool:
        return inner(facts, _NOTHING) is True

    return decide


def build(node: Node, lists: Mapping[str, NamedList]) -> Closure:
    """One node and what is below it."""
    match node:
        case Const(value=value):
            return lambda facts, local: value
        case Name(name=name):
            return _name(name.lstrip("."), lists)
        case Member(variable=variable, field=field):
            return lambda facts, local: cast(dict[str, str | int], local[variable])[field]
        case Items(items=items):
            parts = [build(item, lists) for item in items]
            return lambda facts, local: [part(facts, local) for part in parts]
        case Fold():
            return _fold(node, lists)
        case Call():
            return _call(node, lists)
        case _:
            raise ValueError(f"{node!r} passed the checks of a policy")


def _name(name: str, lists: Mapping[str, NamedList]) -> Closure:
    if name in UNITS:
        unit = UNITS[name]
        return lambda facts, local: unit
    if name.startswith("lists."):
        listed = lists[name.removeprefix("lists.")]
        return lambda facts, local: listed
    if "." not in name:  # only a macro's variable has no dot
        return lambda facts, local: local[name]

    def fact(facts: Facts, local: Mapping[str, Result]) -> Result:
        try:
            return facts[name]
        except KeyError:
            raise Unknown(name) from None

    return fact


def _call(node: Call, lists: Mapping[str, NamedList]) -> Closure:
    special = _special(node, lists)
    if special is not None:
        return special
    args = [build(arg, lists) for arg in node.args]
    if len(args) == 1:
        return _unary(node.function, args[0])
    if node.function == "_?_:_":
        test, yes, no = args
        return lambda facts, local: yes(facts, local) if test(facts, local) else no(facts, local)
    return _binary(node.function, args[0], args[1])


def _special(node: Call, lists: Mapping[str, NamedList]) -> Closure | None:
    """Calls whose second argument is read once, at load."""
    match node.function, node.args:
        case "_==_", (left, Const(value=word)):
            text = build(left, lists)
            return lambda facts, local: text(facts, local) == word
        case "_!=_", (left, Const(value=word)):
            text = build(left, lists)
            return lambda facts, local: text(facts, local) != word
        case "@in", (left, Items(items=items)) if all(isinstance(item, Const) for item in items):
            words, text = frozenset(cast(Const, item).value for item in items), build(left, lists)
            return lambda facts, local: text(facts, local) in words
        case "in_networks", (left, Items(items=items)):
            nets = Networks([network(str(cast(Const, item).value)) for item in items])
            text = build(left, lists)
            return lambda facts, local: nets.holds(cast(str, text(facts, local)))
        case "in_networks", (left, Name(name=name)):
            nets, text = lists[name.removeprefix("lists.")].networks, build(left, lists)
            return lambda facts, local: nets.holds(cast(str, text(facts, local)))
        case "glob" | "matches", (left, Const(value=str() as pattern)):
            matches = glob(pattern) if node.function == "glob" else matcher(pattern)
            text = build(left, lists)
            return lambda facts, local: matches(cast(str, text(facts, local)))
    return None


def _unary(function: str, arg: Closure) -> Closure:
    match function:
        case "!_":
            return lambda facts, local: not arg(facts, local)
        case "-_":
            return lambda facts, local: -cast(int, arg(facts, local))
        case "size":
            return lambda facts, local: len(cast(str, arg(facts, local)))
        case "string":
            return lambda facts, local: _string(arg(facts, local))
        case "int":
            return lambda facts, local: _int(arg(facts, local))
        case "@not_strictly_false":
            return _not_false(arg)
    raise ValueError(f"{function!r} passed the checks of a policy")


def _binary(function: str, left: Closure, right: Closure) -> Closure:
    match function:
        case "_&&_":
            return _both(left, right)
        case "_||_":
            return _either(left, right)
        case "_[_]":
            return lambda facts, local: _item(left(facts, local), cast(int, right(facts, local)))
        case "@in":
            return lambda facts, local: _within(left(facts, local), right(facts, local))
        case "under":
            return lambda facts, local: _under(cast(str, left(facts, local)), right(facts, local))
    operation = _OPERATIONS.get(function)
    if operation is None:
        raise ValueError(f"{function!r} passed the checks of a policy")
    return lambda facts, local: operation(left(facts, local), right(facts, local))


# The type checker of CEL has seen to it that the operands fit; mypy cannot know.
_OPERATIONS: dict[str, Callable[[Result, Result], Result]] = {
    "_==_": lambda a, b: _plain(a) == _plain(b),
    "_!=_": lambda a, b: _plain(a) != _plain(b),
    "_<_": lambda a, b: cast(int, a) < cast(int, b),
    "_<=_": lambda a, b: cast(int, a) <= cast(int, b),
    "_>_": lambda a, b: cast(int, a) > cast(int, b),
    "_>=_": lambda a, b: cast(int, a) >= cast(int, b),
    "_+_": lambda a, b: cast(int, _plain(a)) + cast(int, _plain(b)),
    "_-_": lambda a, b: cast(int, a) - cast(int, b),
    "_*_": lambda a, b: cast(int, a) * cast(int, b),
    "_/_": lambda a, b: _divided(cast(int, a), cast(int, b))[0],
    "_%_": lambda a, b: _divided(cast(int, a), cast(int, b))[1],
    "startsWith": lambda a, b: cast(str, a).startswith(cast(str, b)),
    "endsWith": lambda a, b: cast(str, a).endswith(cast(str, b)),
    "contains": lambda a, b: cast(str, b) in cast(str, a),
}


def _both(left: Closure, right: Closure) -> Closure:
    def both(facts: Facts, local: Mapping[str, Result]) -> Result:
        try:
            if not left(facts, local):
                return False
        except Undecided as why:
            return _absorbed(why, right, facts, local, deciding=False)
        return right(facts, local)

    return both


def _either(left: Closure, right: Closure) -> Closure:
    def either(facts: Facts, local: Mapping[str, Result]) -> Result:
        try:
            if left(facts, local):
                return True
        except Undecided as why:
            return _absorbed(why, right, facts, local, deciding=True)
        return right(facts, local)

    return either


def _absorbed(why: Undecided, right: Closure, facts: Facts, local: Mapping[str, Result], *, deciding: bool) -> Result:
    """The right side decides alone, or nobody does; an unknown fact outranks an error, as it may undo it."""
    try:
        if bool(right(facts, local)) is deciding:
            return deciding
    except Unknown as unknown:
        raise unknown from None
    except Failed:
        pass
    raise why


def _fold(node: Fold, lists: Mapping[str, NamedList]) -> Closure:
    over, start, result = build(node.range, lists), build(node.start, lists), build(node.result, lists)
    goes_on, step = build(node.condition, lists), build(node.step, lists)
    variable, accu = node.variable, node.accu

    def fold(facts: Facts, local: Mapping[str, Result]) -> Result:
        scope = dict(local)
        scope[accu] = start(facts, local)
        undecided: Undecided | None = None
        for item in cast(Iterable[Result], over(facts, local)):
            scope[variable] = item
            try:
                value = step(facts, scope)
            except Undecided as why:
                # `exists` may still find its item behind one that nobody can judge.
                undecided = why
                continue
            scope[accu] = value
            if not goes_on(facts, scope):
                return result(facts, scope)
        if undecided is not None:
            raise undecided
        return result(facts, scope)

    return fold


def _not_false(arg: Closure) -> Closure:
    def not_false(facts: Facts, local: Mapping[str, Result]) -> Result:
        try:
            return arg(facts, local) is not False
        except Undecided:
            return True

    return not_false


def _plain(value: Result) -> Result:
    return list(value) if isinstance(value, NamedList) else value


def _within(item: Result, where: Result) -> bool:
    if isinstance(where, NamedList):
        return where.holds(cast(str, item))
    return item in cast(list[Result], where)


def _under(domain: str, parent: Result) -> bool:
    return parent.covers(domain) if isinstance(parent, NamedList) else under(domain, cast(str, parent))


def _item(items: Result, index: int) -> Result:
    values = list(cast(Iterable[Result], items))
    if not 0 <= index < len(values):
        raise Failed(f"index {index} in a list of {len(values)}")
    return values[index]


def _divided(a: int, b: int) -> tuple[int, int]:
    """Quotient and rest, truncated towards zero as CEL does."""
    if b == 0:
        raise Failed("division by zero")
    quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return quotient, a - quotient * b


def _string(value: Result) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _int(value: Result) -> int:
    try:
        return int(cast(str, value))
    except ValueError:
        raise Failed("int() of a text that is no number") from None
