"""The front door as the world sees it: TLS on a real socket, limits over all workers, health and metrics."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from gateway.cli.testca import Pair, TestCa
from tests.support.gateway import HOSTNAME, Gateway, serving, site
from tests.support.ports import free_port
from tests.support.recorder import Recorder, recorder
from tests.support.smtp import Client, Closed, stuffed
from tests.support.wait import until

LETTER = b"X-Test-Id: edge\r\nFrom: <sue@sender.example>\r\n\r\nx\r\n"


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory, leaf: Pair) -> Iterator[Recorder]:
    with recorder(leaf, tmp_path_factory.mktemp("taken") / "file") as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, authority: TestCa, taken: Recorder) -> Iterator[Gateway]:
    made = site(
        tmp_path_factory.mktemp("edge") / "site",
        taken.port,
        authority,
        limits={"connections": 12, "connections_per_network": 6, "message": "100KB"},
        admin={"bind": f"127.0.0.1:{free_port()}"},
    )
    with serving(made) as running:
        yield running


def test_starttls_forgets_what_was_said_before(gateway: Gateway, authority: TestCa, taken: Recorder) -> None:
    with gateway.client() as client:
        assert "STARTTLS" in client.ehlo().text
        assert client.command("MAIL FROM:<sue@sender.example>").code == 250
        assert client.starttls(authority.file, HOSTNAME).code == 220
        assert client.command("RCPT TO:<alice@example.com>").code == 503, "no transaction, not even a greeting"
        assert client.command("MAIL FROM:<sue@sender.example>").code == 503
        assert "STARTTLS" not in client.ehlo().text
        assert client.command("STARTTLS").code in {502, 503}
        assert client.deliver("sue@sender.example", ["alice@example.com"], LETTER).code == 250
        client.quit()
    head = str(taken.records()[-1]["head"])
    assert "with ESMTPS" in head
    assert "with ESMTPS" in head.partition("Received: ")[2]


def test_what_is_glued_to_starttls_is_never_executed(gateway: Gateway, authority: TestCa) -> None:
    """CVE-2011-0411: the injected command would be answered inside TLS."""
    with gateway.client() as client:
        client.ehlo()
        client.send(b"STARTTLS\r\nMAIL FROM:<evil@sender.example>\r\n")
        answer = client.answer()
        assert answer.code in {220, 503}
        if answer.code == 220:
            with pytest.raises((OSError, Closed)):
                client.starttls(authority.file, HOSTNAME)
        else:
            assert client.at_end()


def test_a_message_in_every_split_of_a_real_socket(gateway: Gateway, taken: Recorder) -> None:
    message = b"X-Test-Id: split\r\n\r\n.\r\n..\r\nx\r\n"
    octets = stuffed(message)
    before = len(taken.records())
    with gateway.client() as client:
        client.ehlo()
        for cut in range(1, len(octets), 3):
            client.envelope("sue@sender.example", "alice@example.com")
            assert client.command("DATA").code == 354
            client.send(octets[:cut])
            client.send(octets[cut:])
            assert client.answer().code == 250
    records = taken.records()[before:]
    assert len(records) == len(range(1, len(octets), 3))
    assert {record["sha256"] for record in records} == {records[0]["sha256"]}


@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
@pytest.mark.parametrize("inside", ["clear text", "STARTTLS"])
def test_what_smuggles_through_others_arrives_nowhere(
    gateway: Gateway, authority: TestCa, taken: Recorder, inside: str, verb: str
) -> None:
    """SMTP smuggling (CVE-2023-51764 and its kin): other ends of data than CRLF.CRLF are no ends."""
    before = len(taken.records())
    for end in (b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\n\n.\n\n", b"\r\r\n.\r\r\n", b"\r\n\0.\r\n"):
        with gateway.client() as client:
            client.ehlo()
            if inside == "STARTTLS":
                client.starttls(authority.file, HOSTNAME)
                client.ehlo()
            client.envelope("sue@sender.example", "alice@example.com")
            inner = (
                b"MAIL FROM:<evil@sender.example>\r\nRCPT TO:<alice@example.com>\r\nDATA\r\nX-Test-Id: smuggled\r\n\r\n"
            )
            octets = b"X-Test-Id: outer\r\n\r\nx" + end + inner + b"\r\n.\r\n"
            if verb == "DATA":
                assert client.command("DATA").code == 354
                client.send(octets)
            else:
                client.send(b"BDAT %d LAST\r\n%b" % (len(octets), octets))
            answer = client.answer()
            assert answer.code >= 500, (end, answer)
            assert client.at_end(), f"one reply, and the connection is closed: {end!r}"
    assert len(taken.records()) == before


def test_limits_count_over_all_workers(gateway: Gateway) -> None:
    def hold(source: str, count: int) -> list[Client]:
        return [gateway.client(source=source) for _ in range(count)]

    held = hold("127.1.1.1", 6)
    try:
        assert all(client.banner and client.banner.code == 220 for client in held)
        with gateway.client(source="127.1.1.200") as refused:  # the same /24
            assert refused.banner
            assert str(refused.banner).startswith("421 4.7.0 "), refused.banner
            assert refused.at_end()
        held += hold("127.1.2.1", 6)
        with gateway.client(source="127.1.3.1") as refused:
            assert refused.banner
            assert str(refused.banner).startswith("421 4.3.2 "), refused.banner
    finally:
        for client in held:
            client.close()

    def room() -> bool:
        with gateway.client(source="127.1.1.1") as client:
            return bool(client.banner and client.banner.code == 220)

    until(room, "room again when they have gone")


def test_a_client_that_resets_in_the_middle_harms_nobody(gateway: Gateway, taken: Recorder) -> None:
    before = len(taken.records())
    for _ in range(20):
        client = gateway.client()
        client.ehlo()
        client.envelope("sue@sender.example", "alice@example.com")
        client.command("DATA")
        client.send(b"Subject: never finished\r\n")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no farewell
        client.close()
    with gateway.client() as client:
        client.ehlo()
        assert client.deliver("sue@sender.example", ["alice@example.com"], LETTER).code == 250
    assert len(taken.records()) == before + 1
    assert not [line for line in gateway.log if line.get("level") == "error"]
    assert not gateway.noise


def test_health_and_metrics(gateway: Gateway) -> None:
    address = next(line["address"] for line in gateway.events("listening") if line["listener"] == "admin")

    def get(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as why:
            return 0, str(why)

    until(lambda: get("/health")[0] == 200, f"health: {get('/health')}")
    with gateway.client() as client:
        client.ehlo()
        assert client.deliver("sue@sender.example", ["alice@example.com"], LETTER).code == 250
        refused = client.deliver("sue@sender.example", ["bob@elsewhere.example"], LETTER)
        assert refused.code == 550
    status, text = get("/metrics")
    assert status == 200
    assert "gatepost_" in text
    assert "example" not in "".join(line for line in text.splitlines() if not line.startswith("#")), (
        "no stranger's word in a label"
    )
    assert get("/nothing-here")[0] == 404


def test_one_json_line_a_transaction(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.ehlo()
        answer = client.deliver("sue@sender.example", ["alice@example.com"], LETTER)
        assert answer.code == 250

    def lines() -> list[object]:
        return [line for line in gateway.events("transaction") if line["id"] == answer.id]

    until(lines, "the log line")
    assert len(lines()) == 1


def test_a_line_without_end_is_cut_off(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.send(b"x" * 100_000)
        assert str(client.answer()).startswith("500 5.5.2 ")
        assert client.at_end()


def test_a_flood_of_commands_is_sent_away(gateway: Gateway) -> None:
    with gateway.client() as client:
        client.ehlo()
        client.send(b"NOOP\r\n" * 1000)
        codes = [client.answer().code]
        while codes[-1] == 250:
            codes.append(client.answer().code)
        assert codes[-1] == 421
        assert len(codes) < 500
        assert client.at_end()


def test_there_are_as_many_workers_as_the_configuration_says(gateway: Gateway) -> None:
    assert gateway.events("started")[0]["workers"] == 2
    assert len(gateway.worker_pids()) == 2
