"""gatepost status, reload, drain against a running gateway; a policy whose own test fails."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.testca import TestCa
from tests.support import postfix
from tests.support.gateway import Gateway, Site, run, serving, site
from tests.support.wait import until

REFUSE_SUE = """\
rules:
  - id: no-sue
    when: mail.address == "sue@sender.example"
    then: reject
    reply: 550 5.7.1 Not you
    because: a test
tests:
  - name: Sue is refused
    given: {mail.address: sue@sender.example}
    expect: {action: reject, rule: no-sue}
"""
WRONG = REFUSE_SUE.replace("given: {mail.address: sue@", "given: {mail.address: bob@")


@pytest.fixture
def place(tmp_path: Path, authority: TestCa, backend: postfix.Postfix) -> Site:
    return site(tmp_path / "site", backend.port, authority)


@pytest.fixture
def gateway(place: Site) -> Iterator[Gateway]:
    with serving(place) as running:
        yield running


def give(place: Site, order: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return run(order, "-c", str(place.file), *words)


def code_for_sue(gateway: Gateway) -> int:
    with gateway.client() as client:
        client.ehlo()
        return int(client.envelope("sue@sender.example", "alice@example.com")[-1].code)


def test_status_reload_drain(place: Site, gateway: Gateway) -> None:
    status = give(place, "status")
    assert status.returncode == 0, status
    assert f"pid {gateway.pid}" in status.stdout
    assert "2 of 2 ready, 0 restarts" in status.stdout
    place.policy(REFUSE_SUE)
    reloaded = give(place, "reload")
    assert (reloaded.returncode, reloaded.stdout[:8]) == (0, "reloaded"), reloaded
    assert code_for_sue(gateway) == 550  # at once: the command has waited for all workers
    place.policy(REFUSE_SUE.replace("mail.address ==", "mial.address =="))
    refused = give(place, "reload")
    assert refused.returncode == 1
    assert "50-test.yaml:3:11: " in refused.stderr
    assert "the running configuration stays" in refused.stderr
    assert code_for_sue(gateway) == 550
    status = give(place, "status", "--json")
    assert status.returncode == 1
    told = json.loads(status.stdout)
    assert (told["ok"], told["reloads"]) == (False, {"accepted": 1, "refused": 1})
    assert "50-test.yaml:3:11: " in give(place, "status").stdout
    drained = give(place, "drain")
    assert (drained.returncode, drained.stdout) == (0, "drained\n"), drained
    assert gateway.stop() == 0
    gone = give(place, "status")
    assert gone.returncode == 1
    assert "no gateway runs with this configuration" in gone.stderr


def test_a_policy_whose_test_fails_is_refused_at_reload_and_told_at_start(place: Site, gateway: Gateway) -> None:
    place.policy(WRONG)
    refused = give(place, "reload", "--json")
    assert refused.returncode == 1
    error = json.loads(refused.stdout)["error"]
    assert "50-test.yaml:8:" in error
    assert "the test 'Sue is refused' fails: expected reject by no-sue" in error
    assert "1 of 1 policy tests fail" in error
    assert code_for_sue(gateway) == 250
    assert error.splitlines()[0] in gateway.reload()  # SIGHUP says the same in the log
    # At a start there is nothing to fall back to: it serves, and says so.
    gateway.stop()
    with serving(place) as again:
        assert code_for_sue(again) == 550
        assert any("the test 'Sue is refused' fails" in str(line) for line in again.log)


def test_status_of_a_gateway_whose_file_is_broken_by_now(place: Site, gateway: Gateway) -> None:
    text = place.file.read_text()
    place.file.write_text(text.replace("hostname:", "hostnam:"))
    assert give(place, "status").returncode == 0
    assert "did you mean 'hostname'" in give(place, "reload").stderr
    place.file.write_text("{" + text)
    lost = give(place, "status")
    assert lost.returncode == 1
    assert "--socket FILE" in lost.stderr
    assert give(place, "status", "--socket", str(place.directory / "state.db.sock")).returncode == 1
    assert gateway.pid


def test_an_untested_rule_is_a_warning(place: Site, gateway: Gateway) -> None:
    place.policy(REFUSE_SUE.partition("tests:")[0])
    told = give(place, "reload")
    assert told.returncode == 0
    assert "no test reaches 1 of 1 rules: no-sue" in told.stderr
    until(lambda: gateway.events("configuration"), "the warning in the log")
