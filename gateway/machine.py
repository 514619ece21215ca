"""What the supervisor asks of the machine: sockets, privileges, limits, a folder in memory, systemd's ear.

Binding is the one thing done with privileges, once, before any worker exists. Workers inherit the sockets, so a dying
worker takes no waiting connection with it, and none needs a right that the supervisor had. An address that cannot be
had is refused with a sentence for the operator (`CannotListen`).
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import shutil
import socket
import stat
import tempfile
import time
from pathlib import Path

#: Connections that may wait in the kernel while all workers are busy or being replaced.
BACKLOG = 512
_METRICS = "gatepost-metrics-"
_YOUNG = 60.0  # seconds
_EAR_SECONDS = 0.1  # for what is said again in a second
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4


class CannotListen(Exception):  # noqa: N818 - reads as the sentence it is
    """An address cannot be bound. The text says which, why, and what to do."""


def split(address: str) -> tuple[str, int]:
    """Host and port of "192.0.2.1:25", "[::]:25"."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def bound(address: str) -> socket.socket:
    """A listening socket at that address. Port 0 is any free one."""
    host, port = split(address)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotListen(f"cannot listen on {address}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Else "[::]:25" takes IPv4 as well: "0.0.0.0:25" beside it fails, and clients look like ::ffff:192.0.2.1.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise CannotListen(f"cannot listen on {address}: {_why(error)}") from error
    return listener


def spoken(listener: socket.socket) -> str:
    """The address a socket really listens on, as the configuration would write it."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def forget_privileges() -> None:
    """Drops the ambient capabilities (systemd's way to port 25), so that no child inherits them."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def raise_limits() -> None:
    """A descriptor a connection, and the usual limit is 1024: takes all that the system grants."""
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class MetricsFolder:
    """A private folder for the workers' counters, in memory where that is possible: they are written all the time.

    It is locked while its supervisor lives; `make` also removes those that a killed supervisor left behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @classmethod
    def make(cls) -> "MetricsFolder":
        """A fresh one, in the first place that takes it. Raises `OSError` where none does."""
        why = "none may be written to"
        parents = os.environ.get("RUNTIME_DIRECTORY"), "/dev/shm", os.environ.get("TMPDIR", "/tmp")  # noqa: S108
        for parent in parents:
            if not (parent and os.access(parent, os.W_OK | os.X_OK)):
                continue
            for left in Path(parent).glob(f"{_METRICS}*"):
                with contextlib.suppress(OSError):
                    _sweep(left)
            try:
                return cls(Path(tempfile.mkdtemp(prefix=_METRICS, dir=parent)))
            except OSError as error:
                why = str(error)
        raise OSError(f"no folder for the metrics in RUNTIME_DIRECTORY, /dev/shm or TMPDIR: {why}")

    def remove(self) -> None:
        """Removes it and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(folder: Path) -> None:
    """Removes a folder of ours that nobody has locked. A young one may be about to be locked."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or time.time() - status.st_mtime < _YOUNG:
        return
    MetricsFolder(folder).remove()  # BlockingIOError: it is in use


def notify(state: str, seconds: float | None = None) -> None:
    """Tells systemd (Type=notify), when it is there. Waits `seconds` for one that does not read, `None`: for ever."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.settimeout(seconds)
            line.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def alive() -> None:
    """Tells systemd that we turn, where the unit wants to know (`WatchdogSec=`; sd_watchdog_enabled(3))."""
    if os.environ.get("WATCHDOG_USEC") and os.environ.get("WATCHDOG_PID") in {None, "", str(os.getpid())}:
        notify("WATCHDOG=1", _EAR_SECONDS)


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "address already in use; stop the other program or change the bind"
        case errno.EACCES | errno.EPERM:
            return "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
        case _:
            return error.strerror or os.strerror(error.errno or 0)
