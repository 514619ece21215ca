"""TLS contexts: always verifying towards backends, never old, never asking for a password."""

import contextlib
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from gateway.cli.testca import TestCa
from gateway.files import DiskFiles
from gateway.tls import ClientContexts, Trust, client_context, judged_context, peer_chain, server_context
from tests.support.configured import furnish


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    """The TLS version both agree on, through memory; raises what the client would."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        done = 0
        for side in (ours, theirs):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                pass
        if done == 2:
            return str(ours.version())
    raise AssertionError("the handshake does not end")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa(tmp_path_factory.mktemp("ca"))


def server(ca: TestCa, *names: str, expired: bool = False) -> ssl.SSLContext:
    pair = ca.issue(*names, expired=expired)
    return server_context([(pair.certificate, pair.key)], DiskFiles())


def test_a_good_certificate(ca: TestCa) -> None:
    client = client_context(ca.file.read_bytes(), "1.2")
    assert handshake(server(ca, "mail.example"), client, "mail.example") == "TLSv1.3"
    assert handshake(server(ca, "127.0.0.1"), client, "127.0.0.1") == "TLSv1.3"
    assert handshake(server(ca, "*.example.net"), client, "a.example.net") == "TLSv1.3"


@pytest.mark.parametrize(
    ("names", "expired", "asked"),
    [
        (("other.example",), False, "mail.example"),
        (("mail.example",), True, "mail.example"),
        (("*.example",), False, "a.b.example"),
        (("mail.example",), False, "127.0.0.1"),
    ],
)
def test_bad_certificates(ca: TestCa, names: tuple[str, ...], expired: bool, asked: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server(ca, *names, expired=expired), client_context(ca.file.read_bytes(), "1.2"), asked)


def test_another_ca(ca: TestCa, tmp_path: Path) -> None:
    other = TestCa(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server(ca, "mail.example"), client_context(other.file.read_bytes(), "1.2"), "mail.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server(ca, "mail.example"), client_context(None, "1.2"), "mail.example")


def test_the_minimum_holds(ca: TestCa) -> None:
    old = server(ca, "mail.example")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert handshake(old, client_context(ca.file.read_bytes(), "1.2"), "mail.example") == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        handshake(old, client_context(ca.file.read_bytes(), "1.3"), "mail.example")


def test_clients_below_tls_1_2_are_refused(ca: TestCa) -> None:
    context = server(ca, "mail.example")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_contexts_always_verify(ca: TestCa) -> None:
    for context in (client_context(None, "1.2"), client_context(ca.file.read_bytes(), "1.3")):
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert not context.hostname_checks_common_name


def test_contexts_are_built_once(ca: TestCa) -> None:
    contexts = ClientContexts(DiskFiles())
    assert contexts.get(ca.file, "1.2") is contexts.get(ca.file, "1.2")
    assert contexts.get(ca.file, "1.2") is not contexts.get(ca.file, "1.3")


def test_files_of_no_use(ca: TestCa, tmp_path: Path) -> None:
    pair, other = ca.issue("mail.example"), ca.issue("other.example")
    with pytest.raises(ValueError, match=r"mail\.example\.pem"):
        server_context([(pair.certificate, other.key)], DiskFiles())
    with pytest.raises(ValueError, match="CA"):
        client_context(b"nothing", "1.2")
    with pytest.raises(ValueError, match="CA"):
        client_context(b"\xff", "1.2")
    with pytest.raises(FileNotFoundError):
        server_context([(tmp_path / "none.pem", pair.key)], DiskFiles())


def test_an_encrypted_key_asks_nobody(ca: TestCa, tmp_path: Path) -> None:
    pair = ca.issue("mail.example")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ValueError, match="locked"):
        server_context([(pair.certificate, locked)], DiskFiles())


def test_nobody_is_believed_without_a_judge(ca: TestCa) -> None:
    with pytest.raises(ValueError, match="nobody"):
        Trust(judged_context("1.2"))
    loose = client_context(ca.file.read_bytes(), "1.2")
    loose.check_hostname = False
    with pytest.raises(ValueError, match="nobody"):
        Trust(loose)
    Trust(client_context(ca.file.read_bytes(), "1.2"))
    Trust(judged_context("1.2"), lambda chain: "")


def test_the_chain_that_a_server_shows(ca: TestCa) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = judged_context("1.2").wrap_bio(to_client, to_server, server_hostname="other.example")
    theirs = server(ca, "mail.example").wrap_bio(to_server, to_client, server_side=True)
    for _ in range(6):
        for side in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert peer_chain(ours) == [ours.getpeercert(binary_form=True)]


def joined(ours: ssl.SSLObject, theirs: ssl.SSLObject) -> None:
    """Both sides through their handshake; the client has read the tickets behind it."""
    for _ in range(6):
        for side in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    theirs.write(b"x")
    assert ours.read(1) == b"x"


def test_a_session_never_outlives_its_certificate_for_long(ca: TestCa, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ticket may bring the next: what counts is when a certificate was last seen."""
    now = [1000.0]
    monkeypatch.setattr("gateway.tls.time.monotonic", lambda: now[0])
    context, listening = client_context(ca.file.read_bytes(), "1.2"), server(ca, "mail.example")

    def connect(name: str = "mail.example", by: ssl.SSLContext = context) -> bool:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = by.wrap_bio(to_client, to_server, server_hostname=name)
        joined(ours, listening.wrap_bio(to_server, to_client, server_side=True))
        by.remember(name, ours)  # type: ignore[attr-defined]
        return bool(ours.session_reused)

    assert not connect()
    for _ in range(2):
        now[0] += 400
        assert connect()
    now[0] += 400  # 400 s since the last ticket, 1,200 since the certificate
    assert not connect()
    assert connect()
    judged = judged_context("1.2")
    assert [connect(by=judged) for _ in range(3)] == [False] * 3


def test_our_own_certificate_towards_backends(ca: TestCa) -> None:
    pair, other = ca.issue("mx.example"), ca.issue("other2.example")
    contexts = ClientContexts(DiskFiles())
    shown = contexts.get(ca.file, "1.2", client=(pair.certificate, pair.key))
    assert shown is not contexts.get(ca.file, "1.2")
    with pytest.raises(ValueError, match=r"mx\.example\.pem"):
        contexts.get(ca.file, "1.2", client=(pair.certificate, other.key))


def shown(server: ssl.SSLContext, name: str, ciphers: str = "ALL") -> bytes:
    """The certificate that a client sees who asks for that name."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # where the suite decides on the kind of key
    client.set_ciphers(ciphers)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name or None)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        for side in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    certificate = ours.getpeercert(binary_form=True)
    assert certificate
    return certificate


def leaf_of(chain: Path) -> bytes:
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(chain.read_text().partition(end)[0] + end + "\n")


def test_an_ecdsa_and_an_rsa_certificate_for_the_same_name(tmp_path: Path) -> None:
    furnish(tmp_path)
    pairs = [(tmp_path / f"{stem}.pem", tmp_path / f"{stem}.key") for stem in ("mx", "rsa")]
    ecdsa, rsa = (leaf_of(chain) for chain, _ in pairs)
    context = server_context(pairs, DiskFiles())
    assert shown(context, "mx.example.com", "ECDHE+aECDSA") == ecdsa
    assert shown(context, "mx.example.com", "ECDHE+aRSA") == rsa
    assert context.sni_callback is None


def test_the_name_that_the_client_asks_for_chooses(ca: TestCa) -> None:
    pairs = [ca.issue(*names) for names in (("mx.example.com",), ("mx.example.net", "*.example.org"))]
    leaves = [leaf_of(pair.certificate) for pair in pairs]
    context = server_context([(pair.certificate, pair.key) for pair in pairs], DiskFiles())
    for name, leaf in (
        ("mx.example.com", 0),
        ("mx.example.net", 1),
        ("MX.Example.NET", 1),
        ("a.example.org", 1),
        ("a.b.example.org", 0),
        ("elsewhere.example", 0),
        ("", 0),
    ):
        assert shown(context, name) == leaves[leaf], name
