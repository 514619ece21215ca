"""Kinds by name and by content, by table."""

import pytest

from gateway.checks.filekind import RANK, by_content, by_name, dangerous, worst
from tests.unit.checks.made import OLE, PROGRAM, zipped


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.exe", "executable"),
        ("A.EXE", "executable"),
        ("invoice.pdf.exe", "executable"),
        ("invoice.exe.pdf", "document"),
        ("a.exe. .", "executable"),
        ("a.exe   ", "executable"),
        ("a.txt:b.exe", "executable"),
        ("a.exe:x", "executable"),
        ("a.js", "script"),
        ("a.lnk", "script"),
        ("a.docm", "macro"),
        ("a.docx", "document"),
        ("a.zip", "archive"),
        ("a.iso", "archive"),
        ("winmail.dat", "archive"),
        ("smime.p7m", "encrypted"),
        ("a.jpeg", "image"),
        ("a.txt", "text"),
        ("printerSettings1.bin", "other"),
        ("exe", "other"),
        ("", "other"),
        (".", "other"),
        ("...", "other"),
    ],
)
def test_names(name: str, kind: str) -> None:
    assert by_name(name) == kind


@pytest.mark.parametrize(
    ("head", "media", "kind"),
    [
        (PROGRAM, "application/vnd.microsoft.portable-executable", "executable"),
        (b"MZ is how this text begins", "", ""),
        (b"MZ" + b"x" * 100 + b"This program cannot", "application/vnd.microsoft.portable-executable", "executable"),
        (b"\x7fELF", "application/x-elf", "executable"),
        (b"#!/bin/sh", "text/x-script", "script"),
        (b"L\0\0\0\x01\x14\x02\0", "application/x-ms-shortcut", "script"),
        (zipped({"a": b""}), "application/zip", "archive"),
        (OLE, "application/x-ole-storage", "document"),
        (b"Rar!\x1a\x07\x01\0", "application/vnd.rar", "archive"),
        (b"\0" * 257 + b"ustar", "application/x-tar", "archive"),
        (b"\0" * 0x8001 + b"CD001", "application/x-iso9660-image", "archive"),
        (b"junk %PDF-1.4", "application/pdf", "document"),
        (b"\x89PNG\r\n\x1a\n", "image/png", "image"),
        (b"\xef\xbb\xbf \r\n<!DOCTYPE HTML>", "text/html", "document"),
        (b"<svg xmlns='x'></svg>", "image/svg+xml", "image"),
        (b"<?xml version='1.0'?><svg><SCRIPT>", "image/svg+xml", "script"),
        (b"hello", "", ""),
        (b"", "", ""),
    ],
)
def test_contents(head: bytes, media: str, kind: str) -> None:
    assert by_content(head) == (media, kind)


def test_order() -> None:
    assert worst("text", "macro", "archive") == "macro"
    assert [kind for kind in RANK if dangerous(kind)] == ["executable", "script", "macro", "encrypted", "unreadable"]
