"""Where the published suites are, and how a line of them is judged by `gatepost check --batch`."""

import asyncio
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.batch import answered
from gateway.cli.examine import Examiner

#: The folder beside the project, or wherever the environment says.
FOLDER = Path(
    os.environ.get("GATEPOST_CONFORMANCE", Path(__file__).resolve().parents[2].parent / "shared" / "conformance")
)
needs_suites = pytest.mark.skipif(not (FOLDER / "open.jsonl").exists(), reason=f"no conformance data in {FOLDER}")

Line = dict[str, Any]


@cache
def _lines() -> tuple[Line, ...]:
    path = FOLDER / "open.jsonl"
    if not path.exists():
        return ()
    return tuple(json.loads(line) for line in path.read_text("utf-8").splitlines())


def cases(area: str) -> list[Any]:
    """The `must` cases of an area, as parameters named by their ids."""
    return [pytest.param(line, id=line["id"]) for line in _lines() if line["area"] == area and line["grade"] == "must"]


def judged(line: Line) -> Line:
    """What the batch command answers to the line."""
    octets = json.dumps(line).encode()
    return asyncio.run(answered(Examiner(None), octets))
