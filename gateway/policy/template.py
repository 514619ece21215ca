"""Texts of replies and tags with facts in them: `Refused by the DMARC policy of {dmarc.domain}`.

Names are checked at load; values are made printable and cut when they are filled in, so that no word of a stranger
can end a line, add a field or bury the text (RFC 5321 section 4.2, CWE-93). `{{` and `}}` are plain braces.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.checks.check import Value
from gateway.mail.reply import printable
from gateway.policy.advice import Mistake
from gateway.policy.vocabulary import FACTS
from gateway.yamlfile import nearest

#: Characters of one filled-in value: room for a domain or most addresses, not for a text.
VALUE_LIMIT = 128
#: Characters of a text as written.
TEXT_LIMIT = 300

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Template:
    """A text and the facts in it: `parts` alternates between text and name, text first."""

    parts: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The facts in it."""
        return frozenset(self.parts[1::2])

    def fill(self, values: Mapping[str, Value | float]) -> str:
        """The text with the values in it; a fact that is not there leaves `?`."""
        filled = [part if index % 2 == 0 else _spelt(values.get(part, "?")) for index, part in enumerate(self.parts)]
        return "".join(filled)


def _spelt(value: Value | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        value = ", ".join(str(each) for each in value)
    return printable(str(value), VALUE_LIMIT)


def parse(text: str, extra: Mapping[str, str] | None = None) -> tuple[Template, dict[str, int], list[Mistake]]:
    """The template, its facts with their offsets, and what is wrong. `extra` are names beyond the facts."""
    parts, mistakes = [""], list[Mistake]()
    offsets: dict[str, int] = {}
    at = 0
    for match in _PIECE.finditer(text):
        parts[-1] += text[at : match.start()]
        at = match.end()
        name = match[1]
        if name is None:
            if len(match[0]) == 1:
                mistakes.append(
                    Mistake(match.start(), f"a lone '{match[0]}'", f"write {match[0] * 2} for the brace itself")
                )
            parts[-1] += match[0][0]
            continue
        offsets.setdefault(name, match.start() + 1)
        parts += [name, ""]
        if name not in FACTS and name not in (extra or {}):
            mistakes.append(Mistake(match.start() + 1, f"unknown fact '{name}'", nearest(name, FACTS)))
        elif name in FACTS and FACTS[name].type == "list<attachment>":
            mistakes.append(Mistake(match.start() + 1, f"{name} is a list of files and cannot stand in a text"))
    parts[-1] += text[at:]
    for index, character in enumerate(text):
        if not " " <= character <= "~":
            what = f"the character {character!a} cannot stand here"
            mistakes.append(Mistake(index, what, "one line of printable ASCII"))
            break
    if len(text) > TEXT_LIMIT:
        mistakes.append(Mistake(TEXT_LIMIT, f"the text is longer than {TEXT_LIMIT} characters"))
    return Template(tuple(parts)), offsets, mistakes
