"""What the journal keeps of a journey is enough: the same policy judges it again to the same end."""

from pathlib import Path

import pytest

from gateway.cli.journal import explained
from gateway.journal.entry import decode, encode
from gateway.mail.reply import Reply
from gateway.pipeline import House, Pipeline
from gateway.policy.replay import Tally, again, hearings
from gateway.relay.delivery import Answered, Known, Refused
from tests.unit.test_pipeline import MAIL, Client, Stage, play, relay_of

RULES = """\
  - {id: banner, when: client.ip == "192.0.2.99", then: defer, speak: now}
  - {id: no, when: spf.result == 'fail', then: reject}
  - {id: wait, when: spf.result == 'none', then: greylist}
  - {id: aside, when: rcpt.address == "q@example.com", then: quarantine}
  - {id: nobody, when: rcpt.known == "no", then: reject}
  - {id: fax, for: fax@example.com, when: message.size > 30, then: reject}
  - {id: broken, when: 'spf.result == "permerror" || dmarc.result == "fail"', then: reject}
  - {id: mark, when: message.subject != "", then: {tag: {name: X-Subject, value: "{message.subject}"}}}
  - {id: remark, when: client.tls || !client.tls, then: {note: "from {client.ip}"}}
  - {id: watch, when: message.hops < 5, then: reject, mode: observe}
"""
#: Two limits that ask the same and count apart; a field that is another one for each recipient.
BUSY = (
    RULES
    + """\
  - {id: slow, when: mail.domain == "good.example", then: {limit: {key: client.network, rate: 6/1h}}}
  - {id: slower, when: message.hops < 5, then: {limit: {key: client.network, rate: 6/1h}}}
  - {id: whom, stage: rcpt, when: 'mail.domain != ""', then: {tag: {name: X-For, value: "{rcpt.address}"}}}
"""
)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def traffic(stage: Stage, house: House) -> None:
    """Every way a mail may end."""
    pipeline = Pipeline(house)
    client = Client(pipeline)
    for sender in ("a@good.example", "a@strict.example", "a@broken.example", "a@stranger.example", None):
        await client.whole(sender, "joe@example.com")
    for address in ("q@example.com", "fax@example.com", "joe@elsewhere.example", "nobody@example.com"):
        await client.whole("a@good.example", address)
    stage.clock.advance(400)
    await client.whole("a@stranger.example", "joe@example.com")
    tx = await client.mail("a@good.example", size=7)
    for address in ("joe@example.com", "ann@example.com", "fax@example.com", "x@other.example", "nobody@example.com"):
        await client.rcpt(tx, address)
    await client.data(tx)
    tx = await client.mail("a@good.example")
    await client.rcpt(tx, "joe@example.com")
    pipeline.aborted(tx, "the connection was lost")
    relay_of(house).fate = Refused(Reply(554, "5.7.1", ("the backend says no",)))
    await client.whole("a@good.example", "joe@example.com")
    await client.whole("a@good.example", "joe@example.com", b"no header\r\n\r\n" + MAIL)
    banner = Client(pipeline, "192.0.2.99")
    assert await pipeline.connected(banner.session) is not None


def again_under(stage: Stage, rules: str) -> Tally:
    tally, policy = Tally(), stage.house(rules).policy
    for entry in stage.journal.entries.values():
        for hearing in hearings(decode(encode(entry))):
            tally.add(entry.id, hearing.scene.recipient, hearing.then, again(policy, hearing.scene))
    return tally


@pytest.mark.parametrize("rules", [RULES, BUSY])
def test_the_same_policy_judges_the_past_to_the_same_end(stage: Stage, rules: str) -> None:
    async def scenario() -> None:
        house = stage.house(rules)
        relay_of(house).answers["nobody@example.com"] = Known(Answered.NO, Reply(550, "5.1.1", ("nobody",)))
        await traffic(stage, house)

    play(scenario)
    tally = again_under(stage, rules)
    assert {word: [repr(one) for one in found] for word, found in tally.examples.items()} == {}
    assert (tally.same, tally.other_rule) == (tally.cases, 0)
    assert tally.cases > 15


def test_another_policy_judges_it_to_another(stage: Stage) -> None:
    async def scenario() -> None:
        await traffic(stage, stage.house(RULES))

    play(scenario)
    changed = RULES.replace("'fail', then: reject", "'fail', then: defer")
    assert again_under(stage, changed).counts == {"newly deferred": 1}
    assert again_under(stage, RULES.replace("for: fax@example.com, ", "")).counts["newly refused"] > 3
    lost = again_under(stage, RULES.replace("id: wait", "id: renamed"))
    assert (lost.counts, lost.other_rule > 0) == ({}, True)


def test_what_costs_nothing_is_on_record_though_no_rule_names_it(stage: Stage) -> None:
    async def scenario() -> None:
        await Client(Pipeline(stage.house(""))).whole("a@good.example", "joe@example.com")

    play(scenario)
    (entry,) = stage.journal.entries.values()
    told = {name: entry.facts.get(name) for name in ("client.ip", "client.tls", "helo.name", "mail.domain")}
    assert told == {
        "client.ip": "192.0.2.7",
        "client.tls": False,
        "helo.name": "mail.good.example",
        "mail.domain": "good.example",
    }
    named = 'client.ip == "192.0.2.7" && helo.kind == "fqdn"'
    assert again_under(stage, f"  - {{id: new, when: '{named}', then: reject}}\n").counts == {"newly refused": 1}


def test_who_was_refused_at_the_banner_is_on_record(stage: Stage) -> None:
    async def scenario() -> None:
        pipeline = Pipeline(stage.house("  - {id: banner, when: client.name == '', then: defer, speak: now}\n"))
        assert await pipeline.connected(Client(pipeline, "192.0.2.99").session) is not None

    play(scenario)
    (entry,) = stage.journal.entries.values()
    assert entry.facts["client.ip"] == "192.0.2.99"


def test_what_rules_did_is_on_record(stage: Stage) -> None:
    async def scenario() -> None:
        await Client(Pipeline(stage.house(RULES))).whole("a@good.example", "joe@example.com")

    play(scenario)
    (entry,) = stage.journal.entries.values()
    found = decode(encode(entry))
    assert found.observed == (("watch", "reject"),)
    assert found.fired == ("remark", "mark", "watch")
    assert found.notes == (("remark", "from 192.0.2.7"),)
    shown = explained(found)
    assert "rules that only observe, and what they would have done\n  watch: reject" in shown
    assert "remarks\n  remark: from 192.0.2.7" in shown
    assert "fields added\n  X-Subject: hi" in shown
    assert "rules that acted, too: mark" in shown
    assert shown.endswith("rule by rule: gatepost policy explain T00000000001")
    assert found.judged.tags == (("X-Subject", "hi"),)
    (asked,) = found.asked
    assert asked.taken
    assert asked.facts == {
        "rcpt.address": "joe@example.com",
        "rcpt.domain": "example.com",
        "rcpt.count": 1,
        "rcpt.known": "yes",
        "message.size": 0,
    }
