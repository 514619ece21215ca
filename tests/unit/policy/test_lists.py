"""Named lists: entries, membership, positions of what is wrong."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from policy_folder import Memory

from gateway.files import DiskFiles
from gateway.policy.lists import NamedList, Networks, entry, load_lists, network
from gateway.yamlfile import Problem


def load(**contents: str) -> tuple[dict[str, NamedList], list[str]]:
    problems: list[Problem] = []
    found = load_lists(Path("lists"), Memory(**contents), problems)
    return found, [str(problem) for problem in problems]


def test_entries_and_comments() -> None:
    found, problems = load(
        our__txt="\ufeff# ours\n Example.COM # with a comment\n@sub.example.org\nBÜCHER.example\na#b@example.org\n"
        "\n192.0.2.1\n2001:db8::/32\n  192.0.2.0/28\t# network\n"
    )
    assert problems == []
    assert list(found["our"]) == [
        "a#b@example.org",
        "example.com",
        "sub.example.org",
        "xn--bcher-kva.example",
        "192.0.2.1/32",
        "2001:db8::/32",
        "192.0.2.0/28",
    ]
    assert len(found["our"]) == 7


def test_membership() -> None:
    some = NamedList("some", [entry(text) for text in ("example.com", "Boss@example.org", "192.0.2.0/24")])
    assert [some.holds(text) for text in ("Example.com", "x@EXAMPLE.com", "boss@example.org")] == [True] * 3
    assert [some.holds(text) for text in ("sub.example.com", "x@example.org", "example.org", "", "@")] == [False] * 5
    assert [some.covers(text) for text in ("a.b.Example.com", "example.com")] == [True] * 2
    assert [some.covers(text) for text in ("badexample.com", "com", "", "example.org")] == [False] * 4
    assert some.networks.holds("192.0.2.255")
    assert not some.networks.holds("192.0.3.0")
    # `client.ip in lists.some`, `client.network in lists.some`: what else could the author mean?
    assert [some.holds(text) for text in ("192.0.2.7", "::ffff:192.0.2.7", "192.0.2.0/24")] == [True] * 3
    assert [some.holds(text) for text in ("192.0.3.7", "192.0.2.0/25", "2001:db8::1")] == [False] * 3


def test_networks() -> None:
    nets = Networks([network(text) for text in ("10.0.0.0/8", "192.0.2.7", "2001:db8::/33", "::ffff:0.0.0.0/127")])
    assert nets
    assert not Networks([])
    for ip in ("10.255.0.1", "192.0.2.7", "2001:db8::1", "::ffff:10.0.0.1", "0.0.0.1"):
        assert nets.holds(ip)
    for ip in ("11.0.0.0", "192.0.2.6", "2001:db8:8000::", "::a00:1", "", "x", "10.0.0.1/8", "example.com"):
        assert not nets.holds(ip)


@given(st.ip_addresses(), st.integers(0, 32))
def test_networks_agree_with_the_library(ip: object, length: int) -> None:
    import ipaddress

    assume(getattr(ip, "ipv4_mapped", None) is None)
    net = ipaddress.ip_network(f"{ip}/{length}", strict=False)
    other = ipaddress.ip_address("192.0.2.9")
    assert Networks([net]).holds(str(ip))
    assert Networks([net]).holds(str(other)) is (other.version == net.version and other in net)


@pytest.mark.parametrize(
    "text", ["exa mple", "a..b", "-a.example", "192.0.2.1/33", "192.0.2.1/24", "1.2.3", "::1/x", "a@", "@", "a@b@c"]
)
def test_bad_entries(text: str) -> None:
    with pytest.raises(ValueError, match="'"):
        entry(text)


def test_problems_have_places() -> None:
    found, problems = load(a__txt="x.example\n  192.0.2.1/24\n", **{"b-c__txt": "", "b_c__txt": "", "1a__txt": ""})
    assert sorted(found) == ["a", "b_c"]
    assert problems == [
        "1a.txt:1:1: '1a' cannot be the name of a list; letters, digits, '-' and '_', a letter first",
        "a.txt:2:3: '192.0.2.1/24' has bits set behind its prefix; did you mean 192.0.2.0/24?",
        "b_c.txt:1:1: this list and b-c.txt are both called lists.b_c; rename one of them",
    ]


@pytest.mark.parametrize("unseen", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\u200b", "\u202e", "\u00a0"])
def test_no_line_that_nobody_sees(unseen: str) -> None:
    found, problems = load(our__txt=f"a.example\r\n# harmless{unseen}evil.example\n")
    assert list(found["our"]) == ["a.example"]
    what = "a carriage return stands alone" if unseen == "\r" else f"the character U+{ord(unseen):04X} must not stand"
    assert [problem.startswith(f"our.txt:2:11: {what}") for problem in problems] == [True]


def test_a_file_that_is_no_list_is_told_in_a_few_lines() -> None:
    found, problems = load(our__txt="a.example\n" + "name,address\n" * 1000)
    assert list(found["our"]) == ["a.example"]
    assert len(problems) == 21
    assert problems[-1] == "our.txt:22:1: and 980 more lines are no entries"


def test_unreadable() -> None:
    class Broken(Memory):
        def read(self, path: Path) -> bytes:
            if path.name == "a.txt":
                raise PermissionError(13, "Permission denied")
            return b"\xff\xfe"

    problems: list[Problem] = []
    load_lists(Path("lists"), Broken(a__txt="", b__txt=""), problems)
    assert [str(p) for p in problems] == [
        "a.txt:1:1: cannot read the list: Permission denied",
        "b.txt:1:1: the list is not UTF-8 text",
    ]

    class Locked(Memory):
        def names(self, directory: Path, pattern: str) -> list[Path]:
            raise PermissionError(13, "Permission denied")

    problems = []
    assert load_lists(Path("lists"), Locked(), problems) == {}
    assert [str(p) for p in problems] == ["lists:1:1: cannot read the lists: Permission denied"]


def test_no_folder_no_lists(tmp_path: Path) -> None:
    problems: list[Problem] = []
    assert load_lists(tmp_path / "nowhere", DiskFiles(), problems) == {}
    assert problems == []
