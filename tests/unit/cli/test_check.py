"""`gatepost check`: one mail from a file, and lines of JSON that may hold anything."""

import asyncio
import base64
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway.cli import batch
from gateway.cli.check import check
from gateway.cli.examine import Examiner, canonical_ip
from gateway.cli.shipped import shipped_policies
from gateway.files import DiskFiles
from gateway.policy.loader import load_policies
from tests.unit.checks.signing import MAIL, NOW, rsa_record, signed

ZONE: dict[str, Any] = {
    "_dmarc.example.org": {"TXT": ['"v=DMARC1; p=reject"']},
    "example.org": {"TXT": ['"v=spf1 ip4:192.0.2.1 -all"']},
    "sel._domainkey.example.org": {"TXT": [rsa_record()]},
}
app = typer.Typer(add_completion=False)
app.command()(check)


@cache
def examiner() -> Examiner:
    folder = shipped_policies()
    return Examiner(load_policies(folder, folder / "lists", DiskFiles(), today=None))


def line(**changes: Any) -> dict[str, Any]:
    case = {
        "id": "1",
        "ip": "192.0.2.1",
        "helo": "mail.example.org",
        "mail_from": "user@example.org",
        "dns": ZONE,
        "now": NOW,
        "message_b64": base64.b64encode(signed()).decode(),
    }
    return {key: value for key, value in {**case, **changes}.items() if value is not ...}


def answers(*lines: Any) -> list[dict[str, Any]]:
    octets = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines]
    out = io.BytesIO()
    asyncio.run(batch.run(examiner(), octets, out))
    return [json.loads(one) for one in out.getvalue().splitlines()]


def test_a_good_mail() -> None:
    assert answers(line()) == [
        {
            "id": "1",
            "spf": {"result": "pass", "explanation": ""},
            "dkim": [{"result": "pass", "d": "example.org", "s": "sel"}],
            "arc": {"result": "none"},
            "dmarc": {"result": "pass", "policy": "reject", "record_domain": "example.org"},
            "disposition": {"action": "accept", "code": 250, "rule": None},
        }
    ]


def test_a_spoofed_mail() -> None:
    spoof = base64.b64encode(MAIL).decode()
    (found,) = answers(line(message_b64=spoof, ip="198.51.100.7", mail_from="x@example.net"))
    assert found["dkim"] == []
    assert found["dmarc"]["result"] == "fail"
    assert (found["disposition"]["action"], found["disposition"]["rule"]) == ("reject", "dmarc-reject")


def test_spf_alone() -> None:
    assert answers(line(message_b64=...)) == [{"id": "1", "spf": {"result": "pass", "explanation": ""}}]


def test_other_lines() -> None:
    assert answers({"id": 7, "domain": "a.b.co.uk"}, {"id": None, "domain": "com"}) == [
        {"id": 7, "org_domain": "b.co.uk"},
        {"id": None, "org_domain": None},
    ]
    assert answers({"id": 8, "dane": {"host": "a.example", "tlsa": [f"3 1 1 {'00' * 32}"], "chain": ["AAAA"]}}) == [
        {"id": 8, "dane": {"result": "mismatch"}}
    ]


@pytest.mark.parametrize(
    "bad",
    [
        b"nonsense", b"[]", b"1", b'"x"', b"null", b"{}", b"\xff", b"[" * 100_000, b'{"id": "x", "ip": "1.2.3"}',
        line(ip="192.0.2.1%eth0"), line(ip=7), line(ip="fe80::1%1"), line(dns=[]), line(dns={"a": 1}),
        line(dns={"a": {"A": ["x"]}}), line(dns={"a": {"TXT": "NOPE"}}), line(message_b64="!"), line(message_b64=5),
        line(now="x"), line(now=-1), line(now=1e300), line(now=True), line(options=[]), line(helo={}),
        {"id": "1", "dane": 1}, {"id": "1", "dane": {"tlsa": "3 1 1"}}, {"id": "1", "dane": {"chain": [1]}},
        {"id": "1", "domain": 5}, line(options={"dkim_min_rsa_bits": "x"}),
    ],
)  # fmt: skip
def test_impossible_lines_are_answered_and_the_next_one_is_read(bad: Any) -> None:
    found, after = answers(bad, line())
    assert set(found) == {"id", "error"}
    assert after["dmarc"]["result"] == "pass"


@pytest.mark.parametrize(
    "odd",
    [
        line(helo=""), line(helo="x" * 5000), line(mail_from=""), line(mail_from="<>"), line(mail_from="<a"),
        line(mail_from="a@b@c"), line(mail_from="\u0000@example.org"), line(helo="\ud800"), line(helo=...),
        line(message_b64=""), line(dns={}), line(ip="::ffff:192.0.2.1"), line(ip="2001:db8::1"), line(now=...),
        line(dns={".": {"A": []}, "": {}, "\u0000": {"TXT": []}}), line(options={"dkim_min_rsa_bits": 0}),
        line(message_b64=base64.b64encode(bytes(range(256)) * 20).decode()),
        line(message_b64=base64.b64encode(b"\r\n" * 5000).decode()),
    ],
)  # fmt: skip
def test_odd_lines_are_judged(odd: Any) -> None:
    (found,) = answers(odd)
    assert "disposition" in found, found


def test_what_the_edge_refuses_is_refused_here() -> None:
    def disposition(octets: bytes = MAIL, **changes: Any) -> dict[str, Any]:
        (found,) = answers(line(message_b64=base64.b64encode(octets).decode(), **changes))
        return dict(found["disposition"])

    assert disposition(mail_from="<(any@example.org>")["code"] == 501
    assert disposition(MAIL + b"a\nb\r\n")["code"] == 554
    assert disposition(MAIL + b"a\rb\r\n")["code"] == 554
    assert disposition(MAIL + b"\0\r\n")["code"] == 554
    assert disposition(b"no header\r\n" + MAIL)["code"] == 554


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
    st.sampled_from(["id", "ip", "helo", "mail_from", "dns", "now", "message_b64", "options", "domain", "dane"]),
)
def test_no_value_of_any_key_ends_the_run(value: Any, key: str) -> None:
    (found,) = answers(line(**{key: value}))
    assert "id" in found
    assert not str(found.get("error", "")).startswith("internal")


def test_addresses() -> None:
    assert canonical_ip("::ffff:192.0.2.1") == "192.0.2.1"
    assert canonical_ip("2001:DB8:0::1") == "2001:db8::1"


# The command


def files(folder: Path, octets: bytes) -> list[str]:
    (folder / "mail.eml").write_bytes(octets)
    (folder / "zone.json").write_text(json.dumps(ZONE))
    return [str(folder / "mail.eml"), "--dns", str(folder / "zone.json")]


WHO = ["--client", "192.0.2.1", "--helo", "mail.example.org", "--mail-from", "user@example.org"]


def test_one_mail(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, [*files(tmp_path, MAIL.replace(b"\r\n", b"\n")), *WHO])
    assert found.exit_code == 0, found.output
    assert "spf    pass" in found.output
    assert "dkim   none" in found.output
    assert "dmarc  pass       example.org policy reject of example.org" in found.output
    assert "accept: 250" in found.output


def test_one_mail_refused_as_json(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, [*files(tmp_path, MAIL), "--json", "--client", "198.51.100.7"])
    assert found.exit_code == 1
    told = json.loads(found.output)
    assert told["disposition"]["rule"] == "dmarc-reject"
    assert told["facts"]["from.domain"] == "example.org"


def test_batch_reads_standard_input() -> None:
    found = CliRunner().invoke(app, ["--batch"], input=json.dumps(line()) + "\n")
    assert found.exit_code == 0
    assert json.loads(found.output)["dmarc"]["result"] == "pass"


@pytest.mark.parametrize("arguments", [[], ["--batch", "x"], ["x.eml"]])
def test_bad_calls(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_bad_address_is_a_bad_call(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, [*files(tmp_path, MAIL), "--client", "nonsense"]).exit_code == 2
    for recipient in ("<><>", "a@", "@x.example", "a b@x.example", "x"):
        found = CliRunner().invoke(app, [*files(tmp_path, MAIL), *WHO, "--rcpt", recipient])
        assert (found.exit_code, "the recipient: " in found.stderr) == (2, True), recipient
