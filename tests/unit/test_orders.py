"""The line for orders: one order, its answers, and a place that is never taken from somebody else."""

import asyncio
import contextlib
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.control import Message
from gateway.orders import Absent, Orders, ordered


async def answered(order: str) -> AsyncIterator[Message]:
    yield {"progress": "thinking"}
    yield {"you": order}


def with_orders(path: Path, test: Callable[[], object]) -> object:
    """Runs `test` in a thread while orders are taken at `path`."""

    async def main() -> object:
        orders = Orders(answered)
        await orders.open(path)
        try:
            return await asyncio.to_thread(test)
        finally:
            await orders.close()

    return asyncio.run(main())


def test_an_order_is_answered_and_the_place_is_private_and_left_clean(tmp_path: Path) -> None:
    path = tmp_path / "gatepost.sock"

    def give() -> list[Message]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return list(ordered(path, "status", 5.0))

    assert with_orders(path, give) == [{"progress": "thinking"}, {"you": "status"}]
    assert not path.exists()
    with pytest.raises(Absent, match="no gateway runs"):
        list(ordered(path, "status", 5.0))


@pytest.mark.parametrize(("order", "level"), [("status", "debug"), ("reload", "info"), ("drain", "info")])
def test_who_only_looks_leaves_no_line_in_the_log(tmp_path: Path, order: str, level: str) -> None:
    with capture_logs() as told:
        with_orders(tmp_path / "s", lambda: list(ordered(tmp_path / "s", order, 5.0)))
    assert [(line["event"], line["log_level"]) for line in told] == [("order", level)]


def test_a_path_longer_than_a_sockets_name(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    assert with_orders(folder / "s", lambda: list(ordered(folder / "s", "drain", 5.0)))[-1] == {"you": "drain"}  # type: ignore[index]


@pytest.mark.parametrize("octets", [b"", b"no json\n", b"{}\n", b"[1]\n", b'{"order": "x', b"x" * 100_000 + b"\n"])
def test_what_is_no_order_is_not_answered(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "s"

    def give() -> bytes:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as line:
            line.settimeout(10)
            line.connect(str(path))
            with contextlib.suppress(OSError):
                line.sendall(octets)
                line.shutdown(socket.SHUT_WR)
                return line.recv(100)
        return b""

    assert with_orders(path, give) == b""


def test_what_a_killed_gateway_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(path))
    assert path.exists()
    assert with_orders(path, lambda: len(list(ordered(path, "status", 5.0)))) == 2


def test_another_gateways_place_and_other_files_stay(tmp_path: Path) -> None:
    path, other = tmp_path / "s", tmp_path / "file"
    other.write_text("precious")

    def meanwhile() -> list[Message]:
        for place in (path, other, tmp_path / "no" / "folder"):
            with capture_logs() as logs:
                with_orders(place, lambda: None)
            assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
                "no orders can be taken, signals do"
            ]
        return list(ordered(path, "status", 5.0))

    assert with_orders(path, meanwhile)[-1] == {"you": "status"}  # type: ignore[index]
    assert other.read_text() == "precious"


def test_moving(tmp_path: Path) -> None:
    async def main() -> None:
        orders = Orders(answered)
        await orders.open(tmp_path / "one")
        await orders.open(tmp_path / "one")
        await orders.open(tmp_path / "two")
        assert os.listdir(tmp_path) == ["two"]
        assert len(await asyncio.to_thread(lambda: list(ordered(tmp_path / "two", "status", 5.0)))) == 2
        await orders.open(None)
        assert os.listdir(tmp_path) == []
        await orders.close()

    asyncio.run(main())


def test_a_gateway_that_hangs_is_said(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as deaf:
        deaf.bind(str(tmp_path / "s"))
        deaf.listen(1)
        with pytest.raises(Absent, match="does not answer"):
            list(ordered(tmp_path / "s", "status", 0.05))


def test_one_that_talks_nonsense_is_said(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as mad:
        mad.bind(str(tmp_path / "s"))
        mad.listen(1)

        def talk() -> None:
            line, _ = mad.accept()
            with line:
                line.recv(100)
                line.sendall(b"hello\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(Absent, match="no answer that makes sense"):
            list(ordered(tmp_path / "s", "status", 5.0))
        thread.join()
