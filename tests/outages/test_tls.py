"""The client half of the STARTTLS attacks: whatever the server does, 451, and no octet of a mail in clear text.

The cases are those of `../shared/conformance/attacks/tls.yml` (`as_client_to_backend`), by their ids; a test at the
end sees that none is left out. `Backend.clear` is the capture: every octet that came outside TLS.
"""

import contextlib
import hashlib
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.mail.terms import Unavailable
from gateway.relay.delivery import Delivered, Refused
from gateway.state.sqlite import SqliteStore
from tests.outages.backend import CLOSE, READ, Action, Backend
from tests.outages.rig import NAME, OCTETS, OURS, Rig, deliver, run, transaction
from tests.support import certificates
from tests.support.certificates import Node

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "conformance" / "attacks" / "tls.yml"
Zone = dict[str, dict[str, list[str] | str]]
#: The secure zone of the tests: MX, address; TLSA is added by each.
ZONE: Zone = {
    "example.net": {"MX": [f"10 {NAME}"]},
    NAME: {"A": ["127.0.0.1"]},
}


def silent(backend: Backend) -> None:
    """In clear text the gateway said EHLO and STARTTLS; what else is there is the TLS of a failed handshake."""
    said = bytes(backend.clear)
    assert set(said.split(b"\r\n")) <= {b"", b"EHLO mx.example.com", b"STARTTLS"}
    for secret in (b"MAIL", b"RCPT", b"a@example.org", b"u@example.com", b"hello", b"Received"):
        assert secret not in said


async def refused(rig: Rig, backend: Backend, status: str = "4.7.5", **how: Any) -> None:
    """One mail meets 451 and that status; nothing of it was said."""
    relay = rig.relay(backend.port, **how)
    for _ in range(2):  # the second attempt is no weaker than the first
        fate = await deliver(relay)
        assert isinstance(fate, Refused), fate
        assert (fate.reply.code, fate.reply.status) == (451, status)
        rig.clock.advance(3600)
    assert backend.commands == []
    assert backend.mails == []
    silent(backend)


async def delivered(rig: Rig, backend: Backend, **how: Any) -> None:
    relay = rig.relay(backend.port, **how)
    fate = await deliver(relay)
    assert isinstance(fate, Delivered), fate
    assert backend.mails == [OURS + OCTETS]
    silent(backend)


SCRIPTS: dict[str, tuple[Mapping[str, Action], str, str]] = {
    "strip": ({}, "none", "4.7.5"),
    "refuse": ({"starttls": b"454 4.7.0 TLS not available\r\n"}, "good", "4.7.5"),
    "response-injection": ({"starttls": b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n"}, "good", "4.3.0"),
    "tls-downgrade-on-failure": ({"handshake": (READ, CLOSE)}, "good", "4.7.5"),
    "wrong-name": ({}, "wrong-name", "4.7.5"),
    "expired": ({}, "expired", "4.7.5"),
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("case", SCRIPTS)
def test_attacks(tmp_path: Path, case: str, loop: str) -> None:
    script, tls, status = SCRIPTS[case]

    async def test(rig: Rig) -> None:
        backend = await rig.backend(script, tls="" if tls == "none" else tls)
        await refused(rig, backend, status)

    run(tmp_path, test, loop=loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", ["wrong-ca", *certificates.KINDS])
def test_every_kind_of_bad_certificate(tmp_path: Path, kind: str, loop: str) -> None:
    async def test(rig: Rig) -> None:
        try:
            backend = await rig.backend(tls=kind)
        except ssl.SSLError:  # OpenSSL here does not even serve with so small a key
            assert kind == "small-key"
            return
        await refused(rig, backend)

    run(tmp_path, test, loop=loop)


# Fingerprints


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("pinned", ["key", "certificate", "neither"])
def test_fingerprints(tmp_path: Path, pinned: str, loop: str) -> None:
    """A self-signed certificate of another name, long expired, is fine when its pin is right; else nothing is."""

    async def test(rig: Rig) -> None:
        leaf = certificates.make("anything.example", start=-300, end=-200)
        pair = certificates.chain_file(tmp_path, "pinned", leaf)
        backend = await rig.backend()
        backend.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        backend.context.load_cert_chain(pair.certificate, pair.key)
        octets = {"key": leaf.spki, "certificate": leaf.der, "neither": b"another"}[pinned]
        digest = hashlib.sha256(octets).hexdigest()
        kind = "key" if pinned == "neither" else pinned
        other = f"key:{'0' * 64}"
        tls = f'{{verify: fingerprint, fingerprints: ["{other}", "{kind}:{digest.upper()}"]}}'
        await (refused if pinned == "neither" else delivered)(rig, backend, tls=tls)

    run(tmp_path, test, loop=loop)


# DANE


def tlsa(usage: int, selector: int, matching: int, node: Node) -> str:
    octets = node.spki if selector == 1 else node.der
    data = {0: octets, 1: hashlib.sha256(octets).digest(), 2: hashlib.sha512(octets).digest()}.get(matching, octets)
    return f"{usage} {selector} {matching} {data.hex()}"


class Chain:
    """root, intermediate, and a leaf for `name`, which `backend` shows."""

    def __init__(self, rig: Rig, backend: Backend, name: str = NAME, **leaf: Any) -> None:
        self.root = certificates.make("root.example", ca=True)
        self.between = certificates.make("between.example", self.root, ca=True)
        self.leaf = certificates.make(name, self.between, **leaf)
        pair = certificates.chain_file(rig.directory, "chain", self.leaf, self.between, self.root)
        backend.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        backend.context.load_cert_chain(pair.certificate, pair.key)


def zone(port: int, *records: str, **more: dict[str, list[str] | str]) -> Zone:
    return {**ZONE, f"_{port}._tcp.{NAME}": {"TLSA": list(records)}, **more}


def to(backend: Backend, by: str) -> dict[str, Any]:
    way: dict[str, Any] = (
        {"hosts": [f"{NAME}:{backend.port}"]} if by == "hosts" else {"mx": f'"example.net:{backend.port}"'}
    )
    return {**way, "tls": "{verify: dane}"}


@pytest.mark.parametrize("by", ["hosts", "mx"])
@pytest.mark.parametrize(
    ("usage", "selector", "matching", "who"),
    [
        *[(3, s, m, "leaf") for s in (0, 1) for m in (0, 1, 2)],
        *[(2, s, m, who) for s in (0, 1) for m in (0, 1, 2) for who in ("root", "between")],
    ],
)
def test_dane_matches(tmp_path: Path, usage: int, selector: int, matching: int, who: str, by: str) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        rig.clock.advance(-rig.clock.now() + time.time())
        chain = Chain(rig, backend)
        record = tlsa(usage, selector, matching, getattr(chain, who))
        await delivered(rig, backend, **to(backend, by), zone=zone(backend.port, record))

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("records", "leaf", "fits"),
    [
        # RFC 7672 section 3.1.1: names and dates do not count with usage 3 ...
        ([(3, 1, 1, "leaf")], {"start": -9, "end": -3}, True),
        ([(3, 1, 1, "leaf")], {"alternative": "other.example"}, True),
        # ... and do with usage 2.
        ([(2, 1, 1, "between")], {"start": -9, "end": -3}, False),
        ([(2, 1, 1, "between")], {"alternative": "other.example"}, False),
        ([(2, 1, 1, "between")], {"alternative": "example.net"}, True),  # the next-hop domain (section 3.2.2)
        ([(3, 1, 1, "between")], {}, False),
        ([(2, 1, 1, "leaf")], {}, False),
        ([(3, 1, 1, "root"), (3, 1, 1, "leaf")], {}, True),  # a key that is being changed
        ([(1, 1, 1, "leaf"), (3, 1, 1, "leaf")], {}, True),
        # Unusable alone: the standard would encrypt and believe anybody; we refuse.
        ([(1, 1, 1, "leaf"), (0, 0, 1, "root")], {}, False),
        ([(3, 2, 1, "leaf")], {}, False),
        ([(3, 1, 7, "leaf")], {}, False),
    ],
)
def test_dane_decides(
    tmp_path: Path, records: list[tuple[int, int, int, str]], leaf: dict[str, Any], fits: bool
) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        rig.clock.advance(-rig.clock.now() + time.time())
        chain = Chain(rig, backend, **leaf)
        found = [tlsa(u, s, m, getattr(chain, who)) for u, s, m, who in records]
        how = {**to(backend, "mx"), "zone": zone(backend.port, *found)}
        await (delivered if fits else refused)(rig, backend, **how)

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("change", "insecure"),
    [
        ({}, {"_tlsa"}),  # TLSA without AD
        ({}, {NAME}),  # addresses without AD
        ({"_tlsa": {"TLSA": "SERVFAIL"}}, set()),  # bogus
        ({"_tlsa": {"TLSA": "TIMEOUT"}}, set()),
        ({"_tlsa": {}}, set()),  # a secure denial
        ({NAME: {"A": ["127.0.0.1"], "CNAME": "SERVFAIL"}}, set()),
    ],
)
@pytest.mark.parametrize("by", ["hosts", "mx"])
def test_dane_without_records_to_believe(tmp_path: Path, change: dict[str, Any], insecure: set[str], by: str) -> None:
    """The right certificate does not help: without DNSSEC there is no DANE, and nothing else is configured."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        chain = Chain(rig, backend)
        owner = f"_{backend.port}._tcp.{NAME}"
        whole = zone(backend.port, tlsa(3, 1, 1, chain.leaf))
        whole |= {owner if name == "_tlsa" else name: types for name, types in change.items()}
        names = {owner if name == "_tlsa" else name for name in insecure}
        await refused(rig, backend, **to(backend, by), zone=whole, insecure=names)
        assert backend.connections == 0  # nobody was spoken to at all

    run(tmp_path, test)


def test_dane_needs_secure_mx_records(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        chain = Chain(rig, backend)
        whole = zone(backend.port, tlsa(3, 1, 1, chain.leaf))
        await refused(rig, backend, **to(backend, "mx"), zone=whole, insecure={"example.net"})

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("owner", "insecure", "fits"),
    [
        ("real.example", (), True),  # the expanded name first
        (NAME, (), True),  # then the original
        (NAME, ("real.example",), True),  # a secure alias into an insecure zone: the original alone
        ("real.example", ("real.example",), False),
    ],
)
def test_dane_and_aliases(tmp_path: Path, owner: str, insecure: tuple[str, ...], fits: bool) -> None:
    """RFC 7672 section 2.2.2."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        chain = Chain(rig, backend)
        whole: Zone = {
            NAME: {"CNAME": ["real.example"]},
            "real.example": {"A": ["127.0.0.1"]},
            f"_{backend.port}._tcp.{owner}": {"TLSA": [tlsa(3, 1, 1, chain.leaf)]},
        }
        how = {**to(backend, "hosts"), "zone": whole, "insecure": insecure}
        await (delivered if fits else refused)(rig, backend, **how)

    run(tmp_path, test)


# MTA-STS

ENFORCE = f"version: STSv1\nmode: enforce\nmx: {NAME}\nmax_age: 86400\n"
RECORD: Zone = {"_mta-sts.example.net": {"TXT": ['"v=STSv1; id=1;"']}}


def policy(text: str, calls: list[str] | None = None) -> Any:
    async def fetch(domain: str) -> str:
        if calls is not None:
            calls.append(domain)
        if not text:
            raise Unavailable("a redirect")
        return text

    return fetch


@pytest.mark.parametrize(
    ("text", "ca", "fits"),
    [
        (ENFORCE, "ca: ca.pem", True),
        (ENFORCE.replace(NAME, "*.example"), "ca: ca.pem", True),
        (ENFORCE.replace(NAME, "other.example"), "ca: ca.pem", False),
        (ENFORCE.replace(NAME, f"*.{NAME}"), "ca: ca.pem", False),
        (ENFORCE.replace(NAME, "other.example").replace("enforce", "testing"), "ca: ca.pem", True),
        (ENFORCE.replace("enforce", "none"), "ca: ca.pem", True),
        ("", "ca: ca.pem", True),  # authorities that the operator named certify nobody else
        ("", "verify: pkix", False),  # unvouched MX records, public authorities: anybody's host
        (ENFORCE.replace("enforce", "none"), "verify: pkix", False),
        (ENFORCE, "{verify: dane, ca: ca.pem}", True),  # no TLSA records: the policy
        (ENFORCE.replace(NAME, "other.example"), "{verify: dane, ca: ca.pem}", False),
    ],
)
def test_mta_sts(tmp_path: Path, text: str, ca: str, fits: bool) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend()
        how: dict[str, Any] = {
            "mx": f'"example.net:{backend.port}"',
            "tls": ca if ca.startswith("{") else f"{{{ca}}}",
            "zone": {**ZONE, **RECORD},
            "insecure": {"example.net", NAME},
            "fetch": policy(text),
        }
        await (delivered if fits else refused)(rig, backend, **how)

    run(tmp_path, test)


BLOCKED: Zone = {"_mta-sts.example.net": {"TXT": "SERVFAIL"}}


@pytest.mark.parametrize(
    ("named", "ca", "tls", "fits"),
    [
        (NAME, "{verify: dane, ca: ca.pem}", "good", True),
        (NAME, "{verify: dane, ca: ca.pem}", "wrong-ca", False),
        (NAME, "{verify: dane, ca: ca.pem}", "expired", False),
        ("other.example", "{ca: ca.pem}", "good", False),  # where nothing but the policy forbids the host
    ],
)
def test_mta_sts_outlives_a_restart(tmp_path: Path, named: str, ca: str, tls: str, fits: bool) -> None:
    """The gateway begins anew while somebody blocks the policy host and its DNS record: as strict as before, and no
    stricter."""

    async def test(rig: Rig) -> None:
        clock = rig.clock
        before, after = await rig.backend(), await rig.backend(tls=tls)
        with contextlib.closing(SqliteStore(tmp_path / "kept.db", clock)) as store:
            rig.store = store  # type: ignore[assignment]
            first = {
                "zone": {**ZONE, **RECORD},
                "fetch": policy(ENFORCE.replace(NAME, named).replace("86400", "604800")),
            }
            how: dict[str, Any] = {"tls": ca, "insecure": {"example.net", NAME}}
            await (delivered if named == NAME else refused)(
                rig, before, mx=f'"example.net:{before.port}"', **how, **first
            )
        with contextlib.closing(SqliteStore(tmp_path / "kept.db", clock)) as store:
            rig.store = store  # type: ignore[assignment]
            how |= {"mx": f'"example.net:{after.port}"', "zone": {**ZONE, **BLOCKED}, "fetch": policy("")}
            await (delivered if fits else refused)(rig, after, **how)

    run(tmp_path, test)


@pytest.mark.parametrize("tls", ["expired", "wrong-name", "wrong-ca", "self-signed", ""])
@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_mta_sts_needs_pkix_too(tmp_path: Path, tls: str, mode: str) -> None:
    async def test(rig: Rig) -> None:
        backend = await rig.backend(tls=tls)
        where = f'"example.net:{backend.port}"'
        fetch = policy(ENFORCE.replace("enforce", mode))
        await refused(rig, backend, mx=where, tls="{ca: ca.pem}", zone={**ZONE, **RECORD}, fetch=fetch)

    run(tmp_path, test)


# Client certificates, sessions


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("shown", [True, False])
def test_a_backend_that_asks_who_we_are(tmp_path: Path, shown: bool, loop: str) -> None:
    async def test(rig: Rig) -> None:
        ours = certificates.make("mx.example.com", certificates.authority(rig.ca), usage=None)
        certificates.chain_file(tmp_path, "client", ours)
        backend = await rig.backend()
        assert backend.context is not None
        backend.context.load_verify_locations(rig.ca.file)
        backend.context.verify_mode = ssl.CERT_REQUIRED
        pair = ", client_certificate: {certificate: client.pem, key: client.key}" if shown else ""
        relay = rig.relay(backend.port, tls=f"{{ca: ca.pem, name: {NAME}{pair}}}")
        fate = await deliver(relay)
        assert isinstance(fate, Delivered if shown else Refused)
        assert len(backend.mails) == shown
        silent(backend)

    run(tmp_path, test, loop=loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(tmp_path: Path, version: ssl.TLSVersion, loop: str) -> None:
    """By PKIX alone: a judge must see a chain, and a resumed session shows none."""

    async def test(rig: Rig) -> None:
        backend = await rig.backend({"dot": (b"250 ok\r\n", CLOSE)})
        assert backend.context is not None
        backend.context.maximum_version = version
        relay = rig.relay(backend.port)
        for _ in range(3):
            assert isinstance(await deliver(relay), Delivered)
        assert backend.connections == 3
        assert backend.context.session_stats()["hits"] == 2
        leaf = certificates.authority(rig.ca)  # any key: it never matches
        await refused(
            rig, await rig.backend(), tls=f'{{verify: fingerprint, fingerprints: "key:{leaf.der[:32].hex()}"}}'
        )

    run(tmp_path, test, loop=loop)


# What is said inside TLS, and what becomes of it: the rest of the cases, each in a line of its own here.
ELSEWHERE = {
    "dane-unusable": test_dane_decides,
    "dane-bogus": test_dane_without_records_to_believe,
    "dane-insecure": test_dane_without_records_to_believe,
    "dane-ta-chain": test_dane_matches,
    "mta-sts-testing": test_mta_sts,
    "mta-sts-mx-mismatch": test_mta_sts,
    "mta-sts-wildcard": "tests/unit/relay/test_sts.py",
    "mta-sts-fetch": "tests/unit/relay/test_https.py",
    "backend-closes-after-data": "tests/outages/test_backend.py",
    "backend-4xx-5xx": "tests/outages/test_backend.py",
    "backend-multi-rcpt": "tests/outages/test_backend.py",
}


@pytest.mark.skipif(not CASES.exists(), reason="the published cases are not here")
def test_no_case_is_left_out() -> None:
    cases = {case["id"] for case in yaml.safe_load(CASES.read_text())["as_client_to_backend"]}
    assert cases == {*SCRIPTS, *ELSEWHERE}


def test_a_mail_in_two_hosts_one_bad(tmp_path: Path) -> None:
    """The next host is no weaker: the mail goes where trust is, and nothing of it to the other."""

    async def test(rig: Rig) -> None:
        bad, good = await rig.backend(tls="self-signed"), await rig.backend()
        relay = rig.relay(bad.port, good.port)
        assert isinstance(await deliver(relay, transaction()), Delivered)
        assert bad.commands == []
        silent(bad)

    run(tmp_path, test)
