"""A listener that asks clients for certificates, as OpenSSL's `s_client` meets it: mail flows whatever is shown, and
the policy knows what that was."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.cli.testca import Pair, TestCa
from tests.support.certificates import Node, chain_file, make
from tests.support.gateway import Gateway, Site, run, serving, site
from tests.support.recorder import Recorder, recorder

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
POLICY = """
rules:
  - id: pinned
    when: client.certificate_fingerprint == "{pin}"
    then: {{tag: {{name: X-Pinned, value: "yes"}}}}
  - id: verified
    when: '"a.partner.example" in client.certificate_names'
    then: {{tag: {{name: X-Verified, value: "yes"}}}}
  - id: shown
    when: client.tls
    then: {{tag: {{name: X-Shown, value: "{{client.certificate}}"}}}}
  - id: partner-without-certificate
    when: under(mail.domain, "partner.example") && client.certificate != "pass"
    then: defer
    reply: 450 4.7.1 Please show your certificate, as agreed
"""


@dataclass(frozen=True)
class World:
    """A gateway with a listener for STARTTLS and one for implicit TLS, both asking, and its backend."""

    gateway: Gateway
    site: Site
    taken: Recorder
    chains: dict[str, tuple[Node, ...]]

    def port(self, number: int) -> int:
        return int(self.gateway.event("listening", number + 1)["address"].rpartition(":")[2])


def shown() -> tuple[Node, dict[str, tuple[Node, ...]]]:
    """The partners' authority, and what clients show."""
    root = make("Partners", ca=True)
    between = make("Between", root, ca=True)
    large = [f"{n}.{'x' * 60}.example" for n in range(1000)]
    return root, {
        "none": (),
        "ours": (make("a.partner.example", root, usage=CLIENT),),
        "rsa": (make("a.partner.example", root, usage=CLIENT, key=rsa.generate_private_key(65537, 2048)),),
        "chain": (make("a.partner.example", between, usage=CLIENT), between),
        "chain-missing": (make("a.partner.example", between, usage=CLIENT),),
        "self-signed": (make("a.partner.example", usage=CLIENT),),
        "other-authority": (make("a.partner.example", make("Others", ca=True), usage=CLIENT),),
        "expired": (make("a.partner.example", root, usage=CLIENT, start=-9, end=-1),),
        "for-servers": (make("a.partner.example", root),),
        "large": (make("a.partner.example", root, usage=CLIENT, others=large),),
    }


PASS = {"ours", "rsa", "chain", "large"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, authority: TestCa, leaf: Pair) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("asking")
    root, chains = shown()
    (folder / "partners.pem").write_bytes(root.pem)
    with recorder(leaf, folder / "taken") as taken:
        made = site(folder / "site", taken.port, authority)
        first = made.configuration["listeners"][0]
        first["client_certificates"] = {"ca": str(folder / "partners.pem")}
        second = json.loads(json.dumps(first)) | {"implicit_tls": True, "starttls": "off"}
        made.configuration["listeners"].append(second)
        pin = chains["self-signed"][0].certificate.fingerprint(hashes.SHA256()).hex()
        made.policy(POLICY.format(pin=pin))
        with serving(made) as running:
            yield World(running, made, taken, chains)


class Speaker:
    """`openssl s_client` at work: lines in, replies out."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin
        assert process.stdout
        self._in, self._out = process.stdin, process.stdout

    def reply(self) -> str:
        """The last line of the next reply; "" when the connection is over."""
        while True:
            line = self._out.readline().decode()
            if not line or line[3:4] == " ":
                return line.strip()

    def say(self, line: str) -> str:
        self._in.write(line.encode() + b"\r\n")
        self._in.flush()
        return self.reply()


@contextmanager
def s_client(port: int, *words: str) -> Iterator[Speaker]:
    program = shutil.which("openssl")
    assert program, "openssl is missing: run tests/support/install-tools"
    common = ["-quiet", "-ign_eof", "-connect", f"127.0.0.1:{port}", "-servername", "mx.example.com"]
    with subprocess.Popen(
        [program, "s_client", *common, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield Speaker(process)
        finally:
            process.kill()


def certificate(folder: Path, chain: tuple[Node, ...]) -> list[str]:
    if not chain:
        return []
    pair = chain_file(folder, "client", *chain)
    above = ["-cert_chain", str(pair.certificate)] if len(chain) > 1 else []
    return ["-cert", str(pair.certificate), "-key", str(pair.key), *above]


def deliver(speaker: Speaker, mark: str, sender: str = "sue@sender.example") -> str:
    assert speaker.say("EHLO client.sender.example").startswith("250")
    assert speaker.say(f"MAIL FROM:<{sender}>").startswith("250")
    said = speaker.say("RCPT TO:<alice@example.com>")
    if not said.startswith("250"):
        return said
    assert speaker.say("DATA").startswith("354")
    return speaker.say(f"X-Test-Id: {mark}\r\nFrom: <{sender}>\r\nSubject: t\r\n\r\nhello\r\n.")


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("kind", shown()[1])
def test_mail_flows_whatever_is_shown(world: World, tmp_path: Path, kind: str, version: str, implicit: bool) -> None:
    chain, mark = world.chains[kind], f"{kind}{version}{implicit}"
    starttls = [] if implicit else ["-starttls", "smtp"]
    with s_client(world.port(implicit), version, *starttls, *certificate(tmp_path, chain)) as speaker:
        if implicit:
            assert speaker.reply().startswith("220")
        answer = deliver(speaker, mark)
    assert answer.startswith("250"), answer
    head = str(next(record["head"] for record in world.taken.records() if record["id"] == mark))
    word = "none" if not chain else "pass" if kind in PASS else "fail"
    assert f"X-Shown: {word}\r\n" in head
    assert ("X-Verified: yes" in head) == (word == "pass")
    assert ("X-Pinned: yes" in head) == (kind == "self-signed")
    proof = {"none": ")", "pass": ", client certificate verified)", "fail": ", client certificate not verified)"}[word]
    using = next(line for line in head.split("\r\n") if "(using TLSv1." in line)
    assert using.rstrip().endswith(proof)


def test_a_partner_must_show_its_certificate(world: World, tmp_path: Path) -> None:
    sender = "a@partner.example"
    with s_client(world.port(0), "-starttls", "smtp") as speaker:
        refused = deliver(speaker, "partner-none", sender)
    assert refused.startswith("450 4.7.1 Please show your certificate")
    with s_client(world.port(0), "-starttls", "smtp", *certificate(tmp_path, world.chains["ours"])) as speaker:
        assert deliver(speaker, "partner-ours", sender).startswith("250")
    # What was shown is recorded with the other facts, and in the log.
    told = run("policy", "explain", refused.split()[-1], "-c", str(world.site.file))
    assert told.returncode == 0, told.stderr
    assert "client.certificate" in told.stdout
    shown = world.chains["ours"][0].certificate.fingerprint(hashes.SHA256()).hex()
    # Once a minute: an earlier test may have had it told.
    line = next(line for line in world.gateway.events("client certificate") if line.get("fingerprint") == shown)
    assert (line["names"], line["fault"]) == (["a.partner.example"], "")


def test_a_reload_brings_another_authority(world: World, tmp_path: Path) -> None:
    """The last one here: the partners' authority is no longer believed, from the next handshake on."""
    (tmp_path / "new.pem").write_bytes(make("New Partners", ca=True).pem)
    for listener in world.site.configuration["listeners"]:
        listener["client_certificates"] = {"ca": str(tmp_path / "new.pem")}
    world.site.write()
    assert world.gateway.reload() == ""
    with s_client(world.port(0), "-starttls", "smtp", *certificate(tmp_path, world.chains["ours"])) as speaker:
        assert deliver(speaker, "reload", "a@partner.example").startswith("450 4.7.1 Please show your certificate")
