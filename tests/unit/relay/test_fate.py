"""What the backend says and what we answer: the table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail.reply import Reply
from gateway.relay.fate import (
    Broken,
    Congested,
    InDoubt,
    Lost,
    OutOfPlace,
    Step,
    Unfit,
    Unreachable,
    Untrusted,
    means_yes,
    passed_on,
    temporary,
    worse,
)
from gateway.relay.response import Response

#: Its words about us are for the log alone.
NOT_US = ("The mail server does not serve us now; try again later",)


@pytest.mark.parametrize(
    ("code", "lines", "reply"),
    [
        (250, ("2.0.0 Ok: queued as 1",), Reply(250, "2.0.0", ("Ok: queued as 1",))),
        (250, ("ok",), Reply(250, "2.0.0", ("ok",))),
        (250, ("4.0.0 odd",), Reply(250, "2.0.0", ("4.0.0 odd",))),
        (550, ("5.1.1 no", "5.1.1 really"), Reply(550, "5.1.1", ("no", "really"))),
        (550, ("5.01.001 zeros",), Reply(550, "5.1.1", ("zeros",))),
        (550, ("5.7.1",), Reply(550, "5.7.1", ("",))),
        (550, ("5.7.1x",), Reply(550, "5.0.0", ("5.7.1x",))),
        (452, ("4.2.2 full",), Reply(452, "4.2.2", ("full",))),
        (421, ("4.3.2 bye",), Reply(451, "4.3.2", NOT_US)),
        (421, ("bye",), Reply(451, "4.0.0", NOT_US)),
        (530, ("5.7.0 auth",), Reply(451, "4.7.0", NOT_US)),
        (535, ("5.7.8 auth",), Reply(451, "4.7.8", NOT_US)),
        (554, ("a\tb\x00c\xe9",), Reply(554, "5.0.0", ("a?b?c?",))),
        (499, ("x",), Reply(499, "4.0.0", ("x",))),
    ],
)
def test_passed_on(code: int, lines: tuple[str, ...], reply: Reply) -> None:
    passed = passed_on(Response(code, lines))
    assert (passed.code, passed.status) == (reply.code, reply.status)
    if lines[0].startswith(("4.0.0", "5.7.1x")):
        return
    assert passed.text == reply.text


def test_words_are_bounded() -> None:
    reply = passed_on(Response(550, tuple("x" * 10_000 for _ in range(100))))
    assert len(reply.text) == 5
    assert all(len(line) <= 300 for line in reply.text)
    reply.with_id("T00000000001").encode()


@given(st.integers(400, 599), st.lists(st.text(max_size=600), min_size=1, max_size=8))
def test_any_refusal_becomes_a_reply(code: int, lines: list[str]) -> None:
    reply = passed_on(Response(code, tuple(lines)))
    assert not reply.accepted
    assert reply.with_id("T00000000001").encode().endswith(b"\r\n")
    assert not temporary(reply).permanent


@pytest.mark.parametrize("step", Step)
def test_yes_no_and_out_of_place(step: Step) -> None:
    yes = {Step.MAIL: {250}, Step.RCPT: {250, 251}, Step.DATA: {354}, Step.DOT: {250}}[step]
    for code in range(200, 600):
        if code in yes:
            assert means_yes(step, Response(code, ("",)))
        elif code >= 400:
            assert not means_yes(step, Response(code, ("",)))
        else:
            with pytest.raises(OutOfPlace):
                means_yes(step, Response(code, ("",)))


def test_temporary_keeps_what_is_temporary() -> None:
    assert temporary(Reply(452, "4.3.1", ("x",))) == Reply(452, "4.3.1", ("x",))
    assert temporary(Reply(550, "5.1.1", ("x",))) == Reply(451, "4.1.1", ("x",))


def test_a_doubt_has_the_reply_of_its_cause() -> None:
    assert InDoubt(Lost("x")).reply == Lost.reply
    assert InDoubt(OutOfPlace("x")).reply.status == "4.3.0"


UNFIT = Unfit("h", Reply(553, "5.6.7", ("x",)))
UNTRUSTED, DOWN, BUSY = Untrusted("x"), Unreachable("x"), Congested("x")


@pytest.mark.parametrize(
    ("failures", "heard"),
    [
        ([UNFIT], UNFIT),
        ([UNFIT, UNFIT], UNFIT),
        ([UNFIT, DOWN], DOWN),  # which may be fit
        ([DOWN, UNFIT], DOWN),
        ([UNFIT, BUSY, UNFIT], BUSY),
        ([UNTRUSTED, UNFIT], UNTRUSTED),
        ([UNFIT, UNTRUSTED, DOWN], UNTRUSTED),
        ([UNTRUSTED, DOWN], UNTRUSTED),
        ([DOWN, UNTRUSTED], UNTRUSTED),
        ([DOWN, BUSY], BUSY),
    ],
)
def test_of_several_hosts_one_is_heard(failures: list[Broken], heard: Broken) -> None:
    failure: Broken | None = None
    for one in failures:
        failure = worse(failure, one)
    assert failure is heard
