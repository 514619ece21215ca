"""How long one host may take before the next one is asked: pure arithmetic, in seconds of the loop's time.

A client waits while hosts are tried, and what a silent host takes is missing for the next. So while others are untried
each step before the dot (a place in the pool, a connection, a reply, a piece of the body) has a limit: a part of what
is left, so that a silent host never takes more than half of it, and at most 20 seconds. Steps are limited, not their
sum: a host that answers slowly is alive, and with a hundred recipients it may need its time. The last host may take
whatever is left.

Why 20 seconds: a sound server that waits for a dead resolver, twice five seconds and twice over, still answers in
time. The minutes of RFC 5321 section 4.5.3.2 are for senders with a queue; nobody waits behind those. Called by
`hosts`, `pool` and `client`.
"""

from dataclasses import dataclass

_STEP_SECONDS = 20.0
_OPEN_SECONDS = 30.0  # connect, banner, EHLO, TLS, EHLO together
_RESET_SECONDS = 5.0  # the answer is known by then, and our client waits for it


@dataclass(frozen=True, slots=True)
class Turn:
    """One host's turn: `deadline` of the whole dialogue, `others` hosts that are still untried."""

    deadline: float
    others: int = 0

    def line(self, now: float) -> float:
        """By when a place in the pool must be free: a host whose connections are all busy is not waited for long."""
        return self._part(now) if self.others else self.deadline

    def opening(self, now: float) -> float:
        """By when a connection must be open: each host gets an equal part, and so does the dialogue that follows."""
        return now + min(_OPEN_SECONDS, self._left(now) / (self.others + 2))

    def first(self, now: float) -> float:
        """By when a kept connection must say its first word: a firewall may have forgotten it, and then nobody ever
        answers. There is time left to open another."""
        return self._part(now)

    def step(self, now: float) -> float | None:
        """By when the next reply must be there, or the next piece of the body be taken; `None`: when all ends."""
        return self._part(now) if self.others else None

    def reset(self, now: float) -> float:
        """By when the reply to RSET must be there."""
        return now + min(_RESET_SECONDS, self._left(now) / 2)

    def _part(self, now: float) -> float:
        return now + min(_STEP_SECONDS, self._left(now) / (2 * (self.others + 1)))

    def _left(self, now: float) -> float:
        return max(0.0, self.deadline - now)
