"""The log must not hold up what it tells of: a full disk, a reader that has gone or hangs loses lines, never mails."""

import fcntl
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gateway import log as logging
from gateway.log import configure, flush, log

PROGRAM = """
from gateway.log import configure, log
configure()
for number in range(3):
    log.info("told", number=number)
print("went on")
"""


class Disk(io.RawIOBase):
    """Takes `room` octets, then none."""

    def __init__(self, room: int) -> None:
        self.room, self.octets = room, b""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = data[: self.room]
        self.room -= len(taken)
        self.octets += taken
        return len(taken)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_a_full_disk_loses_lines_and_says_so_later() -> None:
    disk = Disk(1_000_000)
    configure(file=disk)
    log.info("first")
    flush()
    disk.room = 20
    log.info("torn")
    log.info("lost")
    log.info("lost, too")
    flush()
    disk.room = 1_000_000
    log.info("after")
    flush()
    log.info("last")
    flush()
    lines = disk.octets.splitlines()
    whole = [json.loads(line) for line in lines if line.endswith(b"}")]
    assert [line["event"] for line in whole] == ["first", "after", "log works again", "last"]
    assert whole[2]["lost"] == 3
    assert len(lines) == 5  # the piece of the torn one stands alone


def test_a_pipe_that_takes_nothing_now() -> None:
    class Full(Disk):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            return None  # type: ignore[return-value] # what a pipe says that does not block

    configure(file=Full(0))
    log.info("lost")
    flush()


class Stuck(Disk):
    """A pipe that is full, until its reader reads on."""

    def __init__(self) -> None:
        super().__init__(10_000_000)
        self.asked, self.reads = threading.Event(), threading.Event()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.asked.set()
        self.reads.wait()
        return super().write(data)


def test_a_reader_that_reads_no_more_holds_nobody_up_and_is_told_what_it_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging, "_ROOM", 2000)
    pipe = Stuck()
    configure(file=pipe)
    log.info("first")
    assert pipe.asked.wait(10)
    for number in range(100):
        log.info("told", number=number)
    pipe.reads.set()
    flush()
    flush()  # what was lost is said when all else is
    first, *told, last = [json.loads(line) for line in pipe.octets.splitlines()]
    assert first["event"] == "first"
    assert [line["number"] for line in told] == list(range(len(told)))
    assert 10 < len(told) < 40
    assert (last["event"], last["level"], last["lost"]) == ("log works again", "warning", 100 - len(told))


def test_the_end_waits_for_the_last_lines_and_not_for_ever() -> None:
    program = 'from gateway.log import configure, log\nconfigure()\nfor n in range(500): log.info("told", number=n)\n'
    command = [sys.executable, "-W", "error", "-c", program]
    ended = subprocess.run(command, stderr=subprocess.PIPE, check=True)
    assert [json.loads(line)["number"] for line in ended.stderr.splitlines()] == list(range(500))
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, bytes(4096))
    assert subprocess.run(command, stderr=writer, check=False, timeout=30).returncode == 0
    os.close(reader)
    os.close(writer)


LIBRARY = """
import asyncio
from gateway.log import configure
configure("warning")
async def main():
    async def fails(): raise ValueError("one\\n\x1b[2Jtwo")
    asyncio.get_running_loop().create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(main())
"""


def test_what_a_library_says_is_a_line_as_well() -> None:
    ended = subprocess.run([sys.executable, "-c", LIBRARY], stderr=subprocess.PIPE, check=True)
    (told,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (told["event"], told["level"], told["name"]) == ("library", "error", "asyncio")
    assert told["said"].startswith("Task exception was never retrieved")
    assert "ValueError: one\n\x1b[2Jtwo" in told["exception"]


@pytest.mark.parametrize("place", ["/dev/full", "pipe", "closed"])
def test_a_process_goes_on_without_its_log(place: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    error = {"/dev/full": os.open("/dev/full", os.O_WRONLY), "pipe": writer}.get(place)
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    if place == "closed":
        command = ["sh", "-c", '"$@" 2>&-', "sh", *command]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=error, check=False)
    assert (ended.returncode, ended.stdout) == (0, b"went on\n")
    os.close(writer)
