"""The public suffix list, asked our way (its own test file is in conformance)."""

import pytest

from gateway.checks.suffixes import organizational_domain


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("a.example.com", "example.com"),
        ("A.Example.COM.", "example.com"),
        ("co.uk", None),
        ("www.bücher.example", "bücher.example"),
        ("食狮\u3002公司\uff0ecn", "食狮.公司.cn"),
        ("", None),
        (".", None),
        ("a..com", None),
        ("192.0.2.1", None),
        ("x" * 300, None),
        ("a b.com", None),
    ],
)
def test_organizational_domain(name: str, domain: str | None) -> None:
    assert organizational_domain(name) == domain
