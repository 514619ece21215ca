"""The bugs that `mutants` plants are still bugs of this code, and `conversation` finds one; `python -m
tests.fuzz.mutants` tries all."""

from pathlib import Path

import pytest

from tests.fuzz.mutants import MUTANTS, Mutant, found, planted


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_a_mutant_fits_the_code(mutant: Mutant, tmp_path: Path) -> None:
    planted(mutant, tmp_path)
    text = (tmp_path / "gateway" / mutant.file).read_text("utf-8")
    compile(text, mutant.file, "exec")


def test_one_that_fits_no_more_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stands 0 times"):
        planted(Mutant("nothing", "clock.py", "not in there", ""), tmp_path)


def test_one_is_found() -> None:
    assert found(MUTANTS[0], seconds=60, seed=1) is not None
