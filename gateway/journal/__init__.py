"""The journal: every transaction with its facts, verdict and fate, in one SQLite file shared by all workers.

Nobody waits for it: `record` puts the entry on a bounded queue and returns; a thread writes batches. A full or broken
disk stops the journal, not the mail: entries are dropped, counted in `gatepost_journal_dropped_total`, and the log
says so once when it begins and once when it ends. Bounded by age, by rows, and each entry by octets. WAL keeps the
file whole when any process is killed at any moment; what was queued in that process is lost, but for mails that had
gone to a backend: those are found again with the fate `unknown` (`intents`).

Written by `pipeline`, read by `gatepost journal` through `Reader`.
"""

from gateway.journal.entry import OUTCOMES, Asked, Entry, Judged, Spoken
from gateway.journal.reader import Reader
from gateway.journal.words import Wanted
from gateway.journal.writer import Journal, opened

__all__ = ["OUTCOMES", "Asked", "Entry", "Journal", "Judged", "Reader", "Spoken", "Wanted", "opened"]
