"""Counters, gauges and histograms for Prometheus; the console serves the sum over all processes.

Under the supervisor each worker writes files in `PROMETHEUS_MULTIPROC_DIR`; without it (tests, `demo`) the values
live in the process. Labels come from the configuration, the policy or this code, never from strangers, and each
metric holds a bounded number of them: more become `other`, so that reloads cannot grow the memory for ever.
Restarts and hangs of workers and reloads are counted by the supervisor and exported by the console (`console/app.py`).
"""

import os
from typing import Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram, values
from prometheus_client.metrics import MetricWrapperBase

#: Says which worker this process is ("row0"). The supervisor sets it.
PROCESS_VARIABLE = "GATEPOST_PROCESS"

#: Octets of each kind of file that are had before it is used; ten times what a usual gateway fills.
_FILES = {"counter": 131_072, "histogram": 262_144, "gauge_livesum": 4096, "gauge_livemax": 16_384}
#: False where the folder has no room: what this process counts is then seen by nobody.
shown = True


def _reserve(folder: str, process: str) -> None:
    """Takes the files' room from the disk. They are mapped, and a page that it cannot give later is a SIGBUS."""
    for kind, octets in _FILES.items():
        path = os.path.join(folder, f"{kind}_{process}.db")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            begun = os.fstat(descriptor).st_size > 0
            try:
                os.posix_fallocate(descriptor, 0, octets)
            except OSError:
                if not begun:
                    os.unlink(path)
                raise
        finally:
            os.close(descriptor)


if "PROMETHEUS_MULTIPROC_DIR" in os.environ and (_PROCESS := os.environ.get(PROCESS_VARIABLE)):
    # Files named by worker row instead of process id: a restarted worker counts on in the files of its dead
    # predecessor, so a crash loop cannot fill the disk. Must happen before the first metric is made.
    try:
        _reserve(os.environ["PROMETHEUS_MULTIPROC_DIR"], _PROCESS)
        values.ValueClass = values.MultiProcessValue(lambda: _PROCESS)  # type: ignore[no-untyped-call]
    except OSError:
        values.ValueClass, shown = values.MutexValue, False

_LABEL_LIMIT = 1000
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_LATE = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

M = TypeVar("M", bound=MetricWrapperBase)


class Labelled(Generic[M]):
    """A metric with labels whose children are kept at hand (a look-up is 0.1 µs, `labels()` 2 µs) and bounded."""

    def __init__(self, metric: M, *, limit: int = _LABEL_LIMIT) -> None:
        self._metric = metric
        self._limit = limit
        self._children: dict[tuple[str, ...], M] = {}

    def of(self, *labels: str) -> M:
        """The child with those label values."""
        child = self._children.get(labels)
        if child is None:
            if len(self._children) >= self._limit:
                return self._metric.labels(*("other" for _ in labels))
            child = self._children[labels] = self._metric.labels(*labels)
        return child


_transactions = Labelled(Counter("gatepost_transactions", "Mails by what became of them.", ["outcome"]))
_transaction_seconds = Histogram(
    "gatepost_transaction_seconds", "From MAIL to the reply that ended the transaction.", buckets=_SECONDS
)
_rules = Labelled(Counter("gatepost_rules_fired", "Policy rules that fired.", ["rule", "action"]))
_checks = Labelled(Counter("gatepost_checks", "Checks by result.", ["check", "result"]))
_check_seconds = Labelled(
    Histogram("gatepost_check_seconds", "Duration of checks that wait for something.", ["check"], buckets=_SECONDS)
)
_relays = Labelled(Counter("gatepost_relays", "Deliveries to backends by outcome.", ["backend", "outcome"]))
_relay_seconds = Labelled(
    Histogram("gatepost_relay_seconds", "Duration of deliveries to backends.", ["backend"], buckets=_SECONDS)
)
_takes_everybody = Labelled(
    Gauge(
        "gatepost_backend_accepts_all",
        "1 where a backend accepts every recipient: none is verified.",
        ["backend"],
        multiprocess_mode="livemax",
    )
)
_connections = Gauge("gatepost_connections", "Connections of clients now.", multiprocess_mode="livesum")
_connections_taken = Counter("gatepost_connections_accepted", "Connections of clients since the start.")
_connections_refused = Labelled(
    Counter("gatepost_connections_refused", "Connections refused at the banner, by reason.", ["reason"])
)
_connections_displaced = Counter(
    "gatepost_connections_displaced", "Silent strangers sent away from a full house for a newcomer."
)
_troubles = Labelled(Counter("gatepost_troubles", "What strangers did that is logged in part only.", ["event"]))
_memory_refused = Counter("gatepost_memory_refused", "Times that limits.memory left no room for a message.")
_loop_late = Histogram(
    "gatepost_loop_late_seconds", "How late a worker's timer came: how long any client waits.", buckets=_LATE
)
_not_accepting = Gauge(
    "gatepost_workers_not_accepting", "Workers that are too busy to accept.", multiprocess_mode="livesum"
)
_dnsbl_listed = Labelled(Counter("gatepost_dnsbl_listed", "Clients found on a list, by its zone.", ["zone"]))
_dnsbl_off = Labelled(
    Gauge("gatepost_dnsbl_off", "1 while a list is switched off for its faults.", ["zone"], multiprocess_mode="livemax")
)
_journal_dropped = Counter("gatepost_journal_dropped", "Journal entries that could not be written.")
_intents_dropped = Counter(
    "gatepost_intents_dropped", "Mails whose open fate could not be noted before the dot went to the backend."
)
_state_errors = Labelled(Counter("gatepost_state_errors", "Calls of the state store that failed.", ["call"]))


def transaction(outcome: str, seconds: float) -> None:
    """A transaction ended: accepted, rejected, deferred, quarantined, greylisted, limited or aborted."""
    _transactions.of(outcome).inc()
    _transaction_seconds.observe(seconds)


def rule_fired(rule: str, action: str) -> None:
    """A policy rule fired."""
    _rules.of(rule, action).inc()


def check(name: str, result: str, seconds: float | None = None) -> None:
    """A check gave its fact."""
    _checks.of(name, result).inc()
    if seconds is not None:
        _check_seconds.of(name).observe(seconds)


def relay(backend: str, outcome: str, seconds: float) -> None:
    """A delivery ended: delivered, refused or unknown."""
    _relays.of(backend, outcome).inc()
    _relay_seconds.of(backend).observe(seconds)


def backend_takes_everybody(backend: str, takes: bool) -> None:
    """A backend was asked for a recipient that cannot be."""
    _takes_everybody.of(backend).set(int(takes))


def connection_opened() -> None:
    """A client's connection was accepted."""
    _connections.inc()
    _connections_taken.inc()


def connection_closed() -> None:
    """An accepted connection ended."""
    _connections.dec()


def connection_refused(reason: str) -> None:
    """A connection got 421 at the banner (`limit`, `network`, `draining`, `policy`), or its PROXY header was none."""
    _connections_refused.of(reason).inc()


def connection_displaced() -> None:
    """A silent stranger gave way to a newcomer."""
    _connections_displaced.inc()


def trouble(event: str) -> None:
    """A stranger did what has a line in the log, by the words of that line."""
    _troubles.of(event).inc()


def memory_refused() -> None:
    """`limits.memory` left no room for a message."""
    _memory_refused.inc()


def loop_late(seconds: float) -> None:
    """The loop's timer came that late."""
    _loop_late.observe(seconds)


def accepting(yes: bool) -> None:
    """This worker stopped accepting, or accepts again."""
    _not_accepting.set(not yes)


def dnsbl_listed(zone: str) -> None:
    """A client stands on that list."""
    _dnsbl_listed.of(zone).inc()


def dnsbl_off(zone: str, *, off: bool) -> None:
    """A list was switched off for its faults, or on again."""
    _dnsbl_off.of(zone).set(off)


def journal_dropped(entries: int) -> None:
    """The journal could not keep that many entries."""
    _journal_dropped.inc(entries)


def intent_dropped() -> None:
    """The open fate of a mail could not be noted; should the process end now, the journal knows nothing of it."""
    _intents_dropped.inc()


def state_error(call: str) -> None:
    """The state store did not answer."""
    _state_errors.of(call).inc()
