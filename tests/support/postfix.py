"""Postfix instances of our own: a client in front of the gateway and a backend behind it.

Each has its configuration, queue and mailboxes in a directory of its own, listens on a high port of loopback, logs to
a file and is a child in a process group of its own, so that `stop` ends all of it and nothing else. The system's own
instance is neither used nor touched. Needs root, as Postfix does.
"""

import contextlib
import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.cli.testca import Pair
from tests.support.ports import free_port, listens
from tests.support.smtp import Client, Closed
from tests.support.wait import until

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

#: Where the queue files wait, by Postfix's own permissions (see its postfix-files): name -> (owner, group, mode).
_QUEUE = {
    **dict.fromkeys(("active", "bounce", "corrupt", "defer", "deferred", "flush"), ("postfix", "root", 0o700)),
    **dict.fromkeys(("hold", "incoming", "private", "saved", "trace"), ("postfix", "root", 0o700)),
    "maildrop": ("postfix", "postdrop", 0o730),
    "public": ("postfix", "postdrop", 0o710),
    "pid": ("root", "root", 0o755),
}

_MASTER = """\
{listen} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """One instance. `mailboxes` are full addresses delivered here; `main` overrides its main.cf."""

    def __init__(self, name: str, mailboxes: Sequence[str], main: Mapping[str, str]) -> None:
        self.name = name
        # Not a directory of pytest or $TMPDIR, which may be root's alone: Postfix works as `postfix` and `nobody`.
        self.directory = Path(tempfile.mkdtemp(prefix=f"gatepost-{name}-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.configuration = self.directory / "etc"
        self.port = 0
        self._mailboxes = mailboxes
        self._main = main
        self._process: subprocess.Popen[bytes] | None = None
        self._lay_out()

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts it and waits for its banner; on another port when the first one has gone meanwhile."""
        for _ in range(5):
            self.port = self.port or free_port()
            self._write("master.cf", _MASTER.format(listen=f"127.0.0.1:{self.port}"))
            process = self._process = subprocess.Popen(
                [_master(), "-c", str(self.configuration)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            until(lambda: self._answers() or self._ended(), f"the banner of {self.name}: {self.log()}")
            if process.poll() is None:
                return
            self.port = 0
        raise AssertionError(f"Postfix does not start:\n{self.log()}")

    def stop(self) -> None:
        """Ends it and all its processes; its queue and mailboxes stay, and `start` takes the same port again."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # master told its children by a signal to its group; who has not heard it goes now.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        until(lambda: not listens(self.port), "end of the listener", 5)

    def remove(self) -> None:
        """Stops it and deletes what it kept."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- mail ---------------------------------------------------------------------------------------------------

    def submit(self, sender: str, recipients: Sequence[str], message: bytes) -> str:
        """Injects by `sendmail`, line ends as the system's; the message may get Date, From and Message-ID."""
        subprocess.run(
            [_tool("sendmail"), "-C", str(self.configuration), "-i", "-f", sender, "--", *recipients],
            input=message.replace(b"\r\n", b"\n"),
            check=True,
            capture_output=True,
        )
        return self.log()

    def inject(self, sender: str, recipients: Sequence[str], message: bytes, parameters: str = "") -> str:
        """Injects by SMTP, which adds one Received field and leaves the rest alone. Returns the queue id.

        `parameters` of MAIL begin with a space.
        """
        with Client(self.port) as client:
            client.ehlo()
            for answer in client.envelope(sender, *recipients, parameters=parameters):
                assert answer.code == 250, answer
            answer = client.data(message)
            assert answer.code == 250, answer
            client.quit()
        return answer.id

    def flush(self) -> None:
        """Tries all deferred mail again, now."""
        subprocess.run([_tool("postqueue"), "-c", str(self.configuration), "-f"], check=True, capture_output=True)

    def queue(self) -> list[str]:
        """The queue ids that wait."""
        listing = subprocess.run(
            [_tool("postqueue"), "-c", str(self.configuration), "-j"], check=True, capture_output=True, text=True
        )
        return [line for line in listing.stdout.splitlines() if line]

    def mails(self, mailbox: str) -> list[bytes]:
        """What that mailbox holds, oldest first, line ends as on the wire."""
        folder = self.directory / "mail" / mailbox / "new"
        files = sorted(folder.glob("*"), key=lambda file: file.stat().st_mtime_ns) if folder.is_dir() else []
        return [file.read_bytes().replace(b"\n", b"\r\n") for file in files]

    def log(self) -> str:
        file = self.directory / "log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    # -- inside -------------------------------------------------------------------------------------------------

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _answers(self) -> bool:
        try:
            with Client(self.port, timeout=5) as client:
                assert client.banner is not None
                return self.name in client.banner.text
        except (OSError, Closed):
            return False

    def _lay_out(self) -> None:
        queue, data, mail = (self.directory / part for part in ("queue", "data", "mail"))
        for folder in (self.configuration, queue, data, mail):
            folder.mkdir(mode=0o755)
        for name, (owner, group, mode) in _QUEUE.items():
            (queue / name).mkdir()
            os.chown(queue / name, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
            (queue / name).chmod(mode)
        os.chown(data, pwd.getpwnam("postfix").pw_uid, -1)
        nobody = pwd.getpwnam("nobody")
        os.chown(mail, nobody.pw_uid, nobody.pw_gid)
        boxes = self._write("mailboxes", "".join(f"{address} {address}/\n" for address in self._mailboxes))
        main = {
            "compatibility_level": "3.6",
            "myhostname": f"{self.name}.example.net",
            "mydestination": "",
            "mynetworks": "",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "inet_protocols": "ipv4",
            "inet_interfaces": "127.0.0.1",
            "queue_directory": str(queue),
            "data_directory": str(data),
            "maillog_file": str(self.directory / "log"),
            "maillog_file_prefixes": str(self.directory.parent),
            "virtual_mailbox_base": str(mail),
            "virtual_mailbox_domains": ", ".join(sorted({a.rpartition("@")[2] for a in self._mailboxes})),
            "virtual_mailbox_maps": f"texthash:{boxes}",
            "virtual_uid_maps": f"static:{nobody.pw_uid}",
            "virtual_gid_maps": f"static:{nobody.pw_gid}",
            "virtual_mailbox_limit": "0",
            "message_size_limit": "60000000",
            # Octets stay as they are: no rewriting of the header, no folding of long lines, no DNS, no rate limits.
            "local_header_rewrite_clients": "",
            "smtp_line_length_limit": "0",
            "smtp_dns_support_level": "disabled",
            "smtpd_peername_lookup": "no",
            "smtpd_client_connection_count_limit": "0",
            "in_flow_delay": "0",
            **self._main,
        }
        self._write("main.cf", "".join(f"{key} = {value}\n" for key, value in main.items()))

    def _write(self, name: str, text: str) -> Path:
        file = self.configuration / name
        file.write_text(text)
        # Postfix waits two seconds where a file of its configuration is so young that it may still be written.
        past = time.time() - 60
        os.utime(file, (past, past))
        return file


@contextmanager
def backend(mailboxes: Sequence[str], leaf: Pair, **main: str) -> Iterator[Postfix]:
    """A mail server that takes mail for `mailboxes` only over TLS with that certificate, into Maildirs."""
    instance = Postfix(
        "backend",
        mailboxes,
        {
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_cert_file": str(leaf.certificate),
            "smtpd_tls_key_file": str(leaf.key),
            "smtpd_tls_loglevel": "1",
            "smtpd_relay_restrictions": "reject_unauth_destination",
            "smtpd_recipient_restrictions": "reject_unauth_destination",
            **main,
        },
    )
    yield from _running(instance)


@contextmanager
def client(port: int, ca: Path, name: str, mailboxes: Sequence[str] = (), **main: str) -> Iterator[Postfix]:
    """A sending server whose next hop is `port` on loopback, over TLS verified against `ca` and `name`.

    `mailboxes` are its own users: they get the bounces. Deferred mail is tried again every second.
    """
    instance = Postfix(
        "client",
        mailboxes,
        {
            "mynetworks": "127.0.0.0/8",
            "relayhost": f"[127.0.0.1]:{port}",
            "smtp_tls_security_level": "secure",
            "smtp_tls_secure_cert_match": name,
            "smtp_tls_CAfile": str(ca),
            "smtp_tls_loglevel": "1",
            "smtp_host_lookup": "native",
            "queue_run_delay": "1s",
            "minimal_backoff_time": "1s",
            "maximal_backoff_time": "2s",
            # One refused connection must not put the destination to sleep for the rest of the test.
            "default_destination_concurrency_failed_cohort_limit": "1000",
            **main,
        },
    )
    yield from _running(instance)


def _running(instance: Postfix) -> Iterator[Postfix]:
    try:
        instance.start()
        yield instance
    finally:
        instance.remove()


def _tool(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    assert found, f"{name} is missing: run tests/support/install-tools"
    return found


def _master() -> str:
    folder = subprocess.run(
        [_tool("postconf"), "-d", "-h", "daemon_directory"], check=True, capture_output=True, text=True
    ).stdout.strip()
    return f"{folder}/master"
