"""From a bounce to its reason, and a policy tried on the mail that a real gateway has taken and refused."""

import contextlib
import json
from pathlib import Path

import pytest

from gateway.cli.testca import TestCa
from gateway.journal import Reader
from gateway.mail.terms import Unavailable
from tests.support.gateway import BACKEND_NAME, Site, run, serving, site
from tests.support.recorder import recorder
from tests.support.smtp import Client
from tests.support.wait import until

RULES = """\
rules:
  - id: no-strict
    when: spf.result == "fail"
    then: reject
    reply: 550 5.7.23 Not from there
    because: SPF of the sender says no
    tests: [{given: {spf.result: fail}, expect: {action: reject}}]
  - id: strangers
    when: mail.domain == "stranger.example"
    then: {greylist: {wait: 1h, window: 24h, keep: 36d}}
    tests: [{given: {mail.address: a@stranger.example}, expect: {action: greylist}}]
  - id: no-spam
    when: message.subject.contains("spam")
    then: reject
    tests: [{given: {message.subject: spam}, expect: {action: reject}}]
  - id: watch
    when: message.hops < 50
    then: quarantine
    mode: observe
    tests: [{expect: {action: observe}}]
"""
LETTER = b"From: <sue@sender.example>\r\nTo: <alice@example.com>\r\nSubject: %s\r\n\r\nhello\r\n"


def written(journal: Path) -> int:
    """How many mails are on record with their fate; none while the journal is not there yet."""
    try:
        with contextlib.closing(Reader(journal)) as reader:
            return sum(entry.fate != "" and bool(entry.asked) for entry in reader.since(0))
    except Unavailable:
        return 0


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, dict[str, str]]:
    """A site whose gateway has seen mail, and the ids of its answers."""
    folder = tmp_path_factory.mktemp("past")
    authority = TestCa(folder)
    ids: dict[str, str] = {}
    with recorder(authority.issue(BACKEND_NAME), folder / "taken") as backend:
        made = site(folder / "site", backend.port, authority)
        made.zone["strict.example"] = {"TXT": ["v=spf1 -all"]}
        made.policy(RULES)
        made.write()
        with serving(made) as gateway:
            for name, sender, subject in (
                ("clean", "sue@sender.example", b"hello"),
                ("strict", "a@strict.example", b"hello"),
                ("waits", "a@stranger.example", b"hello"),
                ("spam", "sue@sender.example", b"spam"),
            ):
                with Client(gateway.port) as client:
                    client.ehlo()
                    ids[name] = client.deliver(sender, ["alice@example.com"], LETTER % subject).text.split()[-1]
            until(lambda: written(made.journal) == 4, "four transactions in the journal")
    return made, ids


def test_the_id_of_a_refusal_leads_to_the_rule(past: tuple[Site, dict[str, str]]) -> None:
    made, ids = past
    told = run("policy", "explain", ids["strict"], "-c", str(made.file))
    assert told.returncode == 0, told.stderr
    assert f"FIRED     no-strict  {made.policies}/50-test.yaml:2:9" in told.stdout
    assert "recorded: reject by no-strict" in told.stdout
    assert "the policy has changed" not in told.stdout
    assert "because: SPF of the sender says no" in told.stdout
    found = json.loads(run("policy", "explain", ids["waits"], "-c", str(made.file), "--json").stdout)
    assert (found["verdict"]["action"], found["nearest"]["fact"]) == ("greylist", "a later attempt")
    shown = run("journal", "show", ids["clean"], "-c", str(made.file)).stdout
    assert "watch: quarantine" in shown


def test_the_same_policy_says_the_same_and_another_does_not(past: tuple[Site, dict[str, str]], tmp_path: Path) -> None:
    made, ids = past
    same = run("policy", "replay", "--policies", str(made.policies), "-c", str(made.file), "--json")
    assert same.returncode == 0, same.stdout + same.stderr
    assert (json.loads(same.stdout)["cases"], json.loads(same.stdout)["same"]) == (4, 4)
    next_one = tmp_path / "next"
    next_one.mkdir()
    (next_one / "a.yaml").write_text(RULES.replace('contains("spam")', 'contains("hello")'))
    replayed = run("policy", "replay", "--policies", str(next_one), "--since", "1h", "-c", str(made.file), "--json")
    assert replayed.returncode == 1, replayed.stderr
    found = json.loads(replayed.stdout)
    assert (found["newly_refused"], found["newly_accepted"], found["same"]) == (1, 1, 2)
    assert found["examples"]["newly_refused"][0]["case"] == ids["clean"]
    compared = run("policy", "diff", str(made.policies), str(next_one), "-c", str(made.file))
    assert compared.returncode == 1
    assert "4 recipients of the journal" in compared.stdout
