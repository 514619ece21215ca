"""The single facts whose change would have changed a verdict, nearest first.

Sensible values of each fact that the policy names are tried one at a time, by playing the scene again:
- a result or other closed word: every other word; true and false: the other one;
- a text: "", and what the policy compares it with (words, patterns, first entries of lists, other facts);
- the recipient, where a rule has `for:`: those that it names, and somebody whom no rule names;
- a number: what it is compared with, one less and one more; a list: empty, and with one such entry;
- an effect (greylist, limit): passed.
Nearest: first what the rule that decided names, in its order, then the facts of the other rules as these stand. A
verdict has changed when the sender meets something else, not when another rule says the same; also when the mail would
have gone on to a later stage, whose facts nobody gathered. Pure. Called by
`explain`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from gateway.checks.check import Value
from gateway.mail.terms import Result
from gateway.policy.evaluate import Undecided, build
from gateway.policy.lists import NamedList
from gateway.policy.loader import Policy
from gateway.policy.replay import Ending, Kind
from gateway.policy.rules import Rule
from gateway.policy.scene import PASSES, Run, Scene, play
from gateway.policy.syntax import Call, Const, Fold, Items, Name, Node, walk
from gateway.policy.vocabulary import FACTS

#: What is tried of one fact; more constants than these in a policy are left out.
_TRIED = 40
_ANYBODY = "anybody-else"
#: What `for:` asks about.
_RECIPIENT = ("rcpt.address",)
_WORDS = [Result.PASS, Result.FAIL, Result.SOFTFAIL, Result.NONE, Result.NEUTRAL, Result.POLICY]
_WORDS += [Result.PERMERROR, Result.TEMPERROR]


@dataclass(frozen=True, slots=True)
class Change:
    """One fact, what it was, what it would have to be, and how the mail would have ended."""

    fact: str
    was: Value | None
    value: Value
    ending: Ending


def changes(policy: Policy, scene: Scene, run: Run) -> Iterator[Change]:
    """All that would have changed the verdict, nearest first; for each fact the first value that does."""
    before = Ending.of(policy, run)
    if run.progress.outcomes and before.kind is Kind.DEFERRED:
        retried = play(policy, replace(scene, outcomes={}, otherwise=PASSES))
        after = Ending.of(policy, retried)
        if _differs(before, after, run, retried):
            yield Change("a later attempt", "waits", "passes", after)
    values = scene.values
    for name in _order(policy, before.rule):
        if name not in values:
            continue  # nobody gathered it: what it was cannot be said
        for value in _candidates(policy, name, values):
            other = play(policy, scene.changed(name, value))
            after = Ending.of(policy, other)
            if _differs(before, after, run, other):
                yield Change(name, values[name], value, after)
                break


def _differs(before: Ending, after: Ending, run: Run, other: Run) -> bool:
    """True when the sender meets something else; also when the mail goes further than it came, to facts nobody has."""
    if after.kind is Kind.UNKNOWN:
        return other.stage > run.stage
    return after.kind is not before.kind


def _order(policy: Policy, rule: str) -> list[str]:
    deciding = policy.rule(rule) if rule else None
    rules = [deciding, *policy.rules] if deciding else [*policy.rules]
    return list(
        dict.fromkeys(name for each in rules for name in (*each.when.facts, *_RECIPIENT[: bool(each.recipients)]))
    )


def _candidates(policy: Policy, name: str, values: dict[str, Value]) -> list[Value]:
    """What is worth a try for this fact: other than it is, no value twice."""
    known, now = FACTS[name], values[name]
    found: list[Value] = []
    if known.type == "bool":
        found = [not now]
    elif known.words:
        found = [word.value for word in _WORDS if word in known.words] or sorted(known.words)
        found += sorted(known.words - {str(word) for word in found})
    else:
        found = [""] if known.type == "string" else []
        if name in _RECIPIENT:
            found = [*_recipients(policy, str(values.get("rcpt.domain", "")))]
        for rule in policy.rules:
            if name in rule.when.facts:
                found += _constants(rule, name, known.type, policy, values)
        found += [[]] if known.type.startswith("list") else []
    tried: list[Value] = []
    for value in found:
        if value != now and value not in tried:
            tried.append(value)
    return tried[:_TRIED]


def _recipients(policy: Policy, domain: str) -> Iterator[Value]:
    """Somebody whom no rule names, then whom the rules name."""
    yield f"{_ANYBODY}@{domain}"
    for rule in policy.rules:
        if rule.recipients is not None:
            yield from sorted(rule.recipients.addresses)
            entries = [*sorted(rule.recipients.domains)]
            entries += [entry for name in rule.recipients.lists for entry in islice(policy.lists[name], 3)]
            yield from (entry if "@" in entry else f"{_ANYBODY}@{entry}" for entry in entries)


def _constants(rule: Rule, name: str, kind: str, policy: Policy, values: dict[str, Value]) -> Iterator[Value]:
    """What a rule compares the fact with."""
    if kind.startswith("list"):
        yield from _items(rule, name, kind, policy, values)
        return
    for node in walk(rule.when.tree):
        if not isinstance(node, Call) or len(node.args) != 2:
            continue
        left, right = node.args
        for one, other in ((left, right), (right, left)):
            if name not in {each.name for each in walk(one) if isinstance(each, Name)}:
                continue
            for value in _values(other, policy, values):
                if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
                    yield from (value, value - 1, value + 1)
                elif kind == "string" and isinstance(value, str):
                    yield value.replace("*", "").replace("?", "x") if node.function == "glob" else _host(value)


def _items(rule: Rule, name: str, kind: str, policy: Policy, values: dict[str, Value]) -> Iterator[Value]:
    words = dict[str, None]()
    for node in walk(rule.when.tree):
        if isinstance(node, Const | Name) and not (isinstance(node, Name) and node.name == name):
            words.update(dict.fromkeys(v for v in _values(node, policy, values) if isinstance(v, str) and v))
    for word in words:
        if kind == "list<string>":
            yield [word]
        else:
            attachment: dict[str, str | int] = {"name": word, "type": word, "kind": word, "size": 1}
            yield [attachment]


def _values(node: Node, policy: Policy, values: dict[str, Value]) -> Iterator[Value]:
    """The values of an operand: a constant, the entries of a list, another fact, a sum such as 10 * MB."""
    match node:
        case Const(value=value):
            yield value
        case Items(items=items):
            for item in items:
                yield from _values(item, policy, values)
        case Name(name=name) if name.startswith("lists."):
            listed = policy.lists.get(name.removeprefix("lists."), NamedList(name, []))
            yield from (_host(entry) for entry in islice(listed, 3))
        case Name(name=name) if name in values:
            yield values[name]
        case Call() | Name() if not any(isinstance(each, Fold) for each in walk(node)):
            try:
                result = build(node, policy.lists)(values, {})
            except (Undecided, KeyError):
                return
            if isinstance(result, str | int):
                yield result
        case _:
            pass


def _host(entry: str) -> str:
    """Of a network its first address, which lies in it."""
    address, slash, length = entry.partition("/")
    return address if slash and length.isdigit() else entry
