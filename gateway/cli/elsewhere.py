"""The gateway that was started with a configuration, found though the file names another socket by now.

It serves until it has reloaded, so it takes orders where the file said at its start. The kernel tells: who serves
with that file, and on which socket it listens. Only told, never used unasked: any user of the machine may run
a process of that name. Called by `running`.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_LISTENING = "00010000"  # __SO_ACCEPTCON among the flags in /proc/net/unix
_PROGRAM = "gateway.supervisor"  # what `serve` becomes, its one argument the configuration


def elsewhere(config: Path) -> str:
    """A hint for the operator; "" when no gateway with that configuration is found."""
    for pid in _serving(config.resolve()):
        places = _sockets(pid)
        if places:
            place = places[0]
            return (
                f"the gateway that was started with {config}, pid {pid}, takes orders at {place}: add --socket {place}"
            )
        return f"pid {pid} was started with {config}: add --socket FILE, or kill -HUP {pid} and read its log"
    return ""


def _serving(config: Path) -> Iterator[int]:
    for process in sorted(Path("/proc").iterdir()):
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # gone, or another user's
            words = [os.fsdecode(word) for word in (process / "cmdline").read_bytes().split(b"\0")]
            if _PROGRAM in words[:-1]:
                named = words[words.index(_PROGRAM) + 1]
                if (process / "cwd" / named).resolve() == config:
                    yield int(process.name)


def _sockets(pid: int) -> list[str]:
    """The paths of sockets on which that process listens."""
    listening: dict[str, str] = {}
    places: list[str] = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/unix").read_text("utf-8", "surrogateescape").splitlines():
            parts = line.split(maxsplit=7)
            if len(parts) == 8 and parts[3] == _LISTENING and parts[7].startswith("/"):
                listening[f"socket:[{parts[6]}]"] = parts[7]
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                places.append(listening.get(os.readlink(each), ""))
    return [place for place in places if place]
