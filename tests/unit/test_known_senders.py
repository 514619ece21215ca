"""Who is known: senders of delivered mail, where a rule asks for it, over the pipeline."""

from pathlib import Path

import pytest

from gateway.mail.reply import Reply
from gateway.mail.terms import Unavailable
from gateway.pipeline import Pipeline
from gateway.relay.delivery import Refused
from tests.unit.test_pipeline import Client, Stage, play, relay_of

TAG = """\
  - id: first-contact
    when: from.known_days < 0
    then: {tag: {name: X-First, value: "known for {from.known_days} days"}}
"""
FIRST, KNOWN = b"X-First: known for -1 days", b"X-First"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def rows(stage: Stage) -> int:
    assert stage.store._file.database is not None
    return int(stage.store._file.database.execute("SELECT count(*) FROM sender").fetchone()[0])


async def fields(client: Client, stage: Stage, sender: str = "a@good.example") -> bytes:
    reply = await client.whole(sender, "joe@example.com")
    assert reply.startswith("250")
    return relay_of(client.pipeline.house).sent[-1][1]


def test_the_first_mail_is_tagged_and_the_second_is_not(stage: Stage) -> None:
    async def scenario() -> None:
        client = Client(Pipeline(stage.house(TAG)))
        assert FIRST in await fields(client, stage)
        assert KNOWN not in await fields(client, stage)
        first, second = list(stage.journal.entries.values())
        assert (first.facts["from.known_days"], second.facts["from.known_days"]) == (-1, 0)
        stage.clock.advance(3 * 86_400)
        await fields(client, stage)
        assert list(stage.journal.entries.values())[-1].facts["from.known_days"] == 3
        # The same From from somebody who proves nothing is new, and new to itself alone.
        stranger = Client(client.pipeline, ip="198.51.100.9")
        assert FIRST in await fields(stranger, stage, "x@strict.example")
        assert KNOWN not in await fields(stranger, stage, "x@strict.example")
        assert rows(stage) == 2

    play(scenario)


@pytest.mark.parametrize("code", [451, 550])
def test_who_was_not_delivered_is_not_known(stage: Stage, code: int) -> None:
    async def scenario() -> None:
        house = stage.house(TAG)
        relay_of(house).fate = Refused(Reply(code, f"{code // 100}.3.0", ("no",)), "refused")
        assert (await Client(Pipeline(house)).whole("a@good.example", "joe@example.com")).startswith(f"{code}")
        assert rows(stage) == 0

    play(scenario)


@pytest.mark.parametrize("then", ["quarantine", "reject", "defer"])
def test_who_was_held_or_refused_is_not_known(stage: Stage, then: str) -> None:
    async def scenario() -> None:
        house = stage.house(f"  - {{id: new, when: from.known_days < 0, then: {then}}}\n")
        await Client(Pipeline(house)).whole("a@good.example", "joe@example.com")
        assert rows(stage) == 0

    play(scenario)


def test_without_a_rule_that_asks_nothing_is_kept(stage: Stage) -> None:
    async def scenario() -> None:
        client = Client(Pipeline(stage.house("")))
        assert (await client.whole("a@good.example", "joe@example.com")).startswith("250")
        assert rows(stage) == 0
        (entry,) = stage.journal.entries.values()
        assert "from.known_days" not in entry.facts

    play(scenario)


def test_a_mail_that_no_rule_asked_about_counts_all_the_same(stage: Stage) -> None:
    """An earlier rule accepted it: the sender is no stranger when the next one is judged."""

    async def scenario() -> None:
        accept = "  - {id: partner, when: rcpt.address == 'joe@example.com', then: accept, owner: a, expires: never}\n"
        client = Client(Pipeline(stage.house(accept + TAG)))
        await fields(client, stage)
        assert rows(stage) == 1
        assert (await client.whole("a@good.example", "sue@example.com")).startswith("250")
        assert KNOWN not in relay_of(client.pipeline.house).sent[-1][1]

    play(scenario)


@pytest.mark.parametrize("error", [Unavailable("away"), RuntimeError("a bug")])
def test_what_fails_after_the_delivery_changes_no_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    async def scenario() -> None:
        client = Client(Pipeline(stage.house(TAG)))
        monkeypatch.setattr(stage.store, "remember_sender", fail)
        assert FIRST in await fields(client, stage)

    play(scenario)


def test_a_state_that_is_away_skips_the_rule(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Unavailable("away")

    async def scenario() -> None:
        client = Client(Pipeline(stage.house(TAG)))
        monkeypatch.setattr(stage.store, "sender", fail)
        assert KNOWN not in await fields(client, stage)
        (entry,) = stage.journal.entries.values()
        assert entry.failed["history"] == "away"

    play(scenario)
