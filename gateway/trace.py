"""Where a process hangs, as it says itself: all its threads' stacks, in memory that outlives it.

The process writes from within the signal's handler, in C (`faulthandler`): this works in a loop of Python and in one of
C that never lets go of the interpreter's lock. One that is stopped, or waits in the kernel, writes nothing; its state
is then what can be told. Not on standard error: a line there is a JSON object, and others write as well. A process that
crashes in C leaves the same. Used by `child`, and by worker and console through `left_in`.
"""

import contextlib
import faulthandler
import os
import signal
from pathlib import Path

#: Tells a process to write down where it is. No core is dumped: it would hold mail and private keys.
SIGNAL = signal.SIGUSR1
_OCTETS = 16_000  # of a trace


class Trace:
    """The memory for the traces of one child after the other."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("trace", os.MFD_CLOEXEC)

    def clear(self) -> None:
        """Before the next process starts."""
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)  # the place to write is shared with who inherits it

    def read(self) -> list[str]:
        """The lines that the process left; none, and it said nothing. Of many the last: the main thread ends them."""
        start = max(os.fstat(self.descriptor).st_size - _OCTETS, 0)
        return os.pread(self.descriptor, _OCTETS, start).decode("ascii", "replace").splitlines()


def left_in(descriptor: int) -> None:
    """From now on this process leaves its trace there, when told to (`SIGNAL`) and when it crashes."""
    faulthandler.register(SIGNAL, file=descriptor, all_threads=True)
    faulthandler.enable(file=descriptor, all_threads=True)


def state(pid: int) -> str:
    """What the kernel says of a process: "R (running)", "T (stopped)", "D (disk sleep)"; "" when it has none."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("State:"):
                return line.partition(":")[2].strip()
    return ""
