"""A small storm: honest mail arrives, and nothing is left behind. The large one is `make abuse`."""

from pathlib import Path

from gateway.cli.testca import Pair, TestCa
from tests.bench.abuse import Storm, descriptors, honest, place, raging, settled
from tests.support.gateway import serving
from tests.support.recorder import recorder


def test_honest_mail_arrives_in_a_storm(tmp_path: Path, authority: TestCa, leaf: Pair) -> None:
    with (
        recorder(leaf, tmp_path / "taken") as backend,
        serving(place(tmp_path / "site", backend, authority)) as gateway,
    ):
        honest(gateway.port, 5, 3)
        start = descriptors(gateway, backend)
        with raging(gateway.port, Storm(idle=200, tls=20, drip=30, flood=20)):
            honest(gateway.port, 5, 6)
        assert settled(gateway, backend, start) <= start, "all descriptors are back"
        assert len(backend.records()) == 5 * 3 + 5 * 6
        assert not [line for line in gateway.log if line.get("level") == "error"]
        assert not gateway.events("process hangs"), "busy is not hung"
        assert not gateway.noise


def test_who_only_holds_connections_keeps_nobody_out(tmp_path: Path, authority: TestCa, leaf: Pair) -> None:
    with (
        recorder(leaf, tmp_path / "taken") as backend,
        serving(place(tmp_path / "site", backend, authority, connections=60)) as gateway,
    ):
        honest(gateway.port, 10, 5)  # each worker has opened what it opens once
        start = descriptors(gateway, backend)
        with raging(gateway.port, Storm(hold=120)) as account:
            honest(gateway.port, 5, 3, strangers=True)
        assert "'held'" in "".join(account)
        assert settled(gateway, backend, start) <= start, "all descriptors are back"
        assert len(backend.records()) == 10 * 5 + 5 * 3
        assert not [line for line in gateway.log if line.get("level") == "error"]
        assert not gateway.events("process hangs"), "busy is not hung"
