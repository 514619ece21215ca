"""Counts per suite at the end of a run: passed of all, deviations and stances told."""

from collections import Counter
from typing import Any

_FOLDER = "tests/conformance/"


def _suite(nodeid: str) -> str:
    file, _, rest = nodeid.removeprefix(_FOLDER).partition("::")
    _, bracket, case = rest.partition("[")
    if bracket and "/" in case and "differential" not in file:
        return case.partition("/")[0]
    return file.removeprefix("test_").removesuffix(".py").replace("_", " ")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One row a suite."""
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            if report.nodeid.startswith(_FOLDER) and (report.when == "call" or outcome == "skipped"):
                counts.setdefault(_suite(report.nodeid), Counter())[outcome] += 1
    if not counts:
        return
    terminalreporter.section("conformance")
    for suite in sorted(counts):
        found = counts[suite]
        rest = "".join(f", {found[word]} {word}" for word in ("failed", "skipped") if found[word])
        terminalreporter.write_line(f"{suite:24} {found['passed']:4} of {sum(found.values())} pass{rest}")
