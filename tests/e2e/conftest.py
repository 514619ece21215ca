"""One CA, one certificate of the backend and one Postfix backend for all end-to-end tests that do not break them."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import postfix
from tests.support.ca import Authority, Leaf
from tests.support.gateway import BACKEND_NAME

_ids = itertools.count(1)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def leaf(authority: Authority) -> Leaf:
    return authority.leaf(BACKEND_NAME)


@pytest.fixture(scope="session")
def backend(leaf: Leaf) -> Iterator[postfix.Postfix]:
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
