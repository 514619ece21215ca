"""Binding, and its refusals in words."""

import contextlib
import errno
import os
import socket
import tempfile
from pathlib import Path

import pytest

from gateway import machine
from gateway.machine import CannotListen, MetricsFolder, alive, bound, notify, split, spoken


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def test_split() -> None:
    assert split("192.0.2.1:25") == ("192.0.2.1", 25)
    assert split("[2001:db8::1]:25") == ("2001:db8::1", 25)
    assert split("localhost:0") == ("localhost", 0)


def test_bound_says_where() -> None:
    with bound("127.0.0.1:0") as listener:
        host, port = split(spoken(listener))
        assert host == "127.0.0.1"
        with socket.create_connection((host, port), timeout=5):
            pass


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_both_families_share_a_port() -> None:
    with bound("0.0.0.0:0") as four:
        port = split(spoken(four))[1]
        with bound(f"[::]:{port}") as six:
            assert spoken(six) == f"[::]:{port}"


def test_in_use() -> None:
    with (
        bound("127.0.0.1:0") as taken,
        pytest.raises(CannotListen, match=r"127\.0\.0\.1:\d+: address already in use; stop"),
    ):
        bound(spoken(taken))


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(CannotListen, match="no such address"):
        bound("192.0.2.1:0")


def test_a_name_that_is_none() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on no\.such\.invalid:25"):
        bound("no.such.invalid:25")


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(CannotListen, match="CAP_NET_BIND_SERVICE"):
        bound("127.0.0.1:0")


def test_metrics_folder_is_private_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    folder = MetricsFolder.make()
    assert folder.path.parent == tmp_path
    assert folder.path.stat().st_mode & 0o777 == 0o700
    (folder.path / "counter_row0.db").write_bytes(b"x")
    folder.remove()
    assert not list(tmp_path.iterdir())


def test_a_place_that_takes_no_folder_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without inodes left, or that was mounted read-only after an error."""
    made = tempfile.mkdtemp
    tried: list[str] = []

    def mkdtemp(*, prefix: str, **where: str) -> str:
        tried.append(where["dir"])
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return made(prefix=prefix, dir=tmp_path)

    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    folder = MetricsFolder.make()
    assert len(tried) == 2
    assert folder.path.parent == tmp_path
    folder.remove()


def test_no_place_for_the_metrics_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OSError, match="no folder for the metrics"):
        MetricsFolder.make()


def test_folders_of_killed_supervisors_are_swept_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    living = MetricsFolder.make()
    left, young, other = (tmp_path / name for name in ("gatepost-metrics-left", "gatepost-metrics-young", "other"))
    for folder in (left, young, other):
        folder.mkdir()
    link = tmp_path / "gatepost-metrics-link"
    link.symlink_to(other)
    for folder in (left, living.path, other):
        os.utime(folder, (0, 0))
    MetricsFolder.make().remove()
    assert set(tmp_path.iterdir()) == {living.path, young, other, link}
    living.remove()


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1")
        assert ear.recv(100) == b"READY=1"
    notify("READY=1")  # nobody listens any more: no matter
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


@pytest.mark.parametrize(
    ("usec", "pid", "heard"),
    [("60000000", str(os.getpid()), True), ("60000000", None, True), (None, None, False), ("60000000", "1", False)],
)
def test_systemd_hears_that_we_turn_where_it_wants_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, heard: bool
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        alive()
        if heard:
            assert ear.recv(100) == b"WATCHDOG=1"
        else:
            with pytest.raises(BlockingIOError):
                ear.recv(100)


def test_a_systemd_that_does_not_read_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as us,
    ):
        ear.bind(str(tmp_path / "notify"))
        us.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                us.sendto(b"x", str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        alive()


def test_limits_and_privileges_are_asked_for_without_fuss() -> None:
    before = os.sysconf("SC_OPEN_MAX")
    machine.raise_limits()
    machine.forget_privileges()
    assert os.sysconf("SC_OPEN_MAX") >= before
