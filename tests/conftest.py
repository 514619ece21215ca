"""In CI (`.ci/run`) a test that is skipped for want of a tool or of published data fails the run: who would see it?"""

import os

import pytest

#: What a machine may be without: reasons that no installation mends.
_ALLOWED = ("no IPv6", "this machine has a state folder")
_skipped: list[str] = []


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remembers what was skipped whole."""
    _remember(report)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remembers what was skipped, and why."""
    _remember(report)


def _remember(report: pytest.CollectReport | pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        why = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(allowed in why for allowed in _ALLOWED):
            _skipped.append(f"{report.nodeid}: {why}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run for them."""
    if _skipped and os.environ.get("CI") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says so."""
    if _skipped and os.environ.get("CI"):
        terminalreporter.section("skipped, which CI does not allow")
        for line in _skipped:
            terminalreporter.write_line(line)
