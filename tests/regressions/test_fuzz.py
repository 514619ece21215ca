"""Inputs that the fuzzer found (`make fuzz` keeps them in `fuzz/TARGET/`), and hostile ones kept by hand."""

from pathlib import Path

import pytest

from tests.fuzz.run import KEPT, Target, breaks, targets

BY_NAME = {target.name: target for target in targets()}


def kept() -> list[object]:
    return [
        pytest.param(BY_NAME[file.parent.name], file, id=f"{file.parent.name}/{file.stem}")
        for file in sorted(KEPT.glob("*/*.bin"))
    ]


def test_every_folder_belongs_to_a_target() -> None:
    assert {folder.name for folder in KEPT.iterdir() if folder.is_dir()} <= BY_NAME.keys()


@pytest.mark.parametrize(("target", "file"), kept())
def test_it_breaks_nothing_any_more(target: Target, file: Path) -> None:
    assert not breaks(target, file.read_bytes())
