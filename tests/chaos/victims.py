"""What is killed and stopped in the storm, and how each comes back."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.support.gateway import Gateway, children
from tests.support.ports import free_port
from tests.support.postfix import Postfix
from tests.support.redis import RedisServer
from tests.support.wait import until

ROOT = Path(__file__).parents[2]
Action = Callable[[random.Random], None]


class Helper:
    """A process of ours that says "ready" and comes back on the same port: DNS, taps."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        command = [sys.executable, "-m", *self._words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", self._words

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None


class House:
    """One gateway that is started again whenever it has gone."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.gateway = Gateway(file)
        self.starts = 1
        self.log: list[dict[str, object]] = []

    def restart(self) -> None:
        """As a service manager does: what is left of the old one gets a moment to drain, then it is killed."""
        orphans = self._orphans
        until_time = time.monotonic() + 3
        while any(_alive(pid) for pid in orphans) and time.monotonic() < until_time:
            time.sleep(0.02)
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not any(_alive(pid) for pid in orphans), "the end of the old gateway")
        self.log += self.gateway.log
        self.gateway = Gateway(self.file)
        self.starts += 1

    def kill_supervisor(self) -> None:
        self._orphans = children(self.gateway.pid)
        os.kill(self.gateway.pid, signal.SIGKILL)
        self.gateway._process.wait(10)

    def kill_all(self) -> None:
        self._orphans = []
        self.gateway.kill()


class Storm:
    """Seeded blows. `blows` counts them by name."""

    def __init__(
        self, houses: list[House], backends: list[Postfix], redis: RedisServer | None, names: Helper, seed: int
    ) -> None:
        self.blows: Counter[str] = Counter()
        self._houses, self._backends, self._redis, self._names = houses, backends, redis, names
        self._lot = random.Random(seed)
        self._table: list[tuple[int, str, Action]] = [
            (6, "worker killed", self._worker_killed),
            (4, "worker stopped", self._worker_stopped),
            (2, "supervisor killed", self._supervisor_killed),
            (1, "supervisor stopped", self._supervisor_stopped),
            (1, "gateway killed", self._gateway_killed),
            (4, "backend killed", self._backend_killed),
            (3, "backend stopped", self._backend_stopped),
            (2, "DNS killed", self._names_killed),
            (1, "DNS stopped", self._names_stopped),
        ]
        if redis is not None:
            self._table += [(2, "Redis killed", self._redis_killed), (2, "Redis stopped", self._redis_stopped)]

    def blow(self) -> None:
        """One blow, and what it hit is back when this returns."""
        weights = [weight for weight, _, _ in self._table]
        _, name, act = self._lot.choices(self._table, weights)[0]
        act(self._lot)
        self.blows[name] += 1

    def pause(self) -> None:
        time.sleep(self._lot.uniform(0.02, 0.3))

    def _worker_killed(self, lot: random.Random) -> None:
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(lot.choice(lot.choice(self._houses).gateway.worker_pids()), signal.SIGKILL)

    def _worker_stopped(self, lot: random.Random) -> None:
        with contextlib.suppress(ProcessLookupError, IndexError):
            self._stopped([lot.choice(lot.choice(self._houses).gateway.worker_pids())], lot)

    def _supervisor_killed(self, lot: random.Random) -> None:
        house = lot.choice(self._houses)
        house.kill_supervisor()
        house.restart()

    def _supervisor_stopped(self, lot: random.Random) -> None:
        self._stopped([lot.choice(self._houses).gateway.pid], lot)

    def _gateway_killed(self, lot: random.Random) -> None:
        house = lot.choice(self._houses)
        house.kill_all()
        house.restart()

    def _backend_killed(self, lot: random.Random) -> None:
        backend = lot.choice(self._backends)
        process = backend._process
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        time.sleep(lot.uniform(0, 0.5))
        backend.start()

    def _backend_stopped(self, lot: random.Random) -> None:
        process = lot.choice(self._backends)._process
        assert process is not None
        os.killpg(process.pid, signal.SIGSTOP)
        try:
            time.sleep(lot.uniform(0.1, 4.5))  # sometimes beyond the deadline of the relay
        finally:
            os.killpg(process.pid, signal.SIGCONT)

    def _names_killed(self, lot: random.Random) -> None:
        self._names.kill()
        time.sleep(lot.uniform(0, 0.5))
        self._names.start()

    def _names_stopped(self, lot: random.Random) -> None:
        self._stopped([self._names.pid], lot)

    def _redis_killed(self, lot: random.Random) -> None:
        assert self._redis is not None
        self._redis.kill()
        time.sleep(lot.uniform(0, 0.5))
        self._redis.start()

    def _redis_stopped(self, lot: random.Random) -> None:
        assert self._redis is not None
        self._redis.signal(signal.SIGSTOP)
        time.sleep(lot.uniform(0.1, 1.0))
        self._redis.signal(signal.SIGCONT)

    @staticmethod
    def _stopped(pids: list[int], lot: random.Random) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(lot.uniform(0.1, 1.5))
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def free() -> int:
    return free_port()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
