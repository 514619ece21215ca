"""gatepost policy explain, replay, diff, schema and check --failures: what is printed, and the exit status."""

import contextlib
import io
import json
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app as main
from gateway.cli.policy import app
from gateway.cli.policy.replay import watched
from gateway.clock import ManualClock, SystemClock
from gateway.journal import Asked, Entry, Journal, Judged, Reader
from gateway.policy.cases import CLEAN
from gateway.policy.vocabulary import RECIPIENT_FACTS

OWN = {name: value for name, value in CLEAN.items() if name in RECIPIENT_FACTS} | {"message.size": 0}
FACTS: dict[str, Any] = {name: value for name, value in CLEAN.items() if name not in OWN}
SPOOF = {**FACTS, "dmarc.result": "fail", "dmarc.policy": "reject", "dmarc.domain": "bank.example"}
ENTRY = Entry(
    id="T00000000001",
    time=SystemClock().now(),
    client="192.0.2.10",
    sender="sender@example.net",
    recipients=("user@example.com",),
    size=5000,
    facts=SPOOF,
    action="reject",
    rule="dmarc-reject",
    stage="data",
    reply="550 5.7.26 Refused",
    asked=(Asked("user@example.com", facts=OWN, taken=True),),
    judged=Judged("reject", "dmarc-reject"),
    revision="0123456789abcdef",
)
RULES = """\
rules:
  - id: dmarc-reject
    when: dmarc.result == "fail" && dmarc.policy == "reject"
    then: reject
    reply: 550 5.7.26 Refused by the DMARC policy of {dmarc.domain}
    because: the domain's owner asks for it
    tests:
      - {name: a spoof, given: {dmarc.result: fail, dmarc.policy: reject}, expect: {action: reject}}
"""
MAIL = "From: a@bank.example\nSubject: hi\n\nbody\n"
ZONE = {"_dmarc.bank.example": {"TXT": ["v=DMARC1; p=reject"]}}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    writer = Journal(path, 3600.0, ManualClock(ENTRY.time))
    for number in range(1, 4):
        writer.record(replace(ENTRY, id=f"T{number:011d}"))
    writer.record(
        replace(ENTRY, id="T00000000009", asked=(), judged=Judged(), rule="", reply="550 5.7.1 Relaying denied")
    )
    writer.close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.yaml").write_text(RULES)
    return tmp_path / "old"


@pytest.fixture
def softer(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.yaml").write_text(
        RULES.replace("then: reject", "then: quarantine").replace("    reply", "    # ")
    )
    return tmp_path / "new"


def test_explain_a_mail_of_the_journal(journal: Path, folder: Path) -> None:
    ran = call("explain", "t00000000001", "--journal", journal, "--policies", folder)
    assert ran.exit_code == 0, ran.stderr
    assert f"FIRED     dmarc-reject  {folder}/a.yaml:2:9  reject" in ran.stdout
    assert 'dmarc.result="fail"  dmarc.policy="reject"' in ran.stdout
    assert "verdict: reject by dmarc-reject at DATA" in ran.stdout
    assert "reply:   550 5.7.26 Refused by the DMARC policy of bank.example" in ran.stdout
    assert 'nearest: dmarc.result "pass" instead of "fail": accepted' in ran.stdout
    assert "the policy has changed since then" in ran.stdout
    found = json.loads(call("explain", "T00000000001", "--journal", journal, "--policies", folder, "--json").stdout)
    assert (found["verdict"]["rule"], found["verdict"]["stage"], found["recorded"]) == (
        "dmarc-reject",
        "data",
        "reject by dmarc-reject",
    )
    assert found["walk"][0]["line"] == 2
    assert found["walk"][0]["fired"]
    assert found["nearest"]["fact"] == "dmarc.result"


def test_explain_a_message(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "mail.eml").write_text(MAIL)
    (tmp_path / "zone.json").write_text(json.dumps(ZONE))
    where = ("--client", "192.0.2.7", "--mail-from", "a@other.example", "--dns", tmp_path / "zone.json")
    ran = call("explain", tmp_path / "mail.eml", *where, "--policies", folder)
    assert ran.exit_code == 0, ran.stderr
    assert "verdict: reject by dmarc-reject at DATA" in ran.stdout
    shipped = call("explain", tmp_path / "mail.eml", *where, "--json")
    assert json.loads(shipped.stdout)["verdict"]["action"] == "reject"
    (tmp_path / "mail.eml").write_bytes(b"a\r\nb: \0\r\n\r\n")
    refused = call("explain", tmp_path / "mail.eml", *where)
    assert refused.stdout.startswith("reject before any policy, at DATA: 554 5.6.0")
    assert json.loads(call("explain", tmp_path / "mail.eml", *where, "--json").stdout)["walk"] == []
    assert call("explain", tmp_path / "mail.eml").exit_code == 2
    assert call("explain", tmp_path / "mail.eml", "--client", "nowhere").exit_code == 2


def test_explain_what_the_policy_never_heard(journal: Path, folder: Path) -> None:
    ran = call("explain", "T00000000009", "--journal", journal, "--policies", folder)
    assert ran.exit_code == 1
    assert "the frame decided" in ran.stderr
    assert "Relaying denied" in ran.stderr
    assert call("explain", "T77777777777", "--journal", journal, "--policies", folder).exit_code == 1
    other = call("explain", "T00000000001", "--journal", journal, "--policies", folder, "--rcpt", "x@example.com")
    assert (other.exit_code, "was not asked about x@example.com" in other.stderr) == (1, True)


def test_replay(journal: Path, folder: Path, softer: Path) -> None:
    same = call("replay", "--policies", folder, "--journal", journal)
    assert same.exit_code == 0, same.stdout
    assert "4 transactions, 3 recipients judged again" in same.stdout
    assert "1 transactions never came to the policy" in same.stdout
    ran = call("replay", "--policies", softer, "--journal", journal, "--since", "1h")
    assert ran.exit_code == 1
    assert "newly quarantined         3" in ran.stdout
    assert "reject by dmarc-reject  ->  quarantine by dmarc-reject" in ran.stdout
    found = json.loads(call("replay", "--policies", softer, "--journal", journal, "--json").stdout)
    assert (found["differs"], found["newly_quarantined"], found["transactions"]) == (True, 3, 4)
    assert call("replay", "--policies", folder, "--journal", journal, "--since", "yesterday").exit_code == 2
    (softer / "a.yaml").write_text("rules: [{id: a}]\n")
    assert call("replay", "--policies", softer, "--journal", journal).exit_code == 1


def test_diff(journal: Path, folder: Path, softer: Path) -> None:
    same = call("diff", folder, folder)
    assert same.exit_code == 0, same.stdout
    assert "no journal was asked" in same.stdout
    (softer / "b.yaml").write_text('rules: [{id: b, when: "message.hops > 50", then: reject}]\n')
    ran = call("diff", folder, softer, "--journal", journal)
    assert ran.exit_code == 1
    assert "new rules: b" in ran.stdout
    assert "1 mails of the tests of both" in ran.stdout
    assert "3 recipients of the journal" in ran.stdout
    found = json.loads(call("diff", folder, softer, "--journal", journal, "--json").stdout)
    assert found["differs"]
    assert (found["tests"]["newly_quarantined"], found["journal"]["newly_quarantined"]) == (1, 3)
    assert found["tests"]["examples"]["newly_quarantined"][0]["about"] == "a spoof"


def test_without_a_journal_it_says_so(folder: Path) -> None:
    from gateway.mail.terms import Unavailable

    ran = call("replay", "--policies", folder)
    assert isinstance(ran.exception, Unavailable)


def test_schema_and_failures(folder: Path) -> None:
    assert json.loads(call("schema").stdout)["title"] == "Gatepost policy"
    ran = call("check", "--policies", folder, "--failures")
    assert ran.exit_code == 0
    assert "(nothing)" in ran.stdout
    assert "refused -> deferred: 1 (dmarc-reject), as 'a spoof'" in ran.stdout
    found = json.loads(call("check", "--policies", folder, "--failures", "--json").stdout)["failures"]
    assert found["rows"][0]["down"] is None
    assert {row["down"]: row["deferred"] for row in found["rows"]}["dmarc"] == 1


@pytest.fixture
def configured(tmp_path: Path, journal: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration that names the journal and the policies; it is where commands run."""
    (folder / "lists").mkdir()
    (folder / "lists" / "bad.txt").write_text("bank.example\n")
    (tmp_path / "gatepost.yaml").write_text(
        "hostname: mx.example.com\n"
        'listeners: [{bind: "127.0.0.1:0", starttls: off}]\n'
        "domains: {example.com: {backend: main}}\n"
        'backends: {main: {hosts: "127.0.0.1:1"}}\n'
        "policies: old\nlists: old/lists\nstate: sqlite:state.db\n"
        f"journal: {{path: {journal}, keep: 30d}}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path / "gatepost.yaml"


def test_the_configuration_that_lies_here_is_the_one_meant(configured: Path, softer: Path) -> None:
    assert "verdict: reject by dmarc-reject" in call("explain", "T00000000001").stdout
    assert call("replay", "--policies", "old").exit_code == 0
    assert call("replay", "--policies", softer, "-c", configured).exit_code == 1
    assert call("diff", "old", softer, "-c", configured, "--since", "1h").exit_code == 1
    assert call("check", "-c", configured).exit_code == call("check").exit_code == call("test").exit_code == 0
    (configured.parent / "mail.eml").write_bytes(b"From: a@bank.example\r\n\r\nhello\r\n")
    (configured.parent / "zone.json").write_text("{}")
    mail = ("mail.eml", "--client", "192.0.2.9", "--dns", "zone.json", "--json")
    explained = json.loads(call("explain", *mail).stdout)
    assert [rule["rule"] for rule in explained["walk"]] == ["dmarc-reject"], "not the shipped policies"
    assert json.loads(CliRunner().invoke(main, ["check", *mail]).stdout)["disposition"]["code"] == 250
    # A folder without lists of its own is tried with the configured ones.
    (softer / "a.yaml").write_text("rules: [{id: a, when: dmarc.domain in lists.bad, then: reject}]\n")
    tried = json.loads(call("replay", "--policies", softer, "--json").stdout)
    assert (tried["newly_refused"], tried["same"], tried["by_another_rule"]) == (0, 3, 3)
    assert json.loads(call("diff", "old", softer, "-c", configured, "--json").stdout)["journal"]["same"] == 3
    configured.write_text("hostname: mx\n")
    told = call("replay", "--policies", "old", "--json")
    assert (told.exit_code, json.loads(told.stdout)["ok"]) == (1, False)


def test_what_the_configuration_lacks_is_told_where_the_policy_is_checked(configured: Path) -> None:
    rules = "rules: [{id: held, when: message.hops > 3, then: quarantine}, {id: ok, when: client.tls, then: note}]\n"
    (configured.parent / "old" / "a.yaml").write_text(rules)
    told = call("check", "-c", configured)
    assert told.exit_code == 0
    assert "a.yaml:1:26: warning: rule 'held' quarantines, and no quarantine mailbox is configured" in told.stderr
    assert [each["severity"] for each in json.loads(call("check", "--json").stdout)["problems"]] == ["warning"]
    assert "mailbox" not in call("check", "--policies", "old").stderr
    configured.write_text(configured.read_text() + "quarantine: held@example.com\n")
    assert "mailbox" not in call("check", "-c", configured).stderr


def test_a_damaged_entry_hides_no_other(journal: Path, folder: Path, softer: Path) -> None:
    with contextlib.closing(sqlite3.connect(journal)) as database, database:
        database.execute('UPDATE entry SET entry = \'{"asked": [{"recipient": "a", "facts": 7}]}\' WHERE n < 3')
    tried = call("replay", "--policies", folder, "--journal", journal)
    assert tried.exit_code == 0
    assert "2 transactions, 1 recipients judged again" in tried.output
    assert "2 entries of the journal are damaged and left out (number 1, 2)" in tried.stderr
    assert "2 entries of the journal are damaged" in call("diff", folder, softer, "--journal", journal).stderr


def test_what_is_written_meanwhile_is_not_told_twice(journal: Path) -> None:
    with contextlib.closing(Reader(journal)) as reader:
        entries = reader.since(0.0)
        first = next(entries)
        writer = Journal(journal, 3600.0, ManualClock(ENTRY.time))
        writer.record(replace(ENTRY, id=first.id, fate="delivered"))
        writer.close()
        assert first.id not in [entry.id for entry in entries]


def test_a_bar_where_a_person_watches(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    reader = Reader(journal)
    assert [entry.id for entry in watched(reader, 0.0)] == [
        "T00000000001",
        "T00000000002",
        "T00000000003",
        "T00000000009",
    ]
    assert [entry.id for entry in watched(reader, ENTRY.time + 1)] == []
    reader.close()


def test_what_differs_is_shown_with_what_was_not_on_record(journal: Path, softer: Path) -> None:
    (softer / "a.yaml").write_text(
        RULES + "  - {id: seen, when: dnsbl.score > 5, then: {note: x}}\n"
        "  - {id: mark, when: client.tls, always: true, then: {tag: {name: X-Tls, value: 'yes'}}}\n"
    )
    writer = Journal(journal, 3600.0, ManualClock(ENTRY.time))
    accepted = {name: value for name, value in FACTS.items() if not name.startswith("dnsbl.")}
    for number in range(20, 27):
        writer.record(replace(ENTRY, id=f"T{number:011d}", facts=accepted, judged=Judged("accept"), rule=""))
    writer.close()
    ran = call("replay", "--policies", softer, "--journal", journal)
    assert ran.exit_code == 1, ran.stdout
    assert "newly tagged              7" in ran.stdout
    assert "dnsbl.score: 7" in ran.stdout
    (softer / "a.yaml").write_text((softer / "a.yaml").read_text().replace("dnsbl.score > 5", "arc.trusted"))
    ran = call("replay", "--policies", softer, "--journal", journal)
    assert "newly tagged              7" in ran.stdout
    assert "and 2 more" in ran.stdout
    assert "[X-Tls: yes]" in ran.stdout
