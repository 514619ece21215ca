"""Since when we take mail of this author: `from.known_days`, whole days, -1 when there never was any.

An author is the address in From together with whether it is proven: by DMARC, or, for a domain that publishes no
policy, by what DMARC would have taken (SPF or a signature of the same organization, RFC 9989 section 4.4). So a
spoofer neither uses nor ages the entry of the one whose name he borrows: mail that proves nothing has an entry of its
own, which vouches for nobody. While DNS trouble hides what is proven nobody is known (`temperror`).

Entries are digests, made when a backend took the mail and for no policy that does not name the fact (`hearing`), and
are forgotten `KEEP` after the last mail.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gateway.checks.author import Author
from gateway.checks.check import Check, Named, OnError
from gateway.checks.dkim import Dkim
from gateway.checks.dmarc import Dmarc
from gateway.checks.organization import Organization
from gateway.checks.spf import Spf
from gateway.clock import Clock
from gateway.mail.envelope import Transaction
from gateway.mail.terms import Result, Stage, Unavailable
from gateway.state.store import Store, ask

if TYPE_CHECKING:
    from gateway.checks.facts import Facts

_DAY = 86_400.0
#: Seconds without a mail after which an author is forgotten: a yearly invoice is from somebody we know.
KEEP = 400 * _DAY
NEVER = -1


@dataclass(frozen=True, slots=True)
class HistoryFact:
    """`key` is the author's entry in the state, "" where the mail has no author that could be told from others."""

    result: Result = Result.PASS
    days: int = NEVER
    key: str = ""


class History(Check[HistoryFact]):
    """`from.known_days`. Without a store (a mail that is judged from a file) nobody is known."""

    name = "history"
    stage = Stage.DATA
    provides: ClassVar[Mapping[str, str]] = {"from.known_days": "int"}
    #: Like a reputation: a hint, without which the other rules decide.
    on_error = OnError.IGNORE
    eager = False
    #: It waits for DMARC.
    deadline = 50.0

    def __init__(self, clock: Clock, store: Store | None = None) -> None:
        self._clock = clock
        self._store = store

    async def run(self, tx: Transaction, facts: "Facts") -> HistoryFact:
        author = await facts.get(Author)
        if self._store is None or not (author.valid and author.address):
            return HistoryFact()
        key = entry(author.address, proven=await self._proven(author.domain, facts))
        now = self._clock.now()
        since = await ask(self._store, self._store.sender, key, now)
        return HistoryFact(days=NEVER if since is None else max(0, int((now - since) / _DAY)), key=key)

    async def _proven(self, domain: str, facts: "Facts") -> bool:
        """Raises `Unavailable` where nobody can say."""
        dmarc = await facts.get(Dmarc)
        if dmarc.result is not Result.NONE:
            if dmarc.result is Result.TEMPERROR:
                raise Unavailable("DMARC could not be checked")
            return dmarc.result is Result.PASS
        spf, dkim, organization = await facts.get(Spf), await facts.get(Dkim), await facts.get(Organization)
        passed = {*dkim.domains, *([spf.domain] if spf.result is Result.PASS else [])}
        if any(one == domain or f".{one}".endswith(f".{organization.domain or domain}") for one in passed):
            return True
        if Result.TEMPERROR in {spf.result, dkim.result, organization.result}:
            raise Unavailable("DNS trouble hides what is proven")
        return False

    def named(self, fact: HistoryFact) -> Named:
        return {"from.known_days": fact.days}

    def error(self) -> HistoryFact:
        return HistoryFact(Result.TEMPERROR)


def entry(address: str, *, proven: bool) -> str:
    """The key of an author: a digest, for the state is no address book."""
    words = f"{'proven' if proven else 'claimed'} {address.lower()}"
    return hashlib.sha256(words.encode("utf-8", "backslashreplace")).hexdigest()[:32]
