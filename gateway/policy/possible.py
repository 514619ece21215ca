"""Can a condition ever be true? What is found here is certain; what is not found may be impossible all the same.

A condition is taken apart into alternatives of plain parts (`&&` within, `||` between). An alternative is impossible
when a part stands in it with its own negation, when a list that it needs is empty, or when no value of some fact
suits all parts that name this fact alone, and what follows from them (a null sender has no address). Values are tried:
every word of a closed set, and of texts and numbers the constants that they are compared with, where these are all
that can matter. Pure; called by `lint`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import inf

from gateway.checks.check import Value
from gateway.mail.received import HOPS_LIMIT
from gateway.policy.evaluate import Condition, Undecided, build, condition
from gateway.policy.lists import NamedList
from gateway.policy.syntax import Call, Const, Fold, Items, Name, Node, walk
from gateway.policy.vocabulary import FACTS, UNITS

#: Alternatives of one condition; beyond, nothing is said.
_ALTERNATIVES = 200
_COMPARISONS = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"})
_EQUAL = frozenset({"_==_", "_!=_", "@in"})
_MEMBER = frozenset({"@in", "under", "in_networks"})
#: Numbers that may be below zero; sizes and counts are not.
_SIGNED = frozenset({"dnsbl.score", "from.known_days"})
#: The largest that a rule sees; of a mail with more no rule is asked (`answers`).
_MOST = {"message.hops": HOPS_LIMIT}


@dataclass(frozen=True, slots=True)
class Part:
    """A condition without `&&` and `||` inside, or its negation."""

    node: Node
    true: bool

    @property
    def facts(self) -> frozenset[str]:
        """The facts it names."""
        return frozenset(node.name for node in walk(self.node) if isinstance(node, Name) and node.name in FACTS)


Alternative = tuple[Part, ...]


def why_never(tree: Node, lists: Mapping[str, NamedList]) -> str:
    """Why the condition is never true; "" where it may be."""
    found = _alternatives(tree, True)
    if not found:
        return ""
    whys = [_contradiction(parts, lists) for parts in found]
    return whys[0] if all(whys) else ""


def implies(tree: Node, other: Node, lists: Mapping[str, NamedList]) -> bool:
    """True when it is certain that whatever `tree` is true of, `other` is true of, whatever the lists hold."""
    ours, theirs = _alternatives(tree, True), _alternatives(other, False)
    if not ours or not theirs or len(ours) * len(theirs) > _ALTERNATIVES:
        return False
    return all(_contradiction((*one, *two), {}) for one, two in product(ours, theirs))


def witness(tree: Node, lists: Mapping[str, NamedList]) -> dict[str, Value]:
    """Values of facts for which it may be true: what is false of them, the condition does not imply.

    Facts of which nothing plain is said are left out.
    """
    for parts in _alternatives(tree, True):
        if not _contradiction(parts, lists):
            chosen = ((fact, _suiting(fact, alone)) for fact, alone in _alone(parts).items())
            return {fact: value for fact, value in chosen if value is not None}
    return {}


def required(tree: Node) -> Iterator[tuple[str, str | int | bool]]:
    """Facts that must have one value for it to be true."""
    found = _alternatives(tree, True)
    for part in found[0] if len(found) == 1 else ():
        match part:
            case Part(Call(function="_==_", args=(Name(name=name), Const(value=value))), True) if name in FACTS:
                yield name, value


def _alone(parts: Alternative) -> dict[str, list[Part]]:
    """The parts that speak of one fact alone, by fact."""
    by_fact: dict[str, list[Part]] = {}
    for part in parts:
        facts = part.facts
        if len(facts) == 1 and not any(isinstance(n, Name) and n.name.startswith("lists.") for n in walk(part.node)):
            by_fact.setdefault(next(iter(facts)), []).append(part)
    return by_fact


def _suiting(fact: str, alone: Sequence[Part]) -> Value | None:
    values = _values(fact, alone) or ()
    return next((value for value in values if all(_suits(part, fact, value) for part in alone)), None)


@lru_cache(maxsize=4096)
def _alternatives(node: Node, true: bool) -> tuple[Alternative, ...]:
    """All ways for the node to be true (or not); empty where they are too many."""
    match node:
        case Call(function="!_", args=(inner,)):
            return _alternatives(inner, not true)
        case Call(function="_&&_" | "_||_", args=(left, right)):
            one, two = _alternatives(left, true), _alternatives(right, true)
            if not one or not two:
                return ()
            if (node.function == "_||_") is true:
                return (*one, *two) if len(one) + len(two) <= _ALTERNATIVES else ()
            if len(one) * len(two) > _ALTERNATIVES:
                return ()
            return tuple((*a, *b) for a, b in product(one, two))
        case _:
            return ((Part(node, true),),)


def _following(parts: Alternative) -> Iterator[Part]:
    """What is true of every mail of which these are: an address has its domain, and a null sender has neither."""
    for part in parts:
        match part:
            case Part(Name(name="mail.is_null", at=at), True):
                yield from (_equals(f"mail.{each}", "", at) for each in ("address", "domain"))
            case Part(Call(function="_==_", args=(Name(name=name, at=at), Const(value=str() as value))), True) if value:
                group, _, kind = name.partition(".")
                if kind == "address" and f"{group}.domain" in FACTS:
                    yield _equals(f"{group}.domain", value.rpartition("@")[2], at)
                if group == "mail" and kind in {"address", "domain"}:
                    yield Part(Name("mail.is_null", at), False)


def _equals(fact: str, value: str, at: int) -> Part:
    return Part(Call("_==_", (Name(fact, at), Const(value, at)), at), True)


def _contradiction(parts: Alternative, lists: Mapping[str, NamedList]) -> str:
    seen: dict[str, bool] = {}
    parts = (*parts, *_following(parts))
    for part in parts:
        if not any(isinstance(inner, Name) and inner.name not in UNITS for inner in walk(part.node)) and not _suits(
            part, "", ""
        ):
            return "its condition is false"
        if seen.setdefault(spelt(part.node), part.true) is not part.true:
            return "its condition wants something and its opposite"
        if empty := _of_empty_list(part, lists):
            return empty
    for fact, alone in _alone(parts).items():
        if _values(fact, alone) is not None and _suiting(fact, alone) is None:
            return f"no value of {fact} suits all that it says of it"
    return ""


def _of_empty_list(part: Part, lists: Mapping[str, NamedList]) -> str:
    match part.node:
        case Call(function=function, args=(_, Items(items=()))) if function in _MEMBER and part.true:
            return "it looks into an empty list"
        case Call(function=function, args=(_, Name(name=name))) if function in _MEMBER and part.true:
            listed = lists.get(name.removeprefix("lists.")) if name.startswith("lists.") else None
            if listed is not None and not listed and not listed.may_be_empty:
                return f"the list '{listed.name}' is empty"
    return ""


def _values(fact: str, parts: Sequence[Part]) -> list[Value] | None:
    """Values of which one suits if any does; None where that cannot be said."""
    known = FACTS[fact]
    if known.type == "bool":
        return [True, False]
    if known.words:
        return list(known.words)
    if known.type == "int":
        return _numbers(fact, parts)
    if known.type == "string":
        return _texts(parts)
    return None


def _numbers(fact: str, parts: Sequence[Part]) -> list[Value] | None:
    """Between two constants nothing changes, so their neighbourhood is enough."""
    found = {0}
    for part in parts:
        if not (isinstance(part.node, Call) and part.node.function in _COMPARISONS):
            return None
        constants = [_number(arg) for arg in part.node.args if not isinstance(arg, Name) or arg.name not in FACTS]
        if len(constants) != 1 or constants[0] is None:
            return None
        found |= {constants[0] - 1, constants[0], constants[0] + 1}
    most = _MOST.get(fact, inf)
    return [number for number in sorted(found) if number <= most and (number >= 0 or fact in _SIGNED)]


def _number(node: Node) -> int | None:
    """The value of `10 * MB`."""
    if any(isinstance(inner, Fold) for inner in walk(node)):
        return None
    try:
        value = build(node, {})({}, {})
    except (Undecided, KeyError):
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _texts(parts: Sequence[Part]) -> list[Value] | None:
    """The constants, where one of them must be it; domains where all parts speak of those alone."""
    fixed = [list(_constants(part.node)) for part in parts if part.true and _function(part) in {"_==_", "@in"}]
    if fixed and all(fixed):
        return [value for values in fixed for value in values]
    if all(_function(part) in _EQUAL | {"under"} for part in parts) and any(
        part.true and _function(part) == "under" for part in parts
    ):
        domains = [value for part in parts for value in _constants(part.node)]
        # Far below any of them, no other constant is hit by chance.
        return [*domains, *(f"x.y.z.{domain}" for domain in domains)]
    return None


def _function(part: Part) -> str:
    return part.node.function if isinstance(part.node, Call) else ""


def _constants(node: Node) -> Iterator[str]:
    return (inner.value for inner in walk(node) if isinstance(inner, Const) and isinstance(inner.value, str))


def _suits(part: Part, fact: str, value: Value) -> bool:
    try:
        return _compiled(part.node)({fact: value}) is part.true
    except Undecided:
        return True


@lru_cache(maxsize=4096)
def _compiled(node: Node) -> Condition:
    return condition(node, {})


@lru_cache(maxsize=4096)
def spelt(node: Node) -> str:
    """The same text for the same condition, wherever it stands and whatever its white space and quotes."""
    return re.sub(r"\bat=\d+", "", repr(node))
