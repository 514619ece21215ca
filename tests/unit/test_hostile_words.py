"""What a sender may choose, and where it ends up: log lines, replies, our header fields, the journal as it is shown.

None of them holds an octet that does not print, a line that we did not begin, or a field that we did not name.
"""

import asyncio
import functools
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import log as logging
from gateway.cli.journal import brief, explained
from gateway.journal.entry import decode, encode
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient, Session
from gateway.mail.message import Message
from gateway.mail.reply import SyntaxRefused
from gateway.pipeline import Pipeline
from tests.unit.test_pipeline import Stage, relay_of

RULES = """
  - id: told
    when: "from.name != 'x'"
    then: {tag: {name: X-Told, value: "{from.name} {message.subject} {helo.name}"}}
  - {id: noted, when: from.is_local == false, then: note}
  - id: no
    when: message.list_id != ""
    then: reject
    reply: "550 5.7.1 {from.name} {from.address} {message.subject} {message.list_id} {mail.address} {helo.name}"
"""
OURS = {b"authentication-results", b"received", b"x-told"}

pieces = st.sampled_from(
    ["\r\n", "\n", "\r", "\0", "\x1b[2J", "\x7f", "\x9b31m", "\u2028", "\u202e", "\u200b", "ü", "€", "\ud800", "\ufeff",
     '"', "'", "\\", "<", ">", "(", ")", ";", ",", ":", "@", "%s", "{mail.address}", "{0}", "a", "evil.example", " ",
     "\t", "\r\nX-Evil: yes", "\r\n.\r\n", "250 2.0.0 OK", "=?utf-8?q?=0D=0AX-Evil:_b=1B?=", "=?utf-8?b?AA0K?="]
)  # fmt: skip
texts = st.lists(pieces, max_size=6).map("".join)
folded = texts.map(lambda text: text.replace("\r", "").replace("\n", "\r\n "))


def octets_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def mailbox(text: str, fallback: str) -> Mailbox:
    for attempt in (f"{text}@good.example", f'"{text}"@good.example', f"a@{text}"):
        try:
            return Mailbox.parse(octets_of(attempt), smtputf8=True)
        except SyntaxRefused:
            continue
    return Mailbox.parse(fallback.encode())


@functools.cache
def _configured() -> tuple[io.BytesIO, dict[str, Any]]:
    """A log of our own, and what makes it everybody's: one for all examples, for its thread lives as long as we."""
    told = io.BytesIO()
    logging.configure("debug", told)
    return told, structlog.get_config()


def _log() -> io.BytesIO:
    """The log, empty. Whoever called this ends it by `structlog.reset_defaults`."""
    told, configuration = _configured()
    structlog.configure(**configuration)
    told.seek(0)
    told.truncate()
    return told


def judged(helo: str, sender: str, header: bytes, smtputf8: bool) -> tuple[list[bytes], list[str], bytes, str]:
    """(log lines, replies, our fields, the journal's page) of one mail."""
    told = _log()
    try:
        with tempfile.TemporaryDirectory() as folder:
            return asyncio.run(_mail(Stage(Path(folder)), told, helo, sender, header, smtputf8))
    finally:
        structlog.reset_defaults()


async def _mail(
    stage: Stage, told: io.BytesIO, helo: str, sender: str, header: bytes, smtputf8: bool
) -> tuple[list[bytes], list[str], bytes, str]:
    house = stage.house(RULES)
    pipeline = Pipeline(house)
    session = Session("S", "192.0.2.7", 1, "127.0.0.1", 25, 0.0, helo=helo, esmtp=True)
    _, tx = await pipeline.mail(session, Envelope(mailbox(sender, "a@good.example"), smtputf8=smtputf8))
    assert tx is not None
    replies = [await pipeline.rcpt(tx, Recipient(Mailbox.parse(b"joe@example.com")))]
    replies.append(await pipeline.data(tx, Message.from_octets(header + b"\r\nbody\r\n")))
    sent = relay_of(house).sent
    (entry,) = stage.journal.entries.values()
    kept = decode(encode(entry))
    stage.store.close()
    logging.flush()
    page = brief(kept) + "\n" + explained(kept)
    return (
        told.getvalue().split(b"\n"),
        [reply.encode().decode() for reply in replies],
        sent[0][1] if sent else b"",
        page,
    )


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(texts, texts, folded, folded, folded, folded, st.booleans(), st.booleans())
def test_no_word_of_a_stranger_gets_out_raw(
    helo: str, sender: str, name: str, subject: str, tags: str, list_id: str, listed: bool, smtputf8: bool
) -> None:
    fields = [
        f"From: {name} <a@good.example>",
        f"Subject: {subject}",
        f"DKIM-Signature: v=1; d={tags}; s={tags}; b={tags}",
    ]
    fields += [f"ARC-Seal: i=1; d={tags}", f"Authentication-Results: {tags}"]
    if listed:
        fields.append(f"List-Id: <{list_id}x>")
    header = b"".join(octets_of(field) + b"\r\n" for field in fields)
    lines, replies, added, page = judged(helo, sender, header, smtputf8)

    assert lines.pop() == b""
    for one in lines:
        assert all(0x20 <= octet < 0x7F for octet in one), one
        assert isinstance(json.loads(one), dict)
    assert sum(b'"event":"transaction"' in one or b'"event": "transaction"' in one for one in lines) == 1
    for reply in replies:
        assert reply.endswith("\r\n")
        rows = reply.removesuffix("\r\n").split("\r\n")
        assert len({row[:3] for row in rows}) == 1, "one code"
        assert all(row.isascii() and row.isprintable() for row in rows)
    if added:
        message = Message.from_octets(added + b"\r\n")
        assert not message.malformed
        assert {field.key for field in message.fields} <= OURS
        assert not set(added.replace(b"\r\n", b"").replace(b"\t", b"")) & (set(range(0x20)) | {0x7F})
        own = next(field for field in message.fields if field.key == b"authentication-results")
        assert own.raw.isascii()
        assert b"X-Evil" not in own.raw
    for row in page.split("\n"):
        assert row.isprintable(), row
        assert not row.startswith("X-Evil")


@pytest.mark.parametrize("text", ["a\x9bb", "\u2028", "\u202e", "\x7f", "\ud800", "\0\r\n", "ü"])
def test_a_log_line_is_printable_ascii(text: str) -> None:
    octets = logging.line({"event": text, "n": 1}, str)
    assert all(0x20 <= octet < 0x7F for octet in octets)
    assert json.loads(octets) == {"event": text, "n": 1}
