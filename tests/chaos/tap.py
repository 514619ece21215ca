"""A wire tap before a backend: passes octets on both ways, and looks at each one that the gateway sends.

In clear text a gateway may say EHLO and STARTTLS; from the handshake on every octet must belong to a TLS record. What
else it sends is written to a file, one line each: there must be none. `python -m tests.chaos.tap LISTEN TARGET FILE`.
"""

import asyncio
import os
import re
import sys
from contextlib import suppress

_CLEAR = re.compile(rb"(?:EHLO [a-z.]+\r\n|STARTTLS\r\n|QUIT\r\n)*")
_TYPES = frozenset({20, 21, 22, 23})  # change_cipher_spec, alert, handshake, application_data


class Watch:
    """The gateway's side of one connection."""

    def __init__(self) -> None:
        self._clear = b""
        self._encrypted = False
        self._record = b""
        self._left = 0
        self.secured = False

    def see(self, octets: bytes) -> str:
        """What is wrong with these octets, or ""."""
        if not self._encrypted:
            self._clear += octets
            said, starttls, rest = self._clear.partition(b"STARTTLS\r\n")
            if not starttls:
                whole = self._clear[: self._clear.rfind(b"\n") + 1]
                return "" if _CLEAR.fullmatch(whole) and len(self._clear) < 300 else f"in clear text: {self._clear!r}"
            if not _CLEAR.fullmatch(said):
                return f"in clear text: {said!r}"
            self._encrypted, octets = True, rest
        while octets:
            take = min(self._left, len(octets))
            self._left -= take
            octets = octets[take:]
            if not self._left and octets:
                need = 5 - len(self._record)
                self._record, octets = self._record + octets[:need], octets[need:]
                if len(self._record) == 5:
                    if self._record[0] not in _TYPES or self._record[1] != 3:
                        return f"no TLS record: {self._record!r}"
                    self.secured = self.secured or self._record[0] == 23
                    self._left, self._record = int.from_bytes(self._record[3:]), b""
        return ""


async def serve(listen: int, target: int, file: str) -> None:
    """Listens until it is killed."""

    def note(line: str) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(descriptor, line.encode() + b"\n")
        os.close(descriptor)

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, watch: Watch | None) -> None:
        with suppress(OSError):
            while octets := await reader.read(1 << 16):
                if watch is not None and (fault := watch.see(octets)):
                    note(f"violation {fault}")
                writer.write(octets)
                await writer.drain()
        writer.transport.abort() if watch is None else writer.close()

    async def tapped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.transport.abort()
            return
        watch = Watch()
        await asyncio.gather(passed(reader, onward[1], watch), passed(onward[0], writer, None))
        onward[1].transport.abort()
        if watch.secured:
            note("secured")

    server = await asyncio.start_server(tapped, "127.0.0.1", listen, backlog=500)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
