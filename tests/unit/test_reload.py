"""Reloads on demand: who hears what, and what stays in force."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import reload
from gateway.bundle import Bundle, Refused, Summary
from gateway.reload import STOPPING, Reload

OLD = Summary((("127.0.0.1:0",),), 2, None, "r1")


def made(summary: Summary, *warnings: str) -> Bundle:
    return Bundle(os.memfd_create("bundle"), summary, warnings)


def played(
    monkeypatch: pytest.MonkeyPatch, outcomes: list[Bundle | Exception], test: Callable[[Reload], Awaitable[None]]
) -> None:
    """`test` with reloads under way; each check ends with the next of `outcomes`. There are no workers."""

    async def validated(*_: object, **__: object) -> Bundle:
        await asyncio.sleep(0)
        match outcomes.pop(0):
            case Exception() as error:
                raise error
            case bundle:
                return bundle

    async def nothing() -> None:
        pass

    monkeypatch.setattr(reload, "validated", validated)

    async def main() -> None:
        it = Reload(("worker",), Path("gatepost.yaml"), 1.0)
        it.bundle = made(OLD)
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            reloading = tasks.create_task(it.on_demand([], nothing))
            await test(it)
            reloading.cancel()
        it.bundle.close()

    asyncio.run(main())


def test_all_who_asked_hear_of_one_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(it: Reload) -> None:
        first, second = await asyncio.gather(it.outcome(), it.outcome())
        assert first == second
        assert (first["ok"], first["revision"], first["warnings"]) == (True, "r2", ("mind the gap",))
        assert (it.counts, it.last["ok"]) == ({"accepted": 1, "refused": 0}, True)

    played(monkeypatch, [made(replace(OLD, revision="r2"), "mind the gap")], test)


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Refused("gatepost.yaml:1:1: no"), "gatepost.yaml:1:1: no"),
        (RuntimeError("a bug"), "internal error: a bug"),
        (OLD.__class__((("127.0.0.1:0",),), 3, None, "r2"), "restart the gateway for that"),
    ],
)
def test_a_bad_one_never_replaces_a_good_one(
    monkeypatch: pytest.MonkeyPatch, outcome: Summary | Exception, why: str
) -> None:
    async def test(it: Reload) -> None:
        before = it.bundle
        told = await it.outcome()
        assert (told["ok"], told["revision"]) == (False, "r1")
        assert why in str(told["error"])
        assert it.bundle is before
        assert it.counts == {"accepted": 0, "refused": 1}
        assert (await it.outcome())["ok"], "the next is taken"

    bad = made(outcome) if isinstance(outcome, Summary) else outcome
    played(monkeypatch, [bad, made(replace(OLD, revision="r3"))], test)


def test_who_asks_when_it_ends_hears_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[asyncio.Future[object]] = []

    async def test(it: Reload) -> None:
        asked = it.outcome()
        it.stop()
        assert await asked == STOPPING
        waiting.append(it.outcome())  # type: ignore[arg-type]
        await asyncio.sleep(0)  # it is under way when the task ends

    played(monkeypatch, [made(OLD), made(OLD)], test)
    assert waiting[0].result() == STOPPING
