"""The log must not hold up what it tells of: a full disk or a reader that has gone loses lines, never mails."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gateway.log import configure, log

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
    disk.room = 20
    log.info("torn")
    log.info("lost")
    log.info("lost, too")
    disk.room = 1_000_000
    log.info("after")
    log.info("last")
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
