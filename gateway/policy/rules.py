"""What a rule is, once read and checked: frozen values that `reading` makes and `judge` runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.checks.check import OnError, Value
from gateway.mail.reply import Reply
from gateway.mail.terms import Stage
from gateway.policy.expression import Expression
from gateway.policy.lists import NamedList
from gateway.policy.template import Template
from gateway.yamlfile import Position


class Action(StrEnum):
    """What a rule does when it fires."""

    ACCEPT = "accept"
    REJECT = "reject"
    DEFER = "defer"
    QUARANTINE = "quarantine"
    GREYLIST = "greylist"
    LIMIT = "limit"
    TAG = "tag"
    NOTE = "note"
    EXEMPT = "exempt"


#: Final whenever they fire; greylist and limit are final only while they make the sender wait.
FINAL = frozenset({Action.ACCEPT, Action.REJECT, Action.DEFER, Action.QUARANTINE})
#: Asked of the state before the verdict is known.
EFFECTS = frozenset({Action.GREYLIST, Action.LIMIT})
#: Exceptions to other rules: they want an owner and an expiry.
EXCEPTIONS = frozenset({Action.ACCEPT, Action.EXEMPT})
#: The first stage at which an action makes sense: the greylist's key holds a recipient, a quarantine needs a mail, and
#: what a limit counts are mails: connections have bounds of their own (`limits:` of the configuration).
LEAST_STAGE = {Action.GREYLIST: Stage.RCPT, Action.QUARANTINE: Stage.RCPT, Action.LIMIT: Stage.MAIL}


@dataclass(frozen=True, slots=True)
class Greylist:
    """How long a stranger waits, how long the second attempt may take, how long the pass is kept; in seconds."""

    wait: float = 300.0
    window: float = 86_400.0
    keep: float = 36 * 86_400.0


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `rate` in `per` seconds of those that share the value of a fact."""

    key: str = ""  # the fact
    rate: int = 1
    per: float = 1.0


@dataclass(frozen=True, slots=True)
class ReplyTemplate:
    """A reply whose text may name facts."""

    code: int
    status: str
    text: Template

    def fill(self, values: Mapping[str, Value | float]) -> Reply:
        """The reply with the facts in it, made printable."""
        return Reply.of(self.code, self.status, self.text.fill(values))


@dataclass(frozen=True, slots=True)
class Recipients:
    """`for:`: the recipients that a rule is about."""

    addresses: frozenset[str]
    domains: frozenset[str]
    lists: tuple[str, ...] = ()

    def holds(self, address: str, lists: Mapping[str, NamedList]) -> bool:
        """True when the rule is about this recipient; addresses are compared without regard to case."""
        address = address.lower()
        if address in self.addresses or address.rpartition("@")[2] in self.domains:
            return True
        return any(lists[name].holds(address) for name in self.lists)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `stages` are the stages at which it is asked, in order (two where it names `message.size`)."""

    id: str
    action: Action
    when: Expression
    stages: tuple[Stage, ...]
    position: Position
    when_position: Position
    recipients: Recipients | None = None
    reply: ReplyTemplate | None = None
    because: str = ""
    owner: str = ""
    expires: str = ""
    observe: bool = False
    always: bool = False
    now: bool = False
    on_error: OnError | None = None
    exempts: tuple[str, ...] = ()
    exempt_positions: tuple[Position, ...] = ()
    tag: str = ""
    text: Template = field(default_factory=lambda: Template(("",)))  # a tag's value, or a note
    greylist: Greylist = field(default_factory=Greylist)
    limit: Limit = field(default_factory=Limit)

    @property
    def final(self) -> bool:
        """True when the rule ends its stage whenever it fires."""
        return self.action in FINAL and not self.observe

    @property
    def spoken(self) -> frozenset[str]:
        """The facts in its reply, tag or note, and the key of a limit."""
        names = self.text.names | self.reply.text.names if self.reply else self.text.names
        return (names | {self.limit.key}) - {"greylist.wait", "limit.wait", ""}

    @property
    def needs(self) -> frozenset[str]:
        """The facts that asking and answering it may take."""
        return self.spoken | self.when.facts.keys()
