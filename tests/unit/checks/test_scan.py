"""The files of a mail: what policies get to see, for honest mails and for hostile ones."""

import pytest

from gateway.checks.filekind import RANK
from gateway.checks.scan import DEPTH, MOST, NAME_LIMIT, Attachment, scan
from tests.unit.checks.made import PROGRAM, gzipped, locked, mail, ole, part, tarred, zipped

CONTENT_TYPES = b'<Types><Override ContentType="application/vnd.ms-office.vbaProject"/></Types>'
DOCUMENT = {"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<x/>", "word/printerSettings1.bin": b"x"}
MACROS = {**DOCUMENT, "[Content_Types].xml": CONTENT_TYPES, "word/other.bin": ole("_VBA_PROJECT")}


def files(*parts: bytes) -> list[tuple[str, str]]:
    return [(one.name, one.kind) for one in scan(mail(*parts))]


TEXT = part(b"Hello", media="text/plain; charset=utf-8", base64=False)
HTML = part(b"<html>Hello</html>", media="text/html")


def test_the_text_of_a_mail_is_no_file() -> None:
    assert files(TEXT, HTML) == []
    assert scan(b"Subject: x\r\n\r\n#! hello\r\n") == ()
    assert files(part(b"#!/bin/sh as in the manual", media="text/plain", base64=False)) == []


def test_a_file() -> None:
    assert scan(mail(TEXT, part(b"%PDF-1.4 " + b"x" * 1000, "a.pdf", "Application/PDF"))) == (
        Attachment("a.pdf", "application/pdf", "document", 1011),
    )


JAVA = {"META-INF/MANIFEST.MF": b"", "A.class": b""}
SIGNED = {"META-INF/MANIFEST.MF": b""}


@pytest.mark.parametrize(
    ("name", "octets", "found"),
    [
        ("photo.jpg", PROGRAM, [("photo.jpg", "executable")]),
        ("a.exe", b"harmless", [("a.exe", "executable")]),
        ("a.png", b"\x89PNG\r\n\x1a\n", [("a.png", "image")]),
        ("a.rar", b"Rar!\x1a\x07\x01\0", [("a.rar", "archive")]),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", [("a.7z", "archive")]),
        ("a.txt", b"hello", [("a.txt", "text")]),
        ("a", b"hello", [("a", "other")]),
        ("a.doc", ole("WordDocument"), [("a.doc", "document")]),
        ("a.doc", ole("_VBA_PROJECT"), [("a.doc", "macro")]),
        ("a.docx", ole("EncryptedPackage"), [("a.docx", "encrypted")]),
        ("a.docx", zipped(DOCUMENT), [("a.docx", "document")]),
        ("a.docx", zipped(MACROS), [("a.docx", "macro"), ("a.docx/word/other.bin", "macro")]),
        ("a.docm", zipped(DOCUMENT), [("a.docm", "macro")]),
        ("a.xlsx", zipped({**DOCUMENT, "xl/macrosheets/sheet1.xml": b""}), [("a.xlsx", "macro")]),
        (
            "a.docx",
            zipped({**DOCUMENT, "word/embeddings/o.bin": PROGRAM}),
            [("a.docx", "document"), ("a.docx/word/embeddings/o.bin", "executable")],
        ),
        ("a.odt", zipped({"mimetype": b"application/vnd.oasis.opendocument.text"}), [("a.odt", "document")]),
        ("a.odt", zipped({"mimetype": b"application/x", "Basic/script-lc.xml": b""}), [("a.odt", "macro")]),
        ("a.zip", zipped(SIGNED), [("a.zip", "archive"), ("a.zip/META-INF/MANIFEST.MF", "other")]),
        ("a.zip", zipped(JAVA), [("a.zip", "executable"), ("a.zip/A.class", "executable")]),
        ("a.zip", zipped({"[Content_Types].xml": b"", "AppxManifest.xml": b""}), [("a.zip", "executable")]),
        ("a.zip", zipped({"AndroidManifest.xml": b""}), [("a.zip", "executable")]),
        ("a.zip", zipped({"b.js": b"x", "d/": b""}), [("a.zip", "archive"), ("a.zip/b.js", "script")]),
        ("a.zip", locked(zipped({"b.pdf": b"x"})), [("a.zip", "encrypted"), ("a.zip/b.pdf", "encrypted")]),
        ("a.zip", locked(zipped({"b.exe": b"x"})), [("a.zip", "encrypted"), ("a.zip/b.exe", "executable")]),
        ("a.zip", zipped({"b.js": b"x"})[:-8], [("a.zip", "unreadable")]),
        ("a.zip", b"hello", [("a.zip", "unreadable")]),
        ("a.zip", PROGRAM + zipped({"b.js": b"x"}), [("a.zip", "executable"), ("a.zip/b.js", "script")]),
        (
            "a.zip",
            zipped({"b.zip": zipped({"c.exe": PROGRAM})}),
            [("a.zip", "archive"), ("a.zip/b.zip", "archive"), ("a.zip/b.zip/c.exe", "executable")],
        ),
        ("a.tar", tarred({"b.sh": b"x"}), [("a.tar", "archive"), ("a.tar/b.sh", "script")]),
        (
            "a.tgz",
            gzipped(tarred({"b.sh": b"x"})),
            [("a.tgz", "archive"), ("a.tgz/a.tar", "archive"), ("a.tgz/a.tar/b.sh", "script")],
        ),
        ("a.exe.gz", gzipped(b"x"), [("a.exe.gz", "archive"), ("a.exe.gz/a.exe", "executable")]),
        ("a.gz", b"\x1f\x8b\x08nonsense", [("a.gz", "unreadable")]),
        ("a.eml", mail(part(b"x", "b.js")).replace(b"\r\n", b"\n"), [("a.eml", "text"), ("a.eml/b.js", "script")]),
        ("smime.p7m", b"\x30\x80", [("smime.p7m", "encrypted")]),
    ],
)  # fmt: skip
def test_files(name: str, octets: bytes, found: list[tuple[str, str]]) -> None:
    assert files(TEXT, part(octets, name)) == found


def test_a_program_that_calls_itself_text() -> None:
    assert files(part(PROGRAM, media="text/plain")) == [("", "executable")]


def test_the_worst_of_several_names() -> None:
    two = b'Content-Type: image/png; name="a.png"\r\nContent-Disposition: inline; filename="a.exe"\r\n\r\n\x89PNG'
    assert files(two) == [("a.exe", "executable")]


def test_forwarded_mails() -> None:
    inner = mail(TEXT, part(b"x", "evil.vbs"), boundary=b"inner")
    plain = b"Content-Type: message/rfc822\r\n\r\n" + inner
    assert files(TEXT, plain) == [("", "text"), ("evil.vbs", "script")]
    assert files(TEXT, part(inner, "fw.eml", "message/rfc822")) == [("fw.eml", "text"), ("fw.eml/evil.vbs", "script")]


def test_nesting_ends() -> None:
    octets = mail(part(b"x", "evil.vbs"), boundary=b"inner")
    for level in range(DEPTH + 2):
        octets = mail(b"Content-Type: message/rfc822\r\n\r\n" + octets, boundary=b"n%d" % level)
    assert scan(octets)[-1].kind == "unreadable"
    packed = PROGRAM
    for _ in range(DEPTH + 2):
        packed = zipped({"a.zip": packed})
    assert [kind for _, kind in files(part(packed, "a.zip"))] == ["archive"] * DEPTH + ["unreadable"]


@pytest.mark.parametrize(
    "odd",
    [
        b"Content-Type: message/partial; id=1\r\n\r\nx",
        b"Content-Type: message/external-body\r\n\r\nx",
        b"Content-Type: multipart/mixed; boundary=none\r\n\r\nx",
        b"Content-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: base64\r\n\r\nQQ==\r\nTVqQ",
        b"Content-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: uuencode\r\n\r\nx",
        b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nx",
        b"Content-Type: image/png; name=a.png\r\nContent-Type: image/jpeg\r\n\r\nx",
    ],
)
def test_what_readers_read_differently(odd: bytes) -> None:
    assert [kind for _, kind in files(odd)] == ["unreadable"]


def test_a_footer_behind_a_text_in_base64_is_a_mailing_list() -> None:
    assert files(part(b"Hello", media="text/plain") + b"\r\n____\r\nlist footer\r\n") == []


def test_uuencoded_files_in_a_text() -> None:
    body = b"Hello\r\n\r\nbegin 644 photo.jpg\r\n#35J0\r\n`\r\nend\r\nbegin 644 b.exe\r\nbegin now\r\nbegin 64 x\r\n"
    assert [(one.name, one.kind) for one in scan(b"Subject: x\r\n\r\n" + body)] == [
        ("photo.jpg", "image"),
        ("b.exe", "executable"),
    ]


def test_names_are_one_visible_line() -> None:
    names = ["a\u202egpj.exe", "a\x07\x1b[31m.exe", "x" * 500 + ".exe"]
    found = scan(mail(*[part(b"x", name) for name in names]))
    assert [one.kind for one in found] == ["executable"] * 3
    assert [one.name for one in found[:2]] == ["agpj.exe", "a  [31m.exe"]
    assert len(found[2].name) == NAME_LIMIT
    assert found[2].name.endswith("xxx.exe")
    assert all(one.name.isprintable() for one in found)


def test_types_are_short_ascii() -> None:
    (one,) = scan(mail("Content-Type: a/\U0001f600".encode() + b"x" * 500 + b"; name=a\r\n\r\nx"))
    assert one.type == "a/?" + "x" * 77


def test_of_many_files_the_worst_are_told() -> None:
    members = {f"{number}.txt": b"x" for number in range(400)} | {"z.exe": PROGRAM}
    found = scan(mail(part(zipped(members), "a.zip")))
    assert len(found) == MOST
    assert found[0] == Attachment("a.zip", "application/zip", "archive", found[0].size)
    assert found[-1].name == "a.zip/z.exe"


@pytest.mark.parametrize("cut", range(0, 700, 7))
def test_any_cut_of_a_mail_gives_facts(cut: int) -> None:
    whole = mail(TEXT, part(zipped({"b.zip": zipped({"c.exe": PROGRAM})}), "a.zip"), part(tarred({"a": b"x"}), "a.tar"))
    for octets in (whole[:cut], whole[cut:]):
        assert all(one.kind in RANK for one in scan(octets))


def test_many_archives_share_one_budget() -> None:
    """Each of them is fine, all of them together are not."""
    one = part(zipped({f"{number}.txt": b"x" for number in range(100)}), "a.zip")
    found = scan(mail(*[one] * 30))
    assert "unreadable" in {file.kind for file in found}
    assert len(found) == MOST
