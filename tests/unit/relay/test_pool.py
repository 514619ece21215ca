"""Which connection: the table of `choose`, and the shell with connections that are none."""

import asyncio
from collections.abc import Coroutine

import pytest

from gateway.clock import ManualClock
from gateway.relay import pool
from gateway.relay.client import Connection
from gateway.relay.fate import Congested, Unreachable
from gateway.relay.pool import Bounds, Choice, Idle, Pool, choose
from gateway.relay.turn import Turn

BOUNDS = Bounds(connections=3, idle_seconds=60, transactions=100)
FAR = Turn(1e12)


@pytest.mark.parametrize(
    ("idle", "busy", "fresh", "choice"),
    [
        ([(100, 1, 899)], 0, False, Choice("reuse", 0)),
        ([(100, 1, 900)], 0, False, Choice("open", retire=(0,))),  # what proved the backend then may have changed
        ([(90, 1, 10), (100, 1, 900)], 0, False, Choice("reuse", 0, (1,))),
        ([], 0, False, Choice("open")),
        ([], 2, False, Choice("open")),
        ([], 3, False, Choice("wait")),
        ([(100, 1)], 0, False, Choice("reuse", 0)),
        ([(90, 1), (100, 1)], 0, False, Choice("reuse", 1)),
        ([(90, 1), (100, 1)], 1, False, Choice("reuse", 1)),
        ([(90, 1)], 3, False, Choice("wait")),  # after a reload with fewer connections
        ([(40, 1)], 0, False, Choice("open", retire=(0,))),  # 60 s old
        ([(41, 1)], 0, False, Choice("reuse", 0)),
        ([(100, 100)], 0, False, Choice("open", retire=(0,))),  # carried enough
        ([(40, 1), (100, 1)], 0, False, Choice("reuse", 1, (0,))),
        ([(99, 1), (100, 100)], 0, False, Choice("reuse", 0, (1,))),
        ([(40, 1)], 3, False, Choice("wait", retire=(0,))),
        ([(100, 1)], 0, True, Choice("open")),
        ([(90, 1), (100, 1)], 1, True, Choice("open", retire=(0,))),  # room is made by the oldest
        ([(40, 1), (90, 1), (100, 1)], 0, True, Choice("open", retire=(0,))),
        ([], 3, True, Choice("wait")),
    ],
)
def test_choose(idle: list[tuple[float, int, float]], busy: int, fresh: bool, choice: Choice) -> None:
    known = [Idle(since, carried, 100 - sum(age)) for since, carried, *age in idle]
    assert choose(known, busy, BOUNDS, 100, fresh=fresh) == choice


def test_choose_never_goes_over_the_bound() -> None:
    for busy in range(4):
        for count in range(4 - busy):
            for fresh in (False, True):
                made = choose([Idle(100, 1, 100)] * count, busy, BOUNDS, 100, fresh=fresh)
                if made.action == "open":
                    assert busy + 1 + count - len(made.retire) <= BOUNDS.connections


class Fake(Connection):
    """A connection without a wire."""

    def __init__(self) -> None:
        self.transactions = 0
        self.alive = True
        self.left = False

    @property
    def usable(self) -> bool:
        return self.alive

    @property
    def gone(self) -> bool:
        return self.left

    def close(self) -> None:
        self.alive, self.left = False, True

    def abort(self) -> None:
        self.close()

    async def closed(self) -> None:
        pass


class House:
    """A pool of two, and what it opened."""

    def __init__(self, connections: int = 2) -> None:
        self.clock = ManualClock()
        self.opened: list[Fake] = []
        self.fail = False
        self.pool = Pool(Bounds(connections, 60, 3), self.clock, self.dial)

    async def dial(self, open_by: float) -> Connection:
        await asyncio.sleep(0)
        if self.fail:
            raise Unreachable("down")
        self.opened.append(Fake())
        return self.opened[-1]

    async def take(self, turn: Turn = FAR, *, fresh: bool = False) -> Fake:
        taken = await self.pool.take(turn, fresh=fresh)
        assert isinstance(taken, Fake)
        taken.transactions += 1
        return taken


def run(test: Coroutine[None, None, None]) -> None:
    asyncio.run(test)


def test_a_connection_given_back_is_used_again() -> None:
    async def test() -> None:
        house = House()
        first = await house.take()
        house.pool.give_back(first)
        assert (house.pool.busy, house.pool.idle) == (0, 1)
        assert await house.take() is first
        assert house.pool.busy == 1
        await house.pool.close()

    run(test())


def test_a_broken_one_is_forgotten() -> None:
    async def test() -> None:
        house = House()
        first = await house.take()
        first.alive = False
        house.pool.give_back(first)
        second = await house.take()
        assert second is not first
        house.pool.give_back(second)
        second.alive = False  # dies idle
        assert await house.take() is not second
        assert house.pool.idle == 0
        await house.pool.close()

    run(test())


def test_one_that_carried_enough_says_quit() -> None:
    async def test() -> None:
        house = House()
        for _ in range(3):
            house.pool.give_back(await house.take())
        assert house.opened[0].left
        assert (await house.take()) is house.opened[1]
        await house.pool.close()

    run(test())


def test_idle_ones_age() -> None:
    async def test() -> None:
        house = House()
        house.pool.give_back(await house.take())
        house.clock.advance(61)
        house.pool._age()  # what the timer calls
        assert house.opened[0].left
        assert house.pool.idle == 0
        await house.pool.close()

    run(test())


def test_waiters_stand_in_line() -> None:
    async def test() -> None:
        house = House(1)
        first = await house.take()
        order: list[int] = []

        async def wait(number: int) -> None:
            taken = await house.take()
            order.append(number)
            await asyncio.sleep(0)
            house.pool.give_back(taken)

        tasks = [asyncio.create_task(wait(number)) for number in range(5)]
        await asyncio.sleep(0)
        house.pool.give_back(first)
        late = asyncio.create_task(wait(5))  # may not overtake whoever was woken
        await asyncio.gather(*tasks, late)
        assert order == [0, 1, 2, 3, 4, 5]
        assert (house.pool.busy, house.pool.idle, len(house.opened)) == (0, 1, 3)  # two went after three mails
        await house.pool.close()

    run(test())


def test_who_waits_too_long_is_told() -> None:
    async def test() -> None:
        house = House(1)
        first = await house.take()
        with pytest.raises(Congested):
            await house.take(Turn(asyncio.get_running_loop().time()))
        house.pool.give_back(first)
        assert await house.take() is first
        await house.pool.close()

    run(test())


def test_who_has_other_hosts_waits_for_a_part_of_the_time() -> None:
    async def test() -> None:
        house = House(1)
        await house.take()
        now = asyncio.get_running_loop().time()
        with pytest.raises(Congested):
            await asyncio.wait_for(house.take(Turn(now + 0.4, others=1)), 0.3)

    run(test())


@pytest.mark.parametrize("woken", [False, True])
def test_a_line_disperses_but_for_those_who_have_nowhere_to_go(woken: bool) -> None:
    async def test() -> None:
        house = House(1)
        first = await house.take()
        goes = asyncio.create_task(house.take(Turn(FAR.deadline, others=1)))
        stays = asyncio.create_task(house.take())
        await asyncio.sleep(0)
        if woken:  # the place that a failure leaves is passed on
            house.pool.give_back(first)
            house.pool.disperse()
        else:
            house.pool.disperse()
            house.pool.give_back(first)
        with pytest.raises(Congested):
            await goes
        assert isinstance(await stays, Fake)
        assert (house.pool.busy, house.pool._promised, len(house.pool._waiters)) == (1, 0, 0)

    run(test())


def test_idle_connections_of_a_host_that_failed_leave() -> None:
    async def test() -> None:
        house = House()
        first = await house.take()
        house.pool.give_back(first)
        assert first.kept
        house.pool.disperse()
        assert first.left
        assert house.pool.idle == 0
        await house.pool.close()

    run(test())


@pytest.mark.parametrize("woken", [False, True])
def test_a_waiter_that_goes_passes_its_place_on(woken: bool) -> None:
    async def test() -> None:
        house = House(1)
        first = await house.take()
        goes = asyncio.create_task(house.take())
        stays = asyncio.create_task(house.take())
        await asyncio.sleep(0)
        if woken:
            house.pool.give_back(first)
            goes.cancel()
        else:
            goes.cancel()
            await asyncio.sleep(0)
            house.pool.give_back(first)
        assert await stays is first
        assert goes.cancelled()
        assert house.pool.busy == 1
        await house.pool.close()

    run(test())


def test_a_failed_opening_frees_the_place() -> None:
    async def test() -> None:
        house = House(1)
        house.fail = True
        tasks = [asyncio.create_task(house.take()) for _ in range(3)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [Unreachable] * 3
        assert house.pool.busy == 0
        house.fail = False
        opening = asyncio.create_task(house.take())
        await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        assert house.pool.busy == 0
        await house.pool.close()

    run(test())


def test_after_close_what_comes_back_leaves() -> None:
    async def test() -> None:
        house = House()
        idle, lent = await house.take(), await house.take()
        house.pool.give_back(idle)
        await house.pool.close()
        assert idle.left
        assert not lent.left
        house.pool.give_back(lent)
        assert lent.left

    run(test())


def test_one_that_does_not_leave_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clinging(Fake):
        aborted = False

        def close(self) -> None:
            self.alive = False

        def abort(self) -> None:
            self.aborted = True

        async def closed(self) -> None:
            await asyncio.Event().wait()

    async def test() -> None:
        house = House()
        one = Clinging()
        house.pool.busy += 1
        house.pool.give_back(one)
        await house.pool.close()
        assert one.aborted

    monkeypatch.setattr(pool, "_FAREWELL_SECONDS", 0.01)
    run(test())


def test_fresh_never_reuses() -> None:
    async def test() -> None:
        house = House(2)
        a, b = await house.take(), await house.take()
        house.pool.give_back(a)
        house.pool.give_back(b)
        fresh = await house.take(fresh=True)
        assert fresh not in (a, b)
        assert a.left  # the oldest made room
        assert house.pool.idle == 1
        await house.pool.close()

    run(test())


def test_a_connection_has_its_day() -> None:
    async def test() -> None:
        house = House()
        house.pool._bounds = Bounds(3, idle_seconds=60, transactions=100, age_seconds=100)
        first = await house.take()
        for _ in range(4):
            house.pool.give_back(first)
            house.clock.advance(20)
            assert await house.take() is first
        house.pool.give_back(first)
        house.clock.advance(20)
        assert await house.take() is not first
        assert first.left
        await house.pool.close()

    run(test())


def test_a_pool_that_is_used_no_more() -> None:
    async def test() -> None:
        house = House()
        one, other = await house.take(), await house.take()
        house.pool.give_back(one)
        assert not house.pool.retired()  # one is lent
        assert one.left
        house.pool.give_back(other)
        house.pool.retired()
        assert house.pool.retired()

    run(test())
