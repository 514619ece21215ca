"""Organisational domains by the public suffix list: the list's own test file."""

import pytest

from tests.conformance.suites import Line, cases, judged, needs_suites


@needs_suites
@pytest.mark.parametrize("line", cases("psl"))
def test_case(line: Line) -> None:
    assert judged(line)["org_domain"] == line["expect"]["psl"]
