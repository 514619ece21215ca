"""Large mail: unchanged, and in bounded memory."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.testca import Pair, TestCa
from tests.support.gateway import Gateway, memory, serving, site
from tests.support.recorder import Recorder, recorder
from tests.support.smtp import stuffed

MB = 1_000_000
COUNT, AT_ONCE, SIZE = 50, 5, 25 * MB


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """25 MB of lines, some of which start with dots; hashing and stuffing it is work enough for one time."""
    lines = b"".join(
        (b".%d dotted " % n if n % 50 == 0 else b"%d " % n).ljust(74, b"abcdefghij"[n % 10 : n % 10 + 1]) + b"\r\n"
        for n in range(1000)
    )
    return (lines * (SIZE // len(lines) + 1))[: SIZE - 2] + b"\r\n"


@pytest.fixture
def running(tmp_path: Path, authority: TestCa, leaf: Pair) -> Iterator[tuple[Gateway, Recorder]]:
    with (
        recorder(leaf, tmp_path / "taken") as backend,
        # One worker, so that all that come at once meet in its memory.
        serving(site(tmp_path / "site", backend.port, authority, workers=1)) as gateway,
    ):
        yield gateway, backend


def test_an_idle_worker_is_small(running: tuple[Gateway, Recorder]) -> None:
    gateway, _ = running
    workers = gateway.worker_pids()
    assert workers
    assert max(memory(pid, "VmRSS") for pid in workers) < 90 * MB


@pytest.mark.timeout(300)
def test_fifty_of_25_megabytes_arrive_unchanged_in_bounded_memory(
    running: tuple[Gateway, Recorder], content: bytes
) -> None:
    gateway, backend = running
    expected: dict[str, str] = {}
    faults: list[str] = []
    lock = threading.Lock()
    tail = stuffed(content)

    def send(ids: list[str]) -> None:
        with gateway.client(timeout=120) as client:
            client.ehlo()
            for mail in ids:
                head = f"X-Test-Id: {mail}\r\nSubject: large\r\n\r\n".encode()
                digest = hashlib.sha256(head)
                digest.update(content)
                for answer in client.envelope(
                    "sue@sender.example", "alice@example.com", parameters=f" SIZE={len(head) + len(content)}"
                ):
                    assert answer.code == 250, answer
                assert client.command("DATA").code == 354
                client.send(head)
                client.send(memoryview(tail))
                answer = client.answer()
                with lock:
                    expected[mail] = digest.hexdigest()
                    if answer.code != 250:
                        faults.append(str(answer))

    ids = [f"large-{number}" for number in range(COUNT)]
    threads = [threading.Thread(target=send, args=(ids[part::AT_ONCE],)) for part in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(280)
    assert not faults
    assert {str(r["id"]): r["sha256"] for r in backend.records()} == expected
    assert len(expected) == COUNT
    peaks = {pid: memory(pid, "VmHWM") // MB for pid in gateway.worker_pids()}
    print("peak memory of the workers, MB:", peaks)
    assert max(peaks.values()) < 400
