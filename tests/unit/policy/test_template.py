"""Texts with facts in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail.reply import Reply
from gateway.policy.template import parse


def test_fills_and_names() -> None:
    template, offsets, mistakes = parse("{{a}} {mail.address} at {message.size} {client.tls}{arc.trusted}")
    assert mistakes == []
    assert offsets == {"mail.address": 7, "message.size": 25, "client.tls": 40, "arc.trusted": 52}
    assert template.names == set(offsets)
    filled = template.fill({"mail.address": "a@b\r\nc", "message.size": 7, "client.tls": True, "arc.trusted": False})
    assert filled == "{a} a@b??c at 7 truefalse"
    assert template.fill({}) == "{a} ? at ? ??"


@pytest.mark.parametrize(
    ("text", "offset", "what", "hint"),
    [
        ("a {dmarc.domian}", 3, "unknown fact 'dmarc.domian'", "did you mean 'dmarc.domain'?"),
        ("{message.attachments}", 1, "message.attachments is a list of files and cannot stand in a text", ""),
        ("a {b", 2, "a lone '{'", "write {{ for the brace itself"),
        ("a }b", 2, "a lone '}'", "write }} for the brace itself"),
        ("a\nb", 1, "the character '\\n' cannot stand here", "one line of printable ASCII"),
        ("é", 0, "the character '\\xe9' cannot stand here", "one line of printable ASCII"),
        ("x" * 301, 300, "the text is longer than 300 characters", ""),
        ("{}", 1, "unknown fact ''", ""),
    ],
)
def test_refuses(text: str, offset: int, what: str, hint: str) -> None:
    (mistake,) = parse(text)[2]
    assert (mistake.offset, mistake.what, mistake.hint) == (offset, what, hint)


@given(st.text(max_size=300))
def test_no_word_of_a_stranger_breaks_a_reply(value: str) -> None:
    template, _, _ = parse("x" * 250 + "{mail.address}{helo.name}")
    octets = Reply.of(550, "5.7.1", template.fill({"mail.address": value, "helo.name": value})).encode()
    assert octets.count(b"\r\n") == 1
    assert octets.isascii()
    assert len(octets) <= 512


def test_a_list_stands_with_commas() -> None:
    template, _, mistakes = parse("on {dnsbl.zones}")
    assert not mistakes
    assert template.fill({"dnsbl.zones": ["a.example", "b.example"]}) == "on a.example, b.example"
    assert template.fill({"dnsbl.zones": []}) == "on "
    assert len(template.fill({"dnsbl.zones": ["x" * 60] * 9})) <= 140
