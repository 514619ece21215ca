"""SIGKILL in the middle: what was answered 250 is in the backend's hands, whatever the moment."""

import random
import threading
from pathlib import Path

import pytest

from gateway.cli.testca import Pair, TestCa
from tests.support.gateway import Gateway, serving, site
from tests.support.recorder import recorder
from tests.support.smtp import Closed
from tests.support.wait import until

MAILS, SENDERS = 200, 10


def deliver(gateway: Gateway, ids: list[str], answered: set[str], lock: threading.Lock) -> None:
    """Sends those mails over one connection, and notes which were answered 250. Ends when the connection does."""
    try:
        with gateway.client(timeout=20) as client:
            client.ehlo()
            for mail in ids:
                body = random.Random(mail).randbytes(3000).hex().encode()
                answer = client.deliver(
                    "sue@sender.example", ["alice@example.com"], b"X-Test-Id: %s\r\n\r\n%s\r\n" % (mail.encode(), body)
                )
                if answer.code == 250:
                    with lock:
                        answered.add(mail)
    except (Closed, OSError):
        return


@pytest.mark.parametrize("moment", [20, 100, 170])
def test_no_answered_mail_is_lost_when_everything_is_killed(
    tmp_path: Path, authority: TestCa, leaf: Pair, moment: int
) -> None:
    with recorder(leaf, tmp_path / "taken", delay=0.01) as backend:
        answered: set[str] = set()
        lock = threading.Lock()
        with serving(site(tmp_path / "site", backend.port, authority)) as gateway:
            ids = [f"mail-{number:03d}" for number in range(MAILS)]
            threads = [
                threading.Thread(target=deliver, args=(gateway, ids[part::SENDERS], answered, lock))
                for part in range(SENDERS)
            ]
            for thread in threads:
                thread.start()
            until(lambda: len(answered) >= moment, f"{moment} answers; {gateway.words()}", every=0.001)
            workers = gateway.worker_pids()
            gateway.kill()
            for thread in threads:
                thread.join(30)
        assert len(workers) == 2
        assert not any(Path(f"/proc/{pid}/exe").exists() for pid in workers), "nobody survived"
        assert moment <= len(answered) < MAILS, "killed in the middle"
        taken = backend.ids()
        assert answered <= set(taken), f"lost: {sorted(answered - set(taken))}"
        assert len(taken) == len(set(taken)), "nothing was delivered twice by us"


def test_a_killed_worker_is_replaced_and_loses_nothing(tmp_path: Path, authority: TestCa, leaf: Pair) -> None:
    import os
    import signal

    with recorder(leaf, tmp_path / "taken", delay=0.01) as backend:
        answered: set[str] = set()
        lock = threading.Lock()
        with serving(site(tmp_path / "site", backend.port, authority)) as gateway:
            ids = [f"mail-{number:03d}" for number in range(MAILS)]
            threads = [
                threading.Thread(target=deliver, args=(gateway, ids[part::SENDERS], answered, lock))
                for part in range(SENDERS)
            ]
            for thread in threads:
                thread.start()
            until(lambda: len(answered) >= 50, f"50 answers; {gateway.words()}", every=0.001)
            victim = gateway.worker_pids()[0]
            os.kill(victim, signal.SIGKILL)
            for thread in threads:
                thread.join(30)
            until(lambda: len(gateway.worker_pids()) == 2 and victim not in gateway.worker_pids(), "a new worker")
            again: set[str] = set()
            deliver(gateway, ["mail-after"], again, lock)
            assert again == {"mail-after"}
            assert gateway.stop() == 0
        assert answered <= set(backend.ids())
