"""The world of the demo, on loopback and in one temporary folder: CA, DNS zone, backends, policies, gateway.

The gateway is the real one, `gatepost serve` as a process of its own, with the shipped policies; only the greylist's
wait is a second instead of minutes.
"""

import asyncio
import json
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway import tls
from gateway.cli.shipped import shipped_policies
from gateway.cli.signing import Signer
from gateway.cli.sink_server import Sink
from gateway.cli.testca import Pair, TestCa
from gateway.files import DiskFiles

#: Octets; small, so that "too large" takes no time.
LIMIT = 200_000
WAIT = 1.0  # seconds of greylisting
START_SECONDS = 30.0

CLEAN, STRANGER, SPOOFER, FORWARDER = "127.0.0.10", "127.0.0.20", "127.0.0.30", "127.0.0.40"


def zone(signer: Signer) -> dict[str, dict[str, list[str]]]:
    """What the demo's DNS says (reserved names, loopback addresses)."""
    key_name, key = signer.record
    hosts = {CLEAN: "mail.clean.example", SPOOFER: "mail.attacker.example", FORWARDER: "out.alumni.example"}
    records: dict[str, dict[str, list[str]]] = {
        "clean.example": {"TXT": [f"v=spf1 ip4:{CLEAN} -all"]},
        "_dmarc.clean.example": {"TXT": ["v=DMARC1; p=reject"]},
        key_name: {"TXT": [f'"{key[:250]}" "{key[250:]}"']},
        "attacker.example": {"TXT": [f"v=spf1 ip4:{SPOOFER} -all"]},
        "bank.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]},
        "_dmarc.bank.example": {"TXT": ["v=DMARC1; p=reject"]},
        "strict.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]},
        "unsigned.example": {"TXT": [f"v=spf1 ip4:{CLEAN} ~all"]},
    }
    for address, name in hosts.items():
        records[".".join(reversed(address.split("."))) + ".in-addr.arpa"] = {"PTR": [f"{name}."]}
        records[name] = {"A": [address]}
    return records


@dataclass(slots=True)
class World:
    """What the demo's mails meet."""

    folder: Path
    port: int
    admin: str
    main: Sink
    impostor: Sink
    signer: Signer

    @property
    def configuration(self) -> Path:
        """The file that the gateway runs with."""
        return self.folder / "gatepost.yaml"

    @property
    def journal(self) -> Path:
        """The gateway's journal."""
        return self.folder / "journal.db"


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Builds it, starts it, and takes it all down again."""
    signer = Signer("clean.example")
    authority = TestCa(folder)
    other = TestCa(folder, "other-ca")
    authority.issue("mx.example.com")
    main = Sink(
        _context(authority.issue("mail.int.example.com")), refuse={"nobody@example.com": "550 5.1.1 No such user"}
    )
    impostor = Sink(_context(other.issue("mail.int.example.com", file="impostor")))
    with _serving(main) as main_port, _serving(impostor) as impostor_port:
        _write(folder, signer, main_port, impostor_port)
        with _gateway(folder) as (port, admin):
            yield World(folder, port, admin, main, impostor, signer)


def _context(pair: Pair) -> ssl.SSLContext:
    return tls.server_context([(pair.certificate, pair.key)], DiskFiles())


def _write(folder: Path, signer: Signer, main_port: int, impostor_port: int) -> None:
    policies = folder / "policies"
    shutil.copytree(shipped_policies(), policies)
    for file in policies.glob("*.yaml"):
        text = file.read_text()
        file.write_text(text.replace("greylist: {wait: 5m,", f"greylist: {{wait: {WAIT:g}s,"))
    (folder / "zone.json").write_text(json.dumps(zone(signer), indent=1))
    backend = "tls: {verify: pkix, ca: ca.pem, name: mail.int.example.com}"
    (folder / "gatepost.yaml").write_text(f"""\
hostname: mx.example.com
listeners:
  - bind: "127.0.0.1:0"
    tls: {{certificate: mx.example.com.pem, key: mx.example.com.key}}
domains:
  example.com: {{backend: main}}
  down.example.com: {{backend: down}}
  impostor.example.com: {{backend: impostor}}
backends:
  main: {{hosts: "127.0.0.1:{main_port}", {backend}}}
  down: {{hosts: "127.0.0.1:1", {backend}}}
  impostor: {{hosts: "127.0.0.1:{impostor_port}", {backend}}}
policies: policies/
lists: policies/lists/
state: sqlite:state.db
journal: {{path: journal.db, keep: 1d}}
dns: {{zone: zone.json}}
limits: {{message: {LIMIT // 1000}KB}}
quarantine: quarantine@example.com
admin: {{bind: "127.0.0.1:0"}}
""")


@contextmanager
def _serving(sink: Sink) -> Iterator[int]:
    """The sink on a loop of its own, in a thread: the demo itself is a plain client that waits for replies."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(sink.start(), loop).result(START_SECONDS)
    finally:
        asyncio.run_coroutine_threadsafe(sink.stop(), loop).result(START_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def _gateway(folder: Path) -> Iterator[tuple[int, str]]:
    """`gatepost serve`: yields its port and the address of its admin page. Its log goes to `gatepost.log`."""
    log = folder / "gatepost.log"
    command = [sys.executable, "-m", "gateway.cli.main", "serve", "-c", str(folder / "gatepost.yaml")]
    with log.open("wb") as target:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=target)  # noqa: S603 - ourselves
    try:
        yield _addresses(process, log)
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _addresses(process: subprocess.Popen[bytes], log: Path) -> tuple[int, str]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("}\n")]
        heard = {line["listener"]: line["address"] for line in lines if line["event"] == "listening"}
        if any(line["event"] == "process ready" and line["name"].startswith("worker") for line in lines):
            return int(heard[0].rpartition(":")[2]), heard["admin"]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise ChildProcessError(f"the gateway did not start:\n{log.read_text()}")
