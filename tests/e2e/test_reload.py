"""SIGHUP: a good configuration replaces the running one, a bad one never does."""

import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.testca import TestCa
from tests.support import postfix
from tests.support.gateway import Gateway, Site, serving, site
from tests.support.wait import until

REFUSE_SUE = """\
rules:
  - id: no-sue
    when: mail.address == "sue@sender.example"
    then: reject
    reply: 550 5.7.1 Not you
    because: a test
"""


@pytest.fixture
def place(tmp_path: Path, authority: TestCa, backend: postfix.Postfix) -> Site:
    return site(tmp_path / "site", backend.port, authority)


@pytest.fixture
def gateway(place: Site) -> Iterator[Gateway]:
    with serving(place) as running:
        yield running


def sue_gets(gateway: Gateway) -> int:
    """The code for Sue at RCPT, asked on connections enough to meet every worker."""
    codes = set()
    for _ in range(8):
        with gateway.client() as client:
            client.ehlo()
            codes.add(client.envelope("sue@sender.example", "alice@example.com")[-1].code)
            client.quit()
    assert len(codes) == 1, f"the workers disagree: {codes}"
    return codes.pop()


def test_a_good_policy_takes_effect_and_no_connection_is_dropped(place: Site, gateway: Gateway) -> None:
    with gateway.client() as client:
        client.ehlo()
        assert [a.code for a in client.envelope("sue@sender.example", "alice@example.com")] == [250, 250]
        place.policy(REFUSE_SUE)
        assert gateway.reload() == ""
        # The open transaction keeps the policy that it began with; the next one on the same connection has the new.
        answer = client.data(b"From: <sue@sender.example>\r\n\r\nx\r\n")
        assert answer.code == 250, answer
        until(lambda: sue_gets(gateway) == 550, "the new policy")
        assert client.envelope("sue@sender.example", "alice@example.com")[-1].code == 550


@pytest.mark.parametrize(
    ("what", "text", "complaint"),
    [
        (
            "a misspelt key",
            "rules:\n  - id: a\n    wen: client.tls\n    then: reject\n",
            ("50-test.yaml:3:5: ", "did you mean", "when"),
        ),
        (
            "a misspelt fact",
            'rules:\n  - id: a\n    when: smf.result == "fail"\n    then: reject\n    because: x\n',
            ("50-test.yaml:3:11: ", "did you mean", "spf"),
        ),
        (
            "a wrong type",
            'rules:\n  - id: a\n    when: message.size > "big"\n    then: reject\n    because: x\n',
            ("50-test.yaml:3:", "message.size"),
        ),
        ("no YAML", "rules: [\n", ("50-test.yaml:",)),
    ],
)
def test_a_bad_policy_is_refused_and_the_old_one_stays(
    place: Site, gateway: Gateway, what: str, text: str, complaint: tuple[str, ...]
) -> None:
    place.policy(REFUSE_SUE)
    assert gateway.reload() == ""
    until(lambda: sue_gets(gateway) == 550, "the new policy")
    place.policy(text)
    problems = gateway.reload()
    assert all(word in problems for word in complaint), f"{what}: {problems}"
    assert sue_gets(gateway) == 550
    # A worker that dies now comes back with what was last validated, not with what lies on the disk.
    for victim in gateway.worker_pids():
        os.kill(victim, signal.SIGKILL)
        until(lambda v=victim: v not in gateway.worker_pids() and len(gateway.worker_pids()) == 2, "a new worker")  # type: ignore[misc]
    assert sue_gets(gateway) == 550
    # And the mended file is taken.
    place.policy("rules: []\n")
    assert gateway.reload() == ""
    until(lambda: sue_gets(gateway) == 250, "the mended policy")


def test_a_bad_configuration_is_refused_and_the_old_one_stays(place: Site, gateway: Gateway) -> None:
    text = place.file.read_text()
    place.file.write_text(text.replace("verify_recipients", "verify_recipient"))
    problems = gateway.reload()
    line = 1 + text[: text.index("verify_recipients")].count("\n")
    assert f"gatepost.yaml:{line}:" in problems
    assert "did you mean" in problems
    assert sue_gets(gateway) == 250


def test_a_new_certificate_is_served_after_a_reload(place: Site, gateway: Gateway, tmp_path: Path) -> None:
    other = TestCa(tmp_path, "next")
    leaf = other.issue("mx.example.com")
    place.configuration["listeners"][0]["tls"] = {"certificate": str(leaf.certificate), "key": str(leaf.key)}
    place.write()
    assert gateway.reload() == ""

    def trusted() -> bool:
        with gateway.client() as client:
            client.ehlo()
            try:
                client.starttls(other.file, "mx.example.com")
            except OSError:
                return False
            client.ehlo()
            return True

    until(lambda: all(trusted() for _ in range(6)), "the new certificate from every worker")


def test_sigterm_drains(gateway: Gateway) -> None:
    with gateway.client() as busy, gateway.client() as idle:
        for client in (busy, idle):
            client.ehlo()
        busy.envelope("sue@sender.example", "alice@example.com")
        assert busy.command("DATA").code == 354
        busy.send(b"From: <sue@sender.example>\r\n\r\n")
        os.kill(gateway.pid, signal.SIGTERM)
        assert idle.answer().lines[0].startswith("4.3.2")
        busy.send(b"x\r\n.\r\n")
        answer = busy.answer()
        assert answer.code in {250, 421}, answer
        assert gateway.stop() == 0
    assert not gateway.noise, "nothing but JSON lines on standard error"


def test_what_a_worker_cannot_run_changes_nothing(place: Site, gateway: Gateway) -> None:
    """It passes the check (a database of a newer version shows only when it is opened), and all workers go back."""
    newer = place.directory / "newer.db"
    with contextlib.closing(sqlite3.connect(newer)) as database:
        database.execute("PRAGMA user_version = 99")
    before = gateway.worker_pids()
    place.configuration["state"] = "sqlite:newer.db"
    place.policy(REFUSE_SUE)
    place.write()
    assert "newer version of the gateway" in gateway.reload()
    assert sue_gets(gateway) == 250
    assert gateway.worker_pids() == before
    place.configuration["state"] = "sqlite:state.db"
    place.write()
    assert gateway.reload() == ""
    assert sue_gets(gateway) == 550


def test_implicit_tls_cannot_change_under_a_listener(place: Site, gateway: Gateway) -> None:
    place.configuration["listeners"][0] |= {"implicit_tls": True, "starttls": "off"}
    place.write()
    assert "restart" in gateway.reload()
    assert sue_gets(gateway) == 250
