"""A free port on loopback, for servers that cannot be asked to choose one themselves (Postfix)."""

import contextlib
import socket


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago. Whoever uses it tries again when it has gone meanwhile."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """True when something accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False
