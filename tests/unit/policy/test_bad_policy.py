"""Each file of tests/bad_policy holds one mistake; beside it stands what the author is told, to the letter."""

import os
from datetime import date
from pathlib import Path

import pytest

from gateway.files import DiskFiles
from gateway.policy.loader import load_policies
from gateway.yamlfile import PolicyError

FOLDER = Path(__file__).resolve().parents[2] / "bad_policy"
TODAY = date(2026, 11, 22)
MISTAKES = sorted(path.name for path in FOLDER.glob("*.*") if path.suffix in {".yaml", ".txt"})


class OneFile:
    """The disk, as if the folder held this one file, or the folder of lists this one list."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, path: Path) -> bytes:
        if path.name == "fine.yaml":
            return b"rules: []\n"
        return DiskFiles().read(FOLDER / path)

    def names(self, directory: Path, pattern: str) -> list[Path]:
        if pattern == "*.yaml":
            return [Path(self.name if self.name.endswith(".yaml") else "fine.yaml")]
        if pattern == "*.txt":
            return (
                [Path(self.name)]
                if self.name.endswith(".txt")
                else [Path("lists/our-partners.txt"), Path("lists/partners.txt")]
            )
        return []


def told(name: str) -> str:
    try:
        policy = load_policies(Path(), Path("lists"), OneFile(name), today=TODAY)
    except PolicyError as error:
        return "".join(f"{problem}\n" for problem in error.problems)
    return "".join(f"{problem}\n" for problem in policy.warnings)


def test_there_are_many() -> None:
    assert len(MISTAKES) >= 35


@pytest.mark.parametrize("name", MISTAKES)
def test_told_where_and_what(name: str) -> None:
    expected = (FOLDER / name).with_suffix(".expected")
    if os.environ.get("GATEPOST_GOLDEN"):
        expected.write_text(told(name), encoding="utf-8")
    assert told(name) == expected.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MISTAKES)
def test_one_mistake_one_line(name: str) -> None:
    assert len(told(name).splitlines()) == 1
