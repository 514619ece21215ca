"""From files to a house, and what is refused on the way."""

import json
from pathlib import Path

import pytest

from gateway.build import ARC_SEALERS, plan, resolver_of, settings_of
from gateway.cli.testca import TestCa
from gateway.clientauth import Asking
from gateway.clock import ManualClock
from gateway.files import BundleFiles, DiskFiles, RecordingFiles
from gateway.yamlfile import ConfigError

CONFIG = """
hostname: mx.example.com
listeners: [{bind: "127.0.0.1:0", starttls: off}]
domains: {example.com: {backend: main}}
backends: {main: {hosts: "127.0.0.1:1"}}
policies: policies
state: sqlite:state.db
dns: {zone: zone.json}
limits: {message: 5MB, recipients: 7}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policies" / "lists").mkdir(parents=True)
    (tmp_path / "policies" / "a.yaml").write_text("rules: [{id: odd, when: from.valid, then: quarantine}]\n")
    (tmp_path / "policies" / "lists" / "arc-sealers.txt").write_text("sealer.example\n")
    (tmp_path / "zone.json").write_text(json.dumps({"a.example": {"A": ["192.0.2.1"]}}))
    (tmp_path / "gatepost.yaml").write_text(CONFIG)
    return tmp_path


def test_a_plan_holds_what_the_files_say_and_warns(folder: Path) -> None:
    made = plan(folder / "gatepost.yaml", DiskFiles(), ManualClock(), today=True)
    settings = settings_of(made.config, made.config.listeners[0])
    assert (settings.rules.message, settings.rules.recipients, settings.rules.starttls) == (5_000_000, 7, "off")
    assert made.contexts == (None,)
    assert set(made.policy.lists[ARC_SEALERS].texts) == {"sealer.example"}
    (warning,) = [w for w in made.warnings if "quarantine" in w.what]
    assert warning.position.file.endswith("a.yaml")
    assert "add quarantine" in warning.hint


@pytest.mark.parametrize(
    ("rule", "chunking"),
    [
        ("when: from.valid, then: quarantine", True),
        ("for: a@example.com, when: from.valid, then: reject", False),
    ],
)
def test_no_chunking_where_recipients_may_be_parted(folder: Path, rule: str, chunking: bool) -> None:
    (folder / "policies" / "a.yaml").write_text(f"rules: [{{id: odd, {rule}}}]\n")
    made = plan(folder / "gatepost.yaml", DiskFiles(), ManualClock(), today=True)
    settings = settings_of(made.config, made.config.listeners[0], chunking=made.chunking)
    assert settings.rules.chunking is made.chunking is chunking


def test_what_was_recorded_builds_the_same_when_the_disk_has_changed(folder: Path) -> None:
    files = RecordingFiles()
    first = plan(folder / "gatepost.yaml", files, ManualClock(), today=True)
    bundle = BundleFiles(files.bundle())
    (folder / "policies" / "a.yaml").write_text("rubbish")
    (folder / "gatepost.yaml").unlink()
    again = plan(folder / "gatepost.yaml", bundle, ManualClock(), today=False)
    assert again.policy.revision == first.policy.revision
    assert again.config == first.config
    resolver_of(again.config, bundle, ManualClock())


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("gatepost.yaml", CONFIG.replace("hostname", "hostnme"), "gatepost.yaml:2:1: unknown key 'hostnme'"),
        ("policies/a.yaml", "rules: [{id: x, when: spf.reslt == 'fail', then: reject}]", "did you mean"),
        ("zone.json", '{"a.example": {"A": ["nowhere"]}}', "zone.json:1:"),
    ],
)
def test_every_kind_of_file_is_refused_with_its_place(folder: Path, file: str, text: str, message: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(ConfigError) as refused:
        plan(folder / "gatepost.yaml", DiskFiles(), ManualClock(), today=True)
    assert message in str(refused.value)


ASKED = "when: client.certificate_fingerprint == 'ab', then: reject"


def test_a_rule_on_certificates_that_no_listener_asks_for_is_warned_of(folder: Path) -> None:
    (folder / "policies" / "a.yaml").write_text(f"rules: [{{id: pinned, {ASKED}}}]\n")
    made = plan(folder / "gatepost.yaml", DiskFiles(), ManualClock(), today=True)
    (warning,) = [w for w in made.warnings if "certificate" in w.what]
    assert "client.certificate_fingerprint" in warning.what
    assert "client_certificates" in warning.hint
    assert warning.position.file.endswith("a.yaml")


def test_a_listener_that_asks_is_built_from_what_was_recorded(folder: Path) -> None:
    authority = TestCa(folder)
    authority.issue("mx.example.com", file="mx")
    listener = 'bind: "127.0.0.1:0", tls: {certificate: mx.pem, key: mx.key}, client_certificates: {ca: ca.pem}'
    (folder / "gatepost.yaml").write_text(CONFIG.replace('bind: "127.0.0.1:0", starttls: off', listener))
    (folder / "policies" / "a.yaml").write_text(f"rules: [{{id: pinned, {ASKED}}}]\n")
    files = RecordingFiles()
    assert not [
        w for w in plan(folder / "gatepost.yaml", files, ManualClock(), today=True).warnings if "no listener" in w.what
    ]
    bundle = BundleFiles(files.bundle())
    (folder / "ca.pem").unlink()
    (context,) = plan(folder / "gatepost.yaml", bundle, ManualClock(), today=False).contexts
    assert isinstance(context, Asking)


BROKEN = "rules: [{id: odd, when: from.valids, then: reject}]\n"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ["policies/a.yaml:1:25:"]),
        ({"gatepost.yaml": CONFIG + "bogus: 1\n"}, ["gatepost.yaml:10:1:", "policies/a.yaml:1:25:"]),
        ({"gatepost.yaml": CONFIG.replace("policies: policies", "policies: nowhere")}, ["gatepost.yaml:6:11:"]),
        ({"gatepost.yaml": CONFIG + "lists: nowhere\n"}, ["gatepost.yaml:10:8:"]),
        ({"gatepost.yaml": CONFIG.replace("policies: policies", "policies: 1")}, ["gatepost.yaml:6:11:"]),
        ({"gatepost.yaml": "- no mapping\n"}, ["gatepost.yaml:1:1:"]),
        ({"zone.json": '{"a.example": 1}'}, ["policies/a.yaml:1:25:", "zone.json:1:"]),
    ],
)
def test_what_is_wrong_in_several_files_is_told_at_once(
    folder: Path, changed: dict[str, str], expected: list[str]
) -> None:
    (folder / "policies" / "a.yaml").write_text(BROKEN)
    for name, text in changed.items():
        (folder / name).write_text(text)
    with pytest.raises(ConfigError) as refused:
        plan(folder / "gatepost.yaml", DiskFiles(), ManualClock(), today=True)
    told = [str(problem).removeprefix(f"{folder}/") for problem in refused.value.problems]
    assert len(told) == len(expected), told
    assert all(one.startswith(place) for one, place in zip(told, expected, strict=True)), told
