"""`then:` of a rule: the action and what it takes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.policy import template
from gateway.policy.advice import Mistake
from gateway.policy.rules import Action, Greylist, Limit
from gateway.policy.template import Template
from gateway.policy.vocabulary import FACTS
from gateway.yamlfile import Data, Fault, Loc, Position, nearest
from gateway.yamlfile.units import parse_duration

if TYPE_CHECKING:
    from gateway.policy.reading import Reader

_WORDS = tuple(action.value for action in Action)
#: Actions that others have and we do not, with what to write instead.
_ABSENT = {
    "discard": "there is no 'discard': mail is delivered, quarantined or refused, never dropped",
    "drop": "there is no 'drop': mail is delivered, quarantined or refused, never dropped",
}
#: Words of others for actions of ours.
_MEANT = {"allow": "accept", "permit": "accept", "pass": "accept", "whitelist": "accept", "allowlist": "accept"}
_MEANT |= dict.fromkeys(("block", "deny", "refuse", "bounce"), "reject") | {"tempfail": "defer", "hold": "quarantine"}
_FIELD = re.compile(r"X-[A-Za-z0-9](?:[A-Za-z0-9-]{0,60}[A-Za-z0-9])?")
_WAIT_LIMIT = 366 * 86_400.0
_RATE = re.compile(r"([0-9]{1,9})/(\S+)")
#: A count is kept for its span: an hour's is cheap, a month's is what the greylist's rows are for.
_SPAN_LIMIT = 86_400.0


@dataclass(frozen=True, slots=True)
class Done:
    """An action and its parameters, as read."""

    action: Action
    exempts: tuple[str, ...] = ()
    exempt_positions: tuple[Position, ...] = ()
    tag: str = ""
    text: Template = field(default_factory=lambda: Template(("",)))
    text_loc: Loc = ()
    text_facts: Mapping[str, int] = field(default_factory=dict)
    greylist: Greylist = field(default_factory=Greylist)
    limit: Limit = field(default_factory=Limit)


def read(reader: "Reader") -> Done | None:
    """The action, or None when something is wrong with it."""
    if "then" not in reader.data:
        return None
    then = reader.data["then"]
    if isinstance(then, dict):
        if len(then) != 1:
            reader.error(("then",), "'then' takes one action", "write a rule for each")
            return None
        word, value = next(iter(then.items()))
        loc: Loc = ("then", word)
    elif isinstance(then, str):
        word, value, loc = then, None, ("then",)
    else:
        reader.error(("then",), "'then' takes one action", f"one of: {', '.join(_WORDS)}")
        return None
    if word not in _WORDS:
        what = _ABSENT.get(word, f"unknown action '{word}'")
        near = f"did you mean '{_MEANT[word]}'?" if word in _MEANT else nearest(word, _WORDS)
        hint = "" if word in _ABSENT else near or f"one of: {', '.join(_WORDS)}"
        reader.error(loc, what, hint, key=isinstance(then, dict))
        return None
    action = Action(word)
    match action:
        case Action.EXEMPT:
            return _exempt(reader, value, loc)
        case Action.TAG:
            return _tag(reader, value, loc)
        case Action.NOTE:
            return _note(reader, value, loc)
        case Action.GREYLIST:
            return _greylist(reader, value, loc)
        case Action.LIMIT:
            return _limit(reader, value, loc)
    if value is not None:
        reader.error(loc, f"'{word}' takes nothing", f"write then: {word}", key=True)
        return None
    return Done(action)


def _exempt(reader: "Reader", value: Data, loc: Loc) -> Done | None:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        reader.error(loc, "'exempt' takes the ids of rules", "as in {exempt: [dmarc-reject]}")
        return None
    positions = tuple(
        reader.document.position((*reader.loc, *loc, index) if isinstance(value, list) else (*reader.loc, *loc))
        for index in range(len(names))
    )
    return Done(Action.EXEMPT, exempts=tuple(str(name) for name in names), exempt_positions=positions)


def _tag(reader: "Reader", value: Data, loc: Loc) -> Done | None:
    hint = "as in {tag: {name: X-Suspect, value: 'spf={spf.result}'}}"
    if not isinstance(value, dict):
        reader.error(loc, "'tag' takes a name and a value", hint)
        return None
    for key in value:
        if key not in {"name", "value"}:
            reader.error((*loc, key), f"unknown key '{key}' in tag", nearest(key, ("name", "value")), key=True)
    name, text = value.get("name"), value.get("value")
    if not isinstance(name, str) or not isinstance(text, str) or not text:
        reader.error(loc, "'tag' takes a name and a value", hint)
        return None
    if not _FIELD.fullmatch(name):
        # Any other field would be one that somebody signs, trusts or routes by.
        reader.error((*loc, "name"), f"a tag cannot be called '{name}'", "X- and letters, digits or '-'")
    parsed, facts, mistakes = template.parse(text)
    reader.mistakes((*loc, "value"), mistakes)
    return Done(Action.TAG, tag=name, text=parsed, text_loc=(*loc, "value"), text_facts=facts)


def _note(reader: "Reader", value: Data, loc: Loc) -> Done | None:
    if value is not None and (not isinstance(value, str) or not value):
        reader.error(loc, "'note' takes a text")
        return None
    parsed, facts, mistakes = template.parse(value or "")
    reader.mistakes(loc, mistakes)
    return Done(Action.NOTE, text=parsed, text_loc=loc, text_facts=facts)


def _greylist(reader: "Reader", value: Data, loc: Loc) -> Done | None:
    seconds = {"wait": Greylist().wait, "window": Greylist().window, "keep": Greylist().keep}
    if value is not None and not isinstance(value, dict):
        reader.error(
            loc, "'greylist' takes wait, window and keep", "as in {greylist: {wait: 5m, window: 24h, keep: 36d}}"
        )
        return None
    for key, duration in (value or {}).items():
        if key not in seconds:
            reader.error((*loc, key), f"unknown key '{key}' in greylist", nearest(key, seconds), key=True)
            continue
        try:
            seconds[key] = parse_duration(duration)
        except Fault as fault:
            reader.error((*loc, key), fault.what, fault.hint)
            continue
        if not 1 <= seconds[key] <= _WAIT_LIMIT:
            reader.error((*loc, key), f"'{key}' is between 1s and 366d")
    if not seconds["wait"] < seconds["window"] <= seconds["keep"]:
        reader.error(loc, "a greylist needs wait < window <= keep", "who waits longer than the window never passes")
    return Done(Action.GREYLIST, greylist=Greylist(seconds["wait"], seconds["window"], seconds["keep"]))


def _limit(reader: "Reader", value: Data, loc: Loc) -> Done | None:
    hint = "as in {limit: {key: client.network, rate: 60/1m}}"
    if not isinstance(value, dict):
        reader.error(loc, "'limit' takes a key and a rate", hint)
        return None
    for each in value:
        if each not in {"key", "rate"}:
            reader.error(
                (*loc, each),
                f"unknown key '{each}' in limit",
                nearest(each, ("key", "rate")) or "keys: key, rate",
                key=True,
            )
    key, rate = value.get("key"), value.get("rate")
    if not isinstance(key, str) or not isinstance(rate, str):
        reader.error(loc, "'limit' takes a key and a rate", hint)
        return None
    if key not in FACTS:
        reader.error((*loc, "key"), f"unknown fact '{key}'", nearest(key, FACTS))
        return None
    if FACTS[key].type != "string":
        reader.error((*loc, "key"), f"{key} cannot be a key", "a key is a fact that is a text, such as client.network")
        return None
    counted = _rate(reader, rate, (*loc, "rate"))
    if counted is None:
        return None
    return Done(Action.LIMIT, text_loc=(*loc, "key"), text_facts={key: 0}, limit=Limit(key, *counted))


def _rate(reader: "Reader", rate: str, loc: Loc) -> tuple[int, float] | None:
    """A number of mails in a span: "60/1m"."""
    match = _RATE.fullmatch(rate)
    if match is None:
        reader.error(loc, f"'{rate}' is no rate", "a number and a span, as in 60/1m")
        return None
    try:
        span = parse_duration(match[2])
    except Fault as fault:
        reader.mistakes(loc, [Mistake(match.start(2), fault.what, fault.hint)])
        return None
    if int(match[1]) < 1:
        reader.error(loc, "a rate is at least 1", "to refuse all, write then: defer")
    elif not 1 <= span <= _SPAN_LIMIT:
        reader.mistakes(loc, [Mistake(match.start(2), "the span of a rate is between 1s and 1d")])
    else:
        return int(match[1]), span
    return None
