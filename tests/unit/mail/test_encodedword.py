"""Encoded-words: decoded where they are some, visible in any case, and cheap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail.encodedword import decoded, visible
from tests.support.work import grows_linearly


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("plain", "plain"),
        ("", ""),
        ("=?utf-8?q?a_b?=", "a b"),
        ("=?UTF-8?B?w7w=?=", "ü"),
        ("=?utf-8?b?w7w?=", "ü"),
        ("=?iso-8859-1?Q?=FC?=", "ü"),
        ("=?utf-8*de?q?a?=", "a"),
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?a?=  =?iso-8859-1?q?=FC?=", "aü"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),
        ("=?utf-8?q?a?= b", "a b"),
        ("a =?utf-8?q?b?= c", "a b c"),
        ("=?punycode?q?a?=", "=?punycode?q?a?="),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?q?a", "=?utf-8?q?a"),
        ("=?=?utf-8?q?a?=", "=?a"),
        ("=?utf-8?b?!?=", ""),
        ("=?utf-8?q?=ZZ?=", "=ZZ"),
    ],
)
def test_decoded(text: str, meaning: str) -> None:
    assert decoded(text) == meaning


def test_visible() -> None:
    assert visible(" a\r\nb\u202ec\u2028d\u200be ") == "a  bc de"
    assert len(visible("ü" * 10_000)) == 2_000


@given(st.text(alphabet="=?utf-8qbQB_ w7w ", max_size=60))
def test_any_text_is_decoded_to_something(text: str) -> None:
    assert isinstance(visible(decoded(text)), str)


@pytest.mark.parametrize("piece", ["=?", "=?utf-8?q?", "?=", "=?utf-8?b?w7w=?= ", "=?utf-8?q?=?="])
def test_long_texts_cost_little(piece: str) -> None:
    decoded(piece * 20_000)
    assert grows_linearly(lambda count: decoded(piece * count), 1_000)
