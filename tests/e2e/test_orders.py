"""gatepost status, reload, drain against a running gateway; a policy whose own test fails."""

import contextlib
import json
import sqlite3
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cli.testca import TestCa
from tests.support import postfix
from tests.support.gateway import Gateway, Site, run, serving, site
from tests.support.ports import free_port
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
    assert f"--socket {place.directory / 'state.db.sock'}" in lost.stderr
    assert give(place, "status", "--socket", str(place.directory / "state.db.sock")).returncode == 1
    assert gateway.pid


def test_an_untested_rule_is_a_warning(place: Site, gateway: Gateway) -> None:
    place.policy(REFUSE_SUE.partition("tests:")[0])
    told = give(place, "reload")
    assert told.returncode == 0
    assert "no test reaches 1 of 1 rules: no-sue" in told.stderr
    until(lambda: gateway.events("configuration"), "the warning in the log")


def broken_yaml(place: Site) -> str:
    place.file.write_text("{" + place.file.read_text())
    return "gatepost.yaml:"


def failing_test(place: Site) -> str:
    place.policy(WRONG)
    return "the test 'Sue is refused' fails"


def no_certificate(place: Site) -> str:
    place.configuration["listeners"][0]["tls"]["certificate"] = "gone.pem"
    place.write()
    return "gone.pem"


def garbled_certificate(place: Site) -> str:
    (place.directory / "garbled.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    place.configuration["listeners"][0]["tls"]["certificate"] = "garbled.pem"
    place.write()
    return "the certificate is damaged"


def newer_journal(place: Site) -> str:
    with contextlib.closing(sqlite3.connect(place.directory / "newer.db")) as database:
        database.execute("PRAGMA user_version = 99")
    place.configuration["journal"] = {"path": "newer.db", "keep": "30d"}
    place.write()
    return "newer.db: written by a newer version of the gateway (schema 99"


def journal_in_the_way(place: Site) -> str:
    (place.directory / "folder.db").mkdir()
    place.configuration["journal"] = {"path": "folder.db", "keep": "30d"}
    place.write()
    return "folder.db: not a file that may be read and written"


def state_in_the_way(place: Site) -> str:
    (place.directory / "folder.db").mkdir()
    place.configuration["state"] = "sqlite:folder.db"
    place.configuration["control"] = "state.db.sock"  # where it is
    place.write()
    return "folder.db: not a file that may be read and written"


FAULTS = (
    broken_yaml, failing_test, no_certificate, garbled_certificate, newer_journal, journal_in_the_way, state_in_the_way,
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refused_reload_says_why_wherever_the_operator_looks(
    place: Site, backend: postfix.Postfix, fault: Callable[[Site], str]
) -> None:
    place.configuration["admin"] = {"bind": f"127.0.0.1:{free_port()}"}
    good = json.dumps(place.configuration)

    def health(path: str = "health") -> str:
        with urllib.request.urlopen(f"http://{place.configuration['admin']['bind']}/{path}", timeout=10) as page:
            return str(page.read().decode())

    with serving(place) as gateway:
        until(lambda: gateway.events("process ready") and '"status":"ok"' in health(), "a healthy gateway")
        why = fault(place)
        refused = give(place, "reload", "--socket", str(place.directory / "state.db.sock"))
        assert (refused.returncode, refused.stdout) == (1, ""), refused
        assert why in refused.stderr
        assert "Traceback" not in refused.stderr
        assert why in "\n".join(gateway.event("reload refused, the old configuration stays")["problems"])
        assert all(line.get("level") != "error" or "exception" not in line for line in gateway.log), gateway.words()
        said = json.loads(until(lambda: (text := health()) and '"ok":false' in text and text, "the health page"))
        assert said["status"] == "degraded"
        assert why in said["last_reload"]["error"]
        assert "refused, the old configuration stays" in health("")
        status = run("status", "--socket", str(place.directory / "state.db.sock"))
        assert (status.returncode, why in status.stdout) == (1, True), status
        assert code_for_sue(gateway) == 250
        # What is mended is taken, and nothing remembers the fault.
        place.configuration = json.loads(good)
        place.policy("rules: []\n")
        place.write()
        assert give(place, "reload").returncode == 0
        assert give(place, "status").returncode == 0
        until(lambda: '"status":"ok"' in health(), "health")
        with gateway.client() as client:
            client.ehlo()
            assert client.deliver("bob@sender.example", ["alice@example.com"], b"Subject: x\r\n\r\nx\r\n").code == 250
        found = until(lambda: run("journal", "search", "-c", str(place.file), "--sender", "bob@sender.example").stdout,
                      "the journal")  # fmt: skip
        assert "delivered" in found


def test_a_socket_that_the_file_names_otherwise_by_now(place: Site, gateway: Gateway) -> None:
    place.configuration["control"] = "new.sock"
    place.write()
    old = str(place.directory / "state.db.sock")
    for order in ("status", "reload"):
        lost = give(place, order)
        assert lost.returncode == 1
        assert "new.sock: nobody takes orders there; the gateway that was started with" in lost.stderr
        assert f"pid {gateway.pid}, takes orders at {old}: add --socket {old}" in lost.stderr
    assert run("reload", "--socket", old).returncode == 0
    assert give(place, "status").returncode == 0
    assert run("status", "--socket", old).returncode == 1
