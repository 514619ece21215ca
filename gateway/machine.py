"""What the supervisor asks of the machine: sockets, privileges, limits, a folder in memory, systemd's ear.

Binding is the one thing done with privileges, once, before any worker exists. Workers inherit the sockets, so a dying
worker takes no waiting connection with it, and none needs a right that the supervisor had. An address that cannot be
had is refused with a sentence for the operator (`CannotListen`).
"""

import contextlib
import ctypes
import errno
import os
import resource
import socket
import tempfile
from pathlib import Path

#: Connections that may wait in the kernel while all workers are busy or being replaced.
BACKLOG = 512
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


def metrics_folder() -> Path:
    """A fresh folder for the workers' counters; in memory where that is possible, they are written all the time."""
    for parent in (os.environ.get("RUNTIME_DIRECTORY"), "/dev/shm"):  # noqa: S108 - only a parent of a private folder
        if parent and os.access(parent, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix="gatepost-metrics-", dir=parent))
    return Path(tempfile.mkdtemp(prefix="gatepost-metrics-"))


def notify(state: str) -> None:
    """Tells systemd (Type=notify), when it is there."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


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
