"""Which backend gets the mail of a domain."""

import pytest

from gateway.relay.route import route

DOMAINS = {"example.com": "a", "*.example.com": "b", "*.deep.example.com": "c", "only.example.net": "d", "*.net": "e"}


@pytest.mark.parametrize(
    ("domain", "backend"),
    [
        ("example.com", "a"),
        ("x.example.com", "b"),
        ("deep.example.com", "b"),
        ("x.deep.example.com", "c"),
        ("x.y.deep.example.com", "c"),
        ("only.example.net", "d"),
        ("other.net", "e"),
        ("net", None),
        ("example.org", None),
        ("notexample.com", None),
        ("example.com.evil.example", None),
        ("*.example.com", "b"),
        ("", None),
        (".", None),
        ("[192.0.2.1]", None),
    ],
)
def test_route(domain: str, backend: str | None) -> None:
    assert route(DOMAINS, domain) == backend
