"""The judge of a storm: what was promised, held against mailboxes, journals, logs and the senders' own notes."""

import contextlib
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.journal import Reader
from tests.chaos.report import Report
from tests.chaos.senders import RECIPIENT, Outcomes, digest
from tests.support import postfix
from tests.support.recorder import MARK

#: Why a mail came twice.
UNKNOWN = "fate `unknown` in the journal: the backend's answer to the dot was lost, or the gateway was killed before it"
UNHEARD = "fate `delivered`: the gateway said 250 and its sender did not hear it, by the sender's own log"
_OPEN = re.compile(r"(?:lost connection|timed out).*while sending end of data")
_ARRIVED = re.compile(rb"Received: from .*?\bid ([0-9A-Za-z]+)", re.DOTALL)


def judge(
    report: Report,
    numbers: list[int],
    by_postfix: list[int],
    raw: Outcomes,
    backends: list[postfix.Postfix],
    log: str,
    fates: Mapping[int, Counter[str]],
) -> None:
    report.told = raw.told
    report.faults += [f"refused for good: {line}" for line in raw.refused[:5]]
    report.faults += [f"bounced: {line}" for line in log.splitlines() if "status=bounced" in line][:5]
    # A mail of the sending Postfix is answered when its queue knows it no more.
    answered = raw.answered | set(by_postfix)
    copies = _copies(report, backends)
    lost = sorted(answered - set(copies))
    report.faults += [f"LOST: {len(lost)} mails that were answered 250: {lost[:10]}"] if lost else []
    missing = sorted(set(numbers) - set(copies) - set(lost))
    report.faults += [f"never delivered: {missing[:10]}"] if missing else []
    report.copies = sum(len(places) for places in copies.values())
    unheard = Counter(raw.unheard) + _unheard(log)
    for number, places in copies.items():
        told, extra = fates.get(number, Counter()), len(places) - 1
        if told["delivered"] + told["unknown"] < len(places):
            report.faults.append(f"mail {number} came {len(places)} times, the journals know of {told.total()}: {told}")
        if extra > 0:
            _explain(report, number, extra, told, unheard[number])


def _copies(report: Report, backends: Iterable[postfix.Postfix]) -> dict[int, set[str]]:
    """Where each mail came in: backend and its queue id. Its own second delivery of one mail is its own business."""
    copies: dict[int, set[str]] = defaultdict(set)
    for index, backend in enumerate(backends):
        for octets in backend.mails(RECIPIENT):
            at = octets.find(MARK)
            if at < 0:
                report.faults.append("a mail without its number")
                continue
            number = int(octets[at + len(MARK) : at + len(MARK) + 6])
            if hashlib.sha256(octets[at:]).hexdigest() != digest(number):
                report.faults.append(f"mail {number} is not what was sent")
            arrived = _ARRIVED.search(octets)
            copies[number].add(f"{index} {arrived[1].decode() if arrived else octets[:at]!r}")
    return copies


def _explain(report: Report, number: int, extra: int, told: Counter[str], unheard: int) -> None:
    """A copy too many is a fate that stayed unknown, or a 250 of ours that its sender did not hear."""
    report.duplicates += extra
    unknown = min(extra, told["unknown"])
    report.explained[UNKNOWN] += unknown
    if rest := extra - unknown:
        if told["delivered"] > rest and unheard >= rest:
            report.explained[UNHEARD] += rest
        else:
            report.faults.append(
                f"mail {number} came {extra + 1} times: the journals say {dict(told)}, "
                f"its sender heard nothing after the dot {unheard} times"
            )


def _unheard(log: str) -> Counter[int]:
    """How often the sending Postfix got no answer to its dot, by its log."""
    numbers = dict(re.findall(r"(\w+): from=<n(\d{6})@", log))
    found: Counter[int] = Counter()
    for line in log.splitlines():
        at = re.search(r"\]: (\w+): ", line)
        if at and at[1] in numbers and _OPEN.search(line):
            found[int(numbers[at[1]])] += 1
    return found


def journalled(places: Iterable[Path]) -> dict[int, Counter[str]]:
    """The fates of each mail in those journals, one for each transaction."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for place in places:
        with contextlib.closing(Reader(place)) as reader:
            for entry in reader.since(0.0):
                found[int(entry.sender[1:7])][entry.fate] += 1
    return found


def judge_resources(
    report: Report, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]], connections: int
) -> None:
    """At rest a process holds what it held when it was new, and the pooled connections."""
    for role in ("supervisor", "worker"):
        new = [value for name, value in before.items() if role in name]
        old = [value for name, value in after.items() if role in name]
        if not new or not old:
            report.faults.append(f"no {role} lives")
            continue
        fds, rss = max(f for f, _ in new), max(r for _, r in new)
        most_fds, most_rss = max(f for f, _ in old), max(r for _, r in old)
        report.resources.append(
            f"{role}: {fds} descriptors and {rss / 1e6:.0f} MB when new, "
            f"at most {most_fds} and {most_rss / 1e6:.0f} MB after"
        )
        if most_fds > fds + 2 * connections + 10:
            report.faults.append(f"{role} leaks descriptors: {fds} to {most_fds}")
        if most_rss > rss + 60e6:
            report.faults.append(f"{role} leaks memory: {rss} to {most_rss}")
