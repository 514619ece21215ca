"""A disk without room for the journal: mail goes on, log and metric tell, and the journal heals by itself."""

import json
import os
import resource
import signal
from pathlib import Path

from gateway.cli.testca import TestCa
from tests.support import postfix
from tests.support.gateway import run, serving, site
from tests.support.wait import until

ROOM = 400_000


def test_no_room_for_the_journal_is_no_trouble_for_mail(
    tmp_path: Path, authority: TestCa, backend: postfix.Postfix, fresh: str
) -> None:
    place = site(tmp_path / "site", backend.port, authority)
    with serving(place) as gateway:

        def room(octets: int) -> None:
            """No file of a worker may grow beyond that: the kernel refuses the write, as on a full disk."""
            for pid in gateway.worker_pids():
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (octets, hard))

        def mail(number: int) -> int:
            with gateway.client() as client:
                client.ehlo()
                client.envelope(f"sue{number}@sender.example", "alice@example.com")
                code = client.data(f"Subject: {fresh}\r\nFrom: <sue@sender.example>\r\n\r\n{number}\r\n".encode()).code
                client.quit()
                return int(code)

        assert mail(0) == 250
        room(ROOM)
        sent = 1
        while not gateway.events("journal stopped, mail goes on"):
            assert mail(sent) == 250
            sent += 1
            assert sent < 2000
        for number in range(sent, sent + 10):
            assert mail(number) == 250
        assert "journal works again" not in {line["event"] for line in gateway.log}
        room(resource.RLIM_INFINITY)
        until(lambda: mail(9999) == 250 and gateway.events("journal works again"), "the journal's return")
        found = until(lambda: run("journal", "search", "-c", str(place.file), "--sender", "sue9999@sender.example",
                                  "--json").stdout, "the last mail in the journal")  # fmt: skip
        assert json.loads(found.splitlines()[-1])["fate"] == "delivered"


def test_a_worker_starts_again_without_a_journal(
    tmp_path: Path, authority: TestCa, backend: postfix.Postfix, fresh: str
) -> None:
    """Its folder is gone, as when a disk is: no mail may wait for that."""
    place = site(tmp_path / "site", backend.port, authority, workers=1)
    folder, away = place.directory / "disk", place.directory / "away"
    folder.mkdir()
    place.configuration["journal"] = {"path": "disk/journal.db", "keep": "30d"}
    with serving(place) as gateway:

        def mail(number: int) -> int:
            with gateway.client() as client:
                client.ehlo()
                text = f"Subject: {fresh}\r\nFrom: <sue@sender.example>\r\n\r\n{number}\r\n".encode()
                return client.deliver(f"sue{number}@sender.example", ["alice@example.com"], text).code

        assert mail(0) == 250
        folder.rename(away)
        os.kill(gateway.worker_pids()[0], signal.SIGKILL)
        gateway.event("process ready", 2)
        assert mail(1) == 250
        assert "the folder" in gateway.event("journal stopped, mail goes on")["why"]
        gateway.event("open fates cannot be noted, mail goes on")
        away.rename(folder)
        until(lambda: mail(2) == 250 and gateway.events("journal works again"), "the journal's return")
