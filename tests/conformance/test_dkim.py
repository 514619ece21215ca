"""DKIM: Mail::DKIM's corpus, strictly and with the old rules let in, and the vectors of RFC 6376 and 8463."""

import pytest

from tests.conformance.suites import Line, cases, judged, needs_suites

#: Case to the clause that justifies another result. None is needed.
DEVIATIONS: dict[str, str] = {}


@needs_suites
@pytest.mark.parametrize("line", cases("dkim"))
def test_case(line: Line) -> None:
    if line["id"] in DEVIATIONS:
        pytest.skip(DEVIATIONS[line["id"]])
    found = [signature["result"] for signature in judged(line)["dkim"]]
    wanted = line["expect"]["dkim"]
    assert len(found) == len(wanted)
    assert all(word in acceptable for word, acceptable in zip(found, wanted, strict=True)), (found, wanted)
