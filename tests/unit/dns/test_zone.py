"""The zone of appendix A: presentation forms, markers, what exists and what does not."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import ManualClock
from gateway.dns.resolver import Answer, Resolver
from gateway.dns.zone import Zone, character_strings, value_of
from gateway.files import DiskFiles
from gateway.mail.terms import Unavailable
from gateway.yamlfile import ConfigError

ZONE: dict[str, Any] = {
    "example.com": {"A": ["192.0.2.1", "192.0.2.2"], "MX": ["10 MX.example.com.", "0 ."], "TXT": []},
    "deep.under.example.org": {"AAAA": ["2001:DB8:0:0::1"]},
    "alias.example.com": {"CNAME": ["example.com."]},
    "alias2.example.com": {"CNAME": ["Alias.Example.com"]},
    "loop.example.com": {"CNAME": ["loop2.example.com"]},
    "loop2.example.com": {"CNAME": ["loop.example.com"]},
    "lost.example.com": {"CNAME": ["nowhere.example.net"]},
    "fails.example.com": {"A": "SERVFAIL", "AAAA": "TIMEOUT", "MX": "NXDOMAIN"},
    "dead.example.com": {"*": "TIMEOUT", "TXT": ['"alive"']},
    "foo:bar/baz %{x}.example.com": {"A": ["192.0.2.9"]},
    "a..b." + "x" * 70 + ".example": {"A": ["192.0.2.9"]},
    "Upper.Example.": {"a": ["192.0.2.3"]},
    "tlsa.example": {"TLSA": ["3 1 1 AB cd"]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["Host.Example.COM."]},
    "strange.example": {"HINFO": ["whatever"], "SOA": ["x"]},
}


def ask(name: str, rdtype: Any, zone: dict[str, Any] = ZONE) -> Answer[Any]:
    return asyncio.run(Resolver(Zone(zone), ManualClock()).query(name, rdtype))


@pytest.mark.parametrize(
    ("name", "rdtype", "records"),
    [
        ("example.com", "A", ("192.0.2.1", "192.0.2.2")),
        ("EXAMPLE.com.", "A", ("192.0.2.1", "192.0.2.2")),
        ("example.com", "MX", ((10, "mx.example.com"), (0, ""))),
        ("deep.under.example.org", "AAAA", ("2001:db8::1",)),
        ("alias.example.com", "A", ("192.0.2.1", "192.0.2.2")),
        ("alias2.example.com", "A", ("192.0.2.1", "192.0.2.2")),
        ("alias2.example.com", "CNAME", ("alias.example.com",)),
        ("dead.example.com", "TXT", (b"alive",)),
        ("foo:bar/baz %{x}.example.com", "A", ("192.0.2.9",)),
        ("upper.example", "A", ("192.0.2.3",)),
        ("tlsa.example", "TLSA", ((3, 1, 1, b"\xab\xcd"),)),
        ("1.2.0.192.in-addr.arpa", "PTR", ("host.example.com",)),
    ],
)
def test_records(name: str, rdtype: str, records: tuple[object, ...]) -> None:
    answer = ask(name, rdtype)
    assert answer.records == records
    assert not answer.nxdomain
    assert not answer.authenticated


@pytest.mark.parametrize(
    ("name", "rdtype", "nxdomain"),
    [
        ("example.com", "TXT", False),  # an empty list
        ("example.com", "AAAA", False),  # not listed
        ("under.example.org", "A", False),  # above a listed name
        ("org", "A", False),
        ("strange.example", "TXT", False),
        ("other.example.org", "A", True),
        ("below.example.com", "A", True),
        ("lost.example.com", "A", True),
        ("fails.example.com", "MX", True),
        ("a..b." + "x" * 70 + ".example", "A", True),  # listed, but no question can be asked
    ],
)
def test_nothing_there(name: str, rdtype: str, nxdomain: bool) -> None:
    answer = ask(name, rdtype)
    assert answer.records == ()
    assert answer.nxdomain is nxdomain


@pytest.mark.parametrize(
    ("name", "rdtype"),
    [
        ("fails.example.com", "A"),
        ("fails.example.com", "AAAA"),
        ("dead.example.com", "A"),
        ("loop.example.com", "A"),
    ],
)
def test_unavailable(name: str, rdtype: str) -> None:
    with pytest.raises(Unavailable):
        ask(name, rdtype)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ('"one" "two"', b"onetwo"),
        ('"one""two"', b"onetwo"),
        ('"say \\"hi\\" \\\\"', b'say "hi" \\'),
        ('"\\065\\255\\000"', b"A\xff\0"),
        ('"bücher"', "bücher".encode()),
        ('""', b""),
        ('"a" b', b"ab"),
        ("v=spf1 -all", b"v=spf1 -all"),
        ("", b""),
        ('"' + "x" * 1000 + '"', b"x" * 1000),
    ],
)
def test_character_strings(text: str, octets: bytes) -> None:
    assert character_strings(text) == octets


@given(st.binary(max_size=600))
def test_any_octets_survive_presentation(octets: bytes) -> None:
    assert character_strings('"' + "".join(f"\\{o:03d}" for o in octets) + '"') == octets


@given(st.sampled_from(["A", "AAAA", "TXT", "MX", "TLSA", "PTR", "CNAME"]), st.text(max_size=60))
def test_a_value_or_value_error(rdtype: str, text: str) -> None:
    with contextlib.suppress(ValueError):
        value_of(rdtype, text)


@pytest.mark.parametrize(
    ("mapping", "what"),
    [
        ({"example.com": {"A": ["192.0.2"]}}, "example.com A"),
        ({"example.com": {"MX": ["mx.example.com"]}}, "example.com MX"),
        ({"example.com": {"TXT": ['"open']}}, "quote"),
        ({"example.com": {"TXT": ['"\\256"']}}, "octet"),
        ({"example.com": {"TLSA": ["3 1 300 00"]}}, "TLSA"),
        ({"example.com": {"A": "MAYBE"}}, "SERVFAIL"),
        ({"example.com": {"A": [1]}}, "list of strings"),
        ({"example.com": {"*": ["x"]}}, "word"),
        ({"example.com": ["A"]}, "mapping of types"),
        ([], "mapping of owner names"),
    ],
)
def test_faults_are_named(mapping: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Zone(mapping)


def test_a_zone_file(tmp_path: Path) -> None:
    path = tmp_path / "zone.json"
    path.write_text('{"example.com": {"TXT": ["\\"v=spf1 \\\\065 -all\\""], "A": ["192.0.2.1"]}}')
    resolver = Resolver(Zone.load(path, DiskFiles()), ManualClock())
    assert asyncio.run(resolver.txt("example.com")) == [b"v=spf1 A -all"]


def test_every_fault_of_a_file_has_its_position(tmp_path: Path) -> None:
    path = tmp_path / "zone.json"
    path.write_text('{"example.com": {\n  "A": ["192.0.2"],\n  "MX": ["nowhere"]}}')
    with pytest.raises(ConfigError) as caught:
        Zone.load(path, DiskFiles())
    places = [(p.position.line, p.position.column) for p in caught.value.problems]
    assert places == [(2, 8), (3, 9)]
    assert "192.0.2 is no IPv4 address" in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}'])
def test_no_zone_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "zone.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        Zone.load(path, DiskFiles())
