"""Where the octets of configuration come from: the disk, a recording of it, or a bundle.

What was validated must be what the workers load (DESIGN section 1, promise 8): the supervisor's check reads through
`RecordingFiles`, and its bundle, handed on in memory, answers every later read octet for octet, whatever an editor, a
package upgrade or a half-finished rsync does to the disk meanwhile. Errors are recorded too, so that a bundle can be
replayed even where a file was missing.

Refused: anything but a regular file (a FIFO would block for ever, /dev/zero never end), and files over `FILE_LIMIT`.
"""

import errno
import fnmatch
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Protocol

#: Octets. Configuration, policies and lists are far below; beyond it somebody named the wrong file.
FILE_LIMIT = 64 * 1000 * 1000
_MAGIC = b"gatepost bundle 1\n"


class Files(Protocol):
    """A source of files. Errors are `OSError` as the disk would give it."""

    def read(self, path: Path) -> bytes:
        """The whole file."""

    def names(self, directory: Path, pattern: str) -> list[Path]:
        """The paths in `directory` whose name matches `pattern`, sorted by name.

        Hidden names and folders are left out; a dangling link is kept, for a file that silently vanishes from a
        policy is a rule that silently does not apply.
        """


class DiskFiles:
    """The disk as it is now."""

    def read(self, path: Path) -> bytes:
        # Without O_NONBLOCK opening a FIFO waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):  # `open` would say it of the descriptor's number
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            if not stat.S_ISREG(mode):
                raise OSError(errno.EINVAL, "not a regular file", str(path))
            with open(descriptor, "rb", closefd=False) as file:
                octets = file.read(FILE_LIMIT + 1)
        finally:
            os.close(descriptor)
        if len(octets) > FILE_LIMIT:
            raise OSError(errno.EFBIG, f"larger than {FILE_LIMIT // 1000 // 1000} MB", str(path))
        return octets

    def names(self, directory: Path, pattern: str) -> list[Path]:
        with os.scandir(directory) as entries:
            found = [e.name for e in entries if not e.name.startswith(".") and not e.is_dir()]
        return [directory / name for name in sorted(fnmatch.filter(found, pattern))]


_Failure = tuple[int, str]


class RecordingFiles:
    """Another source, remembering every answer; the first answer stays the answer."""

    def __init__(self, source: Files | None = None) -> None:
        self._source: Files = source or DiskFiles()
        self._contents: dict[str, bytes | _Failure] = {}
        self._listings: dict[tuple[str, str], list[str] | _Failure] = {}

    def read(self, path: Path) -> bytes:
        key = os.path.abspath(path)
        if key not in self._contents:
            try:
                self._contents[key] = self._source.read(path)
            except OSError as error:
                self._contents[key] = _failure(error)
        answer = self._contents[key]
        if isinstance(answer, tuple):
            raise _raised(answer, path)
        return answer

    def names(self, directory: Path, pattern: str) -> list[Path]:
        key = (os.path.abspath(directory), pattern)
        if key not in self._listings:
            try:
                self._listings[key] = [path.name for path in self._source.names(directory, pattern)]
            except OSError as error:
                self._listings[key] = _failure(error)
        answer = self._listings[key]
        if isinstance(answer, tuple):
            raise _raised(answer, directory)
        return [directory / name for name in answer]

    def bundle(self) -> bytes:
        """Everything answered so far as one blob: the same answers give the same octets."""
        contents = sorted(self._contents.items())
        index = {
            "files": [[key, len(value) if isinstance(value, bytes) else value] for key, value in contents],
            "listings": [[*key, value] for key, value in sorted(self._listings.items())],
        }
        head = json.dumps(index, ensure_ascii=True).encode("ascii")
        body = b"".join(value for _, value in contents if isinstance(value, bytes))
        digest = hashlib.sha256(head + b"\n" + body).hexdigest().encode("ascii")
        return _MAGIC + digest + b"\n" + head + b"\n" + body


class BundleFiles:
    """The answers of a bundle and nothing else. Raises `ValueError` when the blob is none, or is damaged."""

    def __init__(self, bundle: bytes) -> None:
        if not bundle.startswith(_MAGIC):
            raise ValueError("this is no bundle of configuration files")
        digest, _, rest = bundle[len(_MAGIC) :].partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode("ascii") != digest:
            raise ValueError("the bundle of configuration files is damaged")
        #: Names the content: equal bundles have equal revisions.
        self.revision = digest.decode("ascii")
        head, _, body = rest.partition(b"\n")
        index = json.loads(head)
        self._contents: dict[str, bytes | _Failure] = {}
        start = 0
        for key, value in index["files"]:
            if isinstance(value, int):
                self._contents[key] = body[start : start + value]
                start += value
            else:
                self._contents[key] = (value[0], value[1])
        self._listings: dict[tuple[str, str], list[str] | _Failure] = {
            (directory, pattern): value if not value or isinstance(value[0], str) else (value[0], value[1])
            for directory, pattern, value in index["listings"]
        }

    def read(self, path: Path) -> bytes:
        answer = self._contents.get(os.path.abspath(path), (errno.ENOENT, "not in the bundle"))
        if isinstance(answer, tuple):
            raise _raised(answer, path)
        return answer

    def names(self, directory: Path, pattern: str) -> list[Path]:
        answer = self._listings.get((os.path.abspath(directory), pattern), (errno.ENOENT, "not in the bundle"))
        if isinstance(answer, tuple):
            raise _raised(answer, directory)
        return [directory / name for name in answer]


def _failure(error: OSError) -> _Failure:
    return error.errno or errno.EIO, error.strerror or str(error)


def _raised(failure: _Failure, path: Path) -> OSError:
    # OSError chooses the subclass (FileNotFoundError ...) by the number.
    return OSError(failure[0], failure[1], str(path))
