"""A real validating resolver for a test: `unbound` on loopback, with signed and unsigned zones that only it knows.

Zones are made and signed here (dnspython); unbound reads them from files and validates them by the keys of those that
were signed. It asks nobody: what is in no zone does not exist for it, and its packets could not leave loopback.
"""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.dnssec
import dns.name
import dns.rdataset
import dns.rdatatype
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.ports import free_port, listens
from tests.support.wait import until

BINARY = shutil.which("unbound", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
#: Owner relative to the zone ("@" is the zone itself), type, values.
Records = Mapping[str, Mapping[str, list[str]]]
#: Changes a zone after it was signed: what a forger can do.
Forgery = Callable[[dns.zone.Zone], None]

_CONFIGURATION = """\
server:
  interface: 127.0.0.1@{port}
  outgoing-interface: 127.0.0.1
  port: {port}
  do-ip6: no
  do-daemonize: no
  use-syslog: no
  verbosity: 1
  val-log-level: 2
  chroot: ""
  username: ""
  pidfile: ""
  directory: "{folder}"
  module-config: "validator iterator"
  trust-anchor-signaling: no
{anchors}remote-control:
  control-enable: no
"""
_ZONE = """\
auth-zone:
  name: "{name}"
  zonefile: "{file}"
  for-downstream: no
  for-upstream: yes
  fallback-enabled: no
"""


@dataclass(frozen=True, slots=True)
class Served:
    """A zone as unbound serves it; `signed` ones have their key as a trust anchor. `lifetime` is in seconds: below
    zero the signatures have ended."""

    name: str
    records: Records
    signed: bool = True
    lifetime: int = 86_400
    forgery: Forgery | None = None


def replaced(owner: str, rdtype: str, value: str) -> Forgery:
    """The record set says something else than what was signed."""

    def change(zone: dns.zone.Zone) -> None:
        zone.replace_rdataset(_absolute(owner, zone), dns.rdataset.from_text("IN", rdtype, 300, value))

    return change


def unsigned(owner: str, rdtype: str) -> Forgery:
    """The signature of the record set is stripped."""

    def change(zone: dns.zone.Zone) -> None:
        zone.delete_rdataset(_absolute(owner, zone), "RRSIG", dns.rdatatype.from_text(rdtype))

    return change


def _absolute(owner: str, zone: dns.zone.Zone) -> dns.name.Name:
    return dns.name.from_text(owner, zone.origin)


class Unbound:
    """The running resolver."""

    def __init__(self, folder: Path, *zones: Served) -> None:
        if BINARY is None:
            pytest.skip("no unbound: tests/support/install-tools installs it")
        folder.mkdir(parents=True, exist_ok=True)
        # A copy: where AppArmor guards the system's one, that may not read the files of a test.
        binary = shutil.copy(BINARY, folder / "resolver")
        self.port = free_port()
        zones = (Served("", {}, signed=False), *zones)  # the root: the world ends here
        written = [_write(folder, zone) for zone in zones]
        anchors = "".join(f'  trust-anchor: "{anchor}"\n' for _, anchor in written if anchor)
        text = _CONFIGURATION.format(port=self.port, folder=folder, anchors=anchors)
        text += "".join(_ZONE.format(name=f"{z.name}.", file=file) for z, (file, _) in zip(zones, written, strict=True))
        (folder / "unbound.conf").write_text(text)
        self._log = folder / "unbound.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "-d", "-c", str(folder / "unbound.conf")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(self._listens, f"unbound; {self._log.read_text()[-500:]}")

    @property
    def server(self) -> str:
        """As `dns.servers` names it."""
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def _listens(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        return listens(self.port)


@contextmanager
def unbound(folder: Path, *zones: Served) -> Iterator[Unbound]:
    """One that ends with the block."""
    running = Unbound(folder, *zones)
    try:
        yield running
    finally:
        running.kill()


def _write(folder: Path, served: Served) -> tuple[Path, str]:
    """The zone's file, and its trust anchor, "" without one."""
    origin = dns.name.from_text(served.name)
    lines = ["@ 300 IN SOA ns hostmaster 1 3600 600 86400 60", "@ 300 IN NS ns", "ns 300 IN A 127.0.0.1"]
    for owner, types in served.records.items():
        lines += [f"{owner} 300 IN {rdtype} {value}" for rdtype, values in types.items() for value in values]
    zone = dns.zone.from_text("\n".join(lines), origin, relativize=False)
    anchor = ""
    if served.signed:
        private = ec.generate_private_key(ec.SECP256R1())
        key = dns.dnssec.make_dnskey(private.public_key(), dns.dnssec.Algorithm.ECDSAP256SHA256, flags=257)
        now = int(time.time())
        dns.dnssec.sign_zone(zone, keys=[(private, key)], inception=now - 30 * 86_400, expiration=now + served.lifetime)
        anchor = f"{origin} IN DS {dns.dnssec.make_ds(origin, key, 'SHA256')}"
    if served.forgery is not None:
        served.forgery(zone)
    file = folder / f"{served.name or 'root'}.zone"
    zone.to_file(str(file), relativize=False)
    return file, anchor
