"""A crowd that means no good: idle, dripping and flooding connections, from as many networks as one likes.

A process of its own, so that its work is not measured with the gateway's: `python -m tests.bench.storm PORT --idle N
--tls N --drip N --flood N --hold N`. Says "ready" when all stand, ends at the end of its input and says what it did.
Runs nice: on one machine it would else take from everybody the time that a real crowd spends elsewhere.
"""

import argparse
import asyncio
import os
import resource
import ssl
import sys
from collections import Counter

import uvloop

_DRIP = b"EHLO drip.example\r\n"


class Crowd:
    """All connections of one storm."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.did: Counter[str] = Counter()
        self._kept: list[asyncio.StreamWriter] = []

    async def connect(self, number: int, family: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One connection; every 40 have a /24 of their own in 127.`family`.0.0/16."""
        source = f"127.{family}.{number // 40 % 250}.{1 + number % 40}"
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0), limit=4096)

    async def idle(self, number: int, family: int, context: ssl.SSLContext | None = None) -> None:
        """Greets, begins TLS where there is a context, and says nothing more."""
        reader, writer = await self.connect(number, family)
        await reader.readline()
        writer.write(b"EHLO idle.example\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass
        if context is not None:
            writer.write(b"STARTTLS\r\n")
            await reader.readline()
            await writer.start_tls(context)
        self._kept.append(writer)
        self.did["idle"] += 1

    async def drip(self, number: int) -> None:
        """An octet a second, of a command, of a chunk or of DATA."""
        while True:
            try:
                reader, writer = await self.connect(number, 3)
                await reader.readline()
                if number % 3:
                    command = b"DATA\r\n" if number % 3 == 1 else b"BDAT 1000000 LAST\r\n"
                    writer.write(b"EHLO d.example\r\n")
                    while (await reader.readline())[3:4] == b"-":
                        pass
                    writer.write(b"MAIL FROM:<d@d.example>\r\nRCPT TO:<alice@example.com>\r\n" + command)
                for octet in _DRIP * 100_000:
                    writer.write(bytes([octet]))
                    self.did["dripped"] += 1
                    await asyncio.sleep(1)
                    if reader.at_eof():
                        break
                writer.close()
            except (OSError, ValueError):
                await asyncio.sleep(0.2)

    async def flood(self, number: int) -> None:
        """Commands as fast as they are read, and a new connection after each hang-up; all from one network."""
        lines = (
            b"NOOP\r\n",
            b"MAIL FROM:<f@f.example>\r\nRCPT TO:<guess%d@example.com>\r\nRSET\r\n" % number,
            b"\xff\r\n",
        )
        while True:
            try:
                self.did["floods"] += 1
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.port, local_addr=(f"127.4.4.{1 + number % 250}", 0)
                )
                banner = await reader.readline()
                if not banner.startswith(b"220"):
                    self.did["refused at the banner"] += 1
                else:
                    writer.write(b"EHLO f.example\r\n" if number % 2 else b"HELO f.example\r\n")
                    await reader.readline()
                    while await reader.read(65536):
                        writer.write(lines[number % 3] * 20)
                        await writer.drain()
                writer.close()
            except OSError:
                pass
            await asyncio.sleep(0.01)

    async def hold(self, number: int) -> None:
        """Takes a place and keeps silent, back at once when it is sent away; every 10 have a /24 of their own."""
        source = f"127.{5 + number // 2500}.{number // 10 % 250}.{1 + number % 10}"
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
                banner = await reader.readline()
                self.did["held" if banner.startswith(b"220") else "refused at the banner"] += 1
                await reader.read()
                writer.close()
            except OSError:
                pass
            await asyncio.sleep(0.5)

    async def gather(self, idle: int, tls: int, drip: int, flood: int, hold: int) -> None:
        """Everybody comes; returns when they stand."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for start in range(0, idle, 100):
            await asyncio.gather(*(self.idle(n, 1) for n in range(start, min(idle, start + 100))))
        for start in range(0, tls, 50):
            await asyncio.gather(*(self.idle(n, 2, context) for n in range(start, min(tls, start + 50))))
        self._tasks = [asyncio.ensure_future(self.drip(n)) for n in range(drip)]
        self._tasks += [asyncio.ensure_future(self.flood(n)) for n in range(flood)]
        for number in range(hold):
            self._tasks.append(asyncio.ensure_future(self.hold(number)))
            if number % 100 == 99:
                await asyncio.sleep(0.05)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.storm")
    parser.add_argument("port", type=int)
    for kind in ("idle", "tls", "drip", "flood", "hold"):
        parser.add_argument(f"--{kind}", type=int, default=0)
    given = parser.parse_args()
    crowd = Crowd(given.port)
    await crowd.gather(given.idle, given.tls, given.drip, given.flood, given.hold)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(dict(crowd.did), flush=True)
    os._exit(0)  # all at once, as a crowd that loses its network


if __name__ == "__main__":
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    uvloop.run(main())
