"""What came of a storm, and its page in the documentation."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Report:
    """What came of it. `faults` must be empty."""

    messages: int
    seconds: float = 0.0
    blows: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    copies: int = 0
    duplicates: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    secured: int = 0
    starts: int = 0
    workers_died: int = 0
    silenced: int = 0
    resources: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def page(report: Report, command: str, seed: int) -> str:
    """The report as a page of the documentation."""
    blows = sum(report.blows.values())
    rows = "\n".join(f"| {name} | {count} |" for name, count in report.blows.most_common())
    told = "\n".join(f"| {name} | {count} |" for name, count in report.told.most_common(12))
    explained = (
        "\n".join(f"- {count}: {name}" for name, count in report.explained.items() if count) or "- none to explain"
    )
    verdict = "All promises held." if not report.faults else "FAULTS:\n" + "\n".join(f"- {f}" for f in report.faults)
    return f"""# Reliability

Written by `{command}` (seed {seed}); run it to write it anew. Two gateways with two workers each
share Redis and stand before two Postfix backends; every connection to a backend goes through a tap that looks at each
octet. A Postfix and raw clients send uniquely numbered mails and try again what gets no 250. Meanwhile SIGKILL and
SIGSTOP hit at random moments.

**{verdict}**

| | |
|---|---|
| mails | {report.messages}, each in a mailbox, octet for octet |
| blows | {blows} in {report.seconds:.0f} s |
| starts of gateways | {report.starts} |
| workers that died and were replaced | {report.workers_died} |
| times that a journal stopped | {report.silenced} |
| copies in the mailboxes | {report.copies}, {report.duplicates} of them duplicates |
| connections inside TLS that the taps saw | {report.secured}; outside TLS nothing but EHLO and STARTTLS |

Duplicates (RFC 1047: who hears nothing after the dot must send again):

{explained}

| blow | times |
|---|---|
{rows}

| what raw clients were told | times |
|---|---|
{told}

Resources at rest:

{chr(10).join(f"- {line}" for line in report.resources)}

A mail counts as answered when a raw client read 250 after the dot, or when the sending Postfix's queue let go of it
without a bounce. A short storm with another seed is part of `make test` (`tests/chaos/test_chaos.py`).
"""
