"""The ways to a backend, with a real gateway before a real Postfix: MX, fingerprints, XCLIENT, XFORWARD, CHUNKING."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from gateway.cli.testca import Pair, TestCa
from gateway.relay.trust import fingerprints
from tests.support import postfix
from tests.support.gateway import BACKEND_NAME, Site, run, serving, site
from tests.support.wait import until

MAIL = b"X-Test-Id: %s\r\nSubject: x\r\n\r\n.dot\r\n..two\r\nend\r\n"
FROM = "127.0.0.7"


def made(folder: Path, backend: postfix.Postfix, authority: TestCa, **main: Any) -> Site:
    found = site(folder, backend.port, authority)
    found.configuration["backends"]["main"].update(main)
    return found


def deliver(folder: Site, backend: postfix.Postfix, word: str) -> bytes:
    """Sends one mail from another address of ours; what the mailbox got, from its trace on."""
    with serving(folder) as gateway, gateway.client(source=FROM) as client:
        client.ehlo("helo.example.net")
        answer = client.deliver("sue@sender.example", ["alice@example.com"], MAIL % word.encode())
        assert answer.code == 250, (answer, gateway.words())
    marked = b"X-Test-Id: %s\r\n" % word.encode()
    got = until(lambda: [m for m in backend.mails("alice@example.com") if marked in m], "the mail")
    assert len(got) == 1
    assert got[0].endswith(MAIL % word.encode())
    return got[0]


def digest(leaf: Pair, kind: str) -> str:
    certificate = x509.load_pem_x509_certificate(leaf.certificate.read_bytes())
    from cryptography.hazmat.primitives.serialization import Encoding

    return next(f for f in fingerprints(certificate.public_bytes(Encoding.DER)) if f.startswith(kind))


@pytest.mark.parametrize("kind", ["key", "certificate"])
def test_fingerprint(
    folder: Path, backend: postfix.Postfix, authority: TestCa, leaf: Pair, fresh: str, kind: str
) -> None:
    tls = {"verify": "fingerprint", "fingerprints": [digest(leaf, kind)]}
    deliver(made(folder, backend, authority, tls=tls), backend, fresh)


def test_mx(folder: Path, backend: postfix.Postfix, authority: TestCa, fresh: str) -> None:
    found = made(folder, backend, authority, mx=f"example.net:{backend.port}", tls={"ca": str(authority.file)})
    del found.configuration["backends"]["main"]["hosts"]
    found.zone["example.net"] = {"MX": ["10 gone.example", f"20 {BACKEND_NAME}"]}
    found.zone["gone.example"] = {"A": ["127.0.0.99"]}
    found.zone[BACKEND_NAME] = {"A": ["127.0.0.1"]}
    deliver(found, backend, fresh)


def test_chunking_is_what_postfix_gets(folder: Path, backend: postfix.Postfix, authority: TestCa, fresh: str) -> None:
    deliver(made(folder, backend, authority), backend, fresh)
    assert re.search(r"disconnect from .* (?:bdat|ehlo=2 starttls=1 mail=\d+ rcpt=\d+ bdat)=", backend.log())


def test_xclient(folder: Path, leaf: Pair, authority: TestCa, fresh: str) -> None:
    with postfix.backend(["alice@example.com"], leaf, smtpd_authorized_xclient_hosts="127.0.0.1") as own:
        got = deliver(made(folder, own, authority, tell_client="xclient"), own, fresh)
    assert b"Received: from helo.example.net (unknown [127.0.0.7])" in got, got[:600]


def test_xclient_that_is_not_allowed_is_not_offered(folder: Path, leaf: Pair, authority: TestCa, fresh: str) -> None:
    with postfix.backend(["alice@example.com"], leaf, smtpd_authorized_xclient_hosts="192.0.2.1") as own:
        found = made(folder, own, authority, tell_client="xclient")
        got = deliver(found, own, fresh)
        said = run("doctor", "-c", str(found.file), "--json", "--timeout", "5")
        rows = [json.loads(row) for row in said.stdout.splitlines()]
        assert any(r["colour"] == "yellow" and "does not offer XCLIENT" in r["what"] for r in rows), said
    assert b"[127.0.0.7]" not in got.split(b"Received:")[1]


def test_xforward(folder: Path, leaf: Pair, authority: TestCa, fresh: str) -> None:
    with postfix.backend(["alice@example.com"], leaf, smtpd_authorized_xforward_hosts="127.0.0.1") as own:
        got = deliver(made(folder, own, authority, tell_client="xforward"), own, fresh)
        assert re.search(r"client=\S*\[127\.0\.0\.1\],.* orig_client=\S*\[127\.0\.0\.7\]", own.log())
    assert b"[127.0.0.7]" not in got.split(b"Received:")[1]


@pytest.mark.parametrize("sound", [True, False])
def test_the_doctor_at_a_real_backend(folder: Path, authority: TestCa, leaf: Pair, sound: bool) -> None:
    """Nothing is red in a healthy house, and the test of the end of data delivers nothing there. A Postfix of before
    its smuggling fix (its default in 3.7) is found out, by a mail of a few lines."""
    forbid = "yes" if sound else "no"
    with postfix.backend(["alice@example.com"], leaf, smtpd_forbid_bare_newline=forbid) as own:
        found = made(folder, own, authority)
        found.zone["example.com"] = {"MX": ["10 mx.example.com"]}
        with serving(found):
            said = run("doctor", "-c", str(found.file), "--smuggling", "alice@example.com", "--timeout", "5", "--json")
            rows = [json.loads(row) for row in said.stdout.splitlines()]
            whats = [row["what"] for row in rows]
        assert any(digest(leaf, "key") in what for what in whats)
        assert "verifies recipients of example.com" in whats
        red = [row["what"] for row in rows if row["colour"] == "red"]
        if sound:
            assert (said.returncode, red) == (0, []), said
            assert "only CRLF.CRLF ends a mail" in whats
            assert own.mails("alice@example.com") == []
        else:
            assert said.returncode == 1
            assert [what.startswith("takes LF.LF, LF.CRLF") for what in red] == [True], red
