"""Fields of attachments in expressions: typed at load, evaluated, wrong ones told with their place."""

from typing import Any

import pytest

from gateway.policy.evaluate import condition
from gateway.policy.expression import Compiler

FILES = [
    {"name": "a.exe", "type": "application/x", "kind": "executable", "size": 5},
    {"name": "b.docm", "type": "application/x", "kind": "macro", "size": 5_000_000},
]
FACTS: dict[str, Any] = {"message.attachments": FILES, "dkim.domains": ["a.example"]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('message.attachments.exists(a, a.kind in ["executable", "macro"])', True),
        ('message.attachments.exists(a, a.kind == "script")', False),
        ('message.attachments.all(a, a.kind != "script")', True),
        ('message.attachments.exists_one(a, a.kind == "macro")', True),
        ('message.attachments.exists(a, a.size > 4 * MB && glob(a.name, "*.DOCM"))', True),
        ('message.attachments.exists(a, a.size < 4 * MB && glob(a.name, "*.docm"))', False),
        ('message.attachments.filter(a, a.kind == "macro").exists(b, b.name.startsWith("b"))', True),
        ('message.attachments.filter(a, a.kind == "macro").all(b, b.size == 5)', False),
        ('message.attachments.map(a, a.name).exists(n, n == "a.exe")', True),
        ("message.attachments.exists(a, message.attachments.exists(b, a.kind != b.kind && a.size < b.size))", True),
        ('message.attachments.exists(a,\n  a\n  . kind\n == "macro")', True),
        ("size(message.attachments) == 2", True),
        ("message.attachments.size() > 2", False),
        ('message.attachments.exists(k, k.kind == "macro" && dkim.domains.exists(k, k == "a.example"))', True),
        (r'message.attachments.exists(a, a.name.matches("[.]exe$"))', True),
        ('!message.attachments.exists(a, "macro" == a.kind)', False),
    ],
)  # fmt: skip
def test_expressions(text: str, value: bool) -> None:
    found = Compiler(()).compile(text)
    assert not isinstance(found, list), found
    assert "message.attachments" in found.facts
    assert condition(found.tree, {})(FACTS) is value


@pytest.mark.parametrize(
    ("text", "at", "what", "hint"),
    [
        ('message.attachments.exists(a, a.knd == "x")', 32, "an attachment has no 'knd'", "did you mean 'kind'?"),
        ("message.attachments.exists(a, a.x.y)", 32, "an attachment has no 'x.y'", "fields: name, type, kind, size"),
        (
            'message.attachments.exists(a, a.kind == "exe")',
            40,
            "the kind of an attachment is never 'exe'",
            "did you mean",
        ),
        (
            'message.attachments.exists(a, "a" != a.kind)',
            30,
            "the kind of an attachment is never 'a'",
            "one of: archive",
        ),
        ('message.attachments.exists(a, a.kind in ["macro", "b"])', 50, "the kind of an attachment is never 'b'", ""),
        ('message.attachments.exists(a, a.size > "x")', 30, "cannot compare a number with a text", ""),
        ('message.attachments.exists(a, under(a.size, "x"))', 30, "'under' does not take a number and a text", ""),
        ('message.attachments.exists(a, a["kind"] == "x")', 30, "cannot apply '[]' to an attachment and a text", ""),
        ('message.attachments.exists(a, a == "x")', 30, "cannot compare an attachment with a text", ""),
        ('message.attachments[0].kind == "macro"', 22, "a field belongs to one attachment at a time", "write message"),
        (
            'message.attachments.exists(a, a.kind == "macro" && __s == "")',
            30,
            "a field belongs to one attachment at a time",
            "",
        ),
        ('message.attachments.exists(client, client.ip == "x")', 42, "an attachment has no 'ip'", "fields: "),
        ('message.attachment.exists(a, a.kind == "x")', 0, "unknown fact 'message.attachment'", "did you mean"),
    ],
)
def test_mistakes(text: str, at: int, what: str, hint: str) -> None:
    found = Compiler(()).compile(text)
    assert isinstance(found, list)
    first = found[0]
    assert (first.offset, first.what) == (at, what)
    assert first.hint.startswith(hint)


def test_texts_have_no_fields() -> None:
    assert isinstance(Compiler(()).compile('dkim.domains.exists(d, d.kind == "macro")'), list)
    assert isinstance(
        Compiler(()).compile('message.attachments.size() > 0 && dkim.domains.exists(d, d.kind == "macro")'), list
    )
    assert isinstance(Compiler(()).compile('message.attachments.map(a, a.name).exists(n, n.kind == "macro")'), list)
