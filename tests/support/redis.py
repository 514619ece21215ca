"""A real Redis for a test: a process of its own on a free port, which can be stopped and killed."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.cli.testca import Pair
from tests.support.ports import free_port, listens
from tests.support.wait import until

BINARY = shutil.which("redis-server")


class RedisServer:
    """`redis-server` on loopback. What it holds is in memory and dies with it."""

    def __init__(self, folder: Path, *options: str, tls: Pair | None = None) -> None:
        if BINARY is None:
            pytest.skip("no redis-server: tests/support/install-tools installs it")
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        listening = ["--port", str(self.port)]
        if tls is not None:
            listening = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            listening += ["--tls-cert-file", str(tls.certificate), "--tls-key-file", str(tls.key)]
        self._options = (*listening, *options)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts it (again), empty, on the same port."""
        assert BINARY is not None
        words = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *self._options]
        with open(self.folder / "redis.log", "ab") as log:
            self._process = subprocess.Popen([BINARY, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             cwd=self.folder)  # fmt: skip
        until(self._listens, f"redis; {(self.folder / 'redis.log').read_text()[-500:]}")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "redis.log").read_text()
        return listens(self.port)

    def signal(self, number: int) -> None:
        """SIGSTOP: it accepts connections (the kernel does) and never answers. SIGCONT: as if nothing had been."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL: connections are reset, new ones refused, and its memory is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(10)


@contextmanager
def redis_server(folder: Path, *options: str, tls: Pair | None = None) -> Iterator[RedisServer]:
    """One that ends with the block."""
    server = RedisServer(folder, *options, tls=tls)
    try:
        yield server
    finally:
        server.kill()
