"""`make bench`: what a message costs the gateway, as a multiple of what the same message costs stock aiosmtpd.

The gateway does its whole work (SPF, DKIM, DMARC, greylist, verified TLS to the backend, journal); the floor reads the
message and drops it. CPU time of the serving processes alone (user and system, from /proc), both in one run on one
machine: figures of two runs or two machines are not to be compared, the ratios are.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.cli.testca import TestCa
from tests.support.gateway import BACKEND_NAME, REPOSITORY, Site, memory, serving, site
from tests.support.recorder import recorder
from tests.support.smtp import Client

TICK = os.sysconf("SC_CLK_TCK")
RULES = """\
rules:
  - id: dmarc-reject
    when: dmarc.result == "fail" && dmarc.policy == "reject"
    then: reject
    because: the usual work
  - id: greylist-everyone
    when: client.ip != ""
    then: {greylist: {wait: 1s, window: 24h, keep: 36d}}
    because: the usual work
"""


@dataclass(frozen=True, slots=True)
class Load:
    """One row: what is sent, how often, and how many mails share a connection."""

    name: str
    size: int
    count: int
    per_connection: int


LOADS = [
    Load("4 KB, 20 a connection", 4_000, 1200, 20),
    Load("4 KB, 1 a connection", 4_000, 400, 1),
    Load("50 KB, 20 a connection", 50_000, 600, 20),
    Load("1 MB, 5 a connection", 1_000_000, 60, 5),
    Load("25 MB, 1 a connection", 25_000_000, 5, 1),
]


def cpu(pids: Sequence[int]) -> float:
    """Seconds of CPU those processes have used so far."""
    used = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += int(words[11]) + int(words[12])
    return used / TICK


def send(port: int, load: Load, message: bytes, at_once: int = 4) -> None:
    """The load, over `at_once` connections at a time. Raises when one mail is refused."""
    left = iter(range(0, load.count, load.per_connection))
    lock, faults = threading.Lock(), list[str]()

    def work() -> None:
        while not faults:
            with lock:
                start = next(left, None)
            if start is None:
                return
            with Client(port, timeout=120) as client:
                client.ehlo()
                for _ in range(min(load.per_connection, load.count - start)):
                    answer = client.deliver("sue@sender.example", ["alice@example.com"], message)
                    if answer.code != 250:
                        faults.append(str(answer))
                        return

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise SystemExit(f"refused: {faults[0]}")


def signed(size: int, key: bytes) -> bytes:
    """A DKIM-signed message of about that size (rsa-2048, relaxed/relaxed)."""
    line = b"All work and no play makes a message of seventy-odd octets a line, so.\r\n"
    head = b"From: <sue@sender.example>\r\nTo: <alice@example.com>\r\nSubject: bench\r\nX-Test-Id: bench\r\n\r\n"
    plain = head + line * max(1, (size - len(head)) // len(line))
    signature = dkim.sign(
        plain,
        b"s1",
        b"sender.example",
        key,
        canonicalize=(b"relaxed", b"relaxed"),
        include_headers=[b"from", b"subject"],
    )
    return bytes(signature) + plain


def prepared(folder: Path, backend_port: int, authority: TestCa) -> tuple[Site, bytes]:
    """A site whose zone has the sender's SPF, DKIM and DMARC; and the sender's private key."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    record = "v=DKIM1; p=" + "".join(public.decode().splitlines()[1:-1])
    made = site(folder, backend_port, authority)
    made.policy(RULES)
    made.zone["s1._domainkey.sender.example"] = {"TXT": [record]}
    made.zone["_dmarc.sender.example"] = {"TXT": ["v=DMARC1; p=reject"]}
    key = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return made, key


def warmed(port: int, message: bytes) -> None:
    """Sends until the greylist has let the sender in."""
    for _ in range(200):
        with Client(port) as client:
            client.ehlo()
            if client.deliver("sue@sender.example", ["alice@example.com"], message).code == 250:
                return
        threading.Event().wait(0.1)
    raise SystemExit("the greylist never opened")


def main() -> int:
    """Prints one row a load."""
    parser = argparse.ArgumentParser(prog="tests.bench.run")
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages, for a look")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = TestCa(folder)
        floor = subprocess.Popen([sys.executable, "-m", "tests.bench.floor"], stdout=subprocess.PIPE, cwd=REPOSITORY)
        try:
            assert floor.stdout is not None
            floor_port = int(floor.stdout.readline())
            with recorder(authority.issue(BACKEND_NAME), folder / "taken") as backend:
                made, key = prepared(folder / "site", backend.port, authority)
                with serving(made) as gateway:
                    workers = gateway.worker_pids()
                    idle = max(memory(pid, "VmRSS") for pid in workers) / 1e6
                    warmed(gateway.port, signed(4000, key))
                    print(f"{'load':26} {'gateway ms':>11} {'floor ms':>9} {'ratio':>6}")
                    for load in LOADS:
                        row(load, quick, signed(load.size, key), gateway.port, workers, floor_port, floor.pid)
                    peak = max(memory(pid, "VmHWM") for pid in workers) / 1e6
                    print(f"memory of a worker: idle {idle:.0f} MB, peak {peak:.0f} MB")
        finally:
            floor.terminate()
            floor.wait()
            if floor.stdout is not None:
                floor.stdout.close()
    return 0


def row(load: Load, quick: bool, message: bytes, port: int, workers: list[int], floor_port: int, floor: int) -> None:
    """Measures one load on both, and prints it."""
    if quick:
        load = Load(load.name, load.size, max(load.per_connection, load.count // 10), load.per_connection)

    def spent(pids: Sequence[int], work: Callable[[], None]) -> float:
        before = cpu(pids)
        work()
        return (cpu(pids) - before) / load.count * 1000

    ours = spent(workers, lambda: send(port, load, message))
    theirs = spent([floor], lambda: send(floor_port, load, message))
    print(f"{load.name:26} {ours:11.2f} {theirs:9.2f} {ours / max(theirs, 0.001):6.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
