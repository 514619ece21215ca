"""`gatepost demo`: the main job on loopback, nothing to configure; one row a mail."""

import contextlib
import smtplib
import ssl
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.demo_mails import Sending, mails
from gateway.cli.demo_world import WAIT, World, world
from gateway.cli.shown import visible
from gateway.journal import Reader
from gateway.mail.terms import Unavailable

Keep = Annotated[bool, typer.Option("--keep", help="Stay up afterwards, for your own mails.")]
_PATIENCE = 60.0


def demo(keep: Keep = False) -> None:
    """Run the main job on loopback: real mails through the real gateway to a TLS backend; one row a mail.

    Exit status 0 only if all went as they must. Example: gatepost demo --keep
    """
    with tempfile.TemporaryDirectory(prefix="gatepost-demo-") as name, world(Path(name)) as made:
        print(f"Gateway on 127.0.0.1:{made.port}, shipped policies, greylist of {WAIT:g} s. Everything on loopback.\n")
        print(f"{'':>3}{'what was sent':<46} | {'reply':<10} | {'rule':<20} | what the backend got")
        print("-" * 118)
        started, wrong = time.monotonic(), 0
        every = mails(made, WAIT + 0.2)
        for number, sending in enumerate(every, 1):
            wrong += not _row(number, made, sending)
        print("-" * 118)
        seconds = time.monotonic() - started
        print(f"{len(every)} mails in {seconds:.1f} s, " + ("all as they must." if not wrong else f"{wrong} WRONG."))
        if keep:
            _stay(made)
    raise typer.Exit(1 if wrong else 0)


def _row(number: int, made: World, sending: Sending) -> bool:
    time.sleep(sending.pause)
    before = len(made.main.mails)
    code, text = _send(made.port, sending)
    reply = f"{code} {text}"
    got = made.main.mails[-1].octets if len(made.main.mails) > before else b""
    faults = [sending.see(made, got)]
    if not reply.startswith(sending.reply):
        faults.append(f"expected {sending.reply}")
    if code == 250 and not got:
        faults.append("answered 250, and the backend has nothing")
    if code != 250 and got:
        faults.append("refused, and the backend has it")
    if sending.delivered and not got.endswith(sending.octets):
        faults.append("the octets were changed")
    fault = "; ".join(f for f in faults if f)
    fate = "the mail, octet for octet" if got and sending.delivered else "the mail" if got else "nothing"
    status = text.split(" ")[0] if text[:1].isdigit() else ""
    print(
        f"{number:>2} {sending.what:<46} | {code} {status:<6} | {_rule(made, text):<20} | {fate}"
        + (f"  WRONG: {fault}" if fault else "")
    )
    if fault:
        print(f"     the whole reply: {visible(reply)}")
    return not fault


def _send(port: int, sending: Sending) -> tuple[int, str]:
    """The last reply that matters: the first refusal, or the one to the final dot."""
    with smtplib.SMTP("127.0.0.1", port, source_address=(sending.source, 0), timeout=_PATIENCE) as client:
        client.ehlo(sending.helo)
        if sending.starttls:
            client.starttls(context=ssl._create_unverified_context())  # noqa: S323 - as most senders do: opportunistic
            client.ehlo(sending.helo)
        size = f" SIZE={sending.declared}" if sending.declared else ""
        for command in (f"MAIL FROM:<{sending.sender}>{size}", f"RCPT TO:<{sending.recipient}>", "DATA"):
            code, text = client.docmd(command)
            if code >= 400:
                return code, text.decode("ascii", "replace")
        # By hand, because smtplib would mend the line ends of a smuggler.
        stuffed = (b"\r\n" + sending.octets).replace(b"\r\n.", b"\r\n..")[2:]
        client.send(stuffed + b".\r\n")
        code, text = client.getreply()
        return code, text.decode("ascii", "replace")


def _rule(made: World, text: str) -> str:
    """The rule that decided, from the journal, under the id that the reply ends with."""
    identity = text.rpartition(" ")[2]
    deadline = time.monotonic() + 2.0
    while len(identity) == 12 and time.monotonic() < deadline:
        with contextlib.suppress(Unavailable):
            entry = Reader(made.journal).get(identity)
            if entry is not None:
                return entry.rule or "-"
        time.sleep(0.02)
    return "-"


def _stay(made: World) -> None:
    print(f"""
Send your own: swaks --server 127.0.0.1 --port {made.port} --to joe@example.com --from you@clean.example
Journal:       gatepost journal tail -c {made.configuration}
Admin page:    http://{made.admin}/
Ctrl-C ends it all.""")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()
