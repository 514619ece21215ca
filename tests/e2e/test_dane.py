"""DANE end to end: a gateway, a validating resolver, and a backend that only DNSSEC vouches for."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.cli.testca import Pair, TestCa
from gateway.relay.trust import fingerprints
from tests.support import postfix
from tests.support.gateway import serving, site
from tests.support.unbound import Served, unbound

SIGNED, PLAIN = "signed.example", "plain.example"


def test_a_secure_backend_gets_mail_and_an_insecure_one_none(
    tmp_path: Path, authority: TestCa, leaf: Pair, backend: postfix.Postfix, fresh: str
) -> None:
    shown = x509.load_pem_x509_certificate(leaf.certificate.read_bytes())
    pin = fingerprints(shown.public_bytes(Encoding.DER))[1].removeprefix("key:")
    records = {"mail": {"A": ["127.0.0.1"]}, f"_{backend.port}._tcp.mail": {"TLSA": [f"3 1 1 {pin}"]}}
    zones = Served(SIGNED, records), Served(PLAIN, records, signed=False)
    with unbound(tmp_path / "unbound", *zones) as resolver:
        place = site(tmp_path / "site", backend.port, authority, dns={"servers": [resolver.server], "timeout": "5s"})
        for name, zone in (("main", SIGNED), ("plain", PLAIN)):
            place.configuration["backends"][name] = {
                "hosts": [f"mail.{zone}:{backend.port}"],
                "tls": {"verify": "dane"},
                "connections": 2,
            }
        place.configuration["domains"]["plain.example.com"] = {"backend": "plain"}
        with serving(place) as gateway, gateway.client() as smtp:
            smtp.ehlo()
            said = f"From: <sue@sender.example>\r\nSubject: {fresh}\r\n\r\nx\r\n".encode()
            assert smtp.envelope("sue@sender.example", "alice@example.com")[-1].code == 250
            assert smtp.data(said).code == 250
            refused = smtp.envelope("sue@sender.example", "alice@plain.example.com")[-1]
            assert (refused.code, refused.lines[0].split()[0]) == (451, "4.7.5")
            smtp.quit()
        (mail,) = [mail for mail in backend.mails("alice@example.com") if fresh.encode() in mail]
        assert b"for <alice@example.com>" in mail
