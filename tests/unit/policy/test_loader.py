"""Loading a folder: order, all problems at once, revisions, what a clock may refuse."""

from datetime import date
from pathlib import Path

import pytest
from policy_folder import TODAY, Memory, policy

from gateway.files import BundleFiles, DiskFiles, RecordingFiles
from gateway.mail.terms import Stage
from gateway.policy.lint import lint
from gateway.policy.loader import load_policies
from gateway.yamlfile import PolicyError

SHIPPED = Path(__file__).resolve().parents[3] / "policies"


def told(error: pytest.ExceptionInfo[PolicyError]) -> list[str]:
    return [str(problem) for problem in error.value.problems]


def test_all_problems_at_once_in_file_order() -> None:
    files = Memory(
        b__yaml="""\
            rules:
              - id: one
                when: spf.rezult == "pass" && dmarc.reslut == "pass"
                then: rejct
                becuase: x
              - id: one
                when: message.size
                then: accept
                reply: 250 2.0.0 no
            """,
        a__yaml="rules: 3\n",
        c__yaml="rules:\n  - {id: fine, when: true, then: accept}\n",
        l__txt="x x\n",
    )
    with pytest.raises(PolicyError) as error:
        load_policies(Path(), Path(), files, today=TODAY)
    assert told(error) == [
        "a.yaml:1:8: 'rules' must be a list; begin each item with '-'",
        "b.yaml:3:11: unknown fact 'spf.rezult'; did you mean 'spf.result'?",
        "b.yaml:3:35: unknown fact 'dmarc.reslut'; did you mean 'dmarc.result'?",
        "b.yaml:4:11: unknown action 'rejct'; did you mean 'reject'?",
        "b.yaml:5:5: unknown key 'becuase' in a rule; did you mean 'because'?",
        "b.yaml:6:9: the id 'one' is taken; see b.yaml:2:9",
        "b.yaml:7:11: 'when' must be true or false, this is a number; compare it with something",
        "b.yaml:9:5: 'accept' has no reply; a reply belongs to reject, defer, greylist and limit",
        (
            "c.yaml:2:10: warning: the exception 'fine' has no owner and no expires; say who answers for it, and until "
            "when (expires: never, if for good)"
        ),
        "l.txt:1:1: 'x x' is no domain, address or network",
    ]


def test_broken_yaml_hides_no_other_file() -> None:
    files = Memory(a__yaml="rules: [\n", b__yaml="rulez: []\n")
    with pytest.raises(PolicyError) as error:
        load_policies(Path(), Path(), files, today=TODAY)
    assert {problem.position.file for problem in error.value.problems} == {"a.yaml", "b.yaml"}


def test_an_empty_folder_is_no_policy() -> None:
    with pytest.raises(PolicyError, match="there is no policy file here"):
        load_policies(Path("policies"), Path("lists"), Memory(), today=TODAY)

    class Gone(Memory):
        def names(self, directory: Path, pattern: str) -> list[Path]:
            raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(PolicyError, match="cannot read the policies: No such file"):
        load_policies(Path("policies"), Path("lists"), Gone(), today=TODAY)


def test_files_in_name_order() -> None:
    files = Memory(
        b__yaml="rules: [{id: b, when: true, stage: data, then: defer}]\n",
        a__yml="rules: [{id: a, when: client.tls, then: defer}]\n",
        c__yaml="",
    )
    assert [rule.id for rule in load_policies(Path(), Path(), files, today=TODAY).rules] == ["a", "b"]


def test_expiry_is_judged_by_the_given_day() -> None:
    text = "rules: [{id: a, when: client.tls, then: accept, owner: us, expires: 2026-11-22}]\n"
    assert policy(text, date(2026, 11, 22)).rule("a") is not None  # with a warning: its last day
    with pytest.raises(PolicyError, match="the rule expired on 2026-11-22"):
        policy(text, date(2026, 11, 23))
    assert policy(text, None).rule("a") is not None  # validated before; a worker that restarts must come up


@pytest.mark.parametrize(
    ("rule", "stages"),
    [
        ("when: true, then: reject", [Stage.CONNECT]),
        ("when: client.tls, then: reject", [Stage.CONNECT]),
        ("when: client.tls && helo.kind == 'invalid', then: reject", [Stage.HELO]),
        ("when: client.tls, then: reject, stage: data", [Stage.DATA]),
        ("when: client.tls, then: quarantine", [Stage.RCPT]),
        ("when: client.tls, then: greylist", [Stage.RCPT]),
        ("for: a@example.com, then: reject", [Stage.RCPT]),
        ("when: rcpt.count > 3, then: reject", [Stage.RCPT]),
        ("when: dkim.result == 'fail', then: reject", [Stage.DATA]),
        ("when: message.size > 3, then: reject", [Stage.RCPT, Stage.DATA]),
        ("when: message.size > 3, then: reject, stage: data", [Stage.DATA]),
        ("when: message.size > 3, then: accept, owner: us, expires: never", [Stage.DATA]),
        ("when: message.size > 3 && dkim.result == 'fail', then: reject", [Stage.DATA]),
    ],
)
def test_stages_follow_from_the_facts(rule: str, stages: list[Stage]) -> None:
    assert list(policy("rules: [{id: a, " + rule + "}]\n").rules[0].stages) == stages


def test_revision_is_of_content() -> None:
    text = "rules: [{id: a, when: client.tls, then: reject}]\n"
    first = policy(text, l="a.example\n").revision
    assert first == policy(text, l="a.example\n").revision
    assert first != policy(text, l="b.example\n").revision
    assert first != policy(text + "# more\n", l="a.example\n").revision


def test_the_same_from_a_bundle() -> None:
    recording = RecordingFiles(DiskFiles())
    first = load_policies(SHIPPED, SHIPPED / "lists", recording, today=TODAY)
    second = load_policies(SHIPPED, SHIPPED / "lists", BundleFiles(recording.bundle()), today=None)
    assert first.revision == second.revision
    assert [rule.id for rule in first.rules] == [rule.id for rule in second.rules]


def test_warnings_do_not_refuse() -> None:
    found = policy(
        """\
        rules:
          - {id: all, when: "1 < 2", stage: mail, then: accept, owner: us, expires: never}
          - {id: still, when: client.tls, stage: mail, always: true, then: reject}
          - {id: gone, when: dkim.result == 'fail', then: reject}
          - {id: aside, when: true, then: quarantine, mode: observe}
        """
    )
    assert [problem.what for problem in found.warnings] == [
        "the rule 'gone' is never reached: 'all' always ends the stage before it",
        "the rule 'aside' is never reached: 'all' always ends the stage before it",
    ]
    assert list(lint(found.rules, {}, {}, TODAY))


def test_items_that_are_no_mappings() -> None:
    for text, what in (
        ("- a\n", "a policy file is a mapping"),
        ("rules: [a]\n", "an item of 'rules' is a mapping"),
        ("tests: {a: b}\n", "'tests' must be a list"),
        ("rules: [{id: a, when: [x], then: [y]}]\n", "'when' must be an expression"),
        ("rules: [{id: a, when: true, then: {}}]\n", "'then' takes one action"),
        ("rules: [{id: a, when: true, then: {tag: x}}]\n", "'tag' takes a name and a value"),
        ("rules: [{id: a, when: true, then: {tag: {name: X-A, valu: b}}}]\n", "unknown key 'valu' in tag"),
        ("rules: [{id: a, when: true, then: {note: [x]}}]\n", "'note' takes a text"),
        ("rules: [{id: a, when: true, then: {exempt: 3}}]\n", "'exempt' takes the ids of rules"),
        ("rules: [{id: a, when: true, then: {greylist: 5m}}]\n", "'greylist' takes wait, window and keep"),
        ("rules: [{id: a, when: true, then: {greylist: {wait: 0s}}}]\n", "'wait' is between 1s and 366d"),
        ("rules: [{id: a, when: true, then: {greylist: {wiat: 1s}}}]\n", "unknown key 'wiat' in greylist"),
        ("rules: [{id: a, for: [3], then: reject}]\n", "a recipient is a text"),
        ("rules: [{id: a, for: [], then: reject}]\n", "'for' needs at least one recipient"),
        ("rules: [{id: a, when: true, then: reject, always: yes}]\n", "'always' must be true or false"),
        ("rules: [{id: a, when: true, then: reject, on_error: wait}]\n", "'on_error' cannot be 'wait'"),
        ("rules: [{id: a, when: true, then: accept, speak: now}]\n", "'accept' says nothing"),
        ("rules: [{id: a, when: true, stage: connect, then: quarantine}]\n", "the rule cannot run at connect"),
        (
            "rules: [{id: a, when: rcpt.count > 1, stage: data, then: reject}]\n",
            "stage: data makes this a rule of data",
        ),
        (
            'rules: [{id: a, when: message.size > 1, then: reject, reply: "550 5.7.1 {rcpt.address}"}]\n',
            "'rcpt.address' is not known at data",
        ),
        (
            "rules: [{id: a, when: true, then: reject, reply: 550}]\n",
            "a reply is a code, an enhanced status and a text",
        ),
        ("rules: [{id: a, when: true, then: reject, reply: 550 5.7 No}]\n", "'5.7' is no enhanced status code"),
    ):
        with pytest.raises(PolicyError) as error:
            policy(text)
        assert what in str(error.value), text


def test_one_mistake_does_not_hide_others() -> None:
    """A file that is no YAML keeps its place, an expired rule is read on, a list of mistakes is not called empty."""
    files = Memory(
        a__yaml="rules: [\n",
        b__yaml="""\
            rules:
              - id: old
                when: mail.domain in lists.x
                then: {exempt: [nobody]}
                expires: 2020-01-01
            """,
        x__txt="a b c@\n",
    )
    with pytest.raises(PolicyError) as error:
        load_policies(Path(), Path(), files, today=TODAY)
    assert [line.partition("; ")[0] for line in told(error)] == [
        "a.yaml:2:1: a value was expected here",
        "b.yaml:2:9: warning: the exception 'old' has no owner",
        "b.yaml:4:21: unknown rule 'nobody'",
        "b.yaml:5:14: the rule expired on 2020-01-01",
        "x.txt:1:1: 'a b c@' is no address",
    ]
