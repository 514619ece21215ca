"""The check in a child, and what it leaves."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from gateway import bundle
from gateway.bundle import Refused, Summary, validated

GOOD = """
import os, sys
os.write(int(sys.argv[sys.argv.index("--bundle-fd") + 1]), b"octets")
sys.stderr.write("a warning\\n")
print("noise")
print('{"listeners": [["[::]:25"]], "workers": 2, "admin": null, "revision": "r"}')
"""


def check(program: str) -> bundle.Bundle:
    return asyncio.run(validated((sys.executable, "-c", program), Path("gatepost.yaml")))


def test_a_good_one_is_sealed_and_read_by_each_from_its_begin() -> None:
    made = check(GOOD)
    assert made.summary == Summary((("[::]:25",),), 2, None, "r")
    for descriptor in (made.reopened(), made.reopened()):
        assert os.read(descriptor, 100) == b"octets"
        os.close(descriptor)
    with pytest.raises(PermissionError):
        os.write(made.descriptor, b"more")
    made.close()


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import sys; sys.exit('gatepost.yaml:1:1: no')", r"^gatepost\.yaml:1:1: no$"),
        ("import sys; sys.exit(7)", "status 7"),
        ("import os; os.abort()", "status -6"),
        ("pass", "could not be done"),
        ("print('[]')", "could not be done"),
        ("print('{}')", "could not be done"),
        ("import sys; sys.exit('x' * 100000)", "^x{8000}$"),
    ],
)
def test_a_bad_one_is_refused_in_words_and_leaves_nothing_open(program: str, why: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Refused, match=why):
        check(program)
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "_CHECK_SECONDS", 0.2)
    with pytest.raises(Refused, match="took longer"):
        check("import sys; sys.stdin = open(0); import signal; signal.pause()")


def test_one_that_cannot_be_started() -> None:
    with pytest.raises(Refused, match="could not be done"):
        asyncio.run(validated(("/no/such/program",), Path("gatepost.yaml")))
