"""MIME leaves: found as readers find them, puzzles where readers differ, bounded by counts (RFC 2046, 2183, 2231)."""

import pytest

from gateway.checks.mime import NESTING, Budget, Part, Puzzle, leaves, split_value, values
from tests.unit.checks.made import mail, part


def walked(octets: bytes, budget: Budget | None = None) -> tuple[list[Part], list[str]]:
    found = list(leaves(octets, 0, len(octets), budget or Budget(scanned=10_000_000)))
    return [one for one in found if isinstance(one, Part)], [one.why for one in found if isinstance(one, Puzzle)]


def texts(octets: bytes) -> list[bytes]:
    found, puzzles = walked(octets)
    assert puzzles == []
    return [octets[one.start : one.stop] for one in found]


def test_a_mail_without_mime_is_one_leaf() -> None:
    assert texts(b"Subject: x\r\n\r\nHello\r\n") == [b"Hello\r\n"]
    assert texts(b"\r\nHello") == [b"Hello"]
    assert texts(b"Subject: x") == [b""]
    assert texts(b"") == [b""]


def test_parts_without_preamble_and_epilogue() -> None:
    head = b"Content-Type: multipart/x; boundary=b\r\n\r\npreamble\r\n"
    body = b"--b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\ntwo\r\n\r\n--b--\r\nepilogue\r\n-- \r\n"
    assert texts(head + body) == [b"one", b"two\r\n"]


def test_parts_behind_the_end() -> None:
    octets = mail(b"\r\n1") + b"--b\r\n\r\n2\r\n--b--\r\n"
    found, puzzles = walked(octets)
    assert ([octets[one.start : one.stop] for one in found], puzzles) == ([b"1"], ["parts behind the end"])


def test_a_multipart_with_the_boundary_of_the_one_around_it() -> None:
    assert walked(mail(mail(b"\r\n1"), b"\r\n2"))[1] == ["parts behind the end", "a multipart without its boundary"]


def test_a_multipart_in_quoted_printable_is_read_as_it_stands() -> None:
    head = b"Content-Type: multipart/x; boundary==_b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    assert texts(head + b"--=_b\r\n\r\n1\r\n--=_b--\r\n") == [b"1"]


def test_a_delimiter_ends_its_line() -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    assert texts(head + b"--b \t\r\n\r\n--bb\r\n --b\r\nx--b\r\n\r\n--b--\t\r\n") == [b"--bb\r\n --b\r\nx--b\r\n"]


def test_empty_parts_and_a_missing_end() -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    assert texts(head + b"--b\r\n--b\r\n\r\nx\r\n") == [b"", b"x\r\n"]
    assert texts(head + b"--b") == [b""]


def test_nested_multiparts_in_order() -> None:
    inner = b'Content-Type: multipart/alternative; boundary="b2"\r\n\r\n--b2\r\n\r\n2\r\n--b2\r\n\r\n3\r\n--b2--'
    assert texts(mail(b"\r\n1", inner, b"\r\n4")) == [b"1", b"2", b"3", b"4"]


def test_a_digest_holds_mails() -> None:
    digest = mail(b"\r\nSubject: x\r\n\r\ny").replace(b"multipart/mixed", b"multipart/digest")
    assert [one.type for one in walked(digest)[0]] == ["message/rfc822"]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"Content-Type: multipart/mixed", "a multipart without a boundary that can be"),
        (b"Content-Type: multipart/mixed; boundary=" + b"x" * 300, "a multipart without a boundary that can be"),
        (b"Content-Type: multipart/mixed; boundary=other", "a multipart without its boundary"),
        (b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64", "an encoded multipart"),
        (
            b"Content-Type: multipart/mixed; boundary=b\r\nContent-Type: text/plain",
            "a header that says two things",
        ),
    ],
)
def test_puzzles(header: bytes, why: str) -> None:
    assert walked(header + b"\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n")[1] == [why]


def test_a_part_that_says_two_things_is_puzzling() -> None:
    twice = b"Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit\r\n\r\nx"
    same = b"Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: Base64 (c)\r\n\r\nx"
    found, puzzles = walked(mail(twice, same))
    assert [one.puzzling for one in found] == [True, False]
    assert puzzles == []


def test_too_many_parts() -> None:
    found, puzzles = walked(mail(*[b"\r\nx"] * 1000))
    assert len(found) == Budget().parts - 1
    assert puzzles == ["too many parts", "too many parts"]


def test_too_deep() -> None:
    octets = b"\r\nx"
    for level in range(NESTING + 5):
        octets = mail(octets, boundary=b"n%d" % level)
    assert walked(octets) == ([], ["multiparts nested too deeply"])


def test_nesting_costs_what_it_scans() -> None:
    octets = b"\r\n" + b"x" * 10_000
    for level in range(10):
        octets = mail(octets, boundary=b"n%d" % level)
    budget = Budget(scanned=4 * len(octets))
    assert walked(octets, budget)[1] == ["large multiparts nested too deeply"]


def test_lines_that_are_nearly_boundaries_are_counted() -> None:
    octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" + b"--bx\r\n" * 20_000 + b"--b--\r\n"
    budget = Budget(scanned=10_000_000)
    assert walked(octets, budget)[1] == ["too many lines that are nearly a boundary"]
    assert budget.near_misses == -1


def test_headers_have_a_budget() -> None:
    octets = mail(*[b"X: " + b"y" * 10_000 + b"\r\n\r\nx"] * 300)
    assert walked(octets)[1] == ["too many parts"]
    assert walked(b"X: " + b"y" * 300_000 + b"\r\n\r\nx")[0][0].puzzling


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (b'Content-Disposition: attachment; filename="a b.exe"', ["a b.exe"]),
        (b"Content-Disposition: attachment; filename=a b.exe; x=y", ["a b.exe"]),
        (b'Content-Disposition: attachment; filename="a\\"b;.exe"', ['a"b;.exe']),
        (b'Content-Disposition: attachment; filename="a.exe', ["a.exe"]),
        (b"Content-Disposition: attachment; filename*=utf-8'de'%C3%A4.exe", ["ä.exe"]),
        (b"Content-Disposition: attachment; filename*=iso-8859-1''%E4.exe", ["ä.exe"]),
        (b"Content-Disposition: attachment; filename*1=xe; filename*0=a.e", ["a.exe"]),
        (b"Content-Disposition: attachment; filename*0*=u''a%2E; filename*1=exe; filename=a.txt", ["a.exe", "a.txt"]),
        (b"Content-Type: x/y; name==?utf-8?q?a=2Eexe?=", ["a.exe"]),
        (b'Content-Type: x/y;\r\n\tname="a.\r\n exe"', ["a. exe"]),
        (b'content-type : x/y; NAME="a.exe"', ["a.exe"]),
        (b"Content-Type: x/y; name=a.jpg\r\nContent-Disposition: attachment; filename=a.exe", ["a.exe", "a.jpg"]),
        (b"Content-Type: x/y; name=a.exe\r\nContent-Type: x/y; name=b.js", ["a.exe", "b.js"]),
        (b'Content-Type: x/y; name="a.exe\0.txt"', ["a.exe\0.txt", "a.exe", ".txt"]),
        (b"Content-Type: x/y; foo; name = a.exe ;", ["a.exe"]),
        (b"no field\r\nContent-Type: x/y; name=a.exe", ["a.exe"]),
        (b"Content-Type: x/y; rename=a.exe", []),
        (b"Content-Type: ; =; =;;", []),
    ],
)  # fmt: skip
def test_names(header: bytes, names: list[str]) -> None:
    (found,), _ = walked(mail(header + b"\r\n\r\nx"))
    assert list(found.names) == names


def test_types() -> None:
    types = [b"Text/HTML (c); charset=x", b"nonsense", b'IMAGE/png;name="a;b=c"']
    found, _ = walked(mail(*[b"Content-Type: " + one + b"\r\n\r\nx" for one in types], b"\r\nx"))
    assert [one.type for one in found] == ["text/html", "application/octet-stream", "image/png", "text/plain"]
    (found, inline), _ = walked(mail(part(b"x", "a.txt"), b"Content-Disposition: inline\r\n\r\n"))
    assert (found.attachment, inline.attachment) == (True, False)


def test_parameters_are_bounded() -> None:
    word, parameters = split_value("x/y" + "; a=b" * 10_000)
    assert (word, len(parameters)) == ("x/y", 64)
    assert values(parameters, "a") == ["b"] * 64
