"""Clients that we did not write, each delivering through the gateway: nodemailer, Python's smtplib."""

import email.message
import json
import os
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.testca import Pair, TestCa
from tests.support import exim
from tests.support.gateway import HOSTNAME, REPOSITORY, Gateway, serving, site
from tests.support.recorder import Recorder, recorder

#: Where tests/support/install-tools puts it.
NODE_MODULES = REPOSITORY / "build" / "tools" / "node_modules"
SEND = """
const transport = require("nodemailer").createTransport({
  host: "127.0.0.1", port: Number(process.env.PORT), name: "client.sender.example", requireTLS: true,
  tls: {servername: process.env.NAME, ca: require("fs").readFileSync(process.env.CA)}, dsn: undefined,
});
transport.sendMail({
  from: "sue@sender.example", to: "alice@example.com, bob@example.com", subject: "Grüße",
  text: ".\\n..\\nžluťoučký", attachments: [{filename: "a.bin", content: Buffer.alloc(300000, 7)}],
  dsn: {id: "some-id", return: "headers", notify: ["failure", "delay"], recipient: "alice@example.com"},
}).then(info => console.log(JSON.stringify({response: info.response, accepted: info.accepted})));
"""


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory, leaf: Pair) -> Iterator[Recorder]:
    with recorder(leaf, tmp_path_factory.mktemp("taken") / "file") as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, authority: TestCa, taken: Recorder) -> Iterator[Gateway]:
    with serving(site(tmp_path_factory.mktemp("clients") / "site", taken.port, authority)) as running:
        yield running


@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node is not on this machine")
def test_nodemailer(gateway: Gateway, authority: TestCa, taken: Recorder, tmp_path: Path) -> None:
    assert NODE_MODULES.is_dir(), "nodemailer is missing: run tests/support/install-tools"
    (tmp_path / "send.js").write_text(SEND)
    done = subprocess.run(
        ["node", str(tmp_path / "send.js")],
        env={
            **os.environ,
            "NODE_PATH": str(NODE_MODULES),
            "PORT": str(gateway.port),
            "CA": str(authority.file),
            "NAME": HOSTNAME,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["accepted"] == ["alice@example.com", "bob@example.com"]
    assert said["response"].startswith("250 2.0.0 ")
    (record,) = [record for record in taken.records() if record["recipients"] == said["accepted"]]
    assert int(str(record["size"])) > 400_000


def test_smtplib(gateway: Gateway, authority: TestCa, taken: Recorder) -> None:
    message = email.message.EmailMessage()
    message["X-Test-Id"], message["From"], message["To"] = "smtplib", "sue@sender.example", "alice@example.com"
    message.set_content(".\n..\nžluťoučký")
    with smtplib.SMTP("127.0.0.1", gateway.port, "client.sender.example", timeout=30) as client:
        client._host = HOSTNAME  # type: ignore[attr-defined] # the name in the certificate is not 127.0.0.1
        client.starttls(context=ssl.create_default_context(cafile=str(authority.file)))
        client.ehlo()
        assert client.has_extn("CHUNKING")
        assert client.has_extn("DSN")
        assert client.send_message(message, mail_options=["RET=HDRS"], rcpt_options=["NOTIFY=NEVER"]) == {}
    assert [record for record in taken.records() if record["id"] == "smtplib"]


@pytest.mark.skipif(
    not exim.UNPACKED.is_dir(), reason="Exim is not unpacked: tests/support/install-tools does it on Debian"
)
def test_exim_sends_by_bdat(gateway: Gateway, authority: TestCa, taken: Recorder) -> None:
    text = b"".join(b"line %d\r\n.\r\n" % number for number in range(20_000))
    with exim.client(gateway.port, authority.file) as client:
        log = client.deliver(
            "sue@sender.example", "alice@example.com", b"X-Test-Id: exim\r\nFrom: <sue@sender.example>\r\n\r\n" + text
        )
    assert " => alice@example.com" in log, log
    (record,) = [record for record in taken.records() if record["id"] == "exim"]
    assert int(str(record["size"])) > len(text)
    (line,) = [line for line in log.splitlines() if " => alice@example.com" in line]
    assert " K " in line, "K: by CHUNKING"
    assert 'C="250 2.0.0 ' in line
    assert " X=TLS1.3:" in line
