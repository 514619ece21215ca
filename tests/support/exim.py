"""Exim as a sending client, which speaks BDAT: its package unpacked into build/tools by `install-tools`, not installed
(Debian's Exim and Postfix exclude each other). Its user exists in a mount namespace of its own alone. Needs root.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.gateway import REPOSITORY

UNPACKED = REPOSITORY / "build" / "tools" / "exim"
_USER, _ID = "Debian-exim", 65530
_CONFIGURATION = """\
primary_hostname = client.sender.example
spool_directory = {folder}/spool
log_file_path = {folder}/log/%s
log_selector = +all
exim_path = {program}
keep_environment = LD_LIBRARY_PATH
begin routers
out:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {port}
  helo_data = client.sender.example
  hosts_try_chunking = {chunking}
  hosts_require_tls = *
  tls_verify_certificates = {ca}
  tls_verify_cert_hostnames =
begin retry
* * F,1h,1m
"""


class Exim:
    """One configuration of it."""

    def __init__(self, folder: Path, port: int, ca: Path, chunking: bool) -> None:
        self._folder = folder
        folder.chmod(0o755)
        for name in ("spool", "log"):
            (folder / name).mkdir()
            os.chown(folder / name, _ID, _ID)
        shutil.copy(ca, folder / "ca.pem")
        (folder / "ca.pem").chmod(0o644)
        text = _CONFIGURATION.format(
            folder=folder,
            port=port,
            chunking="*" if chunking else "",
            ca=folder / "ca.pem",
            program=UNPACKED / "usr/sbin/exim4",
        )
        (folder / "exim.conf").write_text(text)
        for file, line in (
            ("passwd", f"{_USER}:x:{_ID}:{_ID}::/nonexistent:/usr/sbin/nologin"),
            ("group", f"{_USER}:x:{_ID}:"),
        ):
            (folder / file).write_text(Path("/etc", file).read_text().rstrip("\n") + f"\n{line}\n")

    def deliver(self, sender: str, recipients: str | Sequence[str], message: bytes) -> str:
        """Delivers one mail at once; its log."""
        # In two steps, because what it starts by itself would look for libraries where it was not installed.
        recipients = [recipients] if isinstance(recipients, str) else recipients
        self._run("-odq", "-i", "-f", sender, *recipients, octets=message.replace(b"\r\n", b"\n"))
        return self.flush()

    def flush(self) -> str:
        """Tries what waits again, now and once; the log."""
        for queued in self.queue():
            self._run("-M", queued)
        return (self._folder / "log" / "main").read_text("utf-8", "replace")

    def queue(self) -> list[str]:
        """The ids of the mails that wait."""
        return [file.name.removesuffix("-H") for file in (self._folder / "spool" / "input").rglob("*-H")]

    def _run(self, *words: str, octets: bytes = b"") -> None:
        libraries = ":".join(sorted({str(file.parent) for file in UNPACKED.glob("**/lib*.so*")}))
        program = shlex.join([str(UNPACKED / "usr/sbin/exim4"), "-C", str(self._folder / "exim.conf"), *words])
        binds = [f"mount --bind {shlex.quote(str(self._folder / file))} /etc/{file}" for file in ("passwd", "group")]
        script = " && ".join([*binds, f"LD_LIBRARY_PATH={shlex.quote(libraries)} exec {program}"])
        subprocess.run(["unshare", "-m", "sh", "-c", script], input=octets, capture_output=True, timeout=60, check=True)


@contextmanager
def client(port: int, ca: Path, chunking: bool = True) -> Iterator[Exim]:
    """An Exim that sends everything to that port of this machine, by BDAT unless told not to."""
    with tempfile.TemporaryDirectory(prefix="gatepost-exim-", dir="/tmp") as name:
        yield Exim(Path(name), port, ca, chunking)
