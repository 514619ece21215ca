"""Clients asked for a certificate: every one gets in, and what it showed is told as it is.

The handshakes run through memory, whole and octet by octet, against Python's own TLS as the client.
"""

import contextlib
import gc
import hashlib
import ssl
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from gateway.clientauth import Asking, Conversation
from gateway.files import DiskFiles
from gateway.tls import server_context
from tests.support.certificates import EDI_NAME, Node, chain_file, make

NAME = "mx.example.com"
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
RSA = rsa.generate_private_key(65537, 2048)
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@dataclass
class World:
    """An authority that the gateway trusts for clients, and the gateway's certificates."""

    folder: Path
    root: Node = field(default_factory=lambda: make("Partners", ca=True))

    def asking(self, *leaves: Node, trusted: bool = True) -> Asking:
        pairs = []
        for number, leaf in enumerate(leaves or (make(NAME, self.root),)):
            pair = chain_file(self.folder, f"server-{number}", leaf)
            pairs.append((pair.certificate, pair.key))
        (self.folder / "ca.pem").write_bytes(self.root.pem)
        made = server_context(pairs, DiskFiles(), ask=True, client_ca=self.folder / "ca.pem" if trusted else None)
        assert isinstance(made, Asking)
        return made

    def client(self, *chain: Node, version: ssl.TLSVersion = V13) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.root.pem.decode())
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # so that it shows what nobody should
        if chain:
            pair = chain_file(self.folder, "client", *chain)
            context.load_cert_chain(pair.certificate, pair.key)
        return context


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class Line:
    """A client and the gateway with memory between them; `step` octets at a time reach the gateway."""

    def __init__(
        self,
        server: Asking,
        client: ssl.SSLContext,
        *,
        name: str = NAME,
        step: int = 1 << 20,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.to_server, self.to_client, self.said, self.answered = (ssl.MemoryBIO() for _ in range(4))
        self.ours = client.wrap_bio(self.to_client, self.said, server_hostname=name, session=session)
        self.theirs = server.wrap_bio(self.to_server, self.answered, server_side=True)
        self.step = step
        self.unsent = b""

    def pass_on(self) -> None:
        """Some octets to the gateway, all of its own to the client."""
        self.unsent += self.said.read()
        self.to_server.write(self.unsent[: self.step])
        self.unsent = self.unsent[self.step :]
        self.to_client.write(self.answered.read())

    def shake(self) -> "Line":
        waiting: list[ssl.SSLObject] = [self.ours, self.theirs]
        for _ in range(200_000):
            for side in tuple(waiting):
                try:
                    side.do_handshake()
                    waiting.remove(side)
                except ssl.SSLWantReadError:
                    pass
                finally:
                    self.pass_on()
            if not waiting:
                return self
        raise AssertionError("the handshake does not end")

    def heard(self) -> bytes:
        """Everything that the gateway can read, asked for as uvloop asks."""
        taken = b""
        try:
            while self.to_server.pending or self.theirs.pending():
                piece = self.theirs.read(10_000)
                assert isinstance(piece, bytes)
                if not piece:
                    break
                taken += piece
        except ssl.SSLWantReadError:
            pass
        return taken


def chains(root: Node) -> dict[str, tuple[tuple[Node, ...], str]]:
    """What clients show, and what is found wrong with it."""
    between = make("Between", root, ca=True)
    stranger = make("Strangers", ca=True)
    # The name of our authority, and a key of its own: OpenSSL gets as far as the signature.
    forger = Node(root.certificate, make("Partners", ca=True).key)
    deep = [root]
    for number in range(8):
        deep.append(make(f"Level {number}", deep[-1], ca=True))
    return {
        "ours": ((make("a.partner.example", root, usage=CLIENT),), ""),
        "any-purpose": ((make("a.partner.example", root, usage=None),), ""),
        "rsa": ((make("a.partner.example", root, usage=CLIENT, key=RSA),), ""),
        "chain": ((make("a.partner.example", between, usage=CLIENT), between), ""),
        "chain-with-root": ((make("a.partner.example", between, usage=CLIENT), between, root), ""),
        "chain-missing": ((make("a.partner.example", between, usage=CLIENT),), "unable to get issuer"),
        "chain-too-long": ((make("a.partner.example", deep[-1], usage=CLIENT), *deep[:0:-1]), "chain too long"),
        "self-signed": ((make("a.partner.example", usage=CLIENT),), "self signed"),
        "other-authority": ((make("a.partner.example", stranger, usage=CLIENT), stranger), "self signed"),
        "forged": ((make("a.partner.example", forger, usage=CLIENT),), "signature failure"),
        "expired": ((make("a.partner.example", root, usage=CLIENT, start=-9, end=-1),), "expired"),
        "not-yet-valid": ((make("a.partner.example", root, usage=CLIENT, start=1),), "not yet valid"),
        "for-servers": ((make("a.partner.example", root),), "purpose"),
        "small-key": (
            (make("a.partner.example", root, usage=CLIENT, key=rsa.generate_private_key(65537, 1024)),),
            "error 66",
        ),
        "large": (
            (make("a.partner.example", root, usage=CLIENT, others=[f"{n}.{'x' * 60}.example" for n in range(1200)]),),
            "",
        ),
    }


ROOT = make("Partners", ca=True)
CHAINS = chains(ROOT)


@pytest.mark.parametrize("step", [1 << 20, 1], ids=["whole", "octet by octet"])
@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("kind", CHAINS)
def test_whatever_is_shown_the_handshake_is_done(kind: str, version: ssl.TLSVersion, step: int, tmp_path: Path) -> None:
    chain, fault = CHAINS[kind]
    world = World(tmp_path, ROOT)
    line = Line(world.asking(), world.client(*chain, version=version), step=step).shake()
    shown = line.theirs.client_certificate
    assert shown is not None
    assert shown.fingerprint == hashlib.sha256(chain[0].der).hexdigest()
    assert fault in shown.fault
    assert bool(fault) == bool(shown.fault)
    assert shown.names[:1] == (() if fault else ("a.partner.example",))
    assert line.theirs.version() == {V12: "TLSv1.2", V13: "TLSv1.3"}[version]
    assert line.ours.cipher() == line.theirs.cipher()
    line.step = 1 << 20
    line.ours.write(b"EHLO a\r\n")
    line.pass_on()
    assert line.heard() == b"EHLO a\r\n"


@pytest.mark.parametrize("version", [V12, V13])
def test_who_shows_nothing(world: World, version: ssl.TLSVersion) -> None:
    line = Line(world.asking(), world.client(version=version)).shake()
    assert line.theirs.client_certificate is None
    assert line.theirs.getpeercert() is None


def test_without_an_authority_nothing_passes(world: World) -> None:
    leaf = make("a.partner.example", world.root, usage=CLIENT)
    shown = Line(world.asking(trusted=False), world.client(leaf)).shake().theirs.client_certificate
    assert shown is not None
    assert shown.fault
    assert not shown.names
    assert shown.fingerprint == hashlib.sha256(leaf.der).hexdigest()


def test_names_are_a_labels_and_bounded(world: World) -> None:
    listed = [
        "*.Partner.EXAMPLE",
        "xn--bcher-kva.example",
        "under_score.example",
        "a..b",
        "-",
        "x" * 300,
        "A.b.example.",
    ]
    leaf = make("first.example", world.root, usage=CLIENT, others=[*listed, *(f"n{n}.example" for n in range(200))])
    shown = Line(world.asking(), world.client(leaf)).shake().theirs.client_certificate
    assert shown is not None
    assert len(shown.names) == 100
    assert {"first.example", "*.partner.example", "xn--bcher-kva.example", "a.b.example"} <= set(shown.names)
    assert not {name for name in shown.names if ".." in name or len(name) > 255}


def test_no_name_is_no_fault(world: World) -> None:
    leaf = make("only in the subject", world.root, usage=CLIENT, alternative=None)
    shown = Line(world.asking(), world.client(leaf)).shake().theirs.client_certificate
    assert shown is not None
    assert (shown.fault, shown.names) == ("", ())


def test_names_of_a_kind_that_nobody_reads(world: World) -> None:
    leaf = make("partner.example", world.root, usage=CLIENT, names=EDI_NAME)
    shown = Line(world.asking(), world.client(leaf)).shake().theirs.client_certificate
    assert shown is not None
    assert (shown.fault, shown.names) == ("", ())


def test_certificates_beyond_measure_end_the_handshake(world: World) -> None:
    """OpenSSL reads 100 KB of them: the one thing that a client can show and not get in."""
    leaf = make("a.partner.example", usage=CLIENT, others=[f"{n}.{'x' * 60}.example" for n in range(1600)])
    assert len(leaf.der) > 102_400
    with pytest.raises(ssl.SSLError, match="excessive message size"):
        Line(world.asking(), world.client(leaf)).shake()


@pytest.mark.parametrize("version", [V12, V13])
def test_nobody_resumes(world: World, version: ssl.TLSVersion) -> None:
    """Who resumed would show no certificate; the full handshake of the second time tells of it anew."""
    leaf = make("a.partner.example", world.root, usage=CLIENT)
    server, client = world.asking(), world.client(leaf, version=version)
    first = Line(server, client).shake()
    first.pass_on()
    first.theirs.write(b"x")
    first.pass_on()
    first.ours.read()
    second = Line(server, client, session=first.ours.session).shake()
    assert not second.ours.session_reused
    assert second.theirs.client_certificate == first.theirs.client_certificate != None  # noqa: E711


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_nothing_below_tls_1_2(world: World) -> None:
    with pytest.raises(ssl.SSLError):
        Line(world.asking(), world.client(version=ssl.TLSVersion.TLSv1_1)).shake()


def test_the_suites_are_those_of_a_listener_that_does_not_ask(world: World) -> None:
    leaf = chain_file(world.folder, "plain", make(NAME, world.root))
    plain = server_context([(leaf.certificate, leaf.key)], DiskFiles())
    shared = []
    for server in (plain, world.asking()):
        line = Line(server, world.client(version=V12)).shake()  # type: ignore[arg-type] # both have `wrap_bio`
        shared.append(line.ours.cipher())
    assert shared[0] == shared[1]
    weak = world.client(version=V12)
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        Line(world.asking(), weak).shake()


def test_the_certificate_that_the_client_names_and_can_check(world: World) -> None:
    first = make("first.example", world.root)
    both = make("second.example", world.root), make("second.example", world.root, key=RSA)
    wild = make("w.example", world.root, alternative="*.wild.example")
    server = world.asking(first, *both, wild)

    def met(name: str, client: ssl.SSLContext) -> bytes | None:
        client.check_hostname = False
        return Line(server, client, name=name).shake().ours.getpeercert(binary_form=True)

    assert met("first.example", world.client()) == first.der
    assert met("SECOND.example", world.client()) == both[0].der
    assert met("a.wild.example", world.client()) == wild.der
    assert met("other.example", world.client()) == first.der
    of_rsa = world.client(version=V12)
    of_rsa.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    assert met("second.example", of_rsa) == both[1].der
    leaf = make("a.partner.example", world.root, usage=CLIENT)
    line = Line(server, world.client(leaf), name="second.example").shake()
    assert line.theirs.client_certificate is not None
    assert line.theirs.client_certificate.names == ("a.partner.example",)


def test_the_chain_of_each_certificate_is_its_own(world: World) -> None:
    """An ECDSA certificate with an intermediate and an RSA one without."""
    between = make("Between", world.root, ca=True)
    pairs = [
        chain_file(world.folder, "one", make(NAME, between), between),
        chain_file(world.folder, "two", make(NAME, world.root, key=RSA)),
    ]
    server = server_context([(pair.certificate, pair.key) for pair in pairs], DiskFiles(), ask=True)
    assert isinstance(server, Asking)
    client = world.client(version=V12)
    assert Line(server, client).shake().ours.version() == "TLSv1.2"
    client.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    line = Line(server, client).shake()
    inner = line.ours._sslobj  # type: ignore[attr-defined]
    assert len(inner.get_unverified_chain()) == 1


@pytest.mark.parametrize("step", [1 << 20, 1000, 1])
def test_octets_both_ways(world: World, step: int) -> None:
    line = Line(world.asking(), world.client()).shake()
    line.step = step
    sent = bytes(range(256)) * (200 if step > 1 else 4)
    heard = b""
    for start in range(0, len(sent), 100):
        line.ours.write(sent[start : start + 100])
    line.pass_on()
    heard += line.heard()
    while line.unsent:
        line.pass_on()
        heard += line.heard()
    assert heard == sent
    answer, written = memoryview(sent), 0
    while written < len(sent):
        written += line.theirs.write(answer[written:])
    assert line.theirs.write(b"") == 0
    line.pass_on()
    back = b""
    while len(back) < len(sent):
        back += line.ours.read(len(sent))
    assert back == sent


def test_a_read_takes_all_that_is_there_and_says_what_is_left(world: World) -> None:
    line = Line(world.asking(), world.client()).shake()
    for _ in range(3):
        line.ours.write(b"x" * 100)
    line.pass_on()
    buffer = bytearray(250)
    assert line.theirs.read(1000, buffer) == 250
    assert not line.to_server.pending
    assert line.theirs.pending(), "50 octets are still inside"
    assert line.theirs.read(1000) == b"x" * 50
    assert not line.theirs.pending()
    with pytest.raises(ssl.SSLWantReadError):
        line.theirs.read(1000)


@pytest.mark.parametrize("version", [V12, V13])
def test_words_that_come_with_the_end_of_the_handshake(world: World, version: ssl.TLSVersion) -> None:
    line = Line(world.asking(), world.client(version=version))
    for _ in range(10):
        with contextlib.suppress(ssl.SSLWantReadError):
            line.ours.do_handshake()
            line.ours.write(b"EHLO a\r\n")
            break
        line.pass_on()
        with contextlib.suppress(ssl.SSLWantReadError):
            line.theirs.do_handshake()
        line.pass_on()
    line.pass_on()
    if version is V13:
        line.theirs.do_handshake()
    assert line.heard() == b"EHLO a\r\n"
    assert not line.theirs.pending()


def test_both_sides_part(world: World) -> None:
    line = Line(world.asking(), world.client()).shake()
    line.ours.write(b"QUIT\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        line.ours.unwrap()
    line.pass_on()
    assert line.theirs.read(1000) == b"QUIT\r\n"
    assert line.theirs.read(1000) == b"", "the end, and no error"
    line.theirs.unwrap()
    line.pass_on()
    line.ours.unwrap()


def test_we_part_first(world: World) -> None:
    line = Line(world.asking(), world.client()).shake()
    with pytest.raises(ssl.SSLWantReadError):
        line.theirs.unwrap()
    line.pass_on()
    assert line.ours.read() == b""
    line.ours.unwrap()
    line.pass_on()
    line.theirs.unwrap()


def test_a_connection_that_breaks(world: World) -> None:
    line = Line(world.asking(), world.client()).shake()
    line.ours.write(b"x")
    line.pass_on()
    line.to_server.write_eof()
    assert line.theirs.read(10) == b"x"
    assert line.theirs.read(10) == b""
    broken = Line(world.asking(), world.client())
    broken.to_server.write_eof()
    with pytest.raises(ssl.SSLError):
        broken.theirs.do_handshake()


@pytest.mark.parametrize(
    "octets", [b"EHLO a\r\n" * 9, b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", b"\x80" * 99, bytes(99)]
)
def test_what_is_no_handshake(world: World, octets: bytes) -> None:
    line = Line(world.asking(), world.client())
    line.to_server.write(octets)
    with pytest.raises(ssl.SSLError) as why:
        line.theirs.do_handshake()
    assert not isinstance(why.value, ssl.SSLWantReadError)


def test_octets_that_were_tampered_with(world: World) -> None:
    line = Line(world.asking(), world.client()).shake()
    line.ours.write(b"good")
    good = line.said.read()
    line.ours.write(b"evil")
    evil = bytearray(line.said.read())
    evil[-1] ^= 1
    line.to_server.write(good + bytes(evil))
    assert line.theirs.read(100) == b"good", "what came before is heard"
    assert line.theirs.pending(), "and the rest is asked for"
    with pytest.raises(ssl.SSLError):
        line.theirs.read(100)


def test_a_connection_is_forgotten_at_once(world: World) -> None:
    """No cycle keeps it until the collector runs: thousands come and go."""
    server, client = world.asking(), world.client(make("a.partner.example", world.root, usage=CLIENT))
    line = Line(server, client).shake()
    kept: weakref.ref[Conversation] = weakref.ref(line.theirs)
    gc.disable()
    try:
        del line
        assert kept() is None
    finally:
        gc.enable()


def test_for_servers_alone(world: World) -> None:
    with pytest.raises(ValueError, match="servers"):
        world.asking().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="a.example")


def test_authorities_that_cannot_be_read(world: World, tmp_path: Path) -> None:
    pair = chain_file(tmp_path, "x", make(NAME, world.root))
    (tmp_path / "bad.pem").write_bytes(b"no certificate")
    with pytest.raises(ValueError, match="no certificate"):
        server_context([(pair.certificate, pair.key)], DiskFiles(), ask=True, client_ca=tmp_path / "bad.pem")


def test_the_same_authority_twice(world: World, tmp_path: Path) -> None:
    pair = chain_file(tmp_path, "x", make(NAME, world.root))
    (tmp_path / "twice.pem").write_bytes(world.root.pem * 2)
    server_context([(pair.certificate, pair.key)], DiskFiles(), ask=True, client_ca=tmp_path / "twice.pem")


@pytest.mark.parametrize("asks", [False, True])
def test_who_renegotiates_gets_an_alert_and_no_work(world: World, asks: bool) -> None:
    """TLS 1.2, by the client: of our flight with its signature nothing is made (RFC 5246 section 7.2.2)."""
    pair = chain_file(world.folder, "plain", make(NAME, world.root))
    server = world.asking() if asks else server_context([(pair.certificate, pair.key)], DiskFiles())
    made = SSL.Context(SSL.TLS_CLIENT_METHOD)
    made.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = SSL.Connection(made)
    client.set_connect_state()
    to_server, answered = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(to_server, answered, server_side=True)

    def flight() -> None:
        """The client's next words go to the gateway."""
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            while True:
                to_server.write(client.bio_read(65536))

    for _ in range(4):
        flight()
        with contextlib.suppress(ssl.SSLWantReadError):
            theirs.do_handshake()
        if octets := answered.read():
            client.bio_write(octets)
    assert theirs.version() == "TLSv1.2"
    assert client.renegotiate()
    flight()
    assert to_server.pending > 100, "a hello"
    with pytest.raises(ssl.SSLWantReadError):
        theirs.read(100)
    assert 0 < answered.pending < 50, "an alert"
    client.bio_write(answered.read())
    with pytest.raises(SSL.Error, match="no renegotiation"):
        client.do_handshake()
