"""What an operator may want to know of a backend and no mail may find out: its name, and what ends a mail for it.

A reader that takes LF.CRLF or its kin for the end of a mail believes whatever commands stand behind it in a stranger's
message (CVE-2023-51764 and others). We relay no such octets; a backend that strangers also reach around us, or another
gateway that does, makes it an open door. The probe sends one such ending and then nothing: who answers has taken it.
The true end is never sent, so a sound backend delivers nothing; a vulnerable one delivers a mail of two lines.

Called by `gatepost doctor`, the test of endings only with `--smuggling ADDRESS`; never by the relay.
"""

import asyncio

from gateway.mail.address import Mailbox
from gateway.relay.client import Connection
from gateway.relay.fate import Broken, Step, means_yes
from gateway.relay.outgoing import command

#: Ends that are none (RFC 5321 section 4.1.1.4): name and octets.
ENDINGS: dict[str, bytes] = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.CR": b"\r\n.\r",
    "CR.CR": b"\r.\r",
    "CRLF NUL.CRLF": b"\r\n\0.\r\n",
}
_SILENCE_SECONDS = 2.0


async def calls_itself(connection: Connection, hostname: str) -> str:
    """The name in its reply to EHLO (RFC 5321 section 4.1.1.1), in lower case. Raises `Broken`."""
    connection.wire.write(f"EHLO {hostname}\r\n".encode("ascii"), replies=1)
    response = await connection.wire.response()
    return response.lines[0].strip().partition(" ")[0].lower().removesuffix(".")


async def takes_ending(connection: Connection, recipient: Mailbox, ending: bytes) -> bool | None:
    """True where the backend takes `ending` for the end of a mail; `None` where it lets us send none.

    The connection is of no further use. Raises `Broken` when it breaks before the ending was sent.
    """
    wire = connection.wire
    try:
        for step, line in (
            (Step.MAIL, command("MAIL FROM:", None, [])),
            (Step.RCPT, command("RCPT TO:", recipient, [])),
            (Step.DATA, b"DATA\r\n"),
        ):
            wire.write(line, replies=1)
            if not means_yes(step, await wire.response()):
                return None
        wire.write(b"Subject: gatepost doctor, a test of the end of data\r\n\r\nIgnore this." + ending, replies=1)
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                return (await wire.response()).code < 400
        except (TimeoutError, Broken):  # it waits for the true end, or would not have any of it
            return False
    finally:
        connection.abort()
