"""What is refused, said to swaks: a client we did not write."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cli.testca import TestCa
from tests.support import postfix
from tests.support.gateway import HOSTNAME, Gateway, serving, site
from tests.support.wait import until

POLICY = """
rules:
  - id: spf-hard-fail
    when: spf.result == "fail"
    then: reject
    reply: 550 5.7.23 The sender's domain does not allow mail from your address
    because: a test
  - id: dmarc-reject
    when: dmarc.result == "fail" && dmarc.policy == "reject"
    then: reject
    reply: 550 5.7.26 Refused by the DMARC policy of {dmarc.domain}
    because: a test
  - id: two-authors
    when: "!from.valid"
    then: reject
    reply: 550 5.7.1 The message needs exactly one author
    because: a test
"""


@dataclass(frozen=True, slots=True)
class Said:
    """One run of swaks: its exit status and all lines of the dialogue."""

    status: int
    dialogue: str

    def refusals(self) -> list[str]:
        """The lines that swaks marks as the server's errors."""
        return [line[4:].strip() for line in self.dialogue.splitlines() if line.startswith(("<** ", "<~* "))]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, authority: TestCa, backend: postfix.Postfix) -> Iterator[Gateway]:
    made = site(tmp_path_factory.mktemp("swaks"), backend.port, authority, limits={"message": "1MB", "recipients": 3})
    made.policy(POLICY)
    with serving(made) as running:
        yield running


def swaks(gateway: Gateway, *words: str, to: str = "alice@example.com", sender: str = "sue@sender.example") -> Said:
    program = shutil.which("swaks")
    assert program, "swaks is missing: run tests/support/install-tools"
    done = subprocess.run(
        [
            program,
            "--server",
            f"127.0.0.1:{gateway.port}",
            "--to",
            to,
            "--from",
            sender,
            "--helo",
            "client.sender.example",
            *words,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Said(done.returncode, done.stdout + done.stderr)


def test_a_clean_mail_over_tls_is_accepted(
    gateway: Gateway, authority: TestCa, fresh: str, backend: postfix.Postfix
) -> None:
    said = swaks(
        gateway,
        "--tls",
        "--tls-verify",
        "--tls-ca-path",
        str(authority.file),
        "--tls-sni",
        HOSTNAME,
        "--h-Subject",
        fresh,
    )
    assert said.status == 0, said.dialogue
    assert re.search(r"^=== TLS started with cipher TLSv1\.3", said.dialogue, re.MULTILINE), said.dialogue
    assert re.search(r"^<~  250 2\.0\.0 .* [0-9A-Z]{12}$", said.dialogue, re.MULTILINE), said.dialogue
    until(lambda: any(fresh.encode() in mail for mail in backend.mails("alice@example.com")), "the mail")


@pytest.mark.parametrize(
    ("what", "words", "to", "sender", "code"),
    [
        ("relay attempt", [], "bob@elsewhere.example", "sue@sender.example", "550 5.7.1"),
        (
            "relay attempt with a percent sign",
            [],
            "bob%elsewhere.example@other.example",
            "sue@sender.example",
            "550 5.7.1",
        ),
        ("unknown recipient", [], "nobody-here@example.com", "sue@sender.example", "550 5.1.1"),
        ("SPF hard fail", [], "alice@example.com", "ceo@strict.example", "550 5.7.23"),
        (
            "spoofed author of a p=reject domain",
            ["--h-From", "<ceo@strict.example>"],
            "alice@example.com",
            "sue@sender.example",
            "550 5.7.26",
        ),
        (
            "two author fields",
            ["--header", "From: <a@sender.example>", "--add-header", "From: <b@sender.example>"],
            "alice@example.com",
            "sue@sender.example",
            "550 5.7.1",
        ),
    ],
)
def test_refusals(gateway: Gateway, what: str, words: list[str], to: str, sender: str, code: str) -> None:
    said = swaks(gateway, *words, to=to, sender=sender)
    assert said.status != 0, said.dialogue
    (refusal, *_) = said.refusals() or [""]
    assert refusal.startswith(code + " "), f"{what}: {said.dialogue}"
    assert re.search(r" [0-9A-Z]{12}$", refusal), "the id is the last word"


def test_too_large_by_counted_octets(gateway: Gateway, tmp_path: Path) -> None:
    """swaks declares no SIZE: the octets themselves are counted."""
    letter = tmp_path / "letter"
    letter.write_bytes(b"From: <sue@sender.example>\nSubject: large\n\n" + (b"x" * 76 + b"\n") * 14_000)
    said = swaks(gateway, "--data", f"@{letter}")
    assert said.status == 26, said.dialogue
    assert re.search(r"^552 5\.3\.4 .* [0-9A-Z]{12}$", said.refusals()[0]), said.dialogue


def test_too_many_recipients(gateway: Gateway) -> None:
    said = swaks(
        gateway, to=",".join(["alice@example.com", "bob@example.com", "carol@example.com", "alice@example.com"])
    )
    assert [line[:9] for line in said.refusals()] == ["452 4.5.3"], said.dialogue


def test_a_command_that_needs_no_tls_here_and_authentication_that_is_not_offered(gateway: Gateway) -> None:
    said = swaks(gateway, "--auth", "PLAIN", "--auth-user", "u", "--auth-password", "p")
    assert said.status == 28, said.dialogue  # swaks: authentication not offered
    assert "AUTH" not in re.sub(r"(?m)^\*\*\*.*", "", said.dialogue)


def test_starttls_required(tmp_path: Path, authority: TestCa, backend: postfix.Postfix) -> None:
    made = site(tmp_path / "site", backend.port, authority)
    made.configuration["listeners"][0]["starttls"] = "required"
    with serving(made) as strict:
        plain = swaks(strict)
        assert plain.refusals()[0].startswith("530 5.7.0 "), plain.dialogue
        assert swaks(strict, "--tls").status == 0


def test_pipelining(gateway: Gateway, fresh: str) -> None:
    said = swaks(gateway, "--pipeline", "--h-Subject", fresh)
    assert said.status == 0, said.dialogue
