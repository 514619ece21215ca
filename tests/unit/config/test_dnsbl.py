"""The `dnsbl:` section: what is accepted and what it becomes. Refusals: tests/bad_config/dnsbl_*."""

from pathlib import Path

import pytest

from gateway.config import Config, load_config, show
from gateway.config.dnsbl import Replies, parse_replies
from gateway.files import DiskFiles
from gateway.yamlfile import Fault
from tests.support.configured import MINIMAL, furnish


def load(folder: Path, more: str) -> Config:
    furnish(folder)
    (folder / "gatepost.yaml").write_text(MINIMAL + more)
    return load_config(folder / "gatepost.yaml", DiskFiles())


def test_lists_with_weights_and_replies(tmp_path: Path) -> None:
    more = """
dnsbl:
  zones:
    BL.Example.ORG.: {weight: 5, replies: ["127.0.0.2-11", "127.0.0.4"]}
    allow.example.org: {weight: -5, replies: "127.0.2-20.1-3"}
    plain.example: {weight: 1}
  timeout: 500ms
"""
    config = load(tmp_path, more)
    zones = config.dnsbl.zones
    assert list(zones) == ["bl.example.org", "allow.example.org", "plain.example"]
    assert [one.weight for one in zones.values()] == [5, -5, 1]
    assert zones["bl.example.org"].replies == (parse_replies("127.0.0.2-11"), parse_replies("127.0.0.4"))
    assert zones["plain.example"].replies is None
    assert config.dnsbl.timeout == 0.5
    (tmp_path / "gatepost.yaml").write_text(show(config))
    assert load_config(tmp_path / "gatepost.yaml", DiskFiles()).dnsbl == config.dnsbl


def test_none_by_default(tmp_path: Path) -> None:
    dnsbl = load(tmp_path, "").dnsbl
    assert (dnsbl.zones, dnsbl.timeout) == ({}, 2.0)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("127.0.0.2-11", ["127.0.0.2", "127.0.0.11"], ["127.0.0.1", "127.0.0.12", "127.0.1.2", "127.1.0.2"]),
        ("127.0.0-255.3", ["127.0.0.3", "127.0.255.3"], ["127.0.0.2"]),
        ("127.255.0-254.1", ["127.255.254.1"], ["127.255.255.1"]),
    ],
)
def test_replies(text: str, inside: list[str], outside: list[str]) -> None:
    replies = parse_replies(text)
    assert all(map(replies.hold, inside))
    assert not any(map(replies.hold, outside))
    assert str(replies) == text
    assert parse_replies(str(replies)) == replies


@pytest.mark.parametrize(
    "text",
    [
        *("", "127.0.0", "127.0.0.2-", "127.0.0.11-2", "127.0.0.256", "10.0.0.1", "126-127.0.0.1", "127.255.255.1"),
        *("127.0-255.0-255.2", "127.0.0.2/8", " 127.0.0.2", "127.0.0.2\n", "127.0.0.٢", 5, None, ["127.0.0.2"]),
    ],
)
def test_what_is_no_reply_of_a_list(text: object) -> None:
    with pytest.raises(Fault):
        parse_replies(text)


def test_the_example_of_the_design() -> None:
    assert parse_replies("127.0.0.4") == Replies(((127, 127), (0, 0), (0, 0), (4, 4)))
