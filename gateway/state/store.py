"""What the gateway remembers between mails: the greylist and the recipients that backends know.

One face (`Store`) for every keeper; `sqlite.py` is the one of a single machine. It is a cache: losing it costs
senders one retry, never a mail. Every call is synchronous and bounded, and raises `Unavailable` when the keeper does
not answer in time; the floor above makes that a temperror or a 4xx.
"""

from dataclasses import dataclass
from typing import Protocol

#: Distinct triplets that an identity must have passed to be exempt.
TRUSTED_AFTER = 5


@dataclass(frozen=True, slots=True)
class GreylistKey:
    """One triplet, already normalised: made by `greylist.key`, never by hand."""

    identity: str  # "spf:example.org", "name:example.org", "net:192.0.2.0/24"
    sender: str  # "" is the null reverse-path
    recipient: str


@dataclass(frozen=True, slots=True)
class Greylisted:
    """What the greylist says of one attempt."""

    passed: bool
    wait_left: float  # seconds until a retry would pass; 0.0 when it passed


@dataclass(frozen=True, slots=True)
class GreylistRow:
    """One remembered triplet, or (sender and recipient are "*") an exempt identity, for people to read."""

    identity: str
    sender: str
    recipient: str
    state: str  # "waiting", "passed", "exempt"
    first_seen: float  # epoch seconds
    last_seen: float
    expires: float
    attempts: int


class Store(Protocol):
    """The keeper of the greylist and of the recipient cache. Times are epoch seconds, handed in."""

    def greylist(self, key: GreylistKey, *, now: float, wait: float, window: float, keep: float) -> Greylisted:
        """Counts one attempt and says whether it passes; one atomic step over all workers.

        First seen: waits `wait` seconds. A retry after that and within `window` of the first attempt passes and is
        remembered for `keep`, counted anew from each use; a later one starts again. An identity that passed with
        `TRUSTED_AFTER` distinct triplets is exempt for `keep`, also counted from its last use.
        """

    def greylist_list(self, now: float, *, match: str = "", limit: int = 1000) -> list[GreylistRow]:
        """Living rows, the newest attempt first; `match` is an identity, an address or a domain, "" is all."""

    def greylist_release(self, match: str, *, now: float, keep: float) -> int:
        """Lets the waiting triplets of an identity, an address or a domain pass at once. How many it let go."""

    def greylist_forget(self, match: str) -> int:
        """Forgets all triplets and exemptions of an identity, an address or a domain. How many."""

    def recipient(self, backend: str, address: str, now: float) -> bool | None:
        """Whether the backend knows the address; `None` when nobody asked lately."""

    def remember_recipient(self, backend: str, address: str, known: bool, until: float) -> None:
        """Keeps a backend's answer until then."""

    def forget_recipient(self, backend: str, address: str) -> None:
        """Forgets a backend's answer: the next RCPT meets the truth."""

    def purge(self, now: float) -> int:
        """Removes what expired and what is over the bounds; a bounded slice a call. How many rows went."""

    def close(self) -> None:
        """Ends the use of the store."""
