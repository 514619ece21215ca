"""Fields of attachments in expressions: `message.attachments.exists(a, a.kind == "macro" && a.size > 5 * MB)`.

CEL knows records as protobuf messages only, and we want no protobuf run-time. So an attachment is an opaque type to the
compiler, and each `a.kind` is covered, before it compiles, by the name of a text or number of the same length: types,
positions and messages stay right, and a misspelt field is told here. Afterwards the tree gets its `Member`s back.
Called by `expression`.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from gateway.policy.advice import Mistake, plain_type
from gateway.policy.syntax import Call, Const, Fold, Items, Member, Name, Node, walk
from gateway.policy.vocabulary import ATTACHMENT
from gateway.yamlfile import nearest

FACT = "message.attachments"
#: What covers a field, by its type: shorter than the shortest "a.kind".
COVERS = {"string": "__s", "int": "__i"}

Members = dict[int, Member]


def cover(text: str, tree: Node) -> tuple[str, Members, list[Mistake]]:
    """The text with its fields covered, what they were by their offsets, and what is no field."""
    members: Members = {}
    mistakes: list[Mistake] = []
    covered = text
    for name in _uses(tree, frozenset()):
        variable, _, field = name.name.partition(".")
        written = re.compile(rf"{re.escape(variable)}\s*\.\s*").match(text, name.at)
        start = written.end() if written else name.at
        if field not in ATTACHMENT:
            what = f"an attachment has no '{field}'"
            mistakes.append(Mistake(start, what, nearest(field, ATTACHMENT) or f"fields: {', '.join(ATTACHMENT)}"))
            continue
        end = start + len(field)
        place = COVERS[ATTACHMENT[field].type]
        rest = "".join(c if c.isspace() else " " for c in text[name.at + len(place) : end])  # lines stay lines
        covered = covered[: name.at] + place + rest + covered[end:]
        members[name.at] = Member(variable, field, name.at)
    return covered, members, mistakes


def uncovered(node: Node, members: Members) -> Node:
    """The tree with its members in their places."""
    match node:
        case Name(name=name, at=at) if at in members and name in COVERS.values():
            return members[at]
        case Call(args=args):
            return replace(node, args=tuple(uncovered(arg, members) for arg in args))
        case Items(items=items):
            return replace(node, items=tuple(uncovered(item, members) for item in items))
        case Fold():
            return replace(
                node,
                range=uncovered(node.range, members),
                start=uncovered(node.start, members),
                condition=uncovered(node.condition, members),
                step=uncovered(node.step, members),
                result=uncovered(node.result, members),
            )
        case _:
            return node


def of_select(at: int, cel_type: str) -> Mistake:
    """A field asked of what has none."""
    if "attachment" in cel_type:
        return Mistake(at, "a field belongs to one attachment at a time", f"write {FACT}.exists(a, a.kind == '...')")
    return Mistake(at, f"{plain_type(cel_type)} has no fields")


def never(tree: Node) -> Iterator[Mistake]:
    """Comparisons of a field with a word that it never is."""
    for node in walk(tree):
        match node:
            case Call(function="_==_" | "_!=_", args=(Member() as member, Const() as const)):
                yield from _word(member, const)
            case Call(function="_==_" | "_!=_", args=(Const() as const, Member() as member)):
                yield from _word(member, const)
            case Call(function="@in", args=(Member() as member, Items(items=items))):
                for item in items:
                    if isinstance(item, Const):
                        yield from _word(member, item)
            case _:
                pass


def _word(member: Member, const: Const) -> Iterator[Mistake]:
    words = ATTACHMENT[member.field].words
    if words and const.value not in words:
        hint = nearest(str(const.value), words) or f"one of: {', '.join(sorted(words))}"
        yield Mistake(const.at, f"the {member.field} of an attachment is never '{const.value}'", hint)


def _uses(node: Node, bound: frozenset[str]) -> Iterator[Name]:
    """The dotted names whose first part is a variable over attachments."""
    match node:
        case Name(name=name):
            if name.partition(".")[0] in bound and "." in name:
                yield node
        case Call(args=parts) | Items(items=parts):
            for part in parts:
                yield from _uses(part, bound)
        case Fold(variable=variable):
            yield from _uses(node.range, bound)
            inner = bound | {variable} if _attachments(node.range) else bound - {variable}
            for part in (node.condition, node.step, node.result):
                yield from _uses(part, inner)
        case _:
            pass


def _attachments(node: Node) -> bool:
    """True for a list of attachments: the fact, or what `filter` leaves of it."""
    match node:
        case Name(name=name):
            return name == FACT
        case Fold(range=over, variable=variable, step=step):
            kept = any(
                isinstance(n, Items) and [getattr(i, "name", "") for i in n.items] == [variable] for n in walk(step)
            )
            return kept and _attachments(over)
        case _:
            return False
