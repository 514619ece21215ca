"""A log reader that hangs, as a shipper does whose server is away: mail, orders and the end of the gateway go on."""

import fcntl
from pathlib import Path

from gateway.cli.testca import Pair, TestCa
from tests.support.gateway import run, serving, site
from tests.support.recorder import recorder
from tests.support.wait import until

MAILS = 400
#: A line of 3 KB: a few hundred are more than may wait. Above 4 KB (PIPE_BUF) another process may write in between.
RECIPIENTS = [f"{number:02d}{'x' * 60}@{'y' * 60}.{'z' * 60}.example.com" for number in range(14)]


def test_a_reader_that_hangs_holds_up_no_mail(tmp_path: Path, authority: TestCa, leaf: Pair) -> None:
    with recorder(leaf, tmp_path / "taken") as backend:
        place = site(tmp_path / "site", backend.port, authority, workers=1)
        place.configuration["domains"]["*.example.com"] = {"backend": "main"}
        with serving(place, silence=20) as gateway:
            worker = gateway.worker_pids()
            gateway.reads.clear()
            with gateway.client() as client:
                client.ehlo()
                for number in range(MAILS):
                    mail = b"X-Test-Id: %d\r\n\r\nhello\r\n" % number
                    assert client.deliver("sue@sender.example", RECIPIENTS, mail).code == 250
            assert len(backend.ids()) == MAILS
            for order in ("reload", "status"):
                assert run(order, "-c", str(place.file)).returncode == 0
            gateway.reads.set()
            lost = gateway.event("log works again")["lost"]
            assert lost > 0
            until(lambda: len(gateway.events("transaction")) + lost >= MAILS, "the lines that waited")
            with gateway.client() as client:
                client.ehlo()
                mail = b"X-Test-Id: last\r\n\r\nhello\r\n"
                last = client.deliver("sue@sender.example", ["joe@example.com"], mail)
                assert last.code == 250
            until(lambda: any(line["reply"].endswith(last.text) for line in gateway.events("transaction")), "the last")
            assert gateway.worker_pids() == worker, "and nobody took it for a worker that hangs"
            assert gateway.noise == []
            assert gateway.stop() == 0


def test_a_reader_that_hangs_holds_up_no_end(tmp_path: Path, authority: TestCa) -> None:
    with serving(site(tmp_path / "site", 25, authority, workers=1)) as gateway:
        gateway.reads.clear()
        assert gateway._process.stderr is not None
        fcntl.fcntl(gateway._process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        with gateway.client() as client:
            client.ehlo()
            for _ in range(30):
                client.envelope("sue@sender.example", *[f"{name}@{'y' * 60}.example" for name in "abcdefgh"])
                client.command("RSET")
        assert gateway.stop() == 0
