"""The resolver: cache, single flight, deadline, aliases; over a source that counts its questions."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from gateway.clock import ManualClock
from gateway.dns.answer import Resource
from gateway.dns.resolver import CEILING, FAILURE, FLOOR, MAX_ALIASES, NEGATIVE_CEILING, Resolver, Response
from gateway.mail.terms import Unavailable


class Scripted:
    """A source that answers by a function, counts, and can be held back."""

    def __init__(self, answer: Callable[[str, str], Response]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str]] = []
        self.gate: asyncio.Event | None = None

    async def ask(self, name: str, rdtype: str, timeout: float) -> Response:
        self.asked.append((name, rdtype))
        if self.gate is not None:
            await self.gate.wait()
        return self.answer(name, rdtype)


def address(name: str, ttl: float = 300.0, authenticated: bool = False) -> Response:
    return Response((Resource(name, "A", ttl, "192.0.2.1"),), authenticated=authenticated)


def test_the_cache_lives_as_long_as_the_ttl() -> None:
    source, clock = Scripted(lambda name, _: address(name, 300.0)), ManualClock()
    resolver = Resolver(source, clock)

    async def main() -> None:
        for _ in range(3):
            assert (await resolver.query("example.com", "A")).records == ("192.0.2.1",)
        assert (await resolver.query("Example.COM.", "A")).records == ("192.0.2.1",)
        assert len(source.asked) == 1
        assert resolver.cached("example.com", "A") is not None
        clock.advance(299)
        await resolver.query("example.com", "A")
        assert len(source.asked) == 1
        clock.advance(1)
        assert resolver.cached("example.com", "A") is None
        await resolver.query("example.com", "A")
        assert len(source.asked) == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("response", "lives"),
    [
        (Response((Resource("example.com", "A", 0.0, "192.0.2.1"),)), FLOOR),
        (Response((Resource("example.com", "A", 1e9, "192.0.2.1"),)), CEILING),
        (Response(nxdomain=True, negative_ttl=60.0), 60.0),
        (Response(nxdomain=True, negative_ttl=1e9), NEGATIVE_CEILING),
        (Response(nxdomain=True), FLOOR),
        (Response(), FLOOR),
    ],
)
def test_lifetimes_are_bounded(response: Response, lives: float) -> None:
    source, clock = Scripted(lambda *_: response), ManualClock()
    resolver = Resolver(source, clock)

    async def main() -> None:
        await resolver.query("example.com", "A")
        clock.advance(lives - 0.5)
        await resolver.query("example.com", "A")
        assert len(source.asked) == 1
        clock.advance(1.0)
        await resolver.query("example.com", "A")
        assert len(source.asked) == 2

    asyncio.run(main())


def test_a_failure_is_remembered_for_a_moment() -> None:
    def fail(name: str, rdtype: str) -> Response:
        raise Unavailable("SERVFAIL")

    source, clock = Scripted(fail), ManualClock()
    resolver = Resolver(source, clock)

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(Unavailable, match="SERVFAIL"):
                await resolver.query("example.com", "A")
        assert len(source.asked) == 1
        clock.advance(FAILURE)
        source.answer = lambda name, _: address(name)
        assert (await resolver.query("example.com", "A")).records

    asyncio.run(main())


def test_a_crashing_source_is_unavailable() -> None:
    source = Scripted(lambda *_: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(Unavailable):
        asyncio.run(Resolver(source, ManualClock()).query("example.com", "A"))


def test_one_flight_for_all_askers() -> None:
    source = Scripted(lambda name, _: address(name))
    resolver = Resolver(source, ManualClock())

    async def main() -> None:
        source.gate = asyncio.Event()
        askers = [asyncio.create_task(resolver.query("example.com", "A")) for _ in range(50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        askers[0].cancel()  # the first asker goes; its question stays
        askers[1].cancel()
        await asyncio.sleep(0)
        source.gate.set()
        outcomes = await asyncio.gather(*askers, return_exceptions=True)
        assert [type(o) for o in outcomes[:2]] == [asyncio.CancelledError] * 2
        assert all(not isinstance(o, BaseException) and o.records for o in outcomes[2:])
        assert source.asked == [("example.com", "A")]

    asyncio.run(main())


def test_a_question_whose_askers_all_went_leaves_no_trace_but_its_answer() -> None:
    source = Scripted(lambda name, _: address(name))
    resolver = Resolver(source, ManualClock())

    async def main() -> None:
        source.gate = asyncio.Event()
        asker = asyncio.create_task(resolver.query("example.com", "A"))
        await asyncio.sleep(0)
        asker.cancel()
        source.gate.set()
        await asyncio.gather(asker, return_exceptions=True)
        assert (await resolver.query("example.com", "A")).records
        assert len(source.asked) == 1

    asyncio.run(main())


def test_the_deadline_is_total() -> None:
    source = Scripted(lambda name, _: address(name))
    resolver = Resolver(source, ManualClock(), timeout=0.01)

    async def main() -> None:
        source.gate = asyncio.Event()
        with pytest.raises(Unavailable, match=r"0\.01 s"):
            await resolver.query("example.com", "A")

    asyncio.run(main())


def test_close_ends_open_questions() -> None:
    """Who asks was not cancelled itself: a reload would leave a client that it greets without a word, for ever."""
    source = Scripted(lambda name, _: address(name))
    resolver = Resolver(source, ManualClock())

    async def main() -> None:
        source.gate = asyncio.Event()
        asker = asyncio.create_task(resolver.query("example.com", "A"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await resolver.close()
        with pytest.raises(Unavailable, match="closed"):
            await asker

    asyncio.run(main())


def test_an_asker_that_is_cancelled_with_the_question_is_cancelled() -> None:
    source = Scripted(lambda name, _: address(name))
    resolver = Resolver(source, ManualClock())

    async def main() -> None:
        source.gate = asyncio.Event()
        asker = asyncio.create_task(resolver.query("example.com", "A"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asker.cancel()
        await resolver.close()
        with pytest.raises(asyncio.CancelledError):
            await asker

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", ".", "a..example", "a" * 64 + ".example", "bücher.example", "x\0.example"])
def test_a_name_that_cannot_exist_is_not_asked_for(name: str) -> None:
    source = Scripted(lambda name, _: address(name))
    answer = asyncio.run(Resolver(source, ManualClock()).query(name, "A"))
    assert answer.nxdomain
    assert source.asked == []


def chain(*names: str, last: str = "192.0.2.1", ttl: float = 300.0) -> tuple[Resource, ...]:
    aliases = tuple(Resource(a, "CNAME", ttl, b) for a, b in itertools.pairwise(names))
    return (*aliases, Resource(names[-1], "A", 300.0, last))


def test_an_alias_chain_in_one_response() -> None:
    source = Scripted(lambda *_: Response(chain("a.example", "b.example", "c.example"), authenticated=True))
    answer = asyncio.run(Resolver(source, ManualClock()).query("a.example", "A"))
    assert answer.records == ("192.0.2.1",)
    assert answer.authenticated
    assert len(source.asked) == 1


def test_an_alias_chain_over_several_questions_is_authentic_only_if_every_step_is() -> None:
    def answer_to(name: str, _: str) -> Response:
        if name == "a.example":
            return Response((Resource(name, "CNAME", 300.0, "b.example"),), authenticated=False)
        return address(name, authenticated=True)

    source = Scripted(answer_to)
    answer = asyncio.run(Resolver(source, ManualClock()).query("a.example", "A"))
    assert answer.records == ("192.0.2.1",)
    assert not answer.authenticated
    assert [name for name, _ in source.asked] == ["a.example", "b.example"]


def test_the_shortest_ttl_of_a_chain_rules() -> None:
    source, clock = Scripted(lambda *_: Response(chain("a.example", "b.example", ttl=10.0))), ManualClock()
    resolver = Resolver(source, clock)

    async def main() -> None:
        await resolver.query("a.example", "A")
        clock.advance(11)
        await resolver.query("a.example", "A")
        assert len(source.asked) == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("response", "nxdomain"),
    [
        (Response((Resource("a.example", "CNAME", 300.0, "b.example"),), nxdomain=True, negative_ttl=60.0), True),
        (Response((Resource("a.example", "CNAME", 300.0, "b.example"),), negative_ttl=60.0), False),
        (Response((Resource("a.example", "CNAME", 300.0, ""),)), True),
        (Response((Resource("other.example", "A", 300.0, "192.0.2.66"),), negative_ttl=60.0), False),
    ],
)
def test_a_chain_that_ends_in_nothing(response: Response, nxdomain: bool) -> None:
    source = Scripted(lambda *_: response)
    answer = asyncio.run(Resolver(source, ManualClock()).query("a.example", "A"))
    assert answer.records == ()
    assert answer.nxdomain is nxdomain
    assert len(source.asked) == 1


def test_a_chain_without_end_is_unavailable() -> None:
    def longer(name: str, _: str) -> Response:
        return Response((Resource(name, "CNAME", 300.0, "x" + name),))

    source = Scripted(longer)
    with pytest.raises(Unavailable, match="aliases"):
        asyncio.run(Resolver(source, ManualClock()).query("a.example", "A"))
    assert len(source.asked) == MAX_ALIASES + 1


def test_the_cache_is_bounded_by_entries_and_forgets_what_was_used_longest_ago() -> None:
    source = Scripted(lambda name, _: address(name))
    resolver = Resolver(source, ManualClock(), entries=3)

    async def main() -> None:
        for name in ("a.example", "b.example", "c.example", "a.example", "d.example"):
            await resolver.query(name, "A")
        assert resolver.cached("b.example", "A") is None
        assert resolver.cached("a.example", "A") is not None

    asyncio.run(main())


def test_the_cache_is_bounded_by_octets() -> None:
    huge = b"x" * 60_000
    source = Scripted(lambda name, _: Response((Resource(name, "TXT", 300.0, huge),)))
    resolver = Resolver(source, ManualClock(), octets=200_000)

    async def main() -> None:
        for number in range(50):
            assert await resolver.txt(f"n{number}.example") == [huge]
        held = [number for number in range(50) if resolver.cached(f"n{number}.example", "TXT")]
        assert held == [47, 48, 49]

    asyncio.run(main())
