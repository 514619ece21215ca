"""Recipients of different classes (DESIGN section 4, `for:`) with real senders: one mail to three classes of recipients
arrives for each as its own rules say, once, without a bounce; 452 4.5.3 is what makes the sender split it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.testca import Pair, TestCa
from tests.support import exim, postfix
from tests.support.gateway import HOSTNAME, Gateway, Tree, serving, site
from tests.support.wait import until

SENDER = "sue@sender.example"
PLAIN, TAGGED, HELD = RECIPIENTS = ("alice@example.com", "bob@example.com", "carol@example.com")
QUARANTINE = "quarantine@example.com"
#: Both rules fit the mail; only `for` says whom they are about.
RULES = f"""\
rules:
  - id: mark
    for: {TAGGED}
    when: from.domain == "sender.example"
    then: {{tag: {{name: X-Class, value: "from {{from.domain}}"}}}}
  - id: hold
    for: {HELD}
    when: message.subject.contains("mail-")
    then: quarantine
"""


@pytest.fixture(scope="module")
def backend(leaf: Pair) -> Iterator[postfix.Postfix]:
    with postfix.backend([*RECIPIENTS, QUARANTINE], leaf) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, authority: TestCa, backend: postfix.Postfix) -> Iterator[Gateway]:
    made = site(tmp_path_factory.mktemp("classes") / "site", backend.port, authority, quarantine=QUARANTINE)
    made.configuration["listeners"][0]["bind"] = ["127.0.0.1:0", "127.0.0.2:0"]
    made.policy(RULES)
    with serving(made) as running:
        yield running


def letter(fresh: str) -> bytes:
    return f"From: <{SENDER}>\r\nSubject: {fresh}\r\n\r\none letter to three\r\n".encode()


def copies(backend: postfix.Postfix, fresh: str) -> dict[str, int]:
    """How often it is in each mailbox that has it."""
    counts = {box: sum(fresh.encode() in mail for mail in backend.mails(box)) for box in (*RECIPIENTS, QUARANTINE)}
    return {box: count for box, count in counts.items() if count}


def arrived_by_its_rules(gateway: Gateway, backend: postfix.Postfix, fresh: str) -> None:
    """One copy each, dressed as the rules of that recipient say, each by a transaction of its own."""
    everywhere = {PLAIN: 1, TAGGED: 1, QUARANTINE: 1}
    until(lambda: copies(backend, fresh) == everywhere, f"{everywhere}, there is {copies(backend, fresh)}")
    plain, tagged, held = (
        next(mail for mail in backend.mails(box) if fresh.encode() in mail) for box in (PLAIN, TAGGED, QUARANTINE)
    )
    assert all(mail.endswith(b"\r\n\r\none letter to three\r\n") for mail in (plain, tagged, held))
    assert (plain.count(b"X-Class:"), plain.count(b"X-Gatepost-")) == (0, 0)
    assert (tagged.count(b"X-Class: from sender.example\r\n"), tagged.count(b"X-Gatepost-")) == (1, 0)
    assert re.findall(rb"X-Gatepost-Quarantine: (\S+)", held) == [b"hold"]
    assert re.findall(rb"X-Gatepost-Envelope-To: (\S+)\r\n", held) == [f"<{HELD}>".encode()]
    assert held.count(b"X-Class:") == 0
    ids = {re.search(rb"by mx\.example\.com.*?id (\w+)", mail, re.DOTALL)[1] for mail in (plain, tagged, held)}  # type: ignore[index]
    assert len(ids) == 3
    until(lambda: len(transactions(gateway, ids)) == 3, f"three transactions: {gateway.words()}")
    refused = [len(line["refused"]) for line in transactions(gateway, ids)]
    assert refused == [2, 1, 0], "those of other classes, each time"
    log = backend.log()
    nulls = {to for number in re.findall(r" (\w+): from=<>", log) for to in re.findall(rf" {number}: to=<(.*?)>", log)}
    assert nulls == {QUARANTINE}, "no bounce by the gateway: from nobody is what is quarantined"


def transactions(gateway: Gateway, ids: set[bytes]) -> list[Tree]:
    return [line for line in gateway.events("transaction") if line["id"].encode() in ids]


def ports(gateway: Gateway) -> list[int]:
    """Of 127.0.0.1 and of 127.0.0.2, the two addresses that an MX may have."""
    gateway.event("listening", 2)
    found = sorted(str(line["address"]) for line in gateway.events("listening"))
    return [int(address.rpartition(":")[2]) for address in found]


@pytest.mark.parametrize(
    ("addresses", "rounds"),
    [
        pytest.param((1,), [2, 1], id="one address: another class with each retry"),
        pytest.param((1, 1), [1], id="one address under two names: all within one retry"),
        pytest.param((1, 2), [1], id="two addresses: all within one retry"),
    ],
)
def test_postfix(
    gateway: Gateway,
    authority: TestCa,
    backend: postfix.Postfix,
    fresh: str,
    addresses: tuple[int, ...],
    rounds: list[int],
) -> None:
    """Who was refused is brought to the next address of the destination at once, and with the next retry.

    `addresses`: those of the gateway, as its MX records give them; `rounds`: how many recipients wait after each round.
    """
    ours = ports(gateway)
    hosts = [f"[127.0.0.{number}]:{ours[number - 1]}" for number in addresses]
    # Only our `flush` makes a retry.
    slow = dict.fromkeys(("queue_run_delay", "minimal_backoff_time", "maximal_backoff_time"), "1h")
    with postfix.client(
        gateway.port, authority.file, HOSTNAME, [SENDER], relayhost=", ".join(hosts), **slow
    ) as client:  # fmt: skip

        def deferrals() -> int:
            return len(re.findall(r"status=deferred \(host \S+ said: 452 4\.5\.3 ", client.log()))

        client.inject(SENDER, RECIPIENTS, letter(fresh))
        for done, waiting in enumerate(rounds):
            total = sum(rounds[: done + 1])
            until(lambda: deferrals() >= total, f"{waiting} that wait: {client.log()}")  # noqa: B023 - called at once
            # The log says it a moment before the mail is where a flush finds it.
            until(lambda: all('"queue_name": "deferred"' in mail for mail in client.queue()), "the deferred mail")
            client.flush()
        until(lambda: not client.queue(), f"the empty queue of the client: {client.log()}")
        arrived_by_its_rules(gateway, backend, fresh)
        assert deferrals() == sum(rounds), client.log()
        assert client.log().count("status=sent") == len(RECIPIENTS), client.log()
        assert "status=bounced" not in client.log()
        assert not client.mails(SENDER), "no bounce"


@pytest.mark.skipif(
    not exim.UNPACKED.is_dir(), reason="Exim is not unpacked: tests/support/install-tools does it on Debian"
)
@pytest.mark.parametrize("chunking", [False, True], ids=["never by BDAT", "by BDAT where it is offered"])
def test_exim(gateway: Gateway, authority: TestCa, backend: postfix.Postfix, fresh: str, chunking: bool) -> None:
    """Exim knows 452 as "bring the others now"; by BDAT it would read it too late, so CHUNKING is not offered."""
    with exim.client(gateway.port, authority.file, chunking) as client:
        log = client.deliver(SENDER, RECIPIENTS, letter(fresh))
        assert client.queue() == [], log
        arrived_by_its_rules(gateway, backend, fresh)
        assert len(re.findall(r" [=-]> \S+@example\.com ", log)) == len(RECIPIENTS), log
        assert " == " not in log, "nobody waits"
        assert " ** " not in log
        assert " <= <> " not in log, "no bounce"
        assert re.findall(r"\[127\.0\.0\.1\]:\d+(\*?) I=", log) == ["", "*", "*"], "the same connection"


#: Three classes on paper; what is known of client, sender and announced size settles all of them.
SETTLED = f"""\
rules:
  - id: partner
    for: {TAGGED}
    when: under(mail.domain, "partner.example") && dmarc.result != "pass"
    then: reject
  - id: forged
    for: {HELD}
    when: spf.result == "fail" && message.hops > 3
    then: quarantine
  - id: small
    for: {PLAIN}
    when: message.size > 1 * MB
    then: reject
"""


def test_rules_that_are_settled_before_data_part_nobody(
    tmp_path: Path, authority: TestCa, backend: postfix.Postfix, fresh: str
) -> None:
    made = site(tmp_path / "site", backend.port, authority)
    made.policy(SETTLED)
    with (
        serving(made) as gateway,
        postfix.client(gateway.port, authority.file, HOSTNAME, [SENDER]) as client,
    ):
        client.inject(SENDER, RECIPIENTS, letter(fresh))
        until(lambda: not client.queue(), f"the empty queue of the client: {client.log()}")
        everywhere = dict.fromkeys(RECIPIENTS, 1)
        until(lambda: copies(backend, fresh) == everywhere, f"{everywhere}, there is {copies(backend, fresh)}")
        assert [line["refused"] for line in gateway.events("transaction")] == [[]], "one transaction"
        assert "deferred" not in client.log()
