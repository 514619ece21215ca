"""What listeners speak, tried one by one: versions, all cipher suites of OpenSSL, renegotiation; and what testssl.sh
says of STARTTLS, of implicit TLS, and of a listener that asks clients for certificates."""

import copy
import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.cli.testca import Pair, TestCa
from tests.support.gateway import Gateway, serving, site
from tests.support.recorder import recorder

WEAK = (
    "NULL",
    "EXP",
    "RC2",
    "RC4",
    "DES",
    "MD5",
    "SEED",
    "IDEA",
    "CAMELLIA",
    "ARIA",
    "ADH",
    "AECDH",
    "PSK",
    "SRP",
    "CBC3",
)
#: The listeners, in the order of their ports.
LISTENERS = {
    "STARTTLS": {},
    "STARTTLS, asking": {"client_certificates": "ask"},
    "implicit": {"implicit_tls": True, "starttls": "off"},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, authority: TestCa, leaf: Pair) -> Iterator[Gateway]:
    with recorder(leaf, tmp_path_factory.mktemp("taken") / "file") as taken:
        made = site(tmp_path_factory.mktemp("tls") / "site", taken.port, authority)
        first = made.configuration["listeners"][0]
        made.configuration["listeners"] = [{**copy.deepcopy(first), **more} for more in LISTENERS.values()]
        with serving(made) as running:
            yield running


def port(gateway: Gateway, number: int) -> int:
    """Of that listener."""
    return int(gateway.event("listening", number + 1)["address"].rpartition(":")[2])


def shaken(gateway: Gateway, context: ssl.SSLContext) -> tuple[str, str] | None:
    """Version and suite of a handshake after STARTTLS; `None` when it failed."""
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with gateway.client() as client:
        client.ehlo()
        assert client.command("STARTTLS").code == 220
        try:
            with context.wrap_socket(client.socket, server_hostname="mx.example.com") as inside:
                client.socket = socket.socket()  # the other one is the wrapper's now
                cipher = inside.cipher()
                assert inside.compression() is None
                return inside.version() or "", cipher[0] if cipher else ""
        except (ssl.SSLError, ConnectionError):
            return None


def lax(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that would take anything, of that version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    # The old versions are what is asked about.
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["SSLv3", "TLSv1", "TLSv1_1"])
def test_nothing_below_tls_1_2(gateway: Gateway, version: str) -> None:
    assert shaken(gateway, lax(ssl.TLSVersion[version])) is None


def test_1_2_and_1_3(gateway: Gateway) -> None:
    assert shaken(gateway, lax(ssl.TLSVersion.TLSv1_2))
    found = shaken(gateway, lax(ssl.TLSVersion.TLSv1_3))
    assert found
    assert found[0] == "TLSv1.3"


def test_no_weak_cipher_suite(gateway: Gateway) -> None:
    every = [suite["name"] for suite in lax(ssl.TLSVersion.TLSv1_2).get_ciphers() if suite["protocol"] != "TLSv1.3"]
    assert len(every) > 50, "OpenSSL knows weak ones that could be tried"
    taken = []
    for name in every:
        context = lax(ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(f"{name}:@SECLEVEL=0")
        if shaken(gateway, context):
            taken.append(name)
    assert taken
    assert not [name for name in taken if any(word in name for word in WEAK)]
    assert all(name.startswith(("ECDHE-", "DHE-")) for name in taken), "forward secrecy in all"
    assert not [name for name in taken if name.endswith("-SHA")], "no SHA-1"


def openssl() -> str:
    program = shutil.which("openssl")
    assert program, "openssl is missing: run tests/support/install-tools"
    return program


@pytest.mark.parametrize("number", [0, 1], ids=["plain", "asking"])
def test_a_client_cannot_renegotiate(gateway: Gateway, number: int) -> None:
    words = ["s_client", "-starttls", "smtp", "-tls1_2", "-connect", f"127.0.0.1:{port(gateway, number)}"]
    done = subprocess.run([openssl(), *words], input=b"R\n", capture_output=True, timeout=30, check=False)
    assert b"RENEGOTIATING" in done.stdout + done.stderr
    assert b"no renegotiation" in done.stderr


def test_early_data_is_never_taken(gateway: Gateway, tmp_path: Path) -> None:
    """TLS 1.3 0-RTT could be replayed by anybody (RFC 8446 section 8): a session may be resumed, and none allows it."""
    session = tmp_path / "session"
    words = [openssl(), "s_client", "-tls1_3", "-connect", f"127.0.0.1:{port(gateway, 2)}"]
    with subprocess.Popen(
        [*words, "-quiet", "-sess_out", str(session)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith(b"220 "), "the session came before the banner"
        process.kill()
    told = subprocess.run(
        [openssl(), "sess_id", "-in", str(session), "-noout", "-text"], capture_output=True, timeout=30, check=True
    )
    assert b"Max Early Data: 0\n" in told.stdout


def test_a_handshake_that_breaks_off_harms_nobody(gateway: Gateway) -> None:
    for octets in (
        b"",
        b"\x16",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x80" * 200,
        b"EHLO a\r\n",
    ):
        with gateway.client() as client:
            client.ehlo()
            assert client.command("STARTTLS").code == 220
            client.send(octets)
    with gateway.client() as client:
        client.ehlo()
        assert client.deliver("sue@sender.example", ["alice@example.com"], b"X-Test-Id: x\r\n\r\nx\r\n").code == 250
    assert not [line for line in gateway.log if line.get("level") == "error"]


#: What testssl.sh may find besides "OK" and "INFO": none of it weakens a connection.
TOLERATED = {
    "engine_problem": "of its own OpenSSL",
    "cipherlist_AVERAGE": "AES-CBC with SHA-2 and ECDHE, for old clients that would else send in clear text",
}


def test_testssl_finds_nothing(gateway: Gateway, tmp_path: Path) -> None:
    """testssl.sh 3.0 against every kind of listener at once: protocols, suites by strength, renegotiation."""
    program = shutil.which("testssl")
    assert program, "testssl is missing: run tests/support/install-tools"

    def run(number: int, name: str) -> dict[str, tuple[str, str]]:
        file = tmp_path / f"{number}.json"
        words = ["--quiet", "--warnings", "off", "--color", "0", "--protocols", "--std", "--renegotiation"]
        alone = ["--nodns", "none", "--ip", "127.0.0.1"]  # asks no DNS; that it asks nobody else is its default
        starttls = ["--starttls", "smtp"] if name.startswith("STARTTLS") else []
        done = subprocess.run(
            [program, *words, *alone, *starttls, "--jsonfile", str(file), f"127.0.0.1:{port(gateway, number)}"],
            capture_output=True,
            timeout=110,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "TERM": "dumb"},
        )
        assert file.exists(), done.stdout[-2000:]
        return {found["id"]: (found["severity"], found["finding"]) for found in json.loads(file.read_text())}

    with ThreadPoolExecutor() as pool:
        reports = dict(zip(LISTENERS, pool.map(run, range(len(LISTENERS)), LISTENERS), strict=True))
    for name, found in reports.items():
        bad = {what: said for what, said in found.items() if said[0] not in {"OK", "INFO", "DEBUG"}}
        assert not bad.keys() - TOLERATED, (name, bad)
        for version in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
            assert found[version][1] == "not offered", name
        assert found["TLS1_2"][1] == "offered", name
        assert found["TLS1_3"][1].startswith("offered"), name
        for weak in ("NULL", "aNULL", "EXPORT", "LOW", "3DES_IDEA"):
            assert found[f"cipherlist_{weak}"][1] == "not offered", name
        assert found["cipherlist_STRONG"][0] == "OK", name
        assert found["secure_renego"][1] == "supported", name
        assert found["secure_client_renego"][1] == "not vulnerable", name
