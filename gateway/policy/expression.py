"""Policy expressions: CEL, parsed and type checked by cel-expr-python; the only file that imports it.

`Compiler.compile` gives an `Expression` (the checked tree and the facts it names) or a list of `Mistake`s, each at
the offset of the name, call or word that is wrong, in words for people who write policies. What CEL would allow and
a policy never means is refused too: a result compared with no result word, a domain in capitals, a pattern that is
not a literal. The tree is evaluated by `evaluate`, not by CEL's engine: see docs/ARCHITECTURE.md ("Why each
dependency") for the reasons (named lists as sets, unknown facts, a fifth of the time).

cel-expr-python 0.1.3: errors come as one text ("ERROR: <input>:LINE:COLUMN: ..." a line); an undeclared dotted name
is placed at its last dot, a call at its bracket. A run-time error is a value that is truthy: test its type.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from cel_expr_python import cel

from gateway.policy import advice, members
from gateway.policy.advice import Mistake
from gateway.policy.syntax import Call, Const, Name, Node, decode, walk
from gateway.policy.vocabulary import FACTS, UNITS

#: Characters of one expression; CEL's own limits on depth come on top.
LENGTH_LIMIT = 8_000

_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")

_T = cel.Type
_TYPES = {"string": _T.STRING, "bool": _T.BOOL, "int": _T.INT, "list<string>": _T.List(_T.STRING)}
_TYPES["list<attachment>"] = _T.List(_T.AbstractType("attachment"))


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression: its text, its tree, and the facts it names with the offset of their first mention."""

    text: str
    tree: Node
    facts: Mapping[str, int] = field(default_factory=dict)
    lists: frozenset[str] = frozenset()


class Compiler:
    """Compiles expressions over the vocabulary and these lists."""

    def __init__(self, lists: Collection[str]) -> None:
        self._lists = frozenset(f"lists.{name}" for name in lists)
        variables = {name: _TYPES[known.type] for name, known in FACTS.items()}
        variables |= dict.fromkeys(UNITS, _T.INT) | dict.fromkeys(self._lists, _TYPES["list<string>"])
        # Declared for the type checker only; `evaluate` computes them.
        functions = [
            _declared("under", [[_T.STRING, _T.STRING], [_T.STRING, _TYPES["list<string>"]]]),
            _declared("in_networks", [[_T.STRING, _TYPES["list<string>"]]]),
            _declared("glob", [[_T.STRING, _T.STRING]]),
        ]
        self._env = cel.NewEnv(variables=variables, functions=functions)
        covers = {cover: _TYPES[kind] for kind, cover in members.COVERS.items()}
        self._covering = cel.NewEnv(variables=variables | covers, functions=functions)

    def compile(self, text: str) -> Expression | list[Mistake]:
        """The expression, or all that is wrong with it. Its type is bool."""
        if len(text) > LENGTH_LIMIT:
            return [Mistake(0, f"the expression is longer than {LENGTH_LIMIT} characters", "use a list or two rules")]
        if not text.strip():
            return [Mistake(0, "the expression is empty", "write true for a rule that always applies")]
        env, covered, fields, mistakes = self._covered(text)
        if mistakes:
            return mistakes
        try:
            compiled = env.compile(covered)
        except RuntimeError as error:
            return self._mistakes(text, str(error))
        tree = members.uncovered(decode(compiled.serialize()), fields)
        names = [Name(node.name.lstrip("."), node.at) for node in walk(tree) if isinstance(node, Name)]
        names = [Name(name.name, advice.name_start(text, name.at)) for name in names]
        mistakes = [*advice.of_tree(text, tree), *members.never(tree), *_patterns(tree), *self._without_has(text)]
        if compiled.return_type() != _T.BOOL:
            kind = advice.plain_type(compiled.return_type().name())
            at = len(text) - len(text.lstrip())
            mistakes.append(Mistake(at, f"'when' must be true or false, this is {kind}", advice.towards_bool(tree)))
        facts: dict[str, int] = {}
        for name in sorted(names, key=lambda found: found.at):
            if name.name in FACTS:
                facts.setdefault(name.name, name.at)
        lists = frozenset(name.name.removeprefix("lists.") for name in names if name.name in self._lists)
        return sorted(mistakes) or Expression(text, tree, facts, lists)

    def _without_has(self, text: str) -> list[Mistake]:
        """Of `has(client.tls)` the type checker makes `client.tls`, because the dotted name is one variable."""
        if not re.search(r"\bhas\s*\(", text):
            return []
        parsed = decode(self._env.compile(text, disable_check=True).serialize())
        return [mistake for mistake in advice.of_tree(text, parsed) if mistake.what.startswith("has()")]

    def _covered(self, text: str) -> tuple[cel.Env, str, members.Members, list[Mistake]]:
        """The text as the compiler shall see it, with the environment that knows what covers its fields."""
        if "attachments" not in text or any(cover in text for cover in members.COVERS.values()):
            return self._env, text, {}, []
        try:
            tree = decode(self._env.compile(text, disable_check=True).serialize())
        except RuntimeError:
            return self._env, text, {}, []  # told by whoever compiles it
        return self._covering, *members.cover(text, tree)

    def _mistakes(self, text: str, errors: str) -> list[Mistake]:
        starts = [0, *(match.end() for match in re.finditer("\n", text))]
        found: list[Mistake] = []
        for line, column, what in _ERROR.findall(errors):
            at = min(starts[min(int(line), len(starts)) - 1] + int(column) - 1, len(text))
            what = what.removesuffix(" [INVALID_ARGUMENT]")
            if what.startswith("Syntax error"):
                return [advice.of_syntax(text, at, what)]  # what follows is the parser's confusion
            if "'*error*'" in what:  # follows from another mistake
                continue
            if not re.search(r"\blists\.\w+(?:-\w+)*-$", text[:at]):  # the rest of a list's name with a hyphen
                found.append(self._of_type(text, at, what))
        return sorted(set(found)) or [Mistake(0, "the CEL compiler refuses the expression", "is it nested too deeply?")]

    def _of_type(self, text: str, at: int, what: str) -> Mistake:
        if undeclared := re.match(r"undeclared reference to '([^']*)'", what):
            return advice.of_undeclared(text, at, undeclared[1], self._lists)
        if overload := re.match(r"found no matching overload for '([^']*)' applied to '\((.*)\)'", what):
            call = self._call_at(text, at, overload[1])
            return advice.of_overload(text, at, overload[1], overload[2], call)
        if selected := re.match(r"expression of type '(.*)' cannot be the operand of a select operation", what):
            return members.of_select(advice.name_start(text, at), selected[1])
        return Mistake(advice.name_start(text, at), what)

    def _call_at(self, text: str, at: int, function: str) -> Call | None:
        """The call of which the type checker complains, from the tree before type checking."""
        try:
            tree = decode(self._env.compile(text, disable_check=True).serialize())
        except RuntimeError:
            return None
        calls = [node for node in walk(tree) if isinstance(node, Call) and node.function == function]
        return next((call for call in calls if call.at == at), None)


def _declared(name: str, parameters: list[list[cel.Type]]) -> cel.FunctionDecl:
    overloads = [
        cel.Overload(f"{name}_{number}", return_type=_T.BOOL, parameters=types, is_member=False, impl=_never)
        for number, types in enumerate(parameters)
    ]
    return cel.FunctionDecl(name, overloads)


def _never(*_: object) -> bool:
    raise NotImplementedError("computed by gateway.policy.evaluate")


def _patterns(tree: Node) -> Iterator[Mistake]:
    for node in walk(tree):
        match node:
            case Call(function="matches", args=(_, Const(value=str() as pattern, at=at))):
                try:
                    matcher(pattern)
                except ValueError as why:
                    yield Mistake(at, f"'{pattern}' is no regular expression", str(why).rpartition("expression: ")[2])


def matcher(pattern: str) -> Callable[[str], bool]:
    """CEL's `matches` for one pattern, by CEL's own engine: RE2, which needs linear time whatever the text.

    Raises `ValueError` where the pattern is no regular expression.
    """
    env = cel.NewEnv(variables={"text": _T.STRING})
    try:
        program = env.compile(f"text.matches({json.dumps(pattern)})")
        first = program.eval(data={"text": ""})
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[0]) from None
    if first.type() == _T.ERROR:
        raise ValueError(str(first.value()))

    def matches(text: str) -> bool:
        value = program.eval(data={"text": text})
        # An error is truthy: only a bool that is true is a match.
        return value.type() == _T.BOOL and value.value() is True

    return matches
