"""`under` and `glob`."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.functions import glob, under


@pytest.mark.parametrize(
    ("domain", "parent", "expected"),
    [
        ("example.com", "example.com", True),
        ("a.b.example.com", "Example.com", True),
        ("notexample.com", "example.com", False),
        ("com", "example.com", False),
        ("example.com", "", False),
        ("", "", False),
        ("", "example.com", False),
    ],
)
def test_under(domain: str, parent: str, expected: bool) -> None:
    assert under(domain, parent) is expected


@given(st.text("ab?*.[", max_size=8), st.text("aB.[\n", max_size=10))
def test_glob_is_what_the_stars_say(pattern: str, text: str) -> None:
    expression = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    assert glob(pattern)(text) is (re.fullmatch(expression, text, re.DOTALL | re.IGNORECASE) is not None)


def test_glob_does_not_explode() -> None:
    """A backtracking matcher would not come back from this before the test's own time limit, nor in a lifetime."""
    assert not glob("*a" * 30 + "b")("a" * 20_000)
