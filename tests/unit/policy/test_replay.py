"""The past under another policy: entries taken apart, endings compared, unknown facts named."""

from dataclasses import replace
from typing import Any

from policy_folder import policy

from gateway.journal import Asked, Entry, Judged
from gateway.mail.terms import Stage
from gateway.policy.cases import CLEAN
from gateway.policy.compare import over_tests
from gateway.policy.loader import Policy
from gateway.policy.replay import Kind, Tally, again, hearings
from gateway.policy.vocabulary import RECIPIENT_FACTS

FACTS: dict[str, Any] = {name: value for name, value in CLEAN.items() if name != "message.size"}
FACTS = {name: value for name, value in FACTS.items() if name not in RECIPIENT_FACTS}
OWN = {name: value for name, value in CLEAN.items() if name in RECIPIENT_FACTS} | {"message.size": 0}
EARLY = {name: value for name, value in FACTS.items() if name.startswith(("client.", "helo.", "mail.", "spf."))}
ENTRY = Entry(
    id="T1",
    time=1.0,
    client="192.0.2.10",
    sender="sender@example.net",
    size=2_000_000,
    facts=FACTS,
    asked=(Asked("user@example.com", facts=OWN, taken=True),),
    judged=Judged("accept"),
)
REFUSED = replace(
    ENTRY,
    facts=EARLY,
    size=0,
    judged=Judged(),
    asked=(Asked("user@example.com", facts=OWN, action="reject", rule="old"),),
)
LABEL = "greylist 300/86400/3110400"


def told(rules: str, entry: Entry = ENTRY) -> Tally:
    found, tally = policy(f"rules: [{rules}]\n"), Tally()
    for hearing in hearings(entry):
        tally.add(entry.id, "", hearing.then, again(found, hearing.scene))
    return tally


def test_every_way_to_end() -> None:
    assert told("").counts == {}
    assert told("{id: a, when: client.tls, then: reject}").counts == {"newly refused": 1}
    assert told("{id: a, when: client.tls, then: defer}").counts == {"newly deferred": 1}
    assert told("{id: a, when: client.tls, then: quarantine}").counts == {"newly quarantined": 1}
    assert told("{id: a, when: client.tls, then: {tag: {name: X-A, value: b}}}").counts == {"newly tagged": 1}
    assert told("", REFUSED).counts == {"newly accepted": 1}
    same = told("{id: a, when: client.tls, then: reject}", REFUSED)
    assert (same.counts, same.same, same.other_rule, same.differs) == ({}, 1, 1, False)


def test_sizes_announced_and_counted() -> None:
    big = "{id: a, when: message.size > 1 * MB, then: reject}"
    assert told(big).examples["newly refused"][0].after.rule == "a"
    assert told(big, REFUSED).counts == {"unknown": 1}  # the message never came
    assert told(big, REFUSED).unknown == {"message.size": 1}


def test_what_was_not_gathered_is_named_and_no_difference() -> None:
    tally = told("{id: a, when: dmarc.result == 'fail' && dmarc.policy == 'reject', then: reject}", REFUSED)
    assert tally.counts == {"unknown": 1}
    assert set(tally.unknown) == {"dmarc.result", "dmarc.policy"}
    assert not tally.differs
    only_a_tag = told("{id: a, when: arc.trusted, then: {note: x}}", REFUSED)
    assert (only_a_tag.counts, dict(only_a_tag.unknown)) == ({"newly accepted": 1}, {"arc.trusted": 1})


def test_the_answers_of_the_greylist_are_those_of_then() -> None:
    grey = "{id: g, when: client.tls, then: greylist}"
    waited = Asked("user@example.com", facts=OWN, outcomes={LABEL: "waiting:9"}, action="greylist", rule="old-id")
    assert told(grey, replace(REFUSED, asked=(waited,))).same == 1
    passed = replace(ENTRY, asked=(replace(ENTRY.asked[0], outcomes={LABEL: "passed"}),))
    assert told(grey, passed).same == 1
    other = told("{id: g, when: client.tls, then: {greylist: {wait: 1m, window: 1h, keep: 2d}}}", passed)
    assert dict(other.unknown) == {"the answer to greylist 60/3600/172800": 1}


def test_several_recipients_each_with_its_own_facts() -> None:
    second = {**OWN, "rcpt.address": "two@example.com", "rcpt.count": 2, "rcpt.known": "no"}
    refused = Asked("two@example.com", facts=second, action="reject", rule="u")
    both = replace(ENTRY, asked=(*ENTRY.asked, refused))
    assert [hearing.scene.recipient for hearing in hearings(both)] == ["user@example.com", "two@example.com"]
    assert told("{id: u, when: rcpt.known == 'no', then: reject}", both).same == 2
    assert told("", both).counts == {"newly accepted": 1}  # the message is on record: it was judged for the first
    found = told("{id: c, when: rcpt.count > 1, then: defer}", both)
    assert (found.same, found.counts) == (1, {"newly deferred": 1})


def test_what_the_frame_ended_is_compared_as_far_as_the_policy_went() -> None:
    gone = replace(ENTRY, judged=Judged(), fate="aborted")
    assert told("{id: a, when: arc.trusted, then: reject}", gone).same == 1
    assert told("{id: a, when: client.tls, then: reject}", gone).counts == {"newly refused": 1}
    assert list(hearings(replace(ENTRY, asked=()))) == []
    banner = replace(ENTRY, facts=EARLY, judged=Judged(), asked=(Asked("", "connect", action="defer", rule="flood"),))
    only = next(hearings(banner))
    assert (only.scene.until, only.then.kind) == (Stage.CONNECT, Kind.DEFERRED)
    assert told("", banner).counts == {"newly accepted": 1}
    at_mail = replace(banner, asked=(Asked("", "mail", action="reject", rule="null"),))
    assert next(hearings(at_mail)).scene.until is Stage.MAIL
    assert told("{id: a, when: spf.result == 'pass', then: reject}", at_mail).same == 1
    assert told("{id: a, when: rcpt.count == 1, then: reject}", at_mail).counts == {"newly accepted": 1}


def test_a_loop_that_a_rule_ended_is_none_of_the_policys_any_more() -> None:
    """The frame ends it now, whatever the rules are: without the rule nothing is let in."""
    loop = replace(ENTRY, facts=FACTS | {"message.hops": 101}, judged=Judged("reject", "loop"))
    assert (told("", loop).counts, told("", loop).same) == ({}, 1)
    hundred = replace(loop, facts=FACTS | {"message.hops": 100})
    assert told("", hundred).counts == {"newly accepted": 1}


def test_what_never_came_cannot_be_tagged_or_held_anew() -> None:
    rcpt = "{id: a, when: rcpt.count > 0, then: {tag: {name: X-A, value: b}}}, {id: b, when: rcpt.count > 0, then: %s}"
    gone = replace(ENTRY, judged=Judged(), fate="aborted")
    for then in ("quarantine", "accept, owner: us, expires: never"):
        tally = told(rcpt % then, gone)
        assert (tally.counts, tally.same, tally.other_rule) == ({}, 1, 0)
    assert told(rcpt % "reject", gone).counts == {"newly refused": 1}
    assert next(hearings(gone)).then.shown() == "let pass at RCPT"


def test_two_rules_that_ask_the_same_have_an_answer_each() -> None:
    limit = "then: {limit: {key: client.network, rate: 2/1h}}"
    label = "limit client.network=192.0.2.0/24 2/3600"
    soon, late = f"{{id: soon, when: client.tls, {limit}}}", f"{{id: late, when: message.hops < 9, {limit}}}"
    heard = replace(
        ENTRY,
        asked=(replace(ENTRY.asked[0], outcomes={f"soon {label}": "passed"}),),
        judged=Judged("limit", "late", {f"late {label}": "waiting:9"}),
    )
    assert told(f"{soon}, {late}", heard).same == 1
    assert told(f"{soon}, {late}".replace("soon", "first"), heard).unknown == {
        f"the answer to {label}": 1
    }  # who was it?
    assert told(late.replace("late", "new"), replace(heard, asked=ENTRY.asked)).same == 1
    older = replace(heard, asked=ENTRY.asked, judged=replace(heard.judged, outcomes={label: "waiting:9"}))
    assert told(late, older).same == 1


def test_texts_that_the_journal_cut_are_unknown() -> None:
    cut = replace(ENTRY, facts={**FACTS, "message.subject": "x" * 2000 + "..."})
    assert told("{id: a, when: message.subject == 'a', then: reject}", cut).unknown == {"message.subject": 1}


def test_a_field_is_new_for_certain_or_not_told() -> None:
    tags = "{id: a, when: client.tls, then: {tag: {name: X-A, value: b}}}, "
    blind = replace(ENTRY, facts={name: value for name, value in FACTS.items() if name != "arc.trusted"})
    unknown = tags + "{id: b, when: arc.trusted, then: {tag: {name: X-B, value: c}}}"
    assert told(unknown, blind).counts == {"newly tagged": 1}  # X-A, whatever becomes of X-B
    had = replace(blind, judged=Judged("accept", tags=(("X-A", "b"), ("X-B", "c"))))
    assert told(unknown, had).counts == {}  # X-B may still be there
    assert told(tags, had).counts == {"newly tagged": 1}


def test_failed_checks_are_failed_again() -> None:
    down = replace(ENTRY, facts={**FACTS, "dmarc.result": "temperror"}, failed={"dmarc": "SERVFAIL"})
    assert told("{id: a, when: dmarc.result == 'fail', then: reject}", down).counts == {"newly deferred": 1}
    assert told("{id: a, when: dmarc.result == 'fail', then: reject, on_error: ignore}", down).same == 1


def test_for_programs_and_bounded() -> None:
    tally, found = Tally(), policy("rules: [{id: a, when: client.tls, then: reject}]\n")
    for number in range(20):
        for hearing in hearings(replace(ENTRY, id=f"T{number}")):
            tally.add(f"T{number}", "who", hearing.then, again(found, hearing.scene))
    plain = tally.plain()
    assert (plain["newly_refused"], plain["newly_accepted"], plain["cases"]) == (20, 0, 20)
    examples: Any = plain["examples"]
    assert len(examples["newly_refused"]) == 5
    assert examples["newly_refused"][0]["after"]["rule"] == "a"


def test_two_policies_over_the_tests_of_both() -> None:
    def made(when: str) -> Policy:
        return policy(
            f'rules: [{{id: a, when: "{when}", then: reject}}]\n'
            "tests:\n"
            "  - {given: {spf.result: fail}, expect: {action: reject, rule: a}}\n"
            "  - {given: {spf.result: softfail}, expect: {action: none}}\n"
            "  - {given: {lists.bad: [192.0.2.9], client.ip: 192.0.2.9, spf.result: fail}, expect: {action: reject}}\n",
            bad="",
        )

    old, new = made("spf.result == 'fail'"), made("spf.result in ['softfail']")
    assert over_tests(old, old).same == 3
    tally = over_tests(old, new)
    assert tally.counts == {"newly refused": 1, "newly accepted": 2}
    assert tally.examples["newly refused"][0].case == "policy.yaml:4:5"
    listed = policy("rules: [{id: a, when: 'in_networks(client.ip, lists.bad)', then: reject}]\n", bad="")
    assert over_tests(old, listed).counts == {"newly accepted": 1}
    assert over_tests(policy("rules: []\n"), policy("rules: []\n")).cases == 0
