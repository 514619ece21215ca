"""`gatepost doctor`: each illness in its colour, and nothing said to a backend that a mail would not say."""

import asyncio
import json
import ssl
import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from gateway import metrics, tls
from gateway.cli import doctor as command
from gateway.cli import doctor_house as house
from gateway.cli import doctor_listeners as doors
from gateway.cli.doctor_backends import Rounds
from gateway.cli.doctor_finding import Finding
from gateway.cli.testca import Pair, TestCa
from gateway.clock import SystemClock
from gateway.config import Config, load_config
from gateway.config.certificate import certificates
from gateway.config.trusted import Trusted
from gateway.dns.answer import Response
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.files import DiskFiles
from gateway.mail.address import Mailbox
from gateway.relay import probe
from gateway.relay.trust import fingerprints
from gateway.relay.way import Way
from gateway.smtp.events import Rules
from gateway.smtp.server import Settings
from tests.outages.backend import CLOSE, FEATURES, HANG, Action
from tests.outages.rig import NAME, Rig, Signed, run
from tests.support import certificates as certificates_of
from tests.unit.relay.test_recipients import Choosy
from tests.unit.smtp.scripted import Certificates, door

ALL = ("8BITMIME", "SMTPUTF8", "PIPELINING", "SIZE 50000000")


def said(findings: Sequence[Finding]) -> str:
    return "\n".join(f"{finding.colour}: {finding.what}" for finding in findings)


def configured(directory: Path, backend: str, **more: str) -> Config:
    (directory / "policies").mkdir(exist_ok=True)
    path = directory / "doctor.yaml"
    usual = {"listeners": '[{bind: "127.0.0.1:2525", starttls: "off"}]', "state": f"sqlite:{directory}/state.db"}
    rest = "".join(f"{key}: {value}\n" for key, value in (usual | more).items())
    path.write_text(
        f"""hostname: mx.example.com
domains: {{example.com: {{backend: main}}}}
backends:
  main: {backend}
policies: policies
{rest}"""
    )
    return load_config(path, DiskFiles())


async def visit(rig: Rig, config: Config, source: Any = None, to: Mailbox | None = None) -> list[Finding]:
    clock = SystemClock()
    resolver = Resolver(source or Zone({}), clock)
    rounds = Rounds(config, resolver, clock, tls.ClientContexts(DiskFiles()), 2.0, to)
    return await rounds.visit("main")


@pytest.mark.parametrize(
    ("script", "how", "tls_kind", "expected"),
    [
        (Choosy(), {}, "good", ["green: reached, STARTTLS, certificate believed", "green: verifies recipients"]),
        ({}, {}, "good", ["yellow: accepts every recipient of example.com"]),
        ({}, {}, "expired", ["red: TLS: [SSL: CERTIFICATE_VERIFY_FAILED]", "yellow: shows: certificate of backend"]),
        ({}, {}, "wrong-name", ["red: TLS", "certificate of other.example", "key:"]),
        ({}, {}, "self-signed", ["red: TLS", "yellow: shows: certificate of backend.example"]),
        ({}, {}, "", ["red: STARTTLS is not offered", "yellow: shows no certificate"]),
        ({"banner": CLOSE}, {}, "good", ["red: "]),
        ({"banner": b"554 no\r\n"}, {}, "good", ["red: 554 in reply to banner"]),
        ({"banner": HANG}, {}, "good", ["red: no answer in time"]),
        ({"mail": CLOSE}, {}, "good", ["red: breaks off"]),
        ({"mail": b"550 5.7.1 no\r\n"}, {}, "good", ["red: refuses MAIL FROM:<>: 550 5.7.1 no", "postmaster@"]),
        ({"rcpt": b"451 4.3.0 later\r\n"}, {}, "good", ["yellow: does not say who is at example.com"]),
        ({}, {"features": ("SIZE 1000",)}, "good", ["yellow: takes 1000 octets at most", "8BITMIME, SMTPUTF8"]),
        ({}, {"features": ("SIZE",)}, "good", ["green: reached"]),
    ],
)
def test_a_backend(
    tmp_path: Path, script: dict[str, Action], how: dict[str, Any], tls_kind: str, expected: list[str]
) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(script, tls=tls_kind, **{"features": ALL, **how})
        config = configured(
            tmp_path,
            f'{{hosts: ["127.0.0.1:{backend.port}"], tls: {{ca: ca.pem, name: {NAME}}}, verify_recipients: off}}',
        )
        words = said(await visit(rig, config))
        for text in expected:
            assert text in words, words
        assert backend.mails == backend.pieces == []
        assert b"MAIL" not in backend.clear

    run(tmp_path, test)


def test_hosts_that_are_not_found(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        config = configured(tmp_path, "{mx: example.net}")
        assert "red: its hosts are not found" in said(await visit(rig, config))
        config = configured(tmp_path, '{hosts: ["mail.example:25"]}', dns="{zone: zone.json}")
        assert "red: not found" in said(await visit(rig, config))
        config = configured(tmp_path, "{mx: example.net}")
        source = Signed({"example.net": {"MX": ["10 a.example", "20 b.example"]}}, {"example.net"})
        words = said(await visit(rig, config, source))
        assert "green: hosts by MX: a.example, b.example" in words
        assert "red: nobody vouches for the MX records" in words

    (tmp_path / "zone.json").write_text("{}")
    run(tmp_path, test)


def test_dane_without_records(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=ALL)
        config = configured(tmp_path, f'{{hosts: ["{NAME}:{backend.port}"], tls: {{verify: dane}}}}')
        words = said(await visit(rig, config, Signed({NAME: {"A": ["127.0.0.1"]}})))
        assert "red: DANE: no TLSA records" in words
        assert "yellow: shows: certificate of backend.example" in words

    run(tmp_path, test)


def test_fingerprints_are_no_dane(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(Choosy(), features=ALL)
        leaf = certificates(rig.good.certificate.read_bytes())[0].public_bytes(Encoding.DER)
        tls = f'{{verify: fingerprint, fingerprints: ["{fingerprints(leaf)[1]}"]}}'
        config = configured(tmp_path, f'{{hosts: ["127.0.0.1:{backend.port}"], tls: {tls}}}')
        assert "green: reached, STARTTLS, fingerprint believed" in said(await visit(rig, config))

    run(tmp_path, test)


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0", "127.0.0.2"])
def test_a_backend_that_is_ourselves(tmp_path: Path, bind: str) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(Choosy(), features=ALL)
        host = f'{{hosts: ["127.0.0.1:{backend.port}"], tls: {{ca: ca.pem, name: {NAME}}}}}'
        config = configured(tmp_path, host, listeners=f'[{{bind: "{bind}:{backend.port}", starttls: "off"}}]')
        words = said(await visit(rig, config))
        assert ("red: is one of our own listeners" in words) == (bind != "127.0.0.2"), words
        assert backend.connections == (bind == "127.0.0.2")  # nobody asks itself
        assert "as we do" not in words

    run(tmp_path, test)


def test_a_backend_of_our_name(tmp_path: Path) -> None:
    """An address translation may lead to us, and no address tells."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend({**Choosy(), "ehlo-tls": b"250-MX.example.com. hello\r\n250 8BITMIME\r\n"})
        host = f'{{hosts: ["127.0.0.1:{backend.port}"], tls: {{ca: ca.pem, name: {NAME}}}}}'
        assert "yellow: calls itself mx.example.com, as we do" in said(await visit(rig, configured(tmp_path, host)))

    run(tmp_path, test)


@pytest.mark.parametrize("taken", [(), (b"\n.\r\n", b"\n.\n")])
def test_a_smuggled_end_of_data(tmp_path: Path, taken: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_SILENCE_SECONDS", 0.3)

    async def test(rig: Rig) -> None:
        backend = await rig.backend(features=FEATURES, endings=(b"\r\n.\r\n", *taken))
        config = configured(tmp_path, f'{{hosts: ["127.0.0.1:{backend.port}"], tls: {{ca: ca.pem, name: {NAME}}}}}')
        words = said(await visit(rig, config, to=Mailbox("test", "example.com")))
        if taken:
            assert "red: takes LF.LF, LF.CRLF, CRLF.LF for the end of a mail" in words or (
                "red: takes LF.LF, LF.CRLF for the end of a mail" in words
            )
        else:
            assert "green: only CRLF.CRLF ends a mail" in words
            assert backend.mails == []
        assert not any(line == "." for line in backend.lines())

    run(tmp_path, test)


def test_a_smuggling_test_that_cannot_be(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend({"rcpt": b"550 5.1.1 no\r\n"}, features=FEATURES)
        config = configured(tmp_path, f'{{hosts: ["127.0.0.1:{backend.port}"], tls: {{ca: ca.pem, name: {NAME}}}}}')
        words = said(await visit(rig, config, to=Mailbox("test", "example.com")))
        assert "yellow: end of data not tested: refuses <test@example.com>" in words
        assert backend.pieces == []

    run(tmp_path, test)


# The house


def test_the_way_around(tmp_path: Path) -> None:
    (tmp_path / "zone.json").write_text("{}")
    config = configured(
        tmp_path,
        '{hosts: ["mail.example.com:25"]}\n  hosted: {mx: example.net}\n  near: {hosts: ["mx.example.com:2525"]}',
        dns="{zone: zone.json}",
    )
    hosts = {
        "example.net": {"MX": ["10 a.example.net"]},
        "a.example.net": {"A": ["192.0.2.2"]},
        "mail.example.com": {"A": ["192.0.2.1"]},
        "alias.example.com": {"AAAA": ["2001:db8::1"], "A": ["192.0.2.1"]},
        "mx.example.com": {"A": ["192.0.2.25"]},
    }

    async def words(*records: str) -> str:
        clock = SystemClock()
        resolver = Resolver(Zone({**hosts, "example.com": {"MX": list(records) or "SERVFAIL"}}), clock)
        way = Way(config, config.hostname, resolver, clock, tls.ClientContexts(DiskFiles()))
        return said(await house.way_around(config, resolver, way))

    assert "green" in asyncio.run(words("10 mx.example.com"))  # though a backend runs on the same machine
    assert "red: its MX records name backend main" in asyncio.run(words("10 mx.example.com", "20 mail.example.com"))
    assert "red: its MX records name backend main: alias" in asyncio.run(words("10 alias.example.com"))
    assert "red: its MX records name backend hosted" in asyncio.run(words("10 mx.example.com", "20 a.example.net"))
    assert "yellow: its MX records name mx.example.org, not" in asyncio.run(words("10 mx.example.org"))
    assert "yellow" in asyncio.run(words())


def test_our_certificates(tmp_path: Path) -> None:
    authority = TestCa(tmp_path)
    authority.issue("mx.example.com", file="mx")
    authority.issue("mx.example.com", file="old", expired=True)
    listener = '[{bind: "127.0.0.1:2525", tls: {certificate: mx.pem, key: mx.key}}]'
    backend = '{hosts: ["mail.example.com:25"], tls: {client_certificate: {certificate: mx.pem, key: mx.key}}}'
    config = configured(tmp_path, backend, listeners=listener)
    words = said([*house.own_certificates(config, DiskFiles(), time.time())])
    assert "green: for mx.example.com" in words
    assert "green: for backends that ask" in words
    config = configured(tmp_path, backend.replace("mx.pem", "old.pem").replace("mx.key", "old.key"))
    assert said([*house.own_certificates(config, DiskFiles(), time.time())]).startswith("red: expired on")


def test_a_certificate_of_several_listeners_and_backends_is_told_once(tmp_path: Path) -> None:
    TestCa(tmp_path).issue("mx.example.com", file="mx")
    pair = "{certificate: mx.pem, key: mx.key}"
    listeners = ", ".join(f'{{bind: "127.0.0.1:{port}", tls: {pair}}}' for port in (2525, 2526, 2527))
    backend = f'{{hosts: ["mail.example.com:25"], tls: {{client_certificate: {pair}}}}}'
    config = configured(tmp_path, backend, listeners=f"[{listeners}]")
    config.backends["other"] = config.backends["main"]
    words = said([*house.own_certificates(config, DiskFiles(), time.time())]).splitlines()
    assert [word.partition(",")[0] for word in words] == ["green: for mx.example.com", "green: for backends that ask"]


def chain(directory: Path, days: float) -> Pair:
    """A server certificate of 30 days below an intermediate of so many; the authority is `above.pem`."""
    root = certificates_of.make("root.example", ca=True)
    (directory / "above.pem").write_bytes(root.pem)
    between = certificates_of.make("between.example", root, ca=True, start=-60, end=days)
    return certificates_of.chain_file(
        directory, "chained", certificates_of.make(NAME, between, others=["mx.example.com"]), between
    )


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (30, ""),
        (13.5, "yellow: CN=between.example, sent above the certificate, is valid until"),
        (-1, "yellow: CN=between.example, sent above the certificate, expired on"),
    ],
)
def test_what_stands_above_our_certificates(tmp_path: Path, days: float, words: str) -> None:
    chain(tmp_path, days)
    listener = '[{bind: "127.0.0.1:2525", tls: {certificate: chained.pem, key: chained.key}}]'
    config = configured(tmp_path, '{hosts: ["mail.example.com:25"]}', listeners=listener)
    found = said([*house.own_certificates(config, DiskFiles(), time.time())]).splitlines()
    assert found[0].startswith("green: for mx.example.com, valid until")
    assert [line.startswith(words) for line in found[1:]] == ([True] if words else [])


@pytest.mark.parametrize(("days", "counts"), [(30, False), (13.5, True)])
def test_what_stands_above_a_backends_certificate(tmp_path: Path, days: float, counts: bool) -> None:
    async def test(rig: Rig) -> None:
        pair = chain(tmp_path, days)
        backend = await rig.backend(Choosy(), features=ALL)
        assert backend.context is not None
        backend.context.load_cert_chain(pair.certificate, pair.key)
        hosts = f'{{hosts: ["127.0.0.1:{backend.port}"], tls: {{ca: above.pem, name: {NAME}}}}}'
        words = said(await visit(rig, configured(tmp_path, hosts)))
        assert f"green: certificate of {NAME}, mx.example.com, valid until" in words
        assert ("yellow: CN=between.example, sent above the certificate, is valid until" in words) is counts
        pin = fingerprints(certificates(pair.certificate.read_bytes())[0].public_bytes(Encoding.DER))[1]
        pinned = hosts.replace("ca: above.pem, name: " + NAME, f'verify: fingerprint, fingerprints: ["{pin}"]')
        assert "above" not in said(await visit(rig, configured(tmp_path, pinned)))

    run(tmp_path, test)


@pytest.mark.parametrize("kind", certificates_of.UNREADABLE)
def test_a_certificate_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    async def test(rig: Rig) -> None:
        leaf = certificates_of.make(NAME)
        pair = certificates_of.chain_file(tmp_path, "unreadable", leaf)
        pair.certificate.write_text(ssl.DER_cert_to_PEM_cert(certificates_of.unreadable(kind, leaf)))
        backend = await rig.backend(features=ALL)
        assert backend.context is not None
        backend.context.load_cert_chain(pair.certificate, pair.key)
        hosts = f'{{hosts: ["127.0.0.1:{backend.port}"], tls: {{ca: ca.pem, name: {NAME}}}}}'
        words = said(await visit(rig, configured(tmp_path, hosts)))
        assert "red: TLS" in words
        assert "yellow: shows: a certificate that cannot be read, certificate:" in words

    run(tmp_path, test)


def test_files(tmp_path: Path) -> None:
    config = configured(tmp_path, '{hosts: ["mail.example.com:25"]}')
    path = tmp_path / "doctor.yaml"
    path.chmod(0o644)
    assert said(list(house.files(path, config))).startswith("green")
    path.chmod(0o666)
    assert said(list(house.files(path, config))).startswith("red: others may change it")
    assert said(list(house.files(tmp_path / "none.yaml", config))).startswith("red: No such file")
    path.chmod(0o644)
    (tmp_path / "state.db").write_bytes(b"")
    (tmp_path / "state.db").chmod(0o644)
    assert "red: others may read it" in said(list(house.files(path, config)))
    (tmp_path / "state.db").chmod(0o640)
    assert "yellow: others may read it" in said(list(house.files(path, config)))


def test_files_of_seal_redis_and_lists(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    (tmp_path / "arc.key").write_bytes(key.private_bytes(*form))
    (tmp_path / "redis.secret").write_text("sesame\n")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "friends.txt").write_text("friend.example\n")
    TestCa(tmp_path)
    names = {"arc.key": 0o600, "redis.secret": 0o600, "ca.pem": 0o644, "lists/friends.txt": 0o644, "lists": 0o755}
    where = "redis://127.0.0.1"
    seal, redis = "{domain: example.com, selector: a, key: arc.key}", f"{{redis: {where}, password_file: redis.secret}}"
    listener = '[{bind: "127.0.0.1:2525", tls: {certificate: x.pem, key: x.key}, client_certificates: {ca: ca.pem}}]'
    TestCa(tmp_path, "other").issue("mx.example.com", file="x")
    host = '{hosts: ["mail.example.com:25"]}'
    config = configured(tmp_path, host, seal=seal, state=redis, lists="lists", listeners=listener)
    path = tmp_path / "doctor.yaml"

    def words() -> str:
        return said(list(house.files(path, config)))

    for name, mode in names.items():
        (tmp_path / name).chmod(mode)
    assert words().startswith("green")
    for name, mode in names.items():
        (tmp_path / name).chmod(mode | (0o004 if mode == 0o600 else 0o002))
        assert words().startswith("red: others may read" if mode == 0o600 else "red: others may change"), name
        (tmp_path / name).chmod(mode)
    config = configured(tmp_path, host, state="redis://:sesame@127.0.0.1")
    path.chmod(0o644)
    assert "red: others may read it" in words()  # the password stands in it


def test_state_disks_and_clock(tmp_path: Path) -> None:
    config = configured(tmp_path, '{hosts: ["mail.example.com:25"]}', journal="{path: journal.db}")
    assert said(list(house.state(config, SystemClock()))).startswith("red")
    assert {finding.where for finding in house.disks(config)} >= {f"disk {tmp_path}"}
    assert said(list(house.clock(0.0))).startswith("red: says 1970")
    assert "red" not in said(list(house.clock(time.time())))
    huge = configured(tmp_path, '{hosts: ["mail.example.com:25"]}', limits="{message: 2GB}")
    assert len(list(house.disks(huge))) == 2


def test_dns(tmp_path: Path) -> None:
    (tmp_path / "zone.json").write_text("{}")
    config = configured(tmp_path, '{hosts: ["mail.example.com:25"]}', dns="{zone: zone.json}")
    assert said(asyncio.run(house.dns(config, SystemClock(), 1.0))).startswith("yellow: answers come from")
    config = configured(tmp_path, '{hosts: ["mail.example.com:25"]}', dns='{servers: "127.0.0.1:1"}')
    assert said(asyncio.run(house.dns(config, SystemClock(), 0.5))).startswith("red: DNS: no answer")


@pytest.mark.parametrize(
    ("server", "verify", "expected"),
    [
        ("127.0.0.1", "dane", "green: validates (AD)"),
        ("192.0.2.53", "dane", "yellow: validates (AD), on another machine"),
        ("192.0.2.53", "pkix", "green: validates (AD)"),
    ],
)
def test_whose_word_dane_rests_on(
    tmp_path: Path, server: str, verify: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def vouched(*_: object) -> Response:
        return Response(authenticated=True)

    monkeypatch.setattr(house.Stub, "ask", vouched)
    backend = f'{{hosts: ["mail.example.com:25"], tls: {{verify: {verify}}}}}'
    config = configured(tmp_path, backend, dns=f'{{servers: "{server}"}}')
    assert expected in said(asyncio.run(house.dns(config, SystemClock(), 0.5)))


def test_listeners(tmp_path: Path) -> None:
    greeting = [b""]

    async def main() -> None:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greeting[0])
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        config = configured(tmp_path, '{hosts: ["mail.example.com:25"]}')
        bind = type(config.listeners[0].bind[0])("0.0.0.0", port)
        config = config.model_copy(update={"listeners": (config.listeners[0].model_copy(update={"bind": (bind,)}),)})
        for greeting[0], colour in (
            (b"220 mx.example.com ESMTP\r\n", "green: the gateway answers"),
            (b"220 mail.example.com ESMTP\r\n", "yellow: a server answers that is called mail.example.com, not mx."),
            (b"421 4.3.2 Later\r\n", "yellow: answers 421 4.3.2 Later"),
            (b"x" * 100_000, "yellow: nobody there: no line of SMTP"),
            (b"", "yellow: answers nothing"),
        ):
            assert said(await doors.listeners(config, 2.0)).startswith(colour)
        server.close()
        assert said(await doors.listeners(config, 2.0)).startswith("yellow: nobody there")

    asyncio.run(main())


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        '{hosts: ["mail.example.com:25"]}',
        listeners='[{bind: ["192.0.2.1:2525", "[2001:db8::1]:2525"], starttls: "off"}]',
    )
    words = said(asyncio.run(doors.listeners(config, 0.5)))
    assert words == "\n".join(["red: this machine has no such address"] * 2)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("proxies", ["", "127.0.0.1/32", "192.0.2.1/32"])
def test_a_listener_is_greeted_as_it_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, implicit: bool, proxies: str
) -> None:
    """Else each look of the doctor would be a fault in the log."""
    troubles: list[str] = []
    monkeypatch.setattr(metrics, "trouble", troubles.append)
    issued = Certificates(tmp_path)
    trusted = (ip_network(proxies),) if proxies else ()
    settings = Settings(Rules("mx.example.com"), implicit_tls=implicit, proxies=trusted, greeting_delay=0.0)

    async def main() -> None:
        async with door(settings=settings, tls=lambda: issued.server) as place:
            config = configured(tmp_path, '{hosts: ["mail.example.com:25"]}')
            bind = replace(config.listeners[0].bind[0], port=place.port)
            told = Trusted.model_validate({"from": [proxies]}) if proxies else None
            update = {"bind": (bind,), "implicit_tls": implicit, "proxy_protocol": told}
            listener = config.listeners[0].model_copy(update=update)
            config = config.model_copy(update={"listeners": (listener,)})
            assert said(await doors.listeners(config, 2.0)) == "green: the gateway answers"
            await place.until(lambda: not place.edge.census.total())

    asyncio.run(main())
    assert not troubles


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n{"status":"ok"}', "green: health is ok"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"status":"degraded"}', "yellow: health is degraded"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"status":"\\u001b[2J"}', "yellow: health is ?[2J"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "yellow: what answers is not the gateway"),
        (b"HTTP/1.1 200 OK\r\n\r\n[1]", "yellow: what answers is not the gateway"),
        (b"220 mail.example.com ESMTP\r\n", "yellow: what answers is not the gateway"),
        (b"", "yellow: what answers is not the gateway"),
        (None, "yellow: nobody there: Connection refused"),
    ],
)
def test_the_admin_page(tmp_path: Path, answer: bytes | None, expected: str) -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer or b"")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        config = configured(tmp_path, '{hosts: ["mail.example.com:25"]}', admin=f'{{bind: "127.0.0.1:{port}"}}')
        if answer is None:
            server.close()
            await server.wait_closed()
        assert said(await doors.admin(config, 2.0)) == expected
        server.close()

    asyncio.run(main())


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "zone.json").write_text("{}")
    configured(tmp_path, '{hosts: ["127.0.0.1:1"]}', dns="{zone: zone.json}")
    (tmp_path / "policies" / "a.yaml").write_text("rules: []\n")
    app = typer.Typer()
    app.command()(command.doctor)
    file = str(tmp_path / "doctor.yaml")
    result = CliRunner().invoke(app, ["-c", file, "--timeout", "1"])
    assert result.exit_code == 1
    assert "red     backend main 127.0.0.1:1: " in result.output
    assert " red, " in result.output.splitlines()[-1]
    result = CliRunner().invoke(app, ["-c", file, "--timeout", "1", "--json"])
    rows = [json.loads(row) for row in result.output.splitlines()]
    assert {"colour", "where", "what", "mend"} == set(rows[0])
    assert all(row["mend"] for row in rows if row["colour"] != "green")
    for address in ("nobody", "x@elsewhere.example"):
        assert CliRunner().invoke(app, ["-c", file, "--smuggling", address]).exit_code == 2
