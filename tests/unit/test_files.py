"""gateway.files: what was validated is, octet for octet, what is loaded later."""

import errno
import os
from pathlib import Path

import pytest

from gateway import files
from gateway.files import BundleFiles, DiskFiles, RecordingFiles


def test_names_are_sorted_and_leave_out_hidden_files_and_folders(tmp_path: Path) -> None:
    for name in ("20-b.yaml", "10-a.yaml", ".hidden.yaml", "notes.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.yaml").mkdir()
    assert [path.name for path in DiskFiles().names(tmp_path, "*.yaml")] == ["10-a.yaml", "20-b.yaml"]
    assert DiskFiles().names(tmp_path, "") == []


def test_a_dangling_link_is_not_silently_left_out(tmp_path: Path) -> None:
    (tmp_path / "10-rules.yaml").symlink_to(tmp_path / "gone.yaml")
    (name,) = DiskFiles().names(tmp_path, "*.yaml")
    with pytest.raises(FileNotFoundError):
        DiskFiles().read(name)


def test_a_fifo_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        DiskFiles().read(tmp_path / "pipe")


def test_devices_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        DiskFiles().read(Path("/dev/zero"))
    with pytest.raises(IsADirectoryError) as refused:
        DiskFiles().read(tmp_path)
    assert refused.value.filename == str(tmp_path), "not the number of a descriptor"
    with pytest.raises(NotADirectoryError):
        DiskFiles().names(Path("/dev/null"), "*")


def test_a_file_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FILE_LIMIT", 10)
    (tmp_path / "ten").write_bytes(b"x" * 10)
    (tmp_path / "eleven").write_bytes(b"x" * 11)
    assert DiskFiles().read(tmp_path / "ten") == b"x" * 10
    with pytest.raises(OSError, match="larger than") as refused:
        DiskFiles().read(tmp_path / "eleven")
    assert refused.value.errno == errno.EFBIG


def test_a_bundle_answers_what_was_recorded_whatever_the_disk_says_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"one\n\x00\xff")
    (tmp_path / "empty").mkdir()
    recording = RecordingFiles()
    assert recording.read(tmp_path / "a.yaml") == b"one\n\x00\xff"
    recording.names(tmp_path, "*.yaml")
    recording.names(tmp_path / "empty", "*")
    with pytest.raises(FileNotFoundError):
        recording.read(tmp_path / "b.yaml")
    with pytest.raises(FileNotFoundError):
        recording.names(tmp_path / "nowhere", "*")

    (tmp_path / "a.yaml").write_bytes(b"two")
    (tmp_path / "b.yaml").write_bytes(b"appeared")
    assert recording.read(tmp_path / "a.yaml") == b"one\n\x00\xff", "the first answer stays the answer"

    bundle = BundleFiles(recording.bundle())
    assert bundle.read(tmp_path / "a.yaml") == b"one\n\x00\xff"
    assert bundle.names(tmp_path, "*.yaml") == [tmp_path / "a.yaml"]
    assert bundle.names(tmp_path / "empty", "*") == []
    for missing in (
        lambda: bundle.read(tmp_path / "b.yaml"),
        lambda: bundle.names(tmp_path / "nowhere", "*"),
        lambda: bundle.read(tmp_path / "never-asked"),
        lambda: bundle.names(tmp_path, "*.txt"),
    ):
        with pytest.raises(FileNotFoundError):
            missing()


def test_paths_are_one_file_however_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    recording = RecordingFiles()
    recording.read(Path("a"))
    bundle = BundleFiles(recording.bundle())
    assert bundle.read(tmp_path / "." / "a") == b"x"


def test_equal_answers_give_equal_bundles_and_revisions(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    one, two = RecordingFiles(), RecordingFiles()
    one.read(tmp_path / "a"), one.read(tmp_path / "b")
    two.read(tmp_path / "b"), two.read(tmp_path / "a")
    assert one.bundle() == two.bundle()
    (tmp_path / "b").write_bytes(b"c")
    three = RecordingFiles()
    three.read(tmp_path / "a"), three.read(tmp_path / "b")
    assert BundleFiles(one.bundle()).revision != BundleFiles(three.bundle()).revision


def test_a_recording_of_a_bundle_is_that_bundle(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    first = RecordingFiles()
    first.read(tmp_path / "a")
    again = RecordingFiles(BundleFiles(first.bundle()))
    again.read(tmp_path / "a")
    assert again.bundle() == first.bundle()


@pytest.mark.parametrize("damage", [b"", b"something else", b"gatepost bundle 1\n", b"gatepost bundle 1\nabc\n{}\n"])
def test_what_is_no_bundle_is_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match="bundle"):
        BundleFiles(damage)


def test_every_damage_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"secret")
    recording = RecordingFiles()
    recording.read(tmp_path / "a")
    blob = bytearray(recording.bundle())
    for index in range(len(blob)):
        damaged = bytes(blob[:index]) + bytes([blob[index] ^ 1]) + bytes(blob[index + 1 :])
        with pytest.raises(ValueError, match="bundle"):
            BundleFiles(damaged)
