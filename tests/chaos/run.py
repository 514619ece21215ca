"""`make chaos`: numbered mails through two gateways to two Postfix backends while everything is killed at random.

Promised and checked: every mail that was answered 250 is in a mailbox, octet for octet; a copy too many is explained
by a transaction whose outcome was open (RFC 1047); nothing was refused for good; no octet of mail went to a backend
outside TLS (a tap looks at each); nobody leaks descriptors or memory. The seed gives the blows; their moment in the
traffic is the machine's. `python -m tests.chaos.run --messages 10000 --blows 220 --report docs/RELIABILITY.md`.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from gateway.cli.testca import TestCa
from tests.chaos.senders import RECIPIENT, Outcomes, RawClients, digest, mail, paced, sender
from tests.chaos.victims import Helper, House, Storm, free
from tests.support import postfix
from tests.support.gateway import BACKEND_NAME, HOSTNAME, memory, site
from tests.support.recorder import MARK
from tests.support.redis import BINARY, redis_server
from tests.support.wait import until

#: Strangers wait a second; without Redis they do not (`on_error` of greylisting is ignore).
POLICY = """\
rules:
  - id: greylist-strangers
    when: mail.domain == "sender.example"
    then: {greylist: {wait: 1s, window: 1h, keep: 1d}}
    because: so that the state is asked at every mail
"""
CONNECTIONS = 10
_BLOW_SECONDS = 0.9  # what a blow and the pause after it take, about
_OPEN = re.compile(r"(?:lost connection|timed out).*while sending end of data")
_ARRIVED = re.compile(rb"Received: from .*?\bid ([0-9A-Za-z]+)", re.DOTALL)


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
    resources: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def chaos(folder: Path, messages: int, blows: int, seed: int, *, threads: int, patience: float) -> Report:
    """One storm. Raw clients bring two thirds of the mails, Postfix the rest."""
    report = Report(messages)
    started = time.monotonic()
    authority = TestCa(folder)
    leaf = authority.issue(BACKEND_NAME)
    taps_file = folder / "taps"
    taps_file.touch()
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_server(folder / "redis")) if BINARY else None
        backends = [stack.enter_context(postfix.backend([RECIPIENT], leaf)) for _ in range(2)]
        names_port = free()
        names = Helper("tests.chaos.names", str(names_port))
        stack.callback(names.kill)
        taps = []
        for backend in backends:
            port = free()
            tap = Helper("tests.chaos.tap", str(port), str(backend.port), str(taps_file))
            stack.callback(tap.kill)
            taps.append(port)
        houses = [_house(folder / f"gateway{n}", authority, taps, names_port, redis and redis.url) for n in (1, 2)]
        for house in houses:
            stack.callback(lambda house=house: _end(house))
        ports = [house.gateway.port for house in houses]
        client = stack.enter_context(
            postfix.client(
                ports[0], authority.file, HOSTNAME, smtp_fallback_relay=f"[127.0.0.1]:{ports[1]}",
                smtp_connect_timeout="3s", smtp_helo_timeout="5s", smtp_data_done_timeout="12s",
                smtp_mail_timeout="8s", smtp_rcpt_timeout="8s", smtp_starttls_timeout="5s",
            )
        )  # fmt: skip
        before = _resources(houses)
        numbers = list(range(1, messages + 1))
        by_postfix = numbers[::3]
        storm = Storm(houses, backends, redis, names, seed)
        ended = threading.Event()
        # The traffic is to last as long as the blows do.
        by_raw = [n for n in numbers if n % 3 != 1]
        rest = threads * blows * _BLOW_SECONDS / len(by_raw)
        raw = RawClients(ports, by_raw, seed, threads=threads, rest=rest)
        pause = blows * _BLOW_SECONDS / len(by_postfix)
        injector = paced(by_postfix, lambda n: client.inject(sender(n), [RECIPIENT], mail(n)), ended, pause)
        try:
            while sum(storm.blows.values()) < blows:
                storm.blow()
                storm.pause()
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                client.flush()
                if raw.done and not injector.is_alive() and not client.queue():
                    break
                time.sleep(1)
            else:
                waiting = len(client.queue())
                report.faults.append(
                    f"not ended in {patience:g} s: raw {len(raw.outcomes.answered)} of {messages - len(by_postfix)}, "
                    f"{waiting} mails wait in Postfix"
                )
        finally:
            ended.set()
            raw.stop()
            injector.join(10)
        for backend in backends:  # what it took it also puts into the mailbox, in its own time
            with contextlib.suppress(AssertionError):
                until(lambda backend=backend: backend.flush() or not backend.queue(), "an empty queue", 60, 0.5)  # type: ignore[misc]
        after = _resources(houses)
        _judge_resources(report, before, after)
        report.starts = sum(house.starts for house in houses)
        lines = [line for house in houses for line in (*house.log, *house.gateway.log)]
        report.workers_died = sum(str(line.get("event")).startswith("process ended") for line in lines)
        report.faults += [f"bug of ours in the log: {line}" for line in lines if "Traceback" in json.dumps(line)][:5]
        for house in houses:
            if house.gateway.stop() != 0:
                report.faults.append("a gateway did not drain to exit status 0")
        _judge(report, numbers, by_postfix, raw.outcomes, backends, client.log(), houses)
        report.blows = storm.blows
    wire = taps_file.read_text().splitlines()
    report.secured = wire.count("secured")
    report.faults += [f"plaintext: {line}" for line in wire if line != "secured"][:5]
    report.seconds = time.monotonic() - started
    return report


def _house(folder: Path, authority: TestCa, taps: list[int], names: int, redis: str | None) -> House:
    made = site(folder, taps[0], authority, greeting_delay="0s")
    tree = made.configuration
    tree["listeners"][0]["bind"] = [f"127.0.0.1:{free()}"]
    tree["backends"]["main"] |= {
        "hosts": [f"127.0.0.1:{port}" for port in taps],
        "order": "round_robin",
        "connections": CONNECTIONS,
    }
    tree["dns"] = {"servers": [f"127.0.0.1:{names}"], "timeout": "1s"}
    tree["deadlines"] = {"backend": "4s"}
    tree["journal"] = {"path": "journal.db", "keep": "30d"}
    if redis:
        tree["state"] = redis
    made.policy(POLICY)
    return House(made.write())


def _end(house: House) -> None:
    if house.gateway._process.poll() is None:
        house.gateway.kill()


def _resources(houses: list[House]) -> dict[str, tuple[int, int]]:
    """Descriptors and resident octets of each process of the gateways that lives."""
    found: dict[str, tuple[int, int]] = {}
    for index, house in enumerate(houses):
        for pid in (house.gateway.pid, *house.gateway.worker_pids()):
            role = "supervisor" if pid == house.gateway.pid else "worker"
            with contextlib.suppress(OSError, AssertionError):
                found[f"gateway {index + 1} {role} {pid}"] = len(os.listdir(f"/proc/{pid}/fd")), memory(pid, "VmRSS")
    return found


def _judge_resources(report: Report, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> None:
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
        if most_fds > fds + 2 * CONNECTIONS + 10:
            report.faults.append(f"{role} leaks descriptors: {fds} to {most_fds}")
        if most_rss > rss + 60e6:
            report.faults.append(f"{role} leaks memory: {rss} to {most_rss}")


def _judge(
    report: Report,
    numbers: list[int],
    by_postfix: list[int],
    raw: Outcomes,
    backends: list[postfix.Postfix],
    log: str,
    houses: list[House],
) -> None:
    report.told = raw.told
    report.faults += [f"refused for good: {line}" for line in raw.refused[:5]]
    report.faults += [f"bounced: {line}" for line in log.splitlines() if "status=bounced" in line][:5]
    # A mail of the sending Postfix is answered when its queue knows it no more.
    answered = raw.answered | set(by_postfix)
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
            arrived = _ARRIVED.search(octets)  # its own second delivery of one mail is the backend's business
            copies[number].add(f"{index} {arrived[1].decode() if arrived else octets[:at]!r}")
    lost = sorted(answered - set(copies))
    report.faults += [f"LOST: {len(lost)} mails that were answered 250: {lost[:10]}"] if lost else []
    missing = sorted(set(numbers) - set(copies) - set(lost))
    report.faults += [f"never delivered: {missing[:10]}"] if missing else []
    report.copies = sum(len(places) for places in copies.values())
    journalled = _unknown(houses)
    queue_ids = dict(re.findall(r"(\w+): from=<(n\d{6})@", log))
    seen_open: Counter[int] = Counter()
    for line in log.splitlines():
        found = re.search(r"\]: (\w+): ", line)
        if found and found[1] in queue_ids and (_OPEN.search(line) or "451 4.4.2" in line or "451 4.3.0" in line):
            seen_open[int(queue_ids[found[1]][1:])] += 1
    for number, places in copies.items():
        extra = len(places) - 1
        if extra <= 0:
            continue
        report.duplicates += extra
        told = raw.in_doubt.get(number, 0) + seen_open[number]
        by_journal = min(extra, journalled[number])
        report.explained["fate `unknown` in the journal"] += by_journal
        if extra > by_journal:
            report.explained["the gateway was killed after the dot: the client got no answer"] += extra - by_journal
            if extra > max(told, by_journal):
                report.faults.append(f"mail {number} came {extra + 1} times, {told} open outcomes explain less")


def _unknown(houses: list[House]) -> Counter[int]:
    """How often each mail has the fate `unknown` in the journals."""
    found: Counter[int] = Counter()
    for house in houses:
        with contextlib.closing(sqlite3.connect(house.file.parent / "journal.db")) as database:
            for (entry,) in database.execute("SELECT CAST(entry AS TEXT) FROM entry"):
                if '"fate":"unknown"' in entry.replace(" ", ""):
                    number = re.search(r"n(\d{6})@sender", entry)
                    if number:
                        found[int(number[1])] += 1
    return found


def page(report: Report, command: str, seed: int) -> str:
    """The report as a page of the documentation."""
    blows = sum(report.blows.values())
    rows = "\n".join(f"| {name} | {count} |" for name, count in report.blows.most_common())
    told = "\n".join(f"| {name} | {count} |" for name, count in report.told.most_common(12))
    explained = "\n".join(f"- {count}: {name}" for name, count in report.explained.items()) or "- none to explain"
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


def main() -> int:
    """Exit status 0 when every promise held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--blows", type=int, default=220)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--patience", type=float, default=900)
    parser.add_argument("--report", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatepost-chaos-") as folder:
        report = chaos(
            Path(folder), given.messages, given.blows, given.seed, threads=given.threads, patience=given.patience
        )
    command = f"make chaos MESSAGES={given.messages} BLOWS={given.blows} SEED={given.seed}"
    text = page(report, command, given.seed)
    print(text)
    if given.report:
        given.report.write_text(text)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
