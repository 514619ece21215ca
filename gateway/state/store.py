"""What the gateway remembers between mails: the greylist, rates, the recipients that backends know, policies, senders.

One face (`Store`) for every keeper: `sqlite.py` is the one of a single machine, `redis.py` the one that several
gateways share. It is a cache: losing it costs senders one retry, never a mail. Every call is synchronous and bounded,
and raises `Unavailable` when the keeper does not answer in time; the floor above makes that a temperror or a 4xx.
The event loop makes its calls through `ask`, which knows whether a call may take long.
"""

import asyncio
import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from gateway.mail.terms import Unavailable

P = ParamSpec("P")
R = TypeVar("R")

#: Distinct triplets that an identity must have passed to be exempt.
TRUSTED_AFTER = 5
#: Seconds by which the clocks of gateways that share a store may differ without loosening a limit.
LIMIT_SKEW = 60.0
#: Seconds that an asker waits for a store behind a network, whatever it is that hangs (a name server, threads).
PATIENCE = 1.0
#: MTA-STS policies that are kept, each at most 64 KB: one for each domain that an `mx:` backend names.
POLICIES = 1000
_KEY_LIMIT = 320  # octets


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
class Limited:
    """What a rate limit says of one attempt."""

    allowed: bool
    wait_left: float  # seconds until one more would be allowed; 0.0 when it was


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


@dataclass(frozen=True, slots=True)
class RecipientRow:
    """What a backend said of an address, and until when (epoch seconds) that counts."""

    backend: str
    address: str
    known: bool
    until: float


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """An MTA-STS policy as it was fetched: the id that DNS had then, its text, and until when it is in force."""

    id: str
    text: str
    until: float


class Store(Protocol):
    """The keeper of greylist, rates, recipients, policies and senders. May be called by threads.

    Times are epoch seconds, handed in. `threads` make the calls that would block an event loop;
    `None` where a call takes microseconds.
    """

    threads: Executor | None

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

    def limit(self, key: str, *, now: float, rate: int, per: float) -> Limited:
        """Counts one event of that key, if no more than `rate` happen in `per` seconds; one atomic step over all.

        The generic cell rate algorithm: a pause earns up to `rate` events at once, then one each `per / rate` seconds.
        A refused attempt counts nothing, so patience is always rewarded. `key` names rule and subject
        ("limit-clients 192.0.2.0/24") and may be anything a stranger said. Both `rate` and `per` are above 0.
        """

    def recipient(self, backend: str, address: str, now: float) -> RecipientRow | None:
        """What the backend said of the address; `None` when nobody asked lately."""

    def remember_recipient(self, backend: str, address: str, known: bool, until: float) -> None:
        """Keeps a backend's answer until then."""

    def forget_recipient(self, backend: str, address: str) -> None:
        """Forgets a backend's answer: the next RCPT meets the truth."""

    def recipient_list(
        self, now: float, *, backend: str = "", match: str = "", limit: int = 1000, offset: int = 0
    ) -> list[RecipientRow]:
        """Living answers by backend and address; `match` is an address, in capitals or not, or a domain; "" is all."""

    def recipient_forget(self, now: float, *, backend: str = "", match: str = "") -> int:
        """Forgets all those answers. How many."""

    def policy(self, domain: str, now: float) -> PolicyRow | None:
        """The MTA-STS policy of a domain that is in force; `None` where none was kept."""

    def remember_policy(self, domain: str, row: PolicyRow) -> None:
        """Keeps a policy in the place of an older one."""

    def sender(self, key: str, now: float) -> float | None:
        """Since when (epoch seconds) mail of that sender is taken; `None` of one that is not known."""

    def remember_sender(self, key: str, *, now: float, keep: float) -> None:
        """Mail of that sender was taken now: known from its first one on, until `keep` seconds without any."""

    def purge(self, now: float) -> int:
        """Removes what expired and what is over the bounds; a bounded slice a call. How many rows went."""

    def close(self) -> None:
        """Ends the use of the store."""


async def ask(store: Store, call: Callable[P, R], *args: P.args, **keywords: P.kwargs) -> R:
    """One call of a method of `store`, made from the event loop. Raises `Unavailable`."""
    if store.threads is None:
        return call(*args, **keywords)
    made = asyncio.get_running_loop().run_in_executor(store.threads, functools.partial(call, *args, **keywords))
    try:
        async with asyncio.timeout(PATIENCE):
            return await made
    except TimeoutError as late:
        raise Unavailable(f"the state store did not answer in {PATIENCE:g} s") from late


def bounded(text: str) -> str:
    """The text, or its digest where it is long: rows stay small whatever a stranger says."""
    octets = text.encode("utf-8", "backslashreplace")  # a lone surrogate cannot be stored
    return octets.decode() if len(octets) <= _KEY_LIMIT else "sha256:" + hashlib.sha256(octets).hexdigest()
