"""The shape of every check: inputs named, one `run`, a frozen fact out.

A check never decides; it reports (the policy decides). It may raise `Unavailable` or crash: `Facts` turns both
into the check's own `error` fact, so that nothing above ever sees an exception (a crashed check is not a pass).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from gateway.mail.envelope import Transaction
from gateway.mail.terms import Stage

if TYPE_CHECKING:
    from gateway.checks.facts import Facts

Value = str | bool | int | list[str] | list[dict[str, str | int]]
#: What a policy sees of a fact: dotted name to value.
Named = dict[str, Value]


class OnError(StrEnum):
    """What a failed check means for rules that cannot be decided without it."""

    DEFER = "defer"
    IGNORE = "ignore"


F_co = TypeVar("F_co", covariant=True)


class Check(ABC, Generic[F_co]):
    """One fact. Subclasses are stateless but for the resolver or store they were built with."""

    #: The key in journal, metrics and `--failures`: "spf", "dkim" ...
    name: ClassVar[str]
    #: From this stage on the inputs are complete.
    stage: ClassVar[Stage]
    #: Dotted names this check gives to policies, with their CEL types
    #: ("string", "bool", "int", "list<string>", "list<attachment>").
    provides: ClassVar[Mapping[str, str]]
    on_error: ClassVar[OnError] = OnError.DEFER
    #: True when the fact follows from the client's address alone: asked once a connection, not once a mail.
    once: ClassVar[bool] = False
    #: False: not started before a rule asks for it (costly, or of no use but to rules).
    eager: ClassVar[bool] = True
    #: False: `run` awaits nothing that waits (no DNS, no thread), and is done where it is started.
    waits: ClassVar[bool] = True
    #: Seconds; beyond it a check that waits is `temperror`.
    deadline: ClassVar[float] = 20.0

    @abstractmethod
    async def run(self, tx: Transaction, facts: "Facts") -> F_co:
        """The fact of this transaction. May await `facts.get(OtherCheck)`."""

    @abstractmethod
    def named(self, fact: F_co) -> Named:  # type: ignore[misc] # a read-only use of the covariant type
        """The fact as policies name it; exactly the keys of `provides`."""

    @abstractmethod
    def error(self) -> F_co:
        """The fact when the check failed: its result is `temperror`, everything else empty."""

    def failed(self, fact: F_co) -> bool:  # type: ignore[misc]
        """True when the fact says that the check could not be done (temperror)."""
        return getattr(fact, "result", None) == "temperror"

    def trace(self, fact: F_co) -> tuple[str, ...]:  # type: ignore[misc]
        """The resinfo clauses of Authentication-Results for this fact (RFC 8601), validated; none by default."""
        return ()
