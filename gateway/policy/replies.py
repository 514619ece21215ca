"""`reply:` of a rule: code, enhanced status and a text with facts in it.

Refused: a code of the wrong class for the action, a code that is not a policy's to speak, a status that contradicts the
code (RFC 3463 section 2), a text that is not one line of printable ASCII.
"""

import re
from typing import TYPE_CHECKING

from gateway.mail.reply import Reply
from gateway.policy import template
from gateway.policy.advice import Mistake
from gateway.policy.rules import Action, ReplyTemplate

if TYPE_CHECKING:
    from gateway.policy.reading import Reader

_REPLY = re.compile(r"(\d{3})(?: +(\d\S*))?(?: +(.*))?", re.DOTALL)
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
#: Codes that a policy may speak (RFC 5321 section 4.2.3, RFC 3463); 421 hangs up and is the server's own.
CODES = {
    Action.REJECT: frozenset({521, 530, 550, 551, 552, 553, 554, 556}),
    Action.DEFER: frozenset({450, 451, 452, 454, 455}),
}
CODES[Action.GREYLIST] = CODES[Action.LIMIT] = CODES[Action.DEFER]
#: What the texts of an effect's reply may name beyond the facts.
_WAITS = {Action.GREYLIST: {"greylist.wait": "int"}, Action.LIMIT: {"limit.wait": "int"}}


def read(reader: "Reader", action: Action) -> tuple[ReplyTemplate | None, dict[str, int]]:
    """The reply and the facts in it with their offsets; the default where the rule has none."""
    default = {
        Action.REJECT: ReplyTemplate(550, "5.7.1", template.Template(("Refused by policy",))),
        Action.DEFER: ReplyTemplate(451, "4.7.1", template.Template(("Try again later",))),
        Action.GREYLIST: ReplyTemplate(
            451, "4.7.1", template.Template(("Greylisted; try again in ", "greylist.wait", " seconds"))
        ),
        Action.LIMIT: ReplyTemplate(
            451, "4.7.1", template.Template(("Too many at once; try again in ", "limit.wait", " seconds"))
        ),
    }.get(action)
    if "reply" not in reader.data:
        return default, {}
    if default is None:
        reader.error(
            ("reply",), f"'{action}' has no reply", "a reply belongs to reject, defer, greylist and limit", key=True
        )
        return None, {}
    value = reader.data["reply"]
    match = _REPLY.fullmatch(value.rstrip("\n")) if isinstance(value, str) else None
    if match is None:
        reader.error(("reply",), "a reply is a code, an enhanced status and a text", "as in 550 5.7.1 Not wanted here")
        return default, {}
    code, status = int(match[1]), match[2] or ""
    if code not in CODES[action]:
        fitting = ", ".join(str(code) for code in sorted(CODES[action]))
        what = f"the code {code} does not fit '{action}'"
        reader.error(("reply",), what, f"one of: {fitting}")
    elif not _STATUS.fullmatch(status):
        shown = f"'{status}' is no enhanced status code" if status else "a reply needs an enhanced status code"
        reader.mistakes(
            ("reply",), [Mistake(match.start(2) if status else 0, shown, f"as in {code} {match[1][0]}.7.1")]
        )
    else:
        try:
            Reply(code, status, ("",))
        except ValueError as why:
            what = f"{why}: the first digits must agree"
            reader.mistakes(("reply",), [Mistake(match.start(2), what)])
    extra = _WAITS.get(action, {})
    text, offsets, mistakes = template.parse(match[3] or "", extra)
    shift = match.start(3) if match[3] else 0
    reader.mistakes(("reply",), mistakes, shift)
    if not match[3]:
        text = default.text
    offsets = {name: at + shift for name, at in offsets.items() if name not in extra}
    return ReplyTemplate(code, status, text), offsets
