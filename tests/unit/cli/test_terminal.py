"""What a terminal sees: no traceback after Ctrl-C, nor where it has no Unicode, nor where `| head` has gone."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.clock import ManualClock, SystemClock
from gateway.journal import Asked, Entry, Journal, Judged
from gateway.policy.cases import CLEAN
from gateway.policy.vocabulary import RECIPIENT_FACTS

POLICIES = Path(__file__).resolve().parents[3] / "policies"
GATEPOST = [sys.executable, "-m", "gateway.cli.main"]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six hundred mails by somebody with a name that is not ASCII and wants to be red."""
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    now = SystemClock().now()
    own = {name: value for name, value in CLEAN.items() if name in RECIPIENT_FACTS} | {"message.size": 0}
    facts = {
        **{name: value for name, value in CLEAN.items() if name not in own},
        "from.name": "J\u00e4ne \u65e5\u672c \x1b[31m",
        "dmarc.result": "fail",
        "dmarc.policy": "reject",
        "dkim.result": "none",
    }
    entry = Entry(
        id="",
        time=now,
        client="192.0.2.10",
        sender="sender@example.net",
        facts=facts,
        asked=(Asked("user@example.com", facts=own, taken=True),),
        judged=Judged("reject", "dmarc-reject"),
        size=5000,
    )
    writer = Journal(path, 3600.0, ManualClock(now))
    for number in range(600):
        writer.record(replace(entry, id=f"T{number:011d}"))
    writer.close()
    return path


def words(command: str, journal: Path) -> list[str]:
    return [*GATEPOST, *command.format(policies=POLICIES, journal=journal).split()]


EACH = [
    "policy explain T00000000001 --policies {policies} --journal {journal}",
    "policy replay --policies {policies} --journal {journal}",
    "policy diff {policies} {policies} --journal {journal}",
    "policy check --policies {policies} --failures",
    "policy test --policies {policies}",
    "journal show T00000000001 --journal {journal}",
    "journal search -n 999 --journal {journal}",
    "journal tail --journal {journal}",
]


@pytest.mark.parametrize("command", EACH, ids=lambda command: " ".join(command.split()[:2]))
def test_any_terminal(journal: Path, command: str) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "20"}
    done = subprocess.run(words(command, journal), capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode("ascii")
    assert b"\x1b" not in done.stdout


@pytest.mark.parametrize("command", ["journal tail -n 600 --journal {journal}", "policy schema"])
def test_a_reader_that_goes(journal: Path, command: str) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(words(command, journal), stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert done.stderr == b""


def test_ctrl_c_while_it_starts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import gateway.cli; raise KeyboardInterrupt"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")
    done = subprocess.run([sys.executable, "-c", "import gateway.cli; 1 / 0"], capture_output=True, check=False)
    assert b"ZeroDivisionError" in done.stderr


def test_ctrl_c_while_it_works(journal: Path) -> None:
    command = words("journal tail -f -n 1 --journal {journal}", journal)
    """Into a pipe, which sees the last mails at once."""
    # In the background of a shell the tests, and all that they start, would be deaf to Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    with started as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline().split()[2] == b"T00000000599"
            running.send_signal(signal.SIGINT)
            assert running.communicate(timeout=30) == (b"", b"")
        finally:
            running.kill()
    assert running.returncode == 0
