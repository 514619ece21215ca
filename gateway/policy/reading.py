"""A rule as it stands in YAML to a `Rule`: keys, words, reply, action, expression, stage.

Everything that can be said of one rule alone is said here, with the position of the word that is wrong; what needs
the other rules is said by `lint`. Refused: unknown keys (with the nearest known one), a reply whose class does not
fit the action, facts that are not known at the stage, `rcpt.*` at DATA. Called by `loader`.
"""

import re
from collections.abc import Collection, Mapping
from datetime import date

from gateway.checks.check import OnError
from gateway.mail.address import Mailbox
from gateway.mail.reply import SyntaxRefused
from gateway.mail.terms import Stage
from gateway.policy import actions, lists, replies
from gateway.policy.advice import Mistake
from gateway.policy.expression import Compiler, Expression
from gateway.policy.rules import LEAST_STAGE, Action, Recipients, Rule
from gateway.policy.vocabulary import FACTS, RECIPIENT_FACTS, SIZE
from gateway.yamlfile import Data, Document, Loc, Problem, nearest

KEYS = (
    "id", "for", "when", "then", "reply", "because", "mode", "owner", "expires", "stage", "speak", "always",
    "on_error", "tests",
)  # fmt: skip
STAGES = {stage.name.lower(): stage for stage in Stage}

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: What an id looks like.
IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Reader:
    """Reads the parts of one mapping of a document; what is wrong goes to `problems`."""

    def __init__(self, document: Document, loc: Loc, problems: list[Problem]) -> None:
        self.document, self.loc, self.problems = document, loc, problems
        data: Data = document.data
        for step in loc:
            data = data[step]  # type: ignore[index] # the caller walked the same path
        self.data: Mapping[str, Data] = data if isinstance(data, dict) else {}

    def error(self, loc: Loc, what: str, hint: str = "", *, key: bool = False) -> None:
        """A mistake at a value below this mapping, or at its key."""
        self.problems.append(Problem(self.document.position((*self.loc, *loc), key=key), what, hint))

    def mistakes(self, loc: Loc, found: Collection[Mistake], shift: int = 0) -> None:
        """Mistakes inside a scalar."""
        for mistake in found:
            at = self.document.scalar_position((*self.loc, *loc), mistake.offset + shift)
            self.problems.append(Problem(at, mistake.what, mistake.hint))

    def keys(self, known: Collection[str], required: Collection[str], what: str) -> None:
        """Unknown and missing keys."""
        for key in self.data:
            if key not in known:
                hint = nearest(key, known) or f"keys: {', '.join(known)}"
                self.error((key,), f"unknown key '{key}' in {what}", hint, key=True)
        for key in required:
            if key not in self.data:
                self.error((), f"{what} needs '{key}'")

    def text(self, key: str, default: str = "") -> str:
        """A text, or the default where it is absent or wrong."""
        value = self.data.get(key)
        if key in self.data and (not isinstance(value, str) or not value.strip()):
            hint = "a '#' after a space begins a comment: put the text in quotes" if value is None else ""
            self.error((key,), f"'{key}' must be a text", hint)
            return default
        return value.strip() if isinstance(value, str) else default

    def word(self, key: str, words: Collection[str], default: str) -> str:
        """One of some words."""
        value = self.data.get(key, default)
        if value not in words:
            hint = nearest(str(value), words) or f"one of: {', '.join(words)}"
            self.error((key,), f"'{key}' cannot be '{value}'", hint)
            return default
        return str(value)

    def flag(self, key: str) -> bool:
        """true or false; absent is false."""
        value = self.data.get(key, False)
        if not isinstance(value, bool):
            self.error((key,), f"'{key}' must be true or false")
        return value is True


def read_rule(
    reader: Reader, compiler: Compiler, named: Mapping[str, lists.NamedList], today: date | None
) -> Rule | None:
    """The rule, or None when something is wrong with it."""
    expires = _expires(reader, today)
    before = len(reader.problems)  # an expired rule is read on: what is wrong with it otherwise is told at once
    reader.keys(KEYS, ("id", "then"), "a rule")
    identity = reader.text("id")
    if identity and not IDENTITY.fullmatch(identity):
        reader.error(("id",), f"'{identity}' cannot be an id", "letters, digits, '-', '_' and '.', at most 64")
    done = actions.read(reader)
    when = _when(reader, compiler)
    recipients = _recipients(reader, named) if "for" in reader.data else None
    reply, spoken = replies.read(reader, done.action) if done else (None, {})
    observe = reader.word("mode", ("enforce", "observe"), "enforce") == "observe"
    on_error = reader.word("on_error", tuple(OnError), "") if "on_error" in reader.data else ""
    always, because, owner = reader.flag("always"), reader.text("because"), reader.text("owner")
    stages = _stages(reader, done, when, recipients is not None) if done and when else ()
    if stages:
        _known_when_said(reader, ("reply",), spoken, stages)
        if done:
            _known_when_said(reader, done.text_loc, done.text_facts, stages)
    now = _now(reader, done, stages)
    if len(reader.problems) > before or done is None or when is None or not stages:
        return None
    position = reader.document.position((*reader.loc, "id"))
    return Rule(
        id=identity,
        action=done.action,
        when=when,
        stages=stages,
        position=position,
        when_position=reader.document.position((*reader.loc, "when")),
        recipients=recipients,
        reply=reply,
        because=because,
        owner=owner,
        expires=expires,
        observe=observe,
        always=always,
        now=now,
        on_error=OnError(on_error) if on_error else None,
        exempts=done.exempts,
        exempt_positions=done.exempt_positions,
        tag=done.tag,
        text=done.text,
        greylist=done.greylist,
        limit=done.limit,
    )


def _when(reader: Reader, compiler: Compiler) -> Expression | None:
    if "when" not in reader.data:
        if "for" not in reader.data:
            reader.error((), "a rule needs 'when'", "write when: true for a rule that always applies")
            return None
        text = "true"
    else:
        value = reader.data["when"]
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, str):
            text = value
        else:
            reader.error(("when",), "'when' must be an expression")
            return None
    compiled = compiler.compile(text)
    if isinstance(compiled, Expression):
        return compiled
    reader.mistakes(("when",), compiled)
    return None


def _recipients(reader: Reader, named: Mapping[str, lists.NamedList]) -> Recipients:
    value = reader.data["for"]
    many = isinstance(value, list)
    addresses, domains, found = set[str](), set[str](), list[str]()
    if not value:
        reader.error(("for",), "'for' needs at least one recipient", 'an address, "@domain", or the name of a list')
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        loc: Loc = ("for", index) if many else ("for",)
        if not isinstance(item, str) or not item:
            reader.error(loc, "a recipient is a text", 'an address, "@domain", or the name of a list')
        elif "@" not in item:
            name = item.removeprefix("lists.").replace("-", "_")
            found.append(name)
            if name not in named:
                hint = f'did you mean "@{item}"?' if "." in item else nearest(name, named)
                reader.error(loc, f"unknown list '{item}'", hint)
        elif item.startswith("*@"):
            reader.error(loc, f"'{item}' is nobody's address", f'for all of a domain write "{item[1:]}"')
        elif item.startswith("@"):
            try:
                domains.add(lists.domain(item[1:]))
            except ValueError:
                reader.error(loc, f"'{item}' is no domain")
        else:
            try:
                addresses.add(str(Mailbox.parse(item.encode(), smtputf8=True)).lower())
            except (SyntaxRefused, UnicodeError):
                reader.error(loc, f"'{item}' is no address")
    return Recipients(frozenset(addresses), frozenset(domains), tuple(found))


def _expires(reader: Reader, today: date | None) -> str:
    value = reader.text("expires")
    if value in {"", "never"}:
        return value
    try:
        until = date.fromisoformat(value) if _DATE.fullmatch(value) else None
    except ValueError:
        until = None
    if until is None:
        reader.error(("expires",), f"'{value}' is no date", "as in 2027-03-31, or never")
    elif today is not None and until < today:
        reader.error(("expires",), f"the rule expired on {value}", "remove it, or let its owner renew it")
    return value


def _stages(reader: Reader, done: actions.Done | None, when: Expression, for_recipients: bool) -> tuple[Stage, ...]:
    """When the rule is asked: as soon as all its facts are known, not before its action makes sense."""
    assert done is not None
    known = {name: FACTS[name].stage for name in when.facts}
    least = max([Stage.CONNECT, *known.values(), LEAST_STAGE.get(done.action, Stage.CONNECT)])
    if done.limit.key:
        least = max(least, FACTS[done.limit.key].stage)
    if for_recipients:
        least = max(least, Stage.RCPT)
    first = least
    if "stage" in reader.data:
        first = STAGES[reader.word("stage", tuple(STAGES), least.name.lower())]
        if first < least:
            late = [name for name, stage in known.items() if stage > first]
            word = first.name.lower()
            if late:
                at = reader.document.scalar_position((*reader.loc, "when"), when.facts[late[0]])
                stage = FACTS[late[0]].stage.name.lower()
                what = f"the fact '{late[0]}' is not known at {word}"
                reader.problems.append(Problem(at, what, f"it is known from {stage} on: leave 'stage' out"))
            else:
                reader.error(("stage",), f"the rule cannot run at {word}", f"{least.name.lower()} is its first stage")
            return ()
    # A size that the sender declares may refuse early, but it must never let anything in: a lie costs nothing.
    twice = done.action in {Action.REJECT, Action.DEFER, Action.GREYLIST}
    last = first
    if SIZE in when.facts:
        last = Stage.DATA
        if not twice:
            first = Stage.DATA
    if last is Stage.DATA and not _without_recipient(reader, when, first):
        return ()
    return (first,) if first == last else (first, last)


def _without_recipient(reader: Reader, when: Expression, first: Stage) -> bool:
    """No `rcpt.*` at DATA: there a verdict is about all recipients at once."""
    late = [name for name in when.facts if FACTS[name].stage is Stage.DATA or name == SIZE]
    for name in sorted(RECIPIENT_FACTS & when.facts.keys(), key=lambda name: when.facts[name]):
        at = reader.document.scalar_position((*reader.loc, "when"), when.facts[name])
        why = f"'{late[0]}' makes this" if late else "stage: data makes this"
        what = f"{why} a rule of data, where '{name}' is not known"
        reader.problems.append(Problem(at, what, "name the recipients in 'for:'"))
        return False
    return True


def _known_when_said(reader: Reader, loc: Loc, facts: Mapping[str, int], stages: tuple[Stage, ...]) -> None:
    """A text may only name what is known whenever the rule can fire."""
    for name, at in facts.items():
        known = FACTS.get(name)
        if known is None:
            continue
        late = known.stage > stages[0]
        gone = stages[-1] is Stage.DATA and name in RECIPIENT_FACTS
        if late or gone:
            word = stages[0].name.lower() if late else "data"
            hint = (
                f"it is known from {known.stage.name.lower()} on" if late else "one reply answers all recipients there"
            )
            reader.mistakes(loc, [Mistake(at, f"the fact '{name}' is not known at {word}", hint)])


def _now(reader: Reader, done: actions.Done | None, stages: tuple[Stage, ...]) -> bool:
    if "speak" not in reader.data:
        return False
    now = reader.word("speak", ("now", "rcpt"), "rcpt") == "now"
    if now and done and done.action not in {Action.REJECT, Action.DEFER}:
        reader.error(("speak",), f"'{done.action}' says nothing", "'speak: now' belongs to reject and defer")
    elif now and stages and stages[0] >= Stage.RCPT:
        word = stages[0].name.lower()
        reader.error(("speak",), f"a rule of {word} speaks at once anyway", "leave 'speak' out")
    return now
