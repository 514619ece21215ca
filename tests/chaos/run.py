"""`make chaos`: numbered mails through two gateways to two Postfix backends while everything is killed at random.

Promised and checked: every mail that was answered 250 is in a mailbox, octet for octet; a copy too many is explained
by a transaction whose outcome was open (RFC 1047); nothing was refused for good; no octet of mail went to a backend
outside TLS (a tap looks at each); nobody leaks descriptors or memory. The seed gives the blows; their moment in the
traffic is the machine's. `python -m tests.chaos.run --messages 10000 --blows 220 --report docs/RELIABILITY.md`.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from gateway.cli.testca import TestCa
from tests.chaos.judge import journalled, judge, judge_resources
from tests.chaos.report import Report, page
from tests.chaos.senders import RECIPIENT, RawClients, mail, paced, sender
from tests.chaos.victims import Helper, House, Storm, free
from tests.support import postfix
from tests.support.gateway import BACKEND_NAME, HOSTNAME, memory, site
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
        judge_resources(report, before, after, CONNECTIONS)
        report.starts = sum(house.starts for house in houses)
        lines = [line for house in houses for line in (*house.log, *house.gateway.log)]
        report.workers_died = sum(str(line.get("event")).startswith("process ended") for line in lines)
        report.faults += [f"bug of ours in the log: {line}" for line in lines if "Traceback" in json.dumps(line)][:5]
        for house in houses:
            if house.gateway.stop() != 0:
                report.faults.append("a gateway did not drain to exit status 0")
        journals = [house.file.with_name("journal.db") for house in houses]
        report.faults += [f"left open: {name}" for each in journals for name in each.parent.glob(f"{each.name}.open-*")]
        report.silenced = sum(str(line.get("event")).startswith("journal stopped") for line in lines)
        judge(report, numbers, by_postfix, raw.outcomes, backends, client.log(), journalled(journals))
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
