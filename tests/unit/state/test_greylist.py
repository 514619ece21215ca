"""The greylisting key: the identity ladder and the normal form of addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.state.greylist import identity, key, organisational_domain


@pytest.mark.parametrize(
    ("spf", "domain", "iprev", "name", "ip", "expected"),
    [
        ("pass", "Example.ORG.", "pass", "mail.example.net", "192.0.2.1", "spf:example.org"),
        ("softfail", "example.org", "pass", "a.out.example.co.uk", "192.0.2.1", "name:example.co.uk"),
        ("pass", "", "pass", "mail.example.net", "192.0.2.1", "name:example.net"),
        ("temperror", "example.org", "fail", "mail.example.net", "192.0.2.1", "net:192.0.2.0/24"),
        ("none", "", "none", "", "192.0.2.201", "net:192.0.2.0/24"),
        ("none", "", "none", "", "2001:db8:1:2:3::4", "net:2001:db8:1:2::/64"),
        ("none", "", "none", "", "::ffff:192.0.2.9", "net:192.0.2.0/24"),
        ("none", "", "pass", "co.uk", "192.0.2.1", "net:192.0.2.0/24"),
    ],
)
def test_ladder(spf: str, domain: str, iprev: str, name: str, ip: str, expected: str) -> None:
    assert identity(spf, domain, iprev, name, ip) == expected


@pytest.mark.parametrize(
    ("name", "ip"),
    [
        ("192-0-2-1.pool.example.net", "192.0.2.1"),
        ("host1.2.0.192.dyn.example.net", "192.0.2.1"),
        ("x-002-001.example.net", "192.0.2.1"),
        ("c0000201.dsl.example.net", "192.0.2.1"),
        ("p192000002001.example.net", "192.0.2.1"),
        ("2001-db8-0-0-0-0-0-1.v6.example.net", "2001:db8::1"),
        ("20010db8000000000000000000000001.v6.example.net", "2001:db8::1"),
        ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.example.net", "2001:db8::1"),
    ],
)
def test_a_name_that_spells_the_address_is_none(name: str, ip: str) -> None:
    assert identity("none", "", "pass", name, ip).startswith("net:")


@pytest.mark.parametrize("name", ["mail-1.example.net", "mx2.out1.example.net", "smtp01.example.net"])
def test_a_name_with_numbers_of_its_own_is_a_name(name: str) -> None:
    assert identity("none", "", "pass", name, "192.0.2.1") == "name:example.net"


@pytest.mark.parametrize(
    ("first", "retry"),
    [
        ("Bounces+12345-user=example.com@List.example", "bounces+12346-user=example.com@list.example"),
        ("SRS0=AbCd=TT=a.example=joe@f.example", "SRS0=xyzw=TU=a.example=joe@f.example"),
        ("SRS1=AbCd=a.example==HHH=TT=b.example=u@f.example", "srs1=ZbCe=a.example==HHH=TT=b.example=u@f.example"),
        ("prvs=1234abcdef=joe@x.example", "prvs=9234abcdff=joe@x.example"),
        ("0100018f3a1b2c3d-1a2b3c4d-1a2b-4c3d-aaaa-0123456789ab-000000@ses.example",) * 2,
        ("m-0a1b2c3d4e5f@x.example", "m-9f8e7d6c5b4a@x.example"),
        ("1a2b3c4d-1a2b-4c3d-aaaa-0123456789ab@x.example", "ffffffff-1a2b-4c3d-bbbb-0123456789ab@x.example"),
    ],
)
def test_numbered_senders_are_recognised_on_the_retry(first: str, retry: str) -> None:
    assert key("i", first, "r@x.example") == key("i", retry, "R@X.example")


@pytest.mark.parametrize(("one", "other"), [("joe@x.example", "jane@x.example"), ("joe@x.example", "joe@y.example")])
def test_different_senders_stay_different(one: str, other: str) -> None:
    assert key("i", one, "r@x.example") != key("i", other, "r@x.example")


def test_recipients_with_different_numbers_stay_different() -> None:
    assert key("i", "", "r1@x.example") != key("i", "", "r2@x.example")
    assert key("i", "", "r1@x.example").sender == ""


@given(st.text(max_size=2000), st.text(max_size=2000))
def test_any_address_gives_a_small_key(sender: str, recipient: str) -> None:
    made = key("i", sender, recipient)
    assert len(made.sender) <= 1000
    assert len(made.recipient) <= 1000
    assert made == key("i", sender, recipient)


def test_a_hostile_local_part_gives_a_small_key() -> None:
    """None of these may send a pattern backtracking: the test's own time limit would end it."""
    for text in ("a" * 320, "srs0=" * 64, "prvs=" * 64, "1a2b3c4d-" * 35, "a" * 100_000):
        assert len(key("i", text + "@x.example", "r@x.example").sender) <= 1000


def test_organisational_domain() -> None:
    assert organisational_domain("A.b.Example.COM.") == "example.com"
    assert organisational_domain("com") == ""
