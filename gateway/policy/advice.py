"""What is wrong with an expression, said to its author: the place, what is wrong there, and what was probably meant.

Takes the complaints of CEL's compiler and the checked tree, gives `Mistake`s. Pure; called by `expression`.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from gateway.policy import lists
from gateway.policy.syntax import Call, Const, Fold, Items, Name, Node, Other, walk
from gateway.policy.vocabulary import FACTS, UNITS, Form
from gateway.yamlfile import nearest


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake at an offset of an expression or template."""

    offset: int
    what: str
    hint: str = ""


#: The functions and operators that `evaluate` knows, with the form a hint shows.
FUNCTIONS = {
    "under": "under(domain, parent)",
    "in_networks": "in_networks(ip, list)",
    "glob": "glob(text, 'pattern')",
    "size": "size(text or list)",
    "startsWith": "text.startsWith('text')",
    "endsWith": "text.endsWith('text')",
    "contains": "text.contains('text')",
    "matches": "text.matches('pattern')",
    "string": "string(number)",
    "int": "int(text)",
}
MACROS = ("exists", "exists_one", "all", "filter", "map")
_COMPARISONS = ("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_")
_LOGIC = ("_&&_", "_||_", "!_", "_?_:_", "@not_strictly_false")
_ARITHMETIC = ("_+_", "_-_", "_*_", "_/_", "_%_", "-_")
OPERATORS = frozenset({*_COMPARISONS, *_LOGIC, *_ARITHMETIC, "@in", "_[_]"})
_TURNED = {"=>": ">=", "=<": "<="}
_WORDS = {"and": "&&", "or": "||", "not": "!", "AND": "&&", "OR": "||", "NOT": "!"}
_NAME_BEFORE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\s*\.\s*[A-Za-z_][A-Za-z0-9_]*)*\s*$")


def name_start(text: str, at: int) -> int:
    """Where the name begins that CEL places at its last dot, or before the bracket of its call."""
    if text[at : at + 1] not in {".", "("}:
        return at
    before = _NAME_BEFORE.search(text[:at])
    return before.start() if before else at


def plain_type(cel_type: str) -> str:
    """A CEL type in an author's words."""
    name = cel_type.strip().lower()
    if name.startswith("list"):
        return "a list"
    words = {"string": "a text", "int": "a number", "bool": "true or false", "null_type": "null"}
    words["attachment"] = "an attachment"
    return words.get(name, {"uint": "an unsigned number", "double": "a decimal fraction"}.get(name, f"a {name}"))


def towards_bool(tree: Node) -> str:
    """A hint for an expression that is no truth value."""
    if isinstance(tree, Name) and tree.name in FACTS and FACTS[tree.name].type == "string":
        return f"compare it: {tree.name} == '...'"
    return "compare it with something"


def of_syntax(text: str, at: int, what: str) -> Mistake:
    """A mistake of grammar: what stands there, and the usual reasons."""
    token = re.search(r"(?:token recognition error at: |input )'(.*?)'(?: expecting|$)", what)
    word = token[1].strip() if token else ""
    rest = text[at:].split()
    shown = "the end of the expression" if not rest else f"'{word or rest[0]}'"
    missing = re.search(r"missing ('[^']+') at ", what)
    hint = f"{missing[1]} is missing" if missing else ""
    if word == "=" or word.startswith("= "):
        hint, shown = "write == to compare", "'='"
    elif word in _TURNED:
        hint = f"write {_TURNED[word]}"
    elif word in _WORDS:
        hint = f"write {_WORDS[word]}"
    elif re.search(r"(?:^|[\s(!&|])(?:not|NOT)\s+$", text[:at]):
        hint = "write ! instead of not"
    elif re.search(r"(?:^|[\s(&|])if\s+$", text[:at]):
        hint = "write the condition alone, without 'if'"
    elif word in {"&", "|"} or word[:2] in {"& ", "| "}:
        hint, shown = f"write {word[0] * 2}", f"'{word[0]}'"
    elif word[:1] in {"'", '"'}:
        return Mistake(at, "a text without its closing quote")
    elif word in UNITS:
        number = re.search(r"\d+\s*$", text[:at])
        hint = f"write {number[0].strip()} * {word}" if number else ""
    return Mistake(at, f"cannot read the expression at {shown}", hint)


def of_undeclared(text: str, at: int, name: str, named_lists: Collection[str]) -> Mistake:
    """A name that CEL does not know: a fact, a list or a function, by how it is written."""
    start = name_start(text, at)
    if text[at : at + 1] == "(":
        if name in FUNCTIONS:
            return Mistake(start, f"'{name}' is called in a wrong way", f"write {FUNCTIONS[name]}")
        if name in MACROS:
            return Mistake(at - len(name), f"'{name}' is called in a wrong way", f"write list.{name}(x, ...)")
        known = [*FUNCTIONS, *MACROS]
        word = re.search(r"[A-Za-z_][A-Za-z0-9_]*\s*$", text[:at])
        start = word.start() if word else start  # of a method its own name, not its target's
        return Mistake(start, f"unknown function '{name}'", nearest(name, known) or _listed("functions", FUNCTIONS))
    name = name.lstrip(".")
    if name.split(".")[0] == "lists":
        hyphen = re.match(r"lists\.[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)+", text[start:])
        if hyphen and (meant := hyphen[0].replace("-", "_")) in named_lists:
            return Mistake(start, f"unknown list '{name}'", f"write {meant}: a hyphen is a minus here")
        if "." not in name:
            return Mistake(start, "'lists' alone is no list", _listed("lists", named_lists))
        return Mistake(start, f"unknown list '{name}'", nearest(name, named_lists) or _listed("lists", named_lists))
    if group := [fact for fact in FACTS if fact.startswith(f"{name}.")]:
        return Mistake(start, f"'{name}' alone is no fact", _listed("its facts", group))
    if hint := _unfinished(name):
        return Mistake(start, f"unknown fact '{name}'", hint)
    groups = sorted({fact.partition(".")[0] for fact in FACTS})
    hint = nearest(name, [*FACTS, *UNITS]) or f"facts begin with {', '.join(groups)} and a dot"
    return Mistake(start, f"unknown fact '{name}'", hint)


def _unfinished(name: str) -> str:
    if name in _WORDS.values() or name in {"True", "False"}:
        return f"write {name.lower()}"
    if re.fullmatch(r"[a-z]+", name) and any(name in known.words for known in FACTS.values()):
        return f"a word stands in quotes: '{name}'"
    return ""


def _listed(what: str, words: Collection[str]) -> str:
    return f"{what}: {', '.join(sorted(words))}" if words else f"there are no {what}"


def of_overload(text: str, at: int, function: str, types: str, call: Call | None) -> Mistake:
    """An operator or function on values it does not take."""
    kinds = [plain_type(kind) for kind in _split(types)]
    if function not in OPERATORS:
        start = name_start(text, at)
        given = " and ".join(kinds) or "nothing"
        if function == "contains" and kinds[:1] == ["a list"]:
            return Mistake(start, f"'contains' does not take {given}", "write 'text' in LIST")
        return Mistake(start, f"'{function}' does not take {given}", f"write {FUNCTIONS.get(function, function)}")
    symbol = "? :" if function == "_?_:_" else function.replace("_", "").removeprefix("@")
    names = [node for node in call.args if isinstance(node, Name)] if call else []
    if function in _LOGIC:
        names = [name for name in names if name.name not in FACTS or FACTS[name.name].type != "bool"]
    start = names[0].at if names else (min(n.at for n in walk(call)) if call else at)
    hint = "; ".join(f"{n.name} is {plain_type(FACTS[n.name].type)}" for n in names if n.name in FACTS)
    if len(kinds) == 1:
        return Mistake(start, f"'{symbol}' does not apply to {kinds[0]}", hint)
    if function in _LOGIC:
        wrong = next((kind for kind in kinds if kind != "true or false"), kinds[0])
        return Mistake(start, f"'{symbol}' takes conditions, not {wrong}", hint)
    if function == "@in":
        return Mistake(start, f"'in' looks for {kinds[0]} in {kinds[1]}, where none can be", hint)
    if function in {"_==_", "_!=_"} and sorted(kinds) == ["a list", "a text"]:
        hint += "; write 'text' in LIST" if hint else "write 'text' in LIST"
    verb = "compare" if function in _COMPARISONS else f"apply '{symbol}' to"
    joint = "with" if verb == "compare" else "and"
    return Mistake(start, f"cannot {verb} {kinds[0]} {joint} {kinds[1]}", hint)


def _split(types: str) -> list[str]:
    """'string, list(string)' at its outer commas."""
    return [part for part in re.split(r",\s*(?![^()]*\))", types) if part]


def of_tree(text: str, tree: Node) -> list[Mistake]:
    """What CEL lets pass and a policy never means, or this gateway does not evaluate."""
    return list(_of_tree(text, tree))


def _of_tree(text: str, tree: Node) -> Iterator[Mistake]:
    for node in walk(tree):
        match node:
            case Other(what=what, at=at):
                yield Mistake(name_start(text, at), f"{what} is not part of the policy language")
            case Call(function="_==_" | "_!=_", args=(Name() as name, Const() as const)):
                yield from _word(name, const)
            case Call(function="_==_" | "_!=_", args=(Const() as const, Name() as name)):
                yield from _word(name, const)
            case Call(function="@in", args=(Name() as name, Items(items=items))):
                for item in items:
                    if isinstance(item, Const):
                        yield from _word(name, item)
            case Call(function="@in", args=(Const() as const, Name() as name)):
                yield from _word(name, const)
            case Call(function="in_networks", args=(_, where)):
                yield from _networks(text, where)
            case Call(function="under", args=(Const(value=value, at=at), Name(name=name))) if name in FACTS:
                what = "'under' asks whether the first domain is the second or below it"
                yield Mistake(at, what, f"write under({name}, '{str(value).removeprefix('*.')}')")
            case Call(function="under", args=(_, Const(value=str() as parent, at=at))):
                yield from _domain(parent, at)
            case Call(function="glob" | "matches" as called, args=(_, pattern)) if not isinstance(pattern, Const):
                # A stranger's text must never become a pattern.
                yield Mistake(name_start(text, pattern.at), f"the pattern of '{called}' must be a text in quotes")
            case Call(function=called, at=at) if called not in OPERATORS and called not in FUNCTIONS:
                yield Mistake(name_start(text, at), f"'{called}' is not part of the policy language")
            case Call(function="_/_" | "_%_", args=(_, Const(value=0, at=at))):
                yield Mistake(at, "nothing can be divided by 0")
            case Call(function="_[_]", args=(_, Const(value=int(number), at=at))) if number < 0:
                yield Mistake(at, "a list has no entry before its first", "the first is [0]")
            case Fold(variable=variable, at=at) if variable in UNITS:
                yield Mistake(at, f"'{variable}' is a unit and cannot be a variable")
            case _:
                pass


def _word(name: Name, const: Const) -> Iterator[Mistake]:
    """A constant that the fact can never be."""
    known = FACTS.get(name.name)
    if known is None or not isinstance(const.value, str):
        return
    if known.words and const.value not in known.words:
        hint = nearest(const.value, known.words) or f"one of: {', '.join(sorted(known.words - {''}))}"
        yield Mistake(const.at, f"{name.name} is never '{const.value}'", hint)
    elif known.form is Form.IP:
        yield from _ip(name.name, const.value, const.at)
    elif known.form is Form.DOMAIN and const.value and not const.value.startswith("["):
        yield from _domain(const.value, const.at)
    elif known.form is Form.ADDRESS and "@" in const.value:
        local, _, domain = const.value.rpartition("@")
        if local != local.lower():
            what = f"'{const.value}' never matches: addresses are compared in lower case"
            yield Mistake(const.at, what, f"write {const.value.lower()}")
        elif domain and not domain.startswith("["):
            yield from _domain(domain, const.at)


def _ip(fact: str, text: str, at: int) -> Iterator[Mistake]:
    """An address that no client has, or has in another spelling."""
    try:
        address = ip_address(text)
        plain = str((address.version == 6 and address.ipv4_mapped) or address)  # as the facts have it
    except ValueError:
        network = text if "/" in text else "192.0.2.0/24"
        yield Mistake(at, f"{fact} is never '{text}'", f"of networks write in_networks({fact}, ['{network}'])")
        return
    if plain != text:
        yield Mistake(at, f"'{text}' never matches: addresses are compared in their short form", f"write {plain}")


def _domain(text: str, at: int) -> Iterator[Mistake]:
    try:
        plain = lists.domain(text)
    except ValueError:
        hint = f"'under(domain, ...)' is true of {text[2:]} and all below it" if text.startswith("*.") else ""
        yield Mistake(at, f"'{text}' is no domain", hint)
        return
    if plain != text:
        yield Mistake(at, f"'{text}' never matches: domains are compared in lower case, as A-labels", f"write {plain}")


def _networks(text: str, where: Node) -> Iterator[Mistake]:
    match where:
        case Items(items=items):
            for item in items:
                if not isinstance(item, Const) or not isinstance(item.value, str):
                    yield Mistake(
                        name_start(text, item.at), "a network is a text in quotes", "for example '192.0.2.0/24'"
                    )
                    continue
                try:
                    lists.network(item.value)
                except ValueError as why:
                    what, _, hint = str(why).partition(": ")
                    yield Mistake(item.at, what, hint)
        case Name(name=name) if name.startswith("lists."):
            pass
        case _:
            yield Mistake(
                name_start(text, where.at), "in_networks needs a list", "write lists.NAME, or ['192.0.2.0/24']"
            )
