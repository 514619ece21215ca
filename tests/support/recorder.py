"""A backend that remembers what it took: for tests that count, hash or kill.

A process of its own (`python -m tests.support.recorder`), so that hashing does not slow the test that feeds it. Speaks
just enough SMTP, STARTTLS first. Before its 250 to the final dot it writes one JSON line to a file: `id` (of the field
X-Test-Id), `size` and `sha256` of the message from that field on (what a gateway prepends stands before it), `head`
(what stands before it), `sender`, `recipients`. What is in the file was taken; what is not, was not. While there is a
file of the same name with `.hold` behind it, the 250 is held back.
"""

import argparse
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.cli.testca import Pair

MARK = b"X-Test-Id: "


class Recorder:
    """The running process, seen from a test."""

    def __init__(self, leaf: Pair, file: Path, delay: float = 0.0) -> None:
        self._file = file
        file.touch()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.recorder",
                str(leaf.certificate),
                str(leaf.key),
                str(file),
                str(delay),
            ],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def records(self) -> list[dict[str, object]]:
        """All it took, in order."""
        return [json.loads(line) for line in self._file.read_text().splitlines()]

    def ids(self) -> list[str]:
        return [str(record["id"]) for record in self.records()]

    def hold(self) -> None:
        """Takes mails from now on, and says nothing about it."""
        _held(self._file).touch()

    def go_on(self) -> None:
        """Says what it held back."""
        _held(self._file).unlink()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def recorder(leaf: Pair, file: Path, delay: float = 0.0) -> Iterator[Recorder]:
    """A recording backend with that certificate; `delay` seconds pass before each 250 to the dot."""
    instance = Recorder(leaf, file, delay)
    try:
        yield instance
    finally:
        instance.stop()


class _Connection:
    def __init__(self, plain: socket.socket, context: ssl.SSLContext, file: Path, delay: float) -> None:
        self._socket: socket.socket | ssl.SSLSocket = plain
        self._context = context
        self._file = file
        self._delay = delay
        self._buffer = bytearray()

    def serve(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._dialogue()
        self._socket.close()

    def _dialogue(self) -> None:
        self._say("220 backend.example.net")
        sender, recipients, secure = "", [""], False
        while True:
            line = self._until(b"\r\n").decode()
            verb = line.split(" ")[0].upper()
            if verb == "EHLO":
                more = [] if secure else ["250-STARTTLS"]
                self._say(
                    "250-backend.example.net", "250-PIPELINING", "250-8BITMIME", "250-SMTPUTF8", *more, "250 SIZE 0"
                )
            elif verb == "STARTTLS":
                self._say("220 2.0.0 go on")
                self._socket = self._context.wrap_socket(self._socket, server_side=True)
                secure = True
            elif not secure and verb != "QUIT":
                self._say("530 5.7.0 STARTTLS first")
            elif verb == "MAIL":
                sender, recipients = line[10:].split(">")[0].lstrip("<"), []
                self._say("250 2.1.0 fine")
            elif verb == "RCPT":
                recipient = line[8:].split(">")[0].lstrip("<")
                known = not recipient.startswith("unknown")
                recipients += [recipient] if known else []
                self._say("250 2.1.5 fine" if known else "550 5.1.1 unknown here")
            elif verb == "DATA":
                self._say("354 go on")
                self._take(sender, recipients)
            elif verb == "QUIT":
                self._say("221 2.0.0 bye")
                return
            else:
                self._say("250 2.0.0 fine")

    def _take(self, sender: str, recipients: list[str]) -> None:
        octets = self._until(b"\r\n.\r\n") + b"\r\n"
        octets = octets.replace(b"\r\n..", b"\r\n.").removeprefix(b".")
        start = octets.find(MARK)
        message = memoryview(octets)[max(start, 0) :]
        record = {
            "id": octets[start + len(MARK) : octets.find(b"\r\n", start)].decode() if start >= 0 else "",
            "size": len(message),
            "sha256": hashlib.sha256(message).hexdigest(),
            "head": octets[: max(start, 0)].decode("utf-8", "replace"),
            "sender": sender,
            "recipients": recipients,
        }
        if self._delay:
            time.sleep(self._delay)
        # One write with O_APPEND: whole lines, whatever other connections write meanwhile.
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, json.dumps(record).encode() + b"\n")
        os.close(descriptor)
        while _held(self._file).exists():
            time.sleep(0.01)
        self._say("250 2.0.0 taken")

    def _say(self, *lines: str) -> None:
        self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def _until(self, end: bytes) -> bytes:
        searched = 0
        while (at := self._buffer.find(end, searched)) < 0:
            searched = max(0, len(self._buffer) - len(end))
            more = self._socket.recv(1 << 18)
            if not more:
                raise EOFError
            self._buffer += more
        octets = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return octets


def _held(file: Path) -> Path:
    return file.with_name(f"{file.name}.hold")


def main() -> None:
    """Listens on a free port of loopback, prints it, serves until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("certificate")
    parser.add_argument("key")
    parser.add_argument("file", type=Path)
    parser.add_argument("delay", type=float)
    given = parser.parse_args()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(given.certificate, given.key)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            plain, _ = listener.accept()
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(plain, context, given.file, given.delay)
            threading.Thread(target=connection.serve, daemon=True).start()


if __name__ == "__main__":
    main()
