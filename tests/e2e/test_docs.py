"""What the docs tell to type is typed: each `sh` block and each command of policies, journal, checks and daily care.

In a folder as an operator has it: `gatepost.yaml`, the shipped policies, a copy of them with a change, a message, and
a gateway that runs and has seen mail. A command that is not run stands in `NOT_RUN` with the reason.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cli.testca import Pair, TestCa
from tests.e2e.test_policy_past import written
from tests.support.gateway import REPOSITORY, serving, site
from tests.support.recorder import recorder
from tests.support.smtp import Client
from tests.support.wait import until

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
GROUPS = ("policy", "journal", "check", "config", "rehearse", "greylist", "status", "reload", "drain")
BLOCKS = [
    block for text in TEXTS.values() for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
]
#: As they stand in the text, between backticks or behind a prompt, on one line or two.
COMMANDS = sorted(
    {
        " ".join(found.split())
        for text in TEXTS.values()
        for pair in re.findall(r"`(gatepost [^`]+)`|^\s*\$ (gatepost .*)$", text, re.MULTILINE)
        for found in pair
        if found.split()[1:] and found.split()[1] in GROUPS
    }
)
NOT_RUN = {
    "gatepost policy": "the name of a group",
    "gatepost policy diff": "the name of a command",
    "gatepost check": "the name of a command",
    "gatepost greylist forget": "the name of a command",
    "gatepost status | reload | drain": "the names of three commands",
    "gatepost drain": "ends the gateway: tests/e2e/test_orders.py",
}
#: Exit status and what is printed; what is not named here is 0.
EXPECTED = {
    "gatepost check message.eml": (1, r"^reject: 550 5\.7\.26 Refused by the DMARC policy of strict\.example"),
    "gatepost config check": (0, "^gatepost.yaml: fine: configuration, certificates, [1-9]"),
    "gatepost greylist release": (1, "^$"),  # nobody of that name waits
    "gatepost journal search --sender": (1, "^$"),  # no such mail
    "gatepost journal search --rule": (0, "reject"),
    "gatepost journal show": (0, "dmarc-reject"),
    "gatepost journal tail": (0, "dmarc-reject"),
    "gatepost policy check --failures": (0, "^spf down"),
    "gatepost policy diff policies/ policies-next/": (1, "newly refused"),
    "gatepost policy replay": (1, "newly refused"),
    "gatepost policy explain": (0, "FIRED +dmarc-reject"),
    "gatepost rehearse": (0, "^220 mx.example.com"),
    "gatepost status": (0, "revision"),
}
LETTER = b"From: <%s>\r\nTo: <alice@example.com>\r\nSubject: hello\r\n\r\nhello\r\n"
NEXT = """\
rules:
  - id: no-hello
    when: message.subject == "hello"
    then: reject
    tests: [{given: {message.subject: hello}, expect: {action: reject}}]
"""


@dataclass(frozen=True)
class Desk:
    """Where an operator sits."""

    folder: Path
    refusal: str  # a whole reply

    def type(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command of the docs as it stands there, but for the id and the folder."""
        command = re.sub(r"\bID\b|\b1[0-9A-HJKMNP-TV-Z]{11}\b", self.refusal.split()[-1], command)
        return subprocess.run(
            ["bash", "-c", "set -o pipefail; " + command.replace("/etc/gatepost/", "")],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            input='{"id": 1, "ip": "192.0.2.1"}\n' if "--batch" in command else "EHLO client.example.net\nQUIT\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, authority: TestCa, leaf: Pair) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    with recorder(leaf, folder / "taken") as backend:
        made = site(folder / "site", backend.port, authority, quarantine="quarantine@example.com")
        shutil.rmtree(made.policies)
        shutil.copytree(REPOSITORY / "policies", made.policies)
        shutil.copytree(REPOSITORY / "policies", made.directory / "policies-next")
        (made.directory / "policies-next" / "90-next.yaml").write_text(NEXT)
        (made.directory / "message.eml").write_bytes(LETTER % b"a@strict.example")
        made.zone["_dmarc.sender.example"] = {"TXT": ["v=DMARC1; p=none"]}
        made.zone["_dmarc.bank.example"] = {"TXT": ["v=DMARC1; p=reject"]}
        made.zone["bank.example"] = {"A": ["192.0.2.3"]}
        with serving(made) as gateway:
            replies = []
            for author in (b"sue@sender.example", b"boss@bank.example"):
                with Client(gateway.port) as client:
                    client.ehlo()
                    replies.append(client.deliver("sue@sender.example", ["alice@example.com"], LETTER % author))
            until(lambda: written(made.journal) == len(replies), "the journal")
            assert [reply.code for reply in replies] == [250, 550]
            yield Desk(made.directory, f"{replies[1].code} {replies[1].text}")


def test_the_refusal_that_readme_shows(desk: Desk) -> None:
    shown = re.search(r"^    (550 5\.7\.26 .*) \w{12}$", TEXTS["README.md"], re.MULTILINE)
    assert shown is not None
    assert desk.refusal.rpartition(" ")[0] == shown[1]


@pytest.mark.parametrize("command", [*BLOCKS, *(command for command in COMMANDS if command not in NOT_RUN)])
def test_command(desk: Desk, command: str) -> None:
    status, shown = next((EXPECTED[start] for start in EXPECTED if command.startswith(start)), (0, ""))
    done = desk.type(command)
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stdout + done.stderr
    assert re.search(shown, done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_what_is_not_run_stands_there() -> None:
    assert set(NOT_RUN) <= set(COMMANDS), "remove what the docs do not say any more"
    assert len(COMMANDS) - len(NOT_RUN) > 15
