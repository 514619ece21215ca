"""Promise 6: a verdict, and its explanation, is a pure function of policy and facts, in any order and any process."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.checks.check import Value
from gateway.cli.policy.explain import plain
from gateway.files import DiskFiles
from gateway.policy.explain import explain
from gateway.policy.loader import Policy, load_policies
from gateway.policy.outcome import PASSED
from gateway.policy.scene import Scene, play
from gateway.policy.scene import given as scene_of
from gateway.policy.vocabulary import FACTS, Form, Known

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = load_policies(ROOT / "policies", ROOT / "policies" / "lists", DiskFiles(), today=None)
DOMAINS = ["a.example", "lists.a.example", "example.com", "b.test", ""]
KINDS = ["executable", "macro", "archive", "script", "encrypted", "text"]


def value(known: Known, chance: Random) -> Value:
    """A value that a check might give."""
    if known.words:
        return chance.choice(sorted(known.words))
    match known.type:
        case "bool":
            return chance.random() < 0.5
        case "int":
            return chance.choice([0, 1, 2, 101, 11_000_000])
        case "list<string>":
            return [domain for domain in DOMAINS if domain and chance.random() < 0.3]
        case "string":
            if known.form is Form.IP:
                return chance.choice(["192.0.2.1", "2001:db8::1"])
            domain = chance.choice(DOMAINS)
            return f"user@{domain}" if known.form is Form.ADDRESS and domain else domain
        case _:
            return [
                {"name": "a", "type": "text/plain", "kind": kind, "size": 5} for kind in KINDS if chance.random() < 0.2
            ]


def scene(chance: Random) -> Scene:
    """A mail that may lack facts, whose checks may have failed, whose recipients may have to wait."""
    facts = {name: value(known, chance) for name, known in FACTS.items()}
    made = scene_of(facts, chance.choice([PASSED, "waiting"]), chance.choice([PASSED, "over"]))
    failed = {check for check in ("dnsbl", "arc", "organization") if chance.random() < 0.1}
    lost = {name for name in made.facts if chance.random() < 0.02}
    kept = {name: each for name, each in made.facts.items() if name not in lost}
    return replace(
        made, facts=kept, failed=made.failed | failed, otherwise=made.otherwise if chance.random() < 0.9 else {}
    )


def shuffled(made: Scene, chance: Random) -> Scene:
    """The same mail, its facts in another order."""
    facts, own = list(made.facts.items()), list(made.own.items())
    chance.shuffle(facts)
    chance.shuffle(own)
    return replace(made, facts=dict(facts), own=dict(own))


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_twice_and_in_any_order(seed: int) -> None:
    chance = Random(seed)
    made = scene(chance)
    once = explain(SHIPPED, made)
    assert explain(SHIPPED, made) == once
    assert explain(SHIPPED, shuffled(made, chance)) == once
    again = (
        load_policies(ROOT / "policies", ROOT / "policies" / "lists", DiskFiles(), today=None)
        if seed % 20 == 0
        else SHIPPED
    )
    assert play(again, made) == play(SHIPPED, made) == once.run


def told(policy: Policy, seeds: range) -> list[dict[str, Any]]:
    """Explanations as programs read them."""
    return [plain(policy, explain(policy, made), made) for made in (scene(Random(seed)) for seed in seeds)]


def test_in_another_process() -> None:
    """Another process hashes texts otherwise, so that no order of a set can hide in a verdict."""
    script = "import json, test_pure as t; print(json.dumps(t.told(t.SHIPPED, range(40))))"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "4242",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
    }
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert json.loads(ran.stdout) == json.loads(json.dumps(told(SHIPPED, range(40))))
    rules = {one["verdict"]["rule"] for one in told(SHIPPED, range(40))}
    assert len(rules) > 5  # the mails are of many kinds
