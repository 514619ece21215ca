"""The vocabulary is what the checks give, no more and no less."""

import importlib
import inspect
import pkgutil

import gateway.checks
from gateway.checks.attachments import Attachments, AttachmentsFact
from gateway.checks.check import Check
from gateway.checks.filekind import RANK
from gateway.checks.scan import Attachment
from gateway.policy.cases import CLEAN
from gateway.policy.vocabulary import ATTACHMENT, FACTS, KINDS, ON_ERROR, RECIPIENT_FACTS, SIZE, checks_of


def classes() -> list[type[Check[object]]]:
    found = []
    for module in pkgutil.iter_modules(gateway.checks.__path__):
        loaded = importlib.import_module(f"gateway.checks.{module.name}")
        found += [one for _, one in inspect.getmembers(loaded, inspect.isclass) if issubclass(one, Check)]
    return sorted({one for one in found if not inspect.isabstract(one)}, key=lambda one: one.name)


def test_facts_are_those_of_the_checks() -> None:
    given = {(name, kind, one.name) for one in classes() for name, kind in one.provides.items()}
    known = {(name, known.type, known.check) for name, known in FACTS.items() if known.check}
    assert given == known
    for one in classes():
        assert one.on_error is ON_ERROR[one.name], one.name
        # Facts of HELO and connection checks may be judged later than they are known, never earlier.
        assert all(FACTS[name].stage >= one.stage for name in one.provides), one.name


def test_what_the_pipeline_gives() -> None:
    assert {name for name, known in FACTS.items() if not known.check} == RECIPIENT_FACTS | {SIZE}
    assert checks_of(["spf.result", "spf.domain", "rcpt.address", "KB"]) == {"spf"}


def test_clean_mail_is_complete_and_of_the_right_types() -> None:
    kinds = {"string": str, "bool": bool, "int": int, "list<string>": list, "list<attachment>": list}
    assert CLEAN.keys() == FACTS.keys()
    for name, value in CLEAN.items():
        assert type(value) is kinds[FACTS[name].type], name
        assert not FACTS[name].words or value in FACTS[name].words


def test_an_attachment_is_what_the_check_says_of_one() -> None:
    assert frozenset(RANK) == KINDS
    named = Attachments().named(AttachmentsFact((Attachment("a.exe", "application/x", "executable", 5),)))
    assert named == {
        "message.attachments": [{"name": "a.exe", "type": "application/x", "kind": "executable", "size": 5}]
    }
    assert {"name", "type", "kind", "size"} == ATTACHMENT.keys()
