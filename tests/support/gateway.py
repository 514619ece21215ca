"""A real gateway, as an operator runs it: `gatepost serve -c FILE`, a process of its own, on loopback."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gateway.cli.testca import TestCa
from tests.support.smtp import Client
from tests.support.wait import until

REPOSITORY = Path(__file__).parents[2]
#: Our name in banner, trace fields and certificate.
HOSTNAME = "mx.example.com"
#: The name in the backend's certificate.
BACKEND_NAME = "mail.int.example.com"
#: What `dns: {zone: FILE}` reads: owner, type, values; or a word for a failure.
Zone = dict[str, dict[str, list[str] | str]]
#: What the tests' DNS holds: a client with a verified reverse name, senders with and without SPF.
ZONE: Zone = {
    "1.0.0.127.in-addr.arpa": {"PTR": ["client.sender.example"]},
    "client.sender.example": {"A": ["127.0.0.1"]},
    "sender.example": {"TXT": ["v=spf1 ip4:127.0.0.1 -all"], "A": ["192.0.2.1"], "MX": ["10 client.sender.example"]},
    "strict.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"], "A": ["192.0.2.1"]},
    "_dmarc.strict.example": {"TXT": ["v=DMARC1; p=reject"]},
    "stranger.example": {"A": ["192.0.2.9"]},
}

Tree = dict[str, Any]


@dataclass(slots=True)
class Site:
    """The folder of one gateway: configuration, certificates, zone, policies, state."""

    directory: Path
    authority: TestCa
    configuration: Tree
    zone: Zone = field(default_factory=lambda: json.loads(json.dumps(ZONE)))

    @property
    def file(self) -> Path:
        return self.directory / "gatepost.yaml"

    @property
    def policies(self) -> Path:
        return self.directory / "policies"

    @property
    def journal(self) -> Path:
        return self.directory / "journal.db"

    def write(self) -> Path:
        """Writes what serve reads."""
        (self.directory / "zone.json").write_text(json.dumps(self.zone))
        self.file.write_text(yaml.safe_dump(self.configuration, sort_keys=False))
        return self.file

    def policy(self, text: str, name: str = "50-test.yaml") -> Path:
        """One policy file of the site."""
        file = self.policies / name
        file.write_text(text)
        return file


def site(directory: Path, backend_port: int, authority: TestCa | None = None, **overrides: Any) -> Site:
    """A site in front of a backend on that port. `overrides` replace top-level keys of the configuration.

    The policies are empty (everything that the frame allows is accepted); `Site.policy` adds some.
    """
    directory.mkdir(parents=True, exist_ok=True)
    authority = authority or TestCa(directory)
    leaf = authority.issue(HOSTNAME, file=f"mx-{secrets.token_hex(4)}")
    (directory / "policies" / "lists").mkdir(parents=True)
    (directory / "policies" / "lists" / "arc-sealers.txt").write_text("")
    configuration: Tree = {
        "hostname": HOSTNAME,
        "listeners": [
            {
                "bind": ["127.0.0.1:0"],
                "tls": {"certificate": str(leaf.certificate), "key": str(leaf.key)},
                "starttls": "offered",
            }
        ],
        "domains": {"example.com": {"backend": "main"}},
        "backends": {
            "main": {
                "hosts": [f"127.0.0.1:{backend_port}"],
                "tls": {"verify": "pkix", "ca": str(authority.file), "name": BACKEND_NAME, "minimum": "1.2"},
                "verify_recipients": {"positive": "24h", "negative": "30m"},
                "connections": 20,
            }
        },
        "policies": "policies/",
        "lists": "policies/lists/",
        "state": "sqlite:state.db",
        "dns": {"zone": "zone.json", "timeout": "5s"},
        "limits": {"connections_per_network": 500},
        "journal": {"path": "journal.db", "keep": "30d"},
        "greeting_delay": "0s",
        "workers": 2,
        **overrides,
    }
    made = Site(directory, authority, configuration)
    made.policy("rules: []\n", "10-empty.yaml")
    made.write()
    return made


#: What `gatepost serve` runs, with another limit for a worker's silence.
_IMPATIENT = """
import sys
from pathlib import Path
from gateway.supervisor import run
sys.exit(run(Path(sys.argv[1]), silence=float(sys.argv[2])))
"""


class Gateway:
    """The running process. Its log lines are collected as they come, parsed. `silence`: seconds, else the usual.

    While `reads` is cleared nobody reads its log.
    """

    def __init__(self, file: Path, silence: float | None = None) -> None:
        serve = ["-m", "gateway.cli.main", "serve", "-c", str(file)]
        self._process = subprocess.Popen(
            [sys.executable, *(serve if silence is None else ["-c", _IMPATIENT, str(file), str(silence)])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=REPOSITORY,
            start_new_session=True,
        )
        self.log: list[Tree] = []
        self.noise: list[str] = []  # lines that are no JSON: there must be none
        self.reads = threading.Event()
        self.reads.set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.port = int(self.event("listening")["address"].rpartition(":")[2])
            self._await_workers(int(self.event("started")["workers"]))
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def events(self, name: str) -> list[Tree]:
        return [line for line in list(self.log) if line.get("event") == name]

    def event(self, name: str, count: int = 1, seconds: float = 30) -> Tree:
        """The `count`-th log line of that event, awaited."""

        def found() -> Tree | None:
            lines = self.events(name)
            if len(lines) >= count:
                return lines[count - 1]
            assert self._process.poll() is None, f"the gateway ended with {self._process.returncode}: {self.words()}"
            return None

        try:
            line = until(found, f"log line {name!r}", seconds)
        except AssertionError as why:
            raise AssertionError(f"{why}; the log says: {self.words()}") from None
        assert line is not None
        return line

    def words(self) -> str:
        """The end of the log, for messages of failed tests."""
        return "\n".join([json.dumps(line)[:2000] for line in self.log[-20:]] + self.noise[-20:])

    def client(self, **keywords: Any) -> Client:
        return Client(self.port, **keywords)

    def reload(self) -> str:
        """SIGHUP; "" when the new configuration runs, else the problems for which it was refused."""
        before = len(self._reloads())
        self._process.send_signal(signal.SIGHUP)
        until(lambda: len(self._reloads()) > before, f"the outcome of the reload; the log says: {self.words()}")
        line = self._reloads()[before]
        return "" if line["event"] == "reloaded" else "\n".join(line["problems"])

    def _reloads(self) -> list[Tree]:
        return [line for line in list(self.log) if str(line.get("event")).startswith(("reloaded", "reload refused"))]

    def _await_workers(self, count: int) -> None:
        for number in range(count):
            until(
                lambda name=f"worker {number}": any(line["name"] == name for line in self.events("process ready")),  # type: ignore[misc]
                f"worker {number}; the log says: {self.words()}",
            )

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM; the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"not drained in {seconds:g} s: {self.words()}") from None
        self._close()
        return status

    def kill(self) -> None:
        """SIGKILL to supervisor and workers at once: nobody gets to say goodbye."""
        # Stopped first, so that it starts nobody while we count them; each child has a process group of its own.
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)
        for pid in [self.pid, *children(self.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(10)
        self._close()

    def worker_pids(self) -> list[int]:
        """The processes that serve mail: children of the supervisor that run gateway.worker."""
        return [pid for pid in children(self.pid) if b"gateway.worker" in _cmdline(pid)]

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.reads.wait()
            try:
                parsed = json.loads(line)
            except ValueError:
                parsed = None
            if isinstance(parsed, dict):
                self.log.append(parsed)
            else:
                self.noise.append(line.decode("utf-8", "replace").rstrip())

    def _close(self) -> None:
        self.reads.set()
        self._reader.join(5)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def serving(site: Site, silence: float | None = None) -> Iterator[Gateway]:
    """The site's gateway, running; ended whatever happens."""
    site.write()
    gateway = Gateway(site.file, silence)
    try:
        yield gateway
    finally:
        if gateway._process.poll() is None:
            gateway.kill()


def children(pid: int) -> list[int]:
    """The processes whose parent it is."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            # The name in parentheses may hold spaces; the parent is the second word after it.
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return sorted(found)


def memory(pid: int, what: str = "VmHWM") -> int:
    """Octets of memory: VmHWM is the peak so far, VmRSS the present."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) * 1024
    raise AssertionError(f"no {what} of {pid}")


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def run(
    *words: str, stdin: str = "", env: Mapping[str, str] | None = None, seconds: float = 60
) -> "subprocess.CompletedProcess[str]":
    """The `gatepost` command with those words, through the installed console script."""
    script = Path(sys.executable).with_name("gatepost")
    return subprocess.run(
        [str(script), *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, **(env or {})},
    )
