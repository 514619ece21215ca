"""Names that may be asked for, and addresses in reverse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dns.names import address_of, canonical, reverse_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        ("_spf.%20 '\"x.example", "_spf.%20 '\"x.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        ("a" * 64 + ".example", None),
        (".".join(["a" * 63] * 3) + "." + "a" * 61, ".".join(["a" * 63] * 3) + "." + "a" * 61),
        (".".join(["a" * 63] * 3) + "." + "a" * 62, None),
        ("", None),
        (".", None),
        (".example", None),
        ("a..example", None),
        ("example..", None),
        ("nul\0.example", None),
        ("line\n.example", None),
        ("bücher.example", None),
        ("\udcff.example", None),
    ],
)
def test_canonical(text: str, name: str | None) -> None:
    assert canonical(text) == name


@given(st.text(max_size=300))
def test_canonical_never_raises_and_is_its_own_form(text: str) -> None:
    name = canonical(text)
    assert name is None or canonical(name) == name


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
        ("::ffff:192.0.2.1", "1.2.0.192.in-addr.arpa"),
        ("2001:DB8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
        ("fe80::1%eth0", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.e.f.ip6.arpa"),
    ],
)
def test_reverse_name(ip: str, name: str) -> None:
    assert reverse_name(ip) == name


@pytest.mark.parametrize("ip", ["", "192.0.2", "192.0.2.256", "example.com", "%eth0", "1.2.3.4.5"])
def test_what_is_no_address(ip: str) -> None:
    with pytest.raises(ValueError, match="address"):
        address_of(ip)
