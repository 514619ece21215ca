"""A free port on loopback, for servers that cannot be asked to choose one themselves (Postfix)."""

import contextlib
import random
import socket

#: Not the generator that tests seed: two processes would try the same ports.
_chance = random.SystemRandom()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago, below those that Linux deals to connections (32768 and up): so it stays free
    until its server starts, and while that is down for a test. Whoever uses it tries again when it has gone.
    """
    while True:
        port = _chance.randrange(10_000, 32_768)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((host, port))
            return port


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """True when something accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False
