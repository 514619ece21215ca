"""Is a DNS list still one? What its replies mean, and when it is left alone.

RFC 5782 section 5: a list has an entry for 127.0.0.2 and none for 127.0.0.1. Both are asked at the first use of a zone
and every hour; a zone that lists 127.0.0.1 lists the world. Such a zone, one that answers with an error code or with an
address that is no reply of a list, and one that fails five times in a row are switched off: nothing of theirs counts.
After a minute, and each time they fail again after twice as long (at most half an hour), the test is asked once more.

Probes ride on the mail that happens to come: no task runs for them. The resolver shares the question among all who ask.
"""

from collections.abc import Callable, Iterable
from enum import Enum

from gateway import metrics
from gateway.clock import Clock
from gateway.log import log

FAILURES = 5  # in a row
TEST_EVERY = 3600.0
FIRST_PAUSE = 60.0
LONGEST_PAUSE = 1800.0


class Word(Enum):
    """What a zone said of one address."""

    LISTED = "listed"
    CLEAR = "clear"
    NOTHING = "nothing"  # no answer, or none in time
    ERROR = "error"  # 127.255.255.0/24: it refuses us (public resolver, too many questions, wrong zone)
    FOREIGN = "foreign"  # outside 127.0.0.0/8: whoever answers there is no list


def word_of(records: Iterable[str], counts: Callable[[str], bool] | None) -> Word:
    """What the addresses of a reply mean; `counts` None: every reply but 127.0.0.0 and 127.0.0.1 is a listing.

    One bad address spoils the reply: parked zones have been seen to answer with a mixture.
    """
    word = Word.CLEAR
    for address in records:
        if not address.startswith("127."):
            return Word.FOREIGN
        if address.startswith("127.255.255."):
            return Word.ERROR
        if counts(address) if counts is not None else address not in {"127.0.0.0", "127.0.0.1"}:
            word = Word.LISTED
    return word


class ListHealth:
    """The state of one zone, kept over all mail."""

    def __init__(self, zone: str, clock: Clock) -> None:
        self.off = False
        self.proved = False  # passed its test at least once
        self._zone = zone
        self._clock = clock
        self._failures = 0
        self._pause = 0.0
        self._due = clock.monotonic()  # the first use is a test

    def due(self) -> bool:
        """True when the zone must be tested before its word counts."""
        return self._clock.monotonic() >= self._due

    def heard(self, word: Word) -> None:
        """The zone's word on some client."""
        if self.off:
            return  # a question that was on its way when the zone was switched off
        match word:
            case Word.ERROR:
                self._switch_off("it answers with an error code: see its documentation for 127.255.255.x")
            case Word.FOREIGN:
                self._switch_off("it answers with an address outside 127.0.0.0/8")
            case Word.NOTHING:
                self._fail()
            case _:
                self._failures = 0

    def tested(self, clear: Word, listed: Word) -> None:
        """The words on 127.0.0.1, which no list has, and on 127.0.0.2, which every list has."""
        if not self.due():
            return  # somebody else's mail was quicker with the same answer
        if clear is Word.LISTED:
            self._switch_off("it lists 127.0.0.1, and so probably everything")
        elif Word.ERROR in (clear, listed):
            self._switch_off("it answers with an error code: see its documentation for 127.255.255.x")
        elif Word.FOREIGN in (clear, listed):
            self._switch_off("it answers with an address outside 127.0.0.0/8")
        elif clear is not Word.NOTHING:
            if listed is Word.CLEAR:
                log.warning("dnsbl: the list has no test entry, is it still kept?", zone=self._zone)
            self._passed()
        elif self.off:
            self._switch_off("it still does not answer")
        else:
            self._fail()

    def _fail(self) -> None:
        self._failures += 1
        if self._failures >= FAILURES:
            self._switch_off(f"{self._failures} questions in a row had no answer")

    def _switch_off(self, why: str) -> None:
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self._due = self._clock.monotonic() + self._pause
        self._failures = 0
        log.warning("dnsbl: list switched off", zone=self._zone, why=why, seconds=self._pause, again=self.off)
        self.off = True
        metrics.dnsbl_off(self._zone, off=True)

    def _passed(self) -> None:
        if self.off:
            log.warning("dnsbl: list is on again", zone=self._zone)
            metrics.dnsbl_off(self._zone, off=False)
        elif self.proved:
            self._pause = 0.0  # well for an hour: its next fault is a new one
        self.off, self.proved, self._failures = False, True, 0
        self._due = self._clock.monotonic() + TEST_EVERY
