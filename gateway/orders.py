"""The operator's line to a running gateway: a Unix socket with one order a connection, JSON objects a line.

`{"order": "status" | "reload" | "drain"}` is answered when it is done: by any number of `{"progress": TEXT}` and one
object that has no such key. The file belongs to the gateway's user alone (0600), so the kernel keeps all others but
root away. One that a killed gateway left behind is replaced; one that answers is another gateway's and stays.

`Orders` is the supervisor's side, `ordered` that of `gatepost status`, `reload` and `drain`.
"""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import orjson

from gateway.control import Message
from gateway.log import log

_LINE = 4096  # octets of an order
_NAME = 107  # octets of a socket's name
_ANSWER = 1_000_000
_ORDER_SECONDS = 5.0
_LAST_SECONDS = 2.0


class Absent(Exception):  # noqa: N818 - reads as the sentence it is
    """Nobody takes orders there. The text says where, why, and what to do."""


class Orders:
    """The socket on which orders are taken. `answer` gives the answers to one, the last of them final."""

    def __init__(self, answer: Callable[[str], AsyncIterator[Message]]) -> None:
        self._answer = answer
        self._path: Path | None = None
        self._inode = 0
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def open(self, path: Path | None) -> None:
        """Takes orders there, and no longer where it did. Where that cannot be, the log says so, and signals do."""
        if path == self._path:
            return
        self._shut()
        if path is None:
            return
        try:
            listener, self._inode = _bound(path)
        except OSError as error:
            log.warning("no orders can be taken, signals do", socket=str(path), why=error.strerror or str(error))
            return
        self._path = path
        self._server = await asyncio.start_unix_server(self._heard, sock=listener, limit=_LINE)

    async def close(self) -> None:
        """Answers what can be answered, and ends."""
        self._shut()
        if self._talks:
            await asyncio.wait(self._talks, timeout=_LAST_SECONDS)
        for talk in self._talks:
            talk.cancel()

    def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._path is not None:
            with contextlib.suppress(OSError):
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()
            self._path = None

    async def _heard(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        try:
            async with asyncio.timeout(_ORDER_SECONDS):
                order = orjson.loads(await reader.readline())["order"]
            tell = log.debug if order == "status" else log.info  # monitoring asks all day
            tell("order", order=str(order)[:20])
            async for message in self._answer(str(order)):
                writer.write(orjson.dumps(message, default=str) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError, KeyError, TypeError):
            pass  # gone, silent, or no order: nobody to tell
        finally:
            self._talks.discard(talk)
            writer.close()


def ordered(path: Path, order: str, seconds: float | None = None) -> Iterator[Message]:
    """Gives the order to the gateway there; its answers as they come. Raises `Absent`."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as line:
        line.settimeout(seconds)
        try:
            with _within(path) as place:
                line.connect(place)
            line.sendall(orjson.dumps({"order": order}) + b"\n")
            with line.makefile("rb") as answers:
                while answer := answers.readline(_ANSWER):
                    yield orjson.loads(answer)
        except TimeoutError:
            raise Absent(f"{path}: the gateway does not answer; its log says more") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise Absent(f"{path}: no gateway runs with this configuration") from None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "no answer that makes sense"
            raise Absent(f"{path}: {why}; be root or the gateway's user") from None


def _bound(path: Path) -> tuple[socket.socket, int]:
    """A listening socket at that path, and the file's number."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _within(path) as place:
            if path.exists():
                if not stat.S_ISSOCK(path.lstat().st_mode):
                    raise FileExistsError(0, "something else has that name")
                if _answers(place):
                    raise FileExistsError(0, "another gateway takes its orders there")
                path.unlink()
            mask = os.umask(0o177)
            try:
                listener.bind(place)
            finally:
                os.umask(mask)
        listener.listen(8)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener, path.stat().st_ino


def _answers(place: str) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        return probe.connect_ex(place) == 0


@contextlib.contextmanager
def _within(path: Path) -> Iterator[str]:
    """The path; a long one by a descriptor of its folder: a socket's name may have 107 octets, a path 4,095."""
    if len(os.fsencode(path.absolute())) <= _NAME:  # as it is, so that the kernel's list of sockets shows it
        yield str(path.absolute())
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
