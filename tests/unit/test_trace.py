"""What a process leaves that is told to say where it is, that crashes, that is stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateway import trace
from gateway.trace import Trace

HANGS = """
import sys
from gateway import trace
trace.left_in(int(sys.argv[1]))
def stuck():
    print("ready", flush=True)
    while True:
        pass
stuck()
"""

THREADS = """
import threading
for _ in range(90):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@pytest.fixture
def place() -> Iterator[Trace]:
    made = Trace()
    yield made
    os.close(made.descriptor)


@pytest.fixture
def hanging(place: Trace) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", HANGS, str(place.descriptor)]
    with subprocess.Popen(command, pass_fds=(place.descriptor,), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


@pytest.mark.parametrize("number", [trace.SIGNAL, signal.SIGSEGV])
def test_it_says_where_it_is(place: Trace, hanging: "subprocess.Popen[bytes]", number: int) -> None:
    assert place.read() == []
    hanging.send_signal(number)
    while "in <module>" not in "".join(place.read()):
        assert hanging.poll() in {None, -number}
    assert any(line.endswith("in stuck") for line in place.read())
    place.clear()
    assert place.read() == []
    if number == trace.SIGNAL:  # it lives, and says it again from the beginning
        hanging.send_signal(number)
        while "in <module>" not in "".join(place.read()):
            assert hanging.poll() is None
        assert "\0" not in "".join(place.read())


def test_of_many_threads_the_main_one_is_told(place: Trace) -> None:
    command = [sys.executable, "-c", THREADS + HANGS, str(place.descriptor)]
    with subprocess.Popen(command, pass_fds=(place.descriptor,), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(trace.SIGNAL)
        while "in <module>" not in "".join(place.read()):
            assert process.poll() is None
        assert os.fstat(place.descriptor).st_size > 20_000 > len("\n".join(place.read()))
        assert any(line.endswith("in stuck") for line in place.read())
        process.kill()


def test_the_kernels_word(hanging: "subprocess.Popen[bytes]") -> None:
    assert trace.state(hanging.pid) == "R (running)"
    hanging.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, hanging.pid, os.WSTOPPED)
    assert trace.state(hanging.pid) == "T (stopped)"
    hanging.kill()
    hanging.wait()
    assert trace.state(hanging.pid) == ""
