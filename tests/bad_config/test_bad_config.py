"""Every `NAME.yaml` here has a mistake; `NAME.expected` holds the exact lines that an operator reads about it.

`GATEPOST_GOLDEN=1` rewrites the expected files: the diff is the review.
"""

import os
import shutil
from pathlib import Path

import pytest

from gateway.config import load_config
from gateway.files import DiskFiles
from gateway.yamlfile import ConfigError
from tests.support.configured import furnish

HERE = Path(__file__).parent
CASES = sorted(path.stem for path in HERE.glob("*.yaml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("configuration")
    furnish(made)
    return made


@pytest.mark.parametrize("case", CASES)
def test_bad_configuration_is_refused_with_place_and_mend(case: str, folder: Path) -> None:
    copy = folder / f"{case}.yaml"
    shutil.copyfile(HERE / f"{case}.yaml", copy)
    with pytest.raises(ConfigError) as refused:
        load_config(copy, DiskFiles())
    said = str(refused.value).replace(f"{folder}/", "") + "\n"
    expected = HERE / f"{case}.expected"
    if os.environ.get("GATEPOST_GOLDEN"):
        expected.write_text(said, "utf-8")
    assert said == expected.read_text("utf-8")
    assert all(problem.hint for problem in refused.value.problems), "every message names the mend"
    assert "Input should" not in said
    assert "pydantic" not in said


def test_there_are_cases() -> None:
    assert len(CASES) >= 30
    assert {path.stem for path in HERE.glob("*.expected")} == set(CASES)
