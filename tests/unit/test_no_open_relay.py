"""Promise 3: whatever a policy says, the gateway takes no recipient outside its domains."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.reply import SyntaxRefused
from gateway.pipeline import Pipeline
from tests.unit.test_pipeline import Client, Stage, play, relay_of

#: Actions as lax as they come; the domains of the stage set are example.com, example.org, other.example.
THEN = st.sampled_from(
    [
        "accept", "accept", "accept", "quarantine", "defer", "reject", "note", "{exempt: [rule-9]}", "greylist",
        "{tag: {name: X-A, value: b}}", "{limit: {key: client.network, rate: 1000/1m}}",
    ]
)  # fmt: skip
WHEN = st.sampled_from(
    [
        "true", "client.ip != '203.0.113.9'", "helo.name != ''", "rcpt.domain == 'elsewhere.example'",
        "rcpt.known != 'no'",
        "mail.domain == 'good.example'", "glob(rcpt.address, '*')", "spf.result == 'pass'", "message.size >= 0",
        "rcpt.address in lists.everybody", "client.tls", "dmarc.result == 'none'",
    ]
)  # fmt: skip
EXTRA = st.sampled_from(
    ["", "", "always: true", "mode: observe", 'for: ["@elsewhere.example"]', "stage: rcpt", "on_error: ignore"]
)
RULES = st.lists(st.tuples(WHEN, THEN, EXTRA), min_size=1, max_size=6)
OUTSIDE = st.one_of(
    st.sampled_from(
        [
            "joe@elsewhere.example", "joe@sub.example.com", "joe@example.com.elsewhere.example", "joe@notexample.com",
            "joe%elsewhere.example@relay.example", "joe@[192.0.2.1]", "\"joe@example.com\"@elsewhere.example",
            "joe@example.comm", "joe@com", "joe@EXAMPLE.NET", "joe@[IPv6:2001:db8::1]", "joe!x@elsewhere.example",
        ]
    ),
    st.builds("{}@{}.example".format, st.text("ab", min_size=1, max_size=5), st.text("abxy", min_size=1, max_size=9)),
)  # fmt: skip


def text(rules: list[tuple[str, str, str]]) -> str:
    lines = []
    for number, (when, then, extra) in enumerate(rules):
        if "dmarc." in when and extra == "stage: rcpt":
            extra = ""
        keys = [f"id: rule-{number}", f'when: "{when}"', f"then: {then}", "owner: us", "expires: never", extra]
        lines.append("  - {" + ", ".join(key for key in keys if key) + "}\n")
    return "".join([*lines, "  - {id: rule-9, when: mail.is_null && message.hops > 100, then: reject}\n"])


@given(RULES, st.lists(OUTSIDE, min_size=1, max_size=3), st.sampled_from(["a@good.example", None]))
@settings(max_examples=60, deadline=None)
def test_no_policy_opens_the_relay(
    rules: list[tuple[str, str, str]], recipients: list[str], sender: str | None
) -> None:
    with tempfile.TemporaryDirectory() as name:
        stage = Stage(Path(name))
        (Path(name) / "policies" / "lists" / "everybody.txt").write_text("elsewhere.example\nexample.com\n")

        async def scenario() -> None:
            house = stage.house(text(rules))
            client = Client(Pipeline(house))
            tx = await client.mail(sender)
            inside = await client.rcpt(tx, "joe@example.com")
            for recipient in recipients:
                try:
                    reply = await client.rcpt(tx, recipient)
                except SyntaxRefused:
                    continue
                assert reply.startswith("550 5.7.1 Relaying denied"), (recipient, reply)
            assert set(relay_of(house).asked) <= {"joe@example.com"}
            if inside.startswith("250"):
                await client.data(tx)
                assert [str(each.mailbox) for each in tx.envelope.recipients] == ["joe@example.com"]
                assert {target for *_, target in relay_of(house).sent} <= {"", "quarantine@example.com"}
            else:
                client.pipeline.aborted(tx, "RSET")

        play(scenario)
        stage.store.close()
