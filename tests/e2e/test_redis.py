"""Two gateways on one Redis: greylist and recipients are shared; Redis stopped or killed, and mail flows."""

import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as client

from gateway.cli.testca import TestCa
from tests.support import postfix
from tests.support.gateway import Gateway, Site, run, serving, site
from tests.support.redis import RedisServer, redis_server
from tests.support.wait import until

GREYLIST = """\
rules:
  - id: greylist-strangers
    when: mail.domain == "stranger.example"
    then: {greylist: {wait: 1h, window: 24h, keep: 36d}}
    because: a test
  - id: first-contact
    when: from.known_days < 0
    then: {tag: {name: X-First-Contact, value: "{from.domain}"}}
"""


@dataclass
class Pair:
    """Two gateways with a state in common."""

    server: RedisServer
    sites: list[Site]
    gateways: list[Gateway]

    def rows(self, key: str) -> int:
        with contextlib.closing(client.Redis(port=self.server.port)) as raw:
            return int(raw.zcard(f"gatepost:{key}"))


@contextlib.contextmanager
def two(folder: Path, authority: TestCa, backend: postfix.Postfix) -> Iterator[Pair]:
    with redis_server(folder / "redis") as server, contextlib.ExitStack() as stack:
        sites = [site(folder / name, backend.port, authority, state=server.url) for name in ("one", "two")]
        for each in sites:
            each.policy(GREYLIST)
        yield Pair(server, sites, [stack.enter_context(serving(each)) for each in sites])


@pytest.fixture
def pair(tmp_path: Path, authority: TestCa, backend: postfix.Postfix) -> Iterator[Pair]:
    """For tests that take Redis away."""
    with two(tmp_path, authority, backend) as made:
        yield made


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, authority: TestCa, backend: postfix.Postfix) -> Iterator[Pair]:
    with two(tmp_path_factory.mktemp("pair"), authority, backend) as made:
        yield made


@pytest.fixture
def calm(lasting: Pair) -> Pair:
    """For tests that leave everything standing: two gateways that know nobody."""
    with contextlib.closing(client.Redis(port=lasting.server.port)) as raw:
        raw.flushall()
    return lasting


def rcpt(gateway: Gateway, sender: str = "sue@sender.example", recipient: str = "alice@example.com") -> tuple[int, str]:
    """Code and text of the answer to RCPT."""
    with gateway.client() as smtp:
        smtp.ehlo()
        answer = smtp.envelope(sender, recipient)[-1]
        smtp.quit()
        return int(answer.code), " ".join(answer.lines)


def delivered(gateway: Gateway, subject: str = "x") -> int:
    with gateway.client() as smtp:
        smtp.ehlo()
        smtp.envelope("sue@sender.example", "alice@example.com")
        return int(smtp.data(f"From: <sue@sender.example>\r\nSubject: {subject}\r\n\r\nx\r\n".encode()).code)


def test_greylist_and_recipients_are_shared(calm: Pair) -> None:
    one, other = calm.gateways
    assert rcpt(one, "a@stranger.example")[0] in {450, 451}
    assert rcpt(other, "a@stranger.example")[0] in {450, 451}
    found = run("greylist", "list", "stranger.example", "-c", str(calm.sites[1].file), "--json")
    assert found.returncode == 0, found
    (row,) = [json.loads(line) for line in found.stdout.splitlines()]
    assert (row["sender"], row["state"], row["attempts"]) == ("a@stranger.example", "waiting", 2)
    released = run("greylist", "release", "stranger.example", "-c", str(calm.sites[0].file))
    assert (released.returncode, released.stdout) == (0, "1 released\n"), released
    assert rcpt(one, "a@stranger.example")[0] == 250
    assert rcpt(other, "a@stranger.example")[0] == 250
    assert rcpt(one, recipient="nobody@example.com")[0] == 550
    assert calm.rows("unknown") == 1
    assert rcpt(other, recipient="nobody@example.com")[0] == 550
    assert calm.rows("known") == 1


def test_who_wrote_to_one_gateway_is_known_to_the_other(calm: Pair, backend: postfix.Postfix, fresh: str) -> None:
    assert [delivered(gateway, f"{fresh} {n}") for n, gateway in enumerate(calm.gateways)] == [250, 250]

    def arrived() -> list[bytes]:
        mails = backend.mails("alice@example.com")
        return [mail for number in (0, 1) for mail in mails if f"Subject: {fresh} {number}".encode() in mail]

    until(lambda: len(arrived()) == 2, "both mails")
    assert [b"X-First-Contact: sender.example" in mail for mail in arrived()] == [True, False]
    assert calm.rows("sender-until") == 1


def test_recipients_are_listed_and_forgotten_beside_running_gateways(calm: Pair) -> None:
    one, other = calm.gateways
    for who in ("alice", "bob", "nobody"):
        rcpt(one, recipient=f"{who}@example.com")
    words = ("-c", str(calm.sites[1].file), "--json")
    rows = [json.loads(line) for line in run("recipients", "list", *words).stdout.splitlines()]
    assert [(row["address"], row["backend"], row["known"]) for row in rows] == [
        ("alice@example.com", "main", True), ("bob@example.com", "main", True), ("nobody@example.com", "main", False),
    ]  # fmt: skip
    page = run("recipients", "list", "example.com", "--limit", "1", "--offset", "1", *words)
    assert json.loads(page.stdout)["address"] == "bob@example.com"
    assert "there are more: --offset 2" in page.stderr
    assert run("recipients", "forget", "nobody@example.com", *words).stdout == '{"forgotten": 1}\n'
    assert calm.rows("unknown") == 0
    assert rcpt(other, recipient="nobody@example.com")[0] == 550  # the backend was asked again
    assert calm.rows("unknown") == 1
    assert run("recipients", "forget", "--all", *words).stdout == '{"forgotten": 3}\n'
    assert (calm.rows("known"), calm.rows("unknown")) == (0, 0)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_without_redis_mail_flows_and_it_is_told(pair: Pair, how: str) -> None:
    one = pair.gateways[0]
    assert delivered(one) == 250
    if how == "stopped":
        pair.server.signal(signal.SIGSTOP)
    else:
        pair.server.kill()
    assert delivered(one) == 250
    assert rcpt(one, "b@stranger.example")[0] == 250  # greylisting is ignored when it cannot be done
    assert rcpt(one, recipient="nobody@example.com")[0] == 550  # the backend itself was asked
    assert one.event("state unavailable, rules that need it say what happens (on_error)")["place"] == pair.server.url
    if how == "stopped":
        pair.server.signal(signal.SIGCONT)
    else:
        pair.server.start()
    # Each worker finds out for itself: the one that missed it says so when it is asked again.
    until(lambda: rcpt(one, "c@stranger.example")[0] in {450, 451} and one.events("state works again"), "its return")


def test_a_gateway_starts_without_redis(tmp_path: Path, authority: TestCa, backend: postfix.Postfix) -> None:
    with redis_server(tmp_path / "redis") as server:
        server.kill()
        place = site(tmp_path / "site", backend.port, authority, state=server.url)
        listed = run("recipients", "list", "--json", "-c", str(place.file))
        assert (listed.returncode, listed.stdout) == (1, "")
        assert f"gatepost: {server.url}: " in listed.stderr
        with serving(place) as gateway:
            assert delivered(gateway) == 250
            assert gateway.stop() == 0
