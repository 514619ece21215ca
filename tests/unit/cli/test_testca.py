"""The trial CA: what it issues, and how it keeps its keys."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from gateway.cli.testca import Pair, TestCa


def read(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def test_what_it_issues(tmp_path: Path) -> None:
    ca = TestCa(tmp_path)
    authority = x509.load_pem_x509_certificate(ca.file.read_bytes())
    good, expired = ca.issue("mail.example", "127.0.0.1", "::1"), ca.issue("mail.example", expired=True, file="old")
    for pair in (good, expired):
        read(pair).verify_directly_issued_by(authority)
        assert pair.key.stat().st_mode & 0o777 == 0o600
    names = read(good).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mail.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    now = datetime.now(UTC)
    assert read(good).not_valid_after_utc > now > read(expired).not_valid_after_utc
    assert {good.certificate.name, expired.certificate.name} == {"mail.example.pem", "old.pem"}


def test_two_authorities_differ(tmp_path: Path) -> None:
    one, other = TestCa(tmp_path), TestCa(tmp_path, "other")
    assert one.file.read_bytes() != other.file.read_bytes()
    again = one.issue("mail.example")
    one.issue("mail.example")  # a renewal takes the same names
    assert again.key.exists()
