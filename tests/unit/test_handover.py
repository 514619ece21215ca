"""A new bundle for all workers: who answers, who cannot be told, who dies, who is silent."""

import asyncio
import os
from pathlib import Path
from typing import cast

import pytest

from gateway import handover
from gateway.bundle import Bundle, Summary
from gateway.child import Child
from gateway.control import Message
from gateway.handover import Handover


class Worker:
    """What a handover asks of a child."""

    def __init__(self, name: str, *, pid: int = 1, reads: bool = True) -> None:
        self.name = name
        self.pid = pid
        self.reads = reads
        self.told: list[Message] = []
        self.recycled: list[tuple[Message, float]] = []

    def send(self, message: Message, descriptor: int | None = None) -> bool:
        assert descriptor is not None
        assert os.pread(descriptor, 10, 0) == b"new"
        self.told.append(message)
        return self.reads

    def recycle(self, message: Message, patience: float) -> None:
        self.recycled.append((message, patience))


def give(tmp_path: Path, *workers: Worker, answers: tuple[Worker, ...]) -> None:
    async def main() -> None:
        (tmp_path / "bundle").write_bytes(b"new")
        bundle = Bundle(os.open(tmp_path / "bundle", os.O_RDONLY), Summary((), 1, None, "r2"))
        made = Handover(7.0)
        for worker in answers:
            asyncio.get_running_loop().call_soon(made.confirm, cast(Child, worker))
        await made.give(bundle, cast("list[Child]", workers))
        bundle.close()

    asyncio.run(main())


def test_every_worker_is_told_and_waited_for(tmp_path: Path) -> None:
    workers = Worker("a"), Worker("b")
    give(tmp_path, *workers, answers=workers)
    assert [worker.told for worker in workers] == [[{"reload": "r2"}]] * 2
    assert [worker.recycled for worker in workers] == [[], []]


def test_where_no_descriptor_is_left_it_is_replaced() -> None:
    """Half of a reload would else be told as refused: the others run the new bundle."""
    worker, bundle = Worker("a"), Bundle(-1, Summary((), 1, None, "r2"))
    assert asyncio.run(Handover(7.0).give(bundle, [cast(Child, worker)])) == {}
    assert (worker.told, len(worker.recycled)) == ([], 1)


def test_one_that_is_between_two_lives_needs_none(tmp_path: Path) -> None:
    dead = Worker("dead", pid=0)
    give(tmp_path, dead, answers=())
    assert (dead.told, dead.recycled) == ([], [])


def test_one_that_does_not_read_is_replaced(tmp_path: Path) -> None:
    stuck = Worker("stuck", reads=False)
    give(tmp_path, stuck, answers=())
    assert stuck.recycled == [({"drain": 7.0}, 12.0)]


def test_one_that_does_not_answer_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_SECONDS", 0.02)
    good, silent = Worker("good"), Worker("silent")
    give(tmp_path, good, silent, answers=(good,))
    assert (good.recycled, silent.recycled) == ([], [({"drain": 7.0}, 12.0)])
