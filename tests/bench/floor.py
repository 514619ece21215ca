"""The floor to measure against: stock aiosmtpd takes a message and drops it. No TLS, no checks, no relay."""

import asyncio
import sys

from aiosmtpd.smtp import SMTP, Envelope, Session


class Discard:
    """Says 250 to everything."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        return "250 2.0.0 taken"


async def main() -> None:
    """Listens on a free port of loopback and prints it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Discard(), loop=loop, data_size_limit=60_000_000), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
