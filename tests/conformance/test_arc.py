"""ARC: the validation suite of ValiMail's arc_test_suite."""

import pytest

from tests.conformance.suites import Line, cases, judged, needs_suites

#: Case to the clause that justifies another result. None is needed.
DEVIATIONS: dict[str, str] = {}


@needs_suites
@pytest.mark.parametrize("line", cases("arc"))
def test_case(line: Line) -> None:
    if line["id"] in DEVIATIONS:
        pytest.skip(DEVIATIONS[line["id"]])
    assert judged(line)["arc"]["result"] in line["expect"]["arc"]
