"""SIGKILL in the middle: what was answered 250 is in the backend's hands, whatever the moment. So with SIGSTOP."""

import json
import os
import random
import signal
import threading
import urllib.request
from pathlib import Path

import pytest

from gateway.cli.testca import Pair, TestCa
from tests.support.gateway import Gateway, run, serving, site
from tests.support.ports import free_port
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


def test_a_worker_that_stands_still_is_told_of_and_replaced(tmp_path: Path, authority: TestCa, leaf: Pair) -> None:
    with recorder(leaf, tmp_path / "taken", delay=0.01) as backend:
        answered: set[str] = set()
        lock = threading.Lock()
        admin = f"127.0.0.1:{free_port()}"
        place = site(tmp_path / "site", backend.port, authority, admin={"bind": admin})

        def page(path: str) -> str:
            with urllib.request.urlopen(f"http://{admin}/{path}", timeout=10) as answer:
                return str(answer.read().decode())

        with serving(place, silence=4.0) as gateway:
            ids = [f"mail-{number:03d}" for number in range(MAILS)]
            threads = [
                threading.Thread(target=deliver, args=(gateway, ids[part::SENDERS], answered, lock))
                for part in range(SENDERS)
            ]
            for thread in threads:
                thread.start()
            until(lambda: len(answered) >= 50, f"50 answers; {gateway.words()}", every=0.001)
            victim = gateway.worker_pids()[0]
            os.kill(victim, signal.SIGSTOP)
            hangs = gateway.event("process hangs")
            assert (hangs["pid"], hangs["state"]) == (victim, "T (stopped)")
            status = run("status", "-c", str(place.file))
            assert status.returncode == 1
            assert "1 of 2 ready" in status.stdout
            assert f"pid {victim}, not ready" in status.stdout
            assert "hangs, silent since 20" in status.stdout
            until(lambda: json.loads(page("health"))["status"] == "degraded", "the health page")
            assert "hangs, silent since 20" in page("")
            assert gateway.event("killed, it hangs")["pid"] == victim
            for thread in threads:
                thread.join(30)
            until(lambda: run("status", "-c", str(place.file)).returncode == 0, f"a new worker; {gateway.words()}")
            assert victim not in gateway.worker_pids()
            assert "gatepost_worker_hangs_total 1.0" in page("metrics")
            again: set[str] = set()
            deliver(gateway, [f"after-{number}" for number in range(20)], again, lock)
            assert len(again) == 20
            assert gateway.stop() == 0
        assert answered <= set(backend.ids())


def test_what_a_worker_that_stands_still_had_under_way_is_unknown(
    tmp_path: Path, authority: TestCa, leaf: Pair
) -> None:
    with recorder(leaf, tmp_path / "taken") as backend:
        place = site(tmp_path / "site", backend.port, authority, workers=1)
        answered: set[str] = set()
        with serving(place, silence=2.0) as gateway:
            backend.hold()
            client = threading.Thread(target=deliver, args=(gateway, ["held"], answered, threading.Lock()))
            client.start()
            until(lambda: backend.ids() == ["held"], f"the dot; {gateway.words()}")
            victim = gateway.worker_pids()[0]
            os.kill(victim, signal.SIGSTOP)
            assert gateway.event("process ended, will be restarted")["how"] == "SIGKILL"
            client.join(30)
            assert answered == set(), "the sender heard no answer, and its connection was lost"
            backend.go_on()

            def fates() -> list[str]:
                found = run("journal", "search", "-c", str(place.file), "--sender", "sue@sender.example", "--json")
                return [json.loads(line)["fate"] for line in found.stdout.splitlines()]

            assert until(fates, f"an entry; {gateway.words()}") == ["unknown"]
            deliver(gateway, ["held"], answered, threading.Lock())
            assert answered == {"held"}, "it brings the mail again"
            until(lambda: fates() == ["unknown", "delivered"], f"both entries; {fates()}")
            assert gateway.stop() == 0
