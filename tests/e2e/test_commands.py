"""Every command through the installed console script: help with an example, exit status 0, 1, 2, never a traceback."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import __version__
from gateway.cli.testca import Pair, TestCa
from tests.support.gateway import Gateway, Site, run, serving, site
from tests.support.recorder import Recorder, recorder
from tests.support.smtp import Client
from tests.support.wait import until

COMMANDS = [
    ("serve",),
    ("demo",),
    ("check",),
    ("rehearse",),
    ("sink",),
    ("config", "check"),
    ("config", "show"),
    ("config", "schema"),
    ("policy", "check"),
    ("policy", "test"),
    ("journal", "tail"),
    ("journal", "show"),
    ("greylist", "list"),
    ("greylist", "release"),
]
LETTER = b"From: <sue@sender.example>\r\nTo: <alice@example.com>\r\nSubject: hello\r\n\r\nhello\r\n"
RULES = """\
rules:
  - id: no-strict
    when: spf.result == "fail"
    then: reject
    reply: 550 5.7.23 Not from there
    because: a test
  - id: strangers
    when: mail.domain == "stranger.example"
    then: {greylist: {wait: 1h, window: 24h, keep: 36d}}
    because: a test
tests:
  - name: a hard fail is refused
    given: {spf.result: fail}
    expect: {action: reject, rule: no-strict}
  - name: a stranger waits
    given: {mail.domain: stranger.example}
    expect: {action: defer, rule: strangers}
"""


def fine(done: "subprocess.CompletedProcess[str]", status: int = 0) -> str:
    """Standard output of a command that ended with that status and without a traceback."""
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def test_the_version_is_told_as_a_command_and_as_an_option() -> None:
    assert fine(run("version")) == fine(run("--version")) == f"{__version__}\n"


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory, leaf: Pair) -> Iterator[Recorder]:
    with recorder(leaf, tmp_path_factory.mktemp("taken") / "file") as running:
        yield running


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, authority: TestCa, taken: Recorder) -> Site:
    made = site(tmp_path_factory.mktemp("commands") / "site", taken.port, authority)
    made.policy(RULES)
    return made


@pytest.fixture(scope="module")
def gateway(place: Site) -> Iterator[Gateway]:
    with serving(place) as running:
        yield running


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_an_example(words: tuple[str, ...]) -> None:
    text = fine(run(*words, "--help"))
    assert "xample" in text
    assert f"gatepost {' '.join(words)}" in text


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("serve", "--nonsense"),
        ("policy", "nonsense"),
        ("check",),
        ("journal", "show"),
        ("rehearse",),
    ],
    ids=" ".join,
)
def test_a_bad_call_is_2(words: tuple[str, ...]) -> None:
    fine(run(*words), 2)


def test_serve_refuses_what_is_wrong(place: Site, tmp_path: Path) -> None:
    missing = run("serve", "-c", str(tmp_path / "none.yaml"))
    fine(missing, 1)
    assert "none.yaml" in missing.stderr
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(place.write().read_text().replace("hostname:", "hostnam:"))
    done = run("serve", "-c", str(wrong))
    fine(done, 1)
    assert "wrong.yaml:1:1: " in done.stderr
    assert "did you mean" in done.stderr


def test_serve_refuses_a_port_that_is_taken(place: Site, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        file = place.directory / "taken.yaml"
        file.write_text(place.write().read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        done = run("serve", "-c", str(file))
        fine(done, 1)
        assert f"127.0.0.1:{port}" in done.stderr
        assert "in use" in done.stderr


def test_config_check_show_schema(place: Site) -> None:
    file = str(place.write())
    fine(run("config", "check", "-c", file))
    shown = fine(run("config", "show", "-c", file))
    assert "mx.example.com" in shown
    assert "greeting_delay" in shown, "defaults are shown too"
    schema = json.loads(fine(run("config", "schema")))
    assert "hostname" in schema["properties"]


def test_config_check_names_all_faults_at_once(place: Site) -> None:
    file = place.directory / "faults.yaml"
    text = place.write().read_text()
    file.write_text(text.replace("starttls: offered", "starttls: offred").replace("workers: 2", "worker: 2"))
    done = run("config", "check", "-c", str(file))
    fine(done, 1)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "faults.yaml:" in line]
    assert len(lines) == 2, done
    assert all("did you mean" in line for line in lines), lines


def test_policy_check_and_test(place: Site) -> None:
    file = str(place.write())
    fine(run("policy", "check", "-c", file))
    fine(run("policy", "test", "-c", file))
    fine(run("policy", "check", "--policies", str(place.policies)))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (RULES.replace("spf.result ==", "spf.reslt =="), "bad.yaml:3:11: "),
        (RULES.replace("then: reject", "than: reject"), "bad.yaml:4:5: "),
        (RULES.replace('== "fail"', "== 7"), "bad.yaml:3:"),
    ],
)
def test_policy_check_points_at_the_fault(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    (tmp_path / "lists").mkdir()
    done = run("policy", "check", "--policies", str(tmp_path))
    fine(done, 1)
    assert where in done.stdout + done.stderr, done


def test_policy_test_fails_when_an_expectation_does(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RULES.replace("given: {spf.result: fail}", "given: {spf.result: pass}"))
    (tmp_path / "lists").mkdir()
    done = run("policy", "test", "--policies", str(tmp_path))
    fine(done, 1)
    assert "a hard fail is refused" in done.stdout + done.stderr


def test_the_shipped_policies_pass() -> None:
    shipped = str(Path(__file__).parents[2] / "policies")
    fine(run("policy", "check", "--policies", shipped))
    fine(run("policy", "test", "--policies", shipped))


def test_journal_and_greylist_of_a_running_gateway(place: Site, gateway: Gateway, taken: Recorder) -> None:
    file = str(place.file)
    with gateway.client() as client:
        client.ehlo()
        good = client.deliver("sue@sender.example", ["alice@example.com"], b"X-Test-Id: journal\r\n" + LETTER)
        assert good.code == 250, good
        bad = client.deliver("ceo@strict.example", ["alice@example.com"], LETTER)
        assert bad.code == 550, bad
        stranger = client.deliver("tom@stranger.example", ["alice@example.com"], LETTER)
        assert stranger.code in {450, 451}, stranger
        client.quit()

    def told() -> bool:
        text = fine(run("journal", "tail", "-c", file))
        return all(answer.id in text for answer in (good, bad, stranger))

    until(told, "the entries of three mails", every=0.2)
    shown = fine(run("journal", "show", bad.id, "-c", file))
    assert "no-strict" in shown
    assert "550 5.7.23" in shown
    entry = json.loads(fine(run("journal", "show", bad.id, "-c", file, "--json")))
    assert entry["id"] == bad.id
    assert entry["facts"]["spf.result"] == "fail"
    assert "journal" in taken.ids()
    fine(run("journal", "show", "NOSUCHID0000", "-c", file), 1)

    listed = fine(run("greylist", "list", "-c", file))
    assert "stranger.example" in listed
    released = run("greylist", "release", "tom@stranger.example", "-c", file)
    fine(released)
    with gateway.client() as client:
        client.ehlo()
        again = client.deliver("tom@stranger.example", ["alice@example.com"], b"X-Test-Id: released\r\n" + LETTER)
        assert again.code == 250, again
        client.quit()
    fine(run("greylist", "release", "nobody@nowhere.example", "-c", file), 1)


def test_check_a_message(tmp_path: Path) -> None:
    letter, zone = tmp_path / "letter.eml", tmp_path / "zone.json"
    letter.write_bytes(LETTER)
    zone.write_text(json.dumps({"strict.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]}, "sender.example": {}}))
    words = ["check", str(letter), "--helo", "client.example", "--mail-from", "a@strict.example", "--dns", str(zone)]
    good = run(*words, "--client", "192.0.2.1", "--json")
    assert "Traceback" not in good.stderr
    assert json.loads(good.stdout)["spf"]["result"] == "pass"
    bad = run(*words, "--client", "192.0.2.2", "--json")
    assert json.loads(bad.stdout)["spf"]["result"] == "fail"
    human = run(*words, "--client", "192.0.2.2")
    assert "fail" in human.stdout
    fine(run("check", str(tmp_path / "none.eml"), *words[2:], "--client", "192.0.2.1"), 1)


def test_check_batch() -> None:
    lines = [
        {"id": "a", "ip": "192.0.2.1", "helo": "h.example", "mail_from": "x@d.example", "now": 1_700_000_000,
         "dns": {"d.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]}}},
        {"id": "b", "ip": "192.0.2.9", "helo": "h.example", "mail_from": "x@d.example", "now": 1_700_000_000,
         "dns": {"d.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]}}},
        {"id": "c", "ip": "no address"},
        {"id": "d", "domain": "a.b.example.co.uk"},
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines) + "no json\n"
    out = [json.loads(line) for line in fine(run("check", "--batch", stdin=text)).splitlines()]
    assert len(out) == 5
    assert [line.get("id") for line in out[:4]] == ["a", "b", "c", "d"]
    assert [line["spf"]["result"] for line in out[:2]] == ["pass", "fail"]
    assert "error" in out[2]
    assert out[3]["org_domain"] == "example.co.uk"
    assert "error" in out[4]


def test_rehearse_speaks_smtp_on_standard_input_and_delivers_nothing(place: Site, taken: Recorder) -> None:
    before = len(taken.records())
    words = b"EHLO h.example\nMAIL FROM:<ceo@strict.example>\nRCPT TO:<alice@example.com>\nQUIT\n".decode()
    done = run("rehearse", "--client", "192.0.2.66", "-c", str(place.write()), stdin=words)
    text = fine(done)
    assert "220 mx.example.com" in text
    assert "550 5.7.23 Not from there" in text
    letter = (
        "EHLO h.example\nMAIL FROM:<a@sender.example>\nRCPT TO:<alice@example.com>\nDATA\nSubject: x\n\nx\n.\nQUIT\n"
    )
    done = run("rehearse", "--client", "127.0.0.1", "-c", str(place.file), stdin=letter)
    assert "354" in fine(done)
    assert len(taken.records()) == before


def test_sink_takes_mail_over_tls_only(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("gatepost")
    process = subprocess.Popen(
        [str(script), "sink", "--listen", "127.0.0.1:0", "--maildir", str(tmp_path), "--refuse", "bob@example.com"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        port = int(first.split(",")[0].rpartition(":")[2])
        with Client(port) as client:
            client.ehlo()
            assert client.command("MAIL FROM:<sue@sender.example>").code == 530, "nothing in clear text"
            assert client.starttls(tmp_path / "tls" / "ca.pem", "sink.example").code == 220
            client.ehlo()
            assert client.deliver("sue@sender.example", ["bob@example.com"], LETTER).code == 550
            assert client.deliver("sue@sender.example", ["alice@example.com"], LETTER).code == 250
            client.quit()
        (kept,) = tmp_path.glob("*.eml")
        assert kept.read_bytes() == LETTER
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
    assert process.returncode == 0
