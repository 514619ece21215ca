"""MTA-STS policies: parsed strictly, matched by one label, kept for as long as they say, fetched on a new id."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.terms import Unavailable
from gateway.relay.sts import Policies, Policy, record_id
from gateway.state.store import PolicyRow
from tests.outages.rig import Memory, quiet

SUITE = Path(__file__).resolve().parents[3].parent / "shared" / "conformance" / "tls" / "mta-sts-resolver"
TEXT = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\n"


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.replace("\n", "\r\n"),
        TEXT.strip(),
        "\n" + TEXT + "\n\n",
        TEXT + "unknown: key\n",
        TEXT + "mode: none\n",  # of a repeated key the first counts
        TEXT.replace(": ", ":").replace("mail.", "MAIL."),
        TEXT.replace("mail.example.com", "mail.example.com."),
    ],
)
def test_a_policy(text: str) -> None:
    assert Policy.parse(text) == Policy("enforce", ("mail.example.com", "*.example.net"), 604800)


@pytest.mark.parametrize(
    "text",
    [
        "", "garbage", TEXT.replace("STSv1", "STSv2"), TEXT.replace("enforce", "enforced"), TEXT.replace("mode", "mod"),
        TEXT.replace("604800", "-1"), TEXT.replace("604800", "31557601"), TEXT.replace("604800", ""),
        TEXT.replace("604800", "9" * 5000), TEXT.replace("604800", "٣"), TEXT + "mx: *\n", TEXT + "mx: a b\n",
        TEXT + "mx: *.*.example\n", TEXT + "mx: x*.example\n", TEXT + "no colon\n", TEXT + ": x\n",
        "version: STSv1\nmode: enforce\nmax_age: 1\n", TEXT + "mx: a.example\n" * 200,
    ],
)  # fmt: skip
def test_no_policy(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Policy.parse(text)


@pytest.mark.parametrize(
    ("pattern", "host", "named"),
    [
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", ".example.com", True),  # no name: nothing connects to it
        ("mail.example.com", "mail.example.com", True),
        ("mail.example.com", "a.mail.example.com", False),
        ("*.com", "com", False),
    ],
)
def test_which_hosts_are_named(pattern: str, host: str, named: bool) -> None:
    assert Policy("enforce", (pattern,), 1).names(host) == named


@pytest.mark.parametrize(
    ("records", "found"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=STSv1;id=1"], "1"),
        (["v=STSv1; a=b; id=1;", "v=spf1 -all"], "1"),
        (["id=1; v=STSv1"], None),
        (["v=STSv12;id=1"], None),
        (["v=STSv1; id=a-b;"], None),
        (["v=STSv1; id=" + "1" * 33], None),
        (["v=STSv1"], None),
        (["v=STSv1;id=1", "v=STSv1;id=2"], None),
        ([], None),
    ],
)
def test_the_record(records: list[str], found: str | None) -> None:
    assert record_id([record.encode() for record in records]) == found


class House:
    """Policies over a zone and a fetch that can be changed."""

    def __init__(self, store: Memory | None = None) -> None:
        self.clock = ManualClock()
        self.zone: dict[str, Any] = {"_mta-sts.example.net": {"TXT": ['"v=STSv1; id=1;"']}}
        self.text: str | None = TEXT
        self.fetched = 0
        self.store = store or Memory()
        self.restart()

    def restart(self) -> None:
        """Another worker, or the same one after a restart: memory is empty, the store is not."""
        self.policies = Policies(Resolver(self, self.clock), self.fetch, self.clock, self.store)  # type: ignore[arg-type]

    async def ask(self, name: str, rdtype: str, timeout: float) -> Any:
        return await Zone(self.zone).ask(name, rdtype, timeout)

    async def fetch(self, domain: str) -> str:
        self.fetched += 1
        await asyncio.sleep(0)
        if self.text is None:
            raise Unavailable("no")
        return self.text

    async def mode(self) -> str | None:
        policy = await self.policies.of("example.net")
        return policy.mode if policy else None


def test_a_policy_is_fetched_once_and_kept() -> None:
    async def test() -> None:
        house = House()
        assert await asyncio.gather(*(house.mode() for _ in range(9))) == ["enforce"] * 9
        assert house.fetched == 1
        house.text = None  # a new id, and nothing to be had: the kept one stays in force
        house.zone = {"_mta-sts.example.net": {"TXT": ['"v=STSv1; id=2;"']}}
        house.clock.advance(3600)
        assert await house.mode() == "enforce"
        assert await house.mode() == "enforce"
        assert house.fetched == 2  # not at every mail
        house.zone = {"_mta-sts.example.net": {"TXT": "SERVFAIL"}}
        house.clock.advance(3600)
        assert await house.mode() == "enforce"
        house.zone = {}
        house.clock.advance(3600)
        assert await house.mode() == "enforce"
        house.clock.advance(604800)
        assert await house.mode() is None
        house.zone = {"_mta-sts.example.net": {"TXT": ['"v=STSv1; id=3;"']}}
        house.text = TEXT.replace("enforce", "testing")
        house.clock.advance(3600)
        assert await house.mode() == "testing"
        house.text = "garbage"
        house.zone = {"_mta-sts.example.net": {"TXT": ['"v=STSv1; id=4;"']}}
        house.clock.advance(3600)
        assert await house.mode() == "testing"

    with quiet():
        asyncio.run(test())


def test_a_failed_fetch_is_tried_again_later() -> None:
    async def test() -> None:
        house = House()
        house.text = None
        assert [await house.mode() for _ in range(5)] == [None] * 5
        assert house.fetched == 1
        house.text = TEXT
        house.clock.advance(301)
        assert await house.mode() == "enforce"

    with quiet():
        asyncio.run(test())


def test_a_kept_policy_outlives_a_restart_while_everything_is_blocked() -> None:
    async def test() -> None:
        house = House()
        assert await house.mode() == "enforce"
        house.text, house.zone = None, {"_mta-sts.example.net": {"TXT": "SERVFAIL"}}
        house.restart()
        assert await house.mode() == "enforce"
        house.clock.advance(604800)
        house.restart()
        assert await house.mode() is None  # as long as it said, and no longer

    with quiet():
        asyncio.run(test())


async def settled(house: House) -> None:
    await asyncio.gather(*house.policies._flights.values())


def test_a_policy_in_use_is_fetched_again_every_day_and_nobody_waits() -> None:
    async def test() -> None:
        house = House()
        assert await house.mode() == "enforce"
        house.clock.advance(86_399)
        assert await house.mode() == "enforce"
        await settled(house)
        assert house.fetched == 1
        house.clock.advance(1)
        house.text = TEXT.replace("enforce", "testing")
        assert await house.mode() == "enforce"
        await settled(house)
        assert (await house.mode(), house.fetched) == ("testing", 2)
        house.text = None
        for day in range(6):  # blocked: in force to the end, asked for again in a while
            house.clock.advance(86_400)
            assert await house.mode() == "testing", day
            await settled(house)
            assert await house.mode() == "testing", day
            await settled(house)
            assert house.fetched == 3 + day
        house.text = TEXT
        house.clock.advance(301)
        await house.mode()
        await settled(house)
        house.clock.advance(604799)
        assert await house.mode() == "enforce"  # counted from the last fetch
        await house.policies.close()

    with quiet():
        asyncio.run(test())


def test_a_record_that_is_hidden_does_not_keep_a_policy_from_being_fetched() -> None:
    async def test() -> None:
        house = House()
        await house.mode()
        house.zone = {}
        house.clock.advance(90_000)
        assert await house.mode() == "enforce"
        await settled(house)
        assert house.fetched == 2

    with quiet():
        asyncio.run(test())


def test_what_one_worker_fetched_the_others_take() -> None:
    async def test() -> None:
        one, store = House(), Memory()
        one.store = store
        one.restart()
        other = House(store)
        other.zone = one.zone
        assert (await one.mode(), await other.mode()) == ("enforce", "enforce")
        assert (one.fetched, other.fetched) == (1, 0)
        for house in (one, other):
            house.text = TEXT.replace("enforce", "testing")
            house.zone = {"_mta-sts.example.net": {"TXT": ['"v=STSv1; id=2;"']}}
            house.clock.advance(3600)
            assert await house.mode() == "testing"
        assert (one.fetched, other.fetched) == (2, 0)
        for house in (one, other):
            house.clock.advance(90_000)
            await house.mode()
            await settled(house)
        assert (one.fetched, other.fetched) == (3, 0)

    with quiet():
        asyncio.run(test())


@pytest.mark.parametrize("text", ["", "garbage", TEXT.replace("mail.example.com", "a b"), TEXT.replace("604800", "-1")])
def test_what_the_store_says_is_read_as_strictly_as_what_the_host_says(text: str) -> None:
    async def test() -> None:
        house = House()
        house.store.policies["example.net"] = PolicyRow("1", text, house.clock.now() + 9)
        assert await house.mode() == "enforce"
        assert house.fetched == 1

    with quiet():
        asyncio.run(test())


def test_the_store_cannot_make_a_policy_live_longer_than_it_says() -> None:
    async def test() -> None:
        house = House()
        house.store.policies["example.net"] = PolicyRow("1", TEXT, house.clock.now() + 1e9)
        house.text = None
        assert await house.mode() == "enforce"
        house.clock.advance(604800)
        del house.store.policies["example.net"]
        assert await house.mode() is None

    with quiet():
        asyncio.run(test())


def test_without_the_store_memory_has_to_do() -> None:
    async def test() -> None:
        house = House()
        house.store.away = True
        assert await house.mode() == "enforce"
        house.text = None
        house.clock.advance(90_000)
        assert await house.mode() == "enforce"
        await settled(house)
        house.restart()
        assert await house.mode() is None

    with quiet():
        asyncio.run(test())


def test_an_asker_who_goes_does_not_end_the_fetch_and_a_close_does() -> None:
    async def test() -> None:
        house, gate, reached = House(), asyncio.Event(), asyncio.Event()

        async def slow(domain: str) -> str:
            reached.set()
            await gate.wait()
            return TEXT

        house.policies._fetch = slow
        asker = asyncio.create_task(house.mode())
        await reached.wait()
        asker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asker
        gate.set()
        await settled(house)
        assert house.store.policies["example.net"].text == Policy.parse(TEXT).text
        gate.clear()
        house.zone = {"_mta-sts.example.net": {"TXT": ['"v=STSv1; id=2;"']}}
        house.clock.advance(3600)
        asker = asyncio.create_task(house.mode())
        reached.clear()
        await reached.wait()
        await house.policies.close()
        assert await asker == "enforce"

    with quiet():
        asyncio.run(test())


def test_a_bug_in_the_fetch_is_no_policy() -> None:
    async def test() -> None:
        house = House()

        async def broken(domain: str) -> str:
            raise RuntimeError(domain)

        house.policies._fetch = broken
        assert await house.mode() is None

    with quiet():
        asyncio.run(test())


@pytest.mark.parametrize("text", [TEXT, "version: STSv1\nmode: none\nmax_age: 5"])
def test_the_text_that_is_kept_says_the_same(text: str) -> None:
    assert Policy.parse(Policy.parse(text).text) == Policy.parse(text)


@pytest.mark.skipif(not SUITE.exists(), reason="the published suite is not here")
def test_the_published_suite() -> None:
    """Its records and policy texts against its reference answers; certificates and sizes are `test_https`'s."""
    records = re.findall(r'txt-record=_mta-sts\.([^,]+),"(.*)"', (SUITE / "dnsmasq.conf.appendix").read_text())
    ids = {domain: record_id([text.encode()]) for domain, text in records}
    texts: dict[str, str] = {}
    for block in (SUITE / "nginx.conf").read_text().split("server {")[1:]:
        name, said = re.search(r"server_name mta-sts\.([^;]+);", block), re.search(r'return 200 "([^"]*)"', block)
        if name and said and "text/html" not in block:
            texts[name[1]] = said[1].replace("\\n", "\n")
    expected = dict(line.split("\t")[:2] for line in (SUITE / "refdata.tsv").read_text().splitlines() if "\t" in line)
    seen = 0
    for asked, answer in expected.items():
        domain = asked.split(" ")[1].rstrip(".")
        if domain not in ids or domain.startswith("bad-cert"):
            continue
        try:
            policy = Policy.parse(texts.get(domain, "")) if ids[domain] else None
        except ValueError:
            policy = None
        secured = policy is not None and policy.mode == "enforce"
        assert secured == answer.startswith("OK"), asked
        if policy is not None and secured:
            assert policy.names("mail.loc")
        seen += 1
    assert seen >= 8
