"""Tag lists: RFC 6376 section 3.2 and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks.taglist import BadTagList, listed, parse, unspaced, without_signature


@pytest.mark.parametrize(
    ("octets", "tags"),
    [
        (b"", {}),
        (b"a=b", {"a": b"b"}),
        (b"a=b;", {"a": b"b"}),
        (b" a = b c ;\r\n\td=\r\n e", {"a": b"b c", "d": b"e"}),
        (b"a=;b=x=y", {"a": b"", "b": b"x=y"}),
        (b"a=1;A=2", {"a": b"1", "A": b"2"}),
        (b"a_1=x", {"a_1": b"x"}),
        ("d=bücher.example".encode(), {"d": "bücher.example".encode()}),
    ],
)
def test_good(octets: bytes, tags: dict[str, bytes]) -> None:
    assert parse(octets) == tags


@pytest.mark.parametrize(
    "octets",
    [b"a", b"=b", b"a=b;;c=d", b";a=b", b"a=b; ;", b"a=1;a=2", b"1a=b", b"a-b=c", b"a b=c", b"a=\0", b"a=\x7f",
     b"a=\x0b", b"a=b;c", b"a=1;" * 200, b"a=" + b"x" * 70_000],
)  # fmt: skip
def test_bad(octets: bytes) -> None:
    with pytest.raises(BadTagList):
        parse(octets)


@given(st.text(alphabet="ab=; \t\r\nv1", max_size=30))
def test_any_text_is_a_list_or_is_refused(text: str) -> None:
    try:
        tags = parse(text.encode())
    except BadTagList:
        return
    assert all(name and name == name.strip() for name in tags)


def test_values() -> None:
    assert unspaced(b"a \r\n\tb") == b"ab"
    assert listed(b"a : b:\r\n c") == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("field", "unsigned"),
    [
        (b"DKIM-Signature: a=1; b=xyz; bh=b=q\r\n", b"DKIM-Signature: a=1; b=; bh=b=q"),
        (b"DKIM-Signature: a=1; b=xyz\r\n", b"DKIM-Signature: a=1; b="),
        (b"DKIM-Signature: b = x\r\n y ;a=1\r\n", b"DKIM-Signature: b =;a=1"),
        (b"DKIM-Signature:b=x\r\n", b"DKIM-Signature:b="),
        (b"DKIM-Signature: bb=x; B=y\r\n", b"DKIM-Signature: bb=x; B=y"),
    ],
)
def test_without_signature(field: bytes, unsigned: bytes) -> None:
    assert without_signature(field) == unsigned
