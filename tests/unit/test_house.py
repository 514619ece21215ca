"""What a house asks for: checks that wait for a rule to name them, over the pipeline."""

from pathlib import Path
from typing import Any

import pytest

from gateway.build import build, plan
from gateway.checks.dnsbl import Dnsbl
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.files import DiskFiles
from gateway.house import House
from gateway.mail.reply import Reply
from gateway.pipeline import Pipeline
from gateway.relay.delivery import Delivered
from tests.unit.checks.made import mail, part
from tests.unit.test_pipeline import CONFIG, ZONE, Client, Stage, StandIn, play

LISTS = "dnsbl: {zones: {bl.example.org: {weight: 5}, allow.example.org: {weight: -2, replies: 127.0.0.5}}}\n"
LISTED = {
    "2.0.0.127.bl.example.org": {"A": ["127.0.0.2"]},
    "7.2.0.192.bl.example.org": {"A": ["127.0.0.2"]},
    "7.2.0.192.allow.example.org": {"A": ["127.0.0.5"]},
}
ON_LISTS = "  - {id: listed, when: dnsbl.score > 2, then: reject}\n"
PROGRAMS = "  - {id: programs, when: 'message.attachments.exists(a, a.kind == \"executable\")', then: reject}\n"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def house(stage: Stage, rules: str, zone: dict[str, Any] | None = None) -> House:
    (stage.folder / "policies" / "a.yaml").write_text("rules:\n" + rules)
    (stage.folder / "gatepost.yaml").write_text(CONFIG + LISTS)
    made = plan(stage.folder / "gatepost.yaml", DiskFiles(), stage.clock, today=True)
    resolver = Resolver(Zone(ZONE | (zone or {})), stage.clock)
    found = build(
        made, clock=stage.clock, store=stage.store, resolver=resolver, journal=stage.journal, relay=StandIn  # type: ignore[arg-type]
    )  # fmt: skip
    relay = found.relay
    assert isinstance(relay, StandIn)
    relay.answers, relay.asked, relay.sent = {}, [], []
    relay.fate = Delivered(Reply(250, "2.0.0", ("OK",)), "127.0.0.1:1")
    return found


def test_lists_are_asked_early_when_a_rule_names_them(stage: Stage) -> None:
    assert house(stage, PROGRAMS).early == frozenset()
    assert house(stage, ON_LISTS).early == {Dnsbl}


def test_a_listed_client_is_refused(stage: Stage) -> None:
    async def scenario() -> None:
        client = Client(Pipeline(house(stage, ON_LISTS, LISTED)))
        assert await client.pipeline.connected(client.session) is None
        assert (await client.whole("a@good.example", "joe@example.com")).startswith("550 5.7.1")
        facts = stage.journal.entries["T00000000001"].facts
        assert (facts["dnsbl.score"], facts["dnsbl.zones"]) == (3, ["bl.example.org", "allow.example.org"])

    play(scenario)


def test_what_no_rule_names_is_not_looked_for(stage: Stage) -> None:
    async def scenario() -> None:
        client = Client(Pipeline(house(stage, "  - {id: hops, when: message.hops > 9, then: reject}\n", LISTED)))
        await client.pipeline.connected(client.session)
        assert (await client.whole("a@good.example", "joe@example.com")).startswith("250 ")
        facts = stage.journal.entries["T00000000001"].facts
        assert facts["message.hops"] == 0
        assert not {"message.attachments", "dnsbl.score"} & facts.keys()

    play(scenario)


def test_programs_are_refused(stage: Stage) -> None:
    async def scenario() -> None:
        client = Client(Pipeline(house(stage, PROGRAMS)))
        octets = mail(part(b"MZ\0\0", "a.exe"))
        assert (await client.whole("a@good.example", "joe@example.com", octets)).startswith("550 5.7.1")
        (file,) = stage.journal.entries["T00000000001"].facts["message.attachments"]  # type: ignore[misc]
        assert file["kind"] == "executable"

    play(scenario)
