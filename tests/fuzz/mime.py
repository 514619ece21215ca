"""Any octets are a mail whose files can be told: never an exception, bounded, every word one line of known kinds."""

import io
import zipfile

from gateway.checks.archives import Work, ole_kind, tar_listing, zip_listing
from gateway.checks.filekind import RANK
from gateway.checks.mime import split_value, values
from gateway.checks.scan import MOST, NAME_LIMIT, scan


def _zip(name: str, octets: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, octets)
    return made.getvalue()


_INNER = _zip("a.exe", b"MZ\0\0" * 20)
_MULTIPART = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
SEEDS = [
    _MULTIPART + b"--b\r\n\r\ntext\r\n--b\r\nContent-Type: image/png; name=a.png\r\n\r\n\x89PNG\r\n--b--\r\n",
    _MULTIPART + b"--b\r\nContent-Type: application/zip; name=a.zip\r\n\r\n" + _INNER + b"\r\n--b--\r\n",
    _MULTIPART + b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + _MULTIPART.replace(b"=b", b"=c") + b"--c\r\n\r\nx",
    _MULTIPART + b"--b\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment;"
    b" filename*0*=utf-8''%65; filename*1=vil.exe\r\n\r\nTVqQAAMAAAA=\r\n--b--\r\n",
    b"Subject: x\r\n\r\n\r\nbegin 644 a.exe\r\n#35J0\r\n`\r\nend\r\n",
    _zip("a.zip", _INNER),
    b"Content-Type: application/octet-stream; name=a.zip\r\n\r\n" + _zip("[Content_Types].xml", b"vbaProject"),
]  # fmt: skip
TOKENS = [
    *(b"\r\n--b\r\n", b"\r\n--b--\r\n", b"\r\n\r\n", b"; boundary=b", b"boundary*0=", b"Content-Type: multipart/mixed"),
    *(b"Content-Type: message/rfc822\r\n", b"Content-Transfer-Encoding: base64\r\n", b"name*0*=", b"=?utf-8?q?", b"?="),
    *(b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"\xff\xff\xff\xff", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    *(b"\x1f\x8b\x08", b"ustar", b"\0", b'"', b"\\", b"%", b"=", b"'", b"\r\nbegin 644 a.exe\r\n"),
]


def one(data: bytes) -> None:
    for octets in (data, _MULTIPART + b"--b\r\nContent-Type: application/zip\r\n\r\n" + data):
        found = scan(octets)
        assert found == scan(octets)
        assert len(found) <= MOST
        for file in found:
            assert file.kind in RANK
            assert len(file.name) <= NAME_LIMIT
            assert file.name.isprintable()
            assert file.type.isprintable()
            assert file.size >= 0
    for listing in (zip_listing(data, Work()), tar_listing(data, Work())):
        assert len(listing.members) <= Work().members
    assert ole_kind(data) in RANK
    word, parameters = split_value(data.decode("latin-1"))
    assert word == word.strip().lower()
    assert all(isinstance(text, str) for text in values(parameters, "name"))
