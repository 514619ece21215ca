"""What is noted of DNS questions: short, bounded, and by all tasks of whoever asks."""

import asyncio

import pytest

from gateway.clock import ManualClock
from gateway.dns.answer import Answer, Record
from gateway.dns.questions import Questions, noting, short
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.terms import Unavailable


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(("192.0.2.1", "192.0.2.2")), "192.0.2.1, 192.0.2.2"),
        (Answer((b"v=spf1 -all", b"\xff\n")), '"v=spf1 -all", "\\xff\n"'),
        (Answer((b"x" * 5000,)), '"' + "x" * 199 + "..."),
        (Answer(((10, "mx.example.org"), (0, ""))), "10 mx.example.org, 0 ."),
        (Answer(((3, 1, 1, b"\xab\xcd"),)), "3 1 1 abcd"),
        (Answer(()), "no such record"),
        (Answer((), nxdomain=True), "NXDOMAIN"),
        (Answer(tuple("abcdefghij")), "a, b, c, d, e, f, g, h, and 2 more"),
        (None, "SERVFAIL"),
    ],
)  # fmt: skip
def test_short(answer: Answer[Record] | None, text: str) -> None:
    assert short(answer, "SERVFAIL") == text


def test_bounded() -> None:
    questions = Questions()
    for number in range(150):
        questions.note((f"{number}.example", "A"), "192.0.2.1")
    questions.note(("0.example", "A"), "192.0.2.2")
    told = questions.told()
    assert len(told) == 101
    assert told["0.example A"] == "192.0.2.2"
    assert told["..."] == "50 more were asked"


def test_answers_are_noted_from_source_and_cache_and_by_tasks_below() -> None:
    zone = Zone({"example.org": {"TXT": ["v=spf1 -all"]}, "sick.example": {"A": "SERVFAIL"}})

    async def ask(resolver: Resolver, questions: Questions) -> None:
        noting.set(questions)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(resolver.txt("Example.ORG."))
            tasks.create_task(resolver.query("none.example.org", "A"))
        with pytest.raises(Unavailable):
            await resolver.query("sick.example", "A")
        with pytest.raises(Unavailable):
            resolver.cached("sick.example", "A")
        assert resolver.cached("never.example", "A") is None

    async def main() -> None:
        resolver = Resolver(zone, ManualClock())
        first, second, other = Questions(), Questions(), Questions()
        await asyncio.create_task(ask(resolver, first))
        await asyncio.create_task(ask(resolver, second))
        await resolver.txt("example.org")  # nobody notes
        assert first.told() == second.told()
        assert first.told()["example.org TXT"] == '"v=spf1 -all"'
        assert first.told()["none.example.org A"] == "NXDOMAIN"
        assert "sick.example" in first.told()["sick.example A"]
        assert other.told() == {}

    asyncio.run(main())
