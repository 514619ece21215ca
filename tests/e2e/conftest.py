"""One CA, one certificate of the backend and one Postfix backend for all end-to-end tests that do not break them."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.testca import Pair, TestCa
from tests.support import postfix
from tests.support.gateway import BACKEND_NAME

_ids = itertools.count(1)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestCa:
    return TestCa(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def leaf(authority: TestCa) -> Pair:
    return authority.issue(BACKEND_NAME)


@pytest.fixture(scope="session")
def backend(leaf: Pair) -> Iterator[postfix.Postfix]:
    """Postfix with the mailboxes alice, bob and carol at example.com. Tests tell their mails apart by `fresh`."""
    with postfix.backend([f"{name}@example.com" for name in ("alice", "bob", "carol")], leaf) as running:
        yield running


@pytest.fixture
def fresh() -> str:
    """A word that no other test uses."""
    return f"mail-{next(_ids):04d}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site"
