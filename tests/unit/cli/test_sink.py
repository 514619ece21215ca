"""The trial backend: as a server in this process, and as the command."""

import asyncio
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.sink_server import Mail, Sink
from gateway.relay.delivery import Delivered, Refused
from tests.outages.rig import NAME, OCTETS, OURS, Rig, deliver, run, transaction


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_takes_what_the_relay_sends(tmp_path: Path, loop: str) -> None:
    async def test(rig: Rig) -> None:
        sink = Sink(rig.context(), NAME, {"no@example.com": "550 5.1.1 No such user"})
        relay = rig.relay(await sink.start())
        large = b"\r\n" + b".dot\r\nno dot\r\n" * 100_000
        for octets in (OCTETS, b"", b".\r\n", large):
            assert isinstance(await deliver(relay, transaction(octets=octets)), Delivered)
        fate = await deliver(relay, transaction("no@example.com"))
        assert isinstance(fate, Refused)
        assert (fate.reply.code, fate.reply.status) == (550, "5.1.1")
        assert [mail.octets for mail in sink.mails] == [OURS + OCTETS, OURS, OURS + b".\r\n", OURS + large]
        assert (sink.mails[0].sender, sink.mails[0].recipients) == ("a@example.org", ["u@example.com"])
        assert sink.mails[0].tls == "TLSv1.3"
        assert sink.clear_text == ["EHLO mx.example.com", "STARTTLS"]
        assert sink.connections == 1
        await relay.close()
        await sink.stop()

    run(tmp_path, test, loop=loop)


def test_it_can_refuse_and_fail(tmp_path: Path) -> None:
    def full(mail: Mail) -> None:
        raise OSError("disk full")

    async def test(rig: Rig) -> None:
        for sink, code in (
            (Sink(rig.context(), NAME, refuse_data="554 5.7.1 No"), 554),
            (Sink(rig.context(), NAME, on_mail=full), 452),
            (Sink(None, NAME), 451),
        ):
            relay = rig.relay(await sink.start())
            fate = await deliver(relay)
            assert isinstance(fate, Refused)
            assert fate.reply.code == code
            assert sink.mails == []
            await relay.close()
            await sink.stop()

    run(tmp_path, test)


def test_nothing_outside_tls_and_nothing_out_of_order(tmp_path: Path) -> None:
    async def test(rig: Rig) -> None:
        sink = Sink(rig.context(), NAME)
        port = await sink.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for line, code in (
            (b"", b"220"),
            (b"HELO x\r\n", b"250"),
            (b"MAIL FROM:<a@example.org>\r\n", b"530"),
            (b"XYZ\r\n", b"500"),
            (b"STARTTLS\r\n", b"220"),
        ):
            writer.write(line)
            assert (await reader.readline()).startswith(code)
        await writer.start_tls(ssl.create_default_context(cafile=str(rig.ca.file)), server_hostname=NAME)
        for line, code in (
            (b"RCPT TO:<u@example.com>\r\n", b"503"),
            (b"DATA\r\n", b"503"),
            (b"STARTTLS\r\n", b"500"),
            (b"NOOP\r\n", b"250"),
            (b"QUIT\r\n", b"221"),
        ):
            writer.write(line)
            assert (await reader.readline()).startswith(code)
        writer.close()
        await sink.stop()

    run(tmp_path, test)


def test_the_command_keeps_mails_as_files(tmp_path: Path) -> None:
    box = tmp_path / "box"
    code = "import typer; from gateway.cli.sink import sink; typer.run(sink)"
    arguments = ["--listen", "127.0.0.1:0", "--maildir", str(box), "--name", NAME, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        assert process.stdout is not None
        match = re.search(r":(\d+),", process.stdout.readline())
        assert match is not None
        assert process.stdout.readline() == "for gatepost.yaml:\n"
        process.stdout.readline()
        assert str(box / "tls" / "ca.pem") in process.stdout.readline()

        async def test(rig: Rig) -> None:
            rig.ca.file.write_bytes((box / "tls" / "ca.pem").read_bytes())
            relay = rig.relay(int(match[1]))
            assert isinstance(await deliver(relay), Delivered)

        run(tmp_path, test)
        told = json.loads(process.stdout.readline())
        assert told["recipients"] == ["u@example.com"]
        assert Path(told["file"]).read_bytes() == OURS + OCTETS
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.parametrize("arguments", [["--listen", "nowhere"], ["--key", "x.key"], ["--listen", "127.0.0.1:99999"]])
def test_bad_calls(arguments: list[str]) -> None:
    code = "import typer; from gateway.cli.sink import sink; typer.run(sink)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=False)
    assert done.returncode == 2
