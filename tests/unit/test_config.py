"""gateway.config: what is accepted and what it becomes; warnings; schema; show. Refusals: tests/bad_config."""

import contextlib
import json
import os
import socket
import time
from pathlib import Path

import jsonschema
import pytest

from gateway.config import Config, HostPort, Redis, load_config, schema, show
from gateway.config.hosts import parse_bind, parse_domain, parse_host, parse_mailbox, parse_server, parse_target
from gateway.files import BundleFiles, DiskFiles, RecordingFiles
from gateway.yamlfile import ConfigError, Fault, Problem, load
from tests.support.certificates import EDI_NAME, chain_file, make
from tests.support.configured import MINIMAL, furnish

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "gatepost.yaml"


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("configuration")
    furnish(folder)
    return folder


class Operator:
    """Writes gatepost.yaml and loads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "gatepost.yaml"
        self.warnings: list[Problem] = []

    def loads(self, *changes: tuple[str, str], more: str = "", text: str = MINIMAL) -> Config:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        self.file.write_text(text + more, "utf-8")
        self.warnings = []
        return load_config(self.file, DiskFiles(), warnings=self.warnings, now=time.time())

    def warned(self) -> list[str]:
        return [str(problem).replace(f"{self.folder}/", "") for problem in self.warnings]


@pytest.fixture
def operator(furnished: Path) -> Operator:
    return Operator(furnished)


def test_the_least_configuration_and_its_defaults(operator: Operator) -> None:
    config = operator.loads()
    assert operator.warnings == []
    assert config.hostname == "mx.example.com"
    (listener,) = config.listeners
    assert listener.bind == (HostPort("127.0.0.1", 25),)
    assert (listener.starttls, listener.implicit_tls) == ("offered", False)
    assert [(pair.certificate.name, pair.key.name) for pair in listener.tls] == [("mx.pem", "mx.key")]
    backend = config.backends["main"]
    assert backend.tls.model_dump() == {
        "verify": "pkix", "ca": None, "name": None, "fingerprints": (), "client_certificate": None, "minimum": "1.2",
    }  # fmt: skip
    assert (backend.mx, backend.order, backend.tell_client) == (None, "failover", "off")
    assert backend.verify_recipients != "off"
    assert (backend.verify_recipients.positive, backend.verify_recipients.negative) == (86_400, 1800)
    assert backend.connections == 20
    assert config.domains["example.com"].backend == "main"
    assert config.policies == operator.folder / "policies"
    assert config.lists == operator.folder / "policies" / "lists"
    assert config.state_path == operator.folder / "state.db"
    assert (config.dns.servers, config.dns.timeout, config.dns.zone) == ((), 5.0, None)
    limits = config.limits
    assert (limits.message, limits.recipients, limits.connections) == (35_000_000, 100, 2000)
    assert (limits.connections_per_network, limits.memory) == (50, 1_000_000_000)
    deadlines = config.deadlines
    times = (deadlines.greeting, deadlines.command, deadlines.data, deadlines.session, deadlines.backend)
    assert all(0 < seconds <= 300 for seconds in times), "no default above 5m"
    assert config.greeting_delay == pytest.approx(0.1)
    assert (config.journal, config.admin, config.quarantine) == (None, None, None)
    assert (config.workers, config.soften) == ("auto", False)


def test_off_stays_the_word(operator: Operator) -> None:
    config = operator.loads(
        ("    tls: {certificate: mx.pem, key: mx.key}", "    starttls: off"),
        ("    connections: 20", "    verify_recipients: off"),
    )
    assert config.listeners[0].starttls == "off"
    assert config.backends["main"].verify_recipients == "off"
    assert config.backends["main"].connections == 20


RSA = "{certificate: rsa.pem, key: rsa.key}"


def test_one_or_several(operator: Operator) -> None:
    config = operator.loads(
        ('"127.0.0.1:25"', '["127.0.0.1:25", "[::1]:25"]'),
        ("{certificate: mx.pem, key: mx.key}", f"[{{certificate: mx.pem, key: mx.key}}, {RSA}]"),
        ('["mail1.example.com:25"]', "mail1.example.com:25"),
        more="dns: {servers: 192.0.2.53}\n",
    )  # fmt: skip
    assert config.listeners[0].bind == (HostPort("127.0.0.1", 25), HostPort("::1", 25))
    assert [pair.key.name for pair in config.listeners[0].tls] == ["mx.key", "rsa.key"]
    assert config.backends["main"].hosts == (HostPort("mail1.example.com", 25),)
    assert config.dns.servers == ("192.0.2.53",)


def test_tls_from_the_first_octet_needs_no_starttls(operator: Operator) -> None:
    config = operator.loads(("    tls:", "    implicit_tls: true\n    tls:"))
    assert config.listeners[0].implicit_tls
    assert config.listeners[0].starttls == "off"


def test_port_0_may_be_bound_by_several(operator: Operator) -> None:
    config = operator.loads(('"127.0.0.1:25"', '["127.0.0.1:0", "127.0.0.1:0"]'), more='admin: {bind: "[::1]:0"}\n')
    assert [bind.port for bind in config.listeners[0].bind] == [0, 0]


def test_domains_are_a_labels(operator: Operator) -> None:
    config = operator.loads(
        ("  example.com:", '  "*.BÜCHER.example.": {backend: main}\n  Example.ORG:'),
        more="quarantine: trap@shop.bücher.example\n",
    )
    assert list(config.domains) == ["*.xn--bcher-kva.example", "example.org"]
    assert config.quarantine == "trap@shop.xn--bcher-kva.example"


def test_relative_paths_start_at_the_file(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    operator.loads(more="journal: {path: journal.db}\ndns: {zone: zone.json}\n")
    monkeypatch.chdir("/")
    config = load_config(operator.file, DiskFiles())
    assert config.journal is not None
    assert config.journal.path == operator.folder / "journal.db"
    assert config.dns.zone == operator.folder / "zone.json"
    monkeypatch.chdir(operator.folder)
    relative = load_config(Path("gatepost.yaml"), DiskFiles())
    assert relative.policies == Path("policies")


def test_lists_need_no_folder_of_their_own(tmp_path: Path) -> None:
    furnish(tmp_path)
    (tmp_path / "policies" / "lists").rmdir()
    operator = Operator(tmp_path)
    assert operator.loads().lists == tmp_path / "policies"
    recording = RecordingFiles()
    config = load_config(operator.file, recording)
    (tmp_path / "policies" / "lists").mkdir()
    assert load_config(operator.file, BundleFiles(recording.bundle())) == config


@pytest.mark.parametrize(
    ("workers", "cores", "expected"), [("auto", 1, 1), ("auto", 8, 8), ("auto", 64, 20), ("3", 64, 3), ("20", 1, 20)]
)
def test_workers(operator: Operator, workers: str, cores: int, expected: int) -> None:
    assert operator.loads(more=f"workers: {workers}\n").worker_count(cores) == expected


def test_no_more_workers_than_the_smallest_backend_has_connections(operator: Operator) -> None:
    config = operator.loads(
        more="workers: auto\n",
        text=MINIMAL.replace("state:", "  small: {hosts: 'mail2.example.com:25', connections: 2}\nstate:"),
    )
    assert config.worker_count(16) == 2


def test_a_session_may_last_as_long_as_an_operator_wants(operator: Operator) -> None:
    config = operator.loads(more="deadlines: {session: 12h, data: 30m}\n")
    assert config.deadlines.session == 43_200


def test_missing_state_folder_by_default(operator: Operator) -> None:
    if Path("/var/lib/gatepost").exists():
        pytest.skip("this machine has a state folder")
    with pytest.raises(ConfigError, match="'state' is not given, and there is no such folder: /var/lib/gatepost"):
        operator.loads(("state: sqlite:state.db\n", ""))


@pytest.mark.parametrize(
    ("changes", "more", "warning"),
    [
        ([("mx.pem, key: mx.key", "expired.pem, key: expired.key")], "",
         "gatepost.yaml:4:24: warning: the certificate expired on"),
        ([("mx.pem, key: mx.key", "foreign.pem, key: foreign.key")], "",
         "gatepost.yaml:4:24: warning: the certificate is not for mx.example.com; senders that verify"),
        ([("hostname: mx.example.com", "hostname: mx")], "",
         "gatepost.yaml:1:11: warning: the host name has one label only; use the name that the MX record names"),
        ([], 'admin: {bind: "0.0.0.0:8025"}\n',
         "gatepost.yaml:12:15: warning: health, metrics and console are open to who reaches 0.0.0.0:8025"),
        ([("state:", "  spare: {hosts: 'mail2.example.com:25'}\nstate:")], "",
         "gatepost.yaml:11:10: warning: no domain uses backend 'spare'; remove it, or route a domain to it"),
        ([("  example.com", '  "*.example"')], "",
         "gatepost.yaml:6:3: warning: '*.example' is a whole top-level domain"),
        ([], "dns: {zone: zone.json, servers: [192.0.2.53]}\n",
         "gatepost.yaml:12:33: warning: while 'zone' is set these are never asked; remove one of them"),
        ([], "limits: {recipients: 10}\n", "gatepost.yaml:12:22: warning: RFC 5321 asks for at least 100 recipients"),
        ([], "limits: {message: 10KB}\n", "gatepost.yaml:12:19: warning: RFC 5321 asks for messages of at least 64KB"),
        ([], "limits: {memory: 10MB}\n", "gatepost.yaml:12:18: warning: the largest message does not fit"),
        ([], "deadlines: {command: 10m}\n", "gatepost.yaml:12:22: warning: the session ends before this deadline"),
        ([], "deadlines: {session: 1m}\n", "gatepost.yaml:12:12: warning: the session ends before this deadline"),
        ([], "limits: {connections: 10, connections_per_network: 50}\n",
         "gatepost.yaml:12:52: warning: more than limits.connections; lower it: one network could take every place"),
        ([], "control: zone.json\n",
         "gatepost.yaml:12:10: warning: no orders can be taken at zone.json: something else has that name; move"),
        ([], f"control: {'s' * 110}\n",
         f"gatepost.yaml:12:10: warning: no orders can be taken at {'s' * 110}: the name of a socket must not be so"),
        ([("    connections: 20", "    tls: {ca: expired.pem}")], "",
         "gatepost.yaml:10:15: warning: the certificate expired on"),
    ],
)  # fmt: skip
def test_what_is_allowed_and_rarely_meant(
    operator: Operator, changes: list[tuple[str, str]], more: str, warning: str
) -> None:
    operator.loads(*changes, more=more)
    (said, *_) = operator.warned()
    assert said.startswith(warning)


def test_a_long_way_to_a_socket_is_no_trouble_nor_is_one_that_is_there(operator: Operator) -> None:
    folder = operator.folder / ("x" * 100)
    folder.mkdir(exist_ok=True)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as there:
        there.bind(f"{operator.folder}/s")
        operator.loads(more="control: s\n")
        assert operator.warned() == []
    operator.loads(more=f"control: {folder.name}/{'s' * 80}\n")
    assert operator.warned() == []


def test_a_key_that_everybody_reads(operator: Operator) -> None:
    key = operator.folder / "mx.key"
    key.chmod(0o644)
    try:
        operator.loads()
    finally:
        key.chmod(0o600)
    (said,) = operator.warned()
    assert said.startswith("gatepost.yaml:4:37: warning: every user of this machine can read the key; chmod 600 ")


def test_a_certificate_that_ends_soon_or_begins_later(operator: Operator) -> None:
    operator.loads()
    for days, words in ((29, "expires in 0 days"), (24, "expires in 5 days"), (-60, "is valid only from")):
        warnings: list[Problem] = []
        load_config(operator.file, DiskFiles(), warnings=warnings, now=time.time() + days * 86_400)
        assert words in str(warnings[0])


def test_a_weak_certificate_is_refused_in_the_words_of_openssl(operator: Operator) -> None:
    with pytest.raises(ConfigError) as refused:
        operator.loads(("mx.pem, key: mx.key", "weak.pem, key: weak.key"))
    assert "4:24: OpenSSL refuses the certificate: ee key too small; have a new one issued" in str(refused.value)


def test_a_certificate_whose_names_nobody_reads_is_one_for_other_names(operator: Operator) -> None:
    chain_file(operator.folder, "odd", make("mx.example.com", names=EDI_NAME))
    operator.loads(("mx.pem, key: mx.key", "odd.pem, key: odd.key"))
    assert [str(each) for each in operator.warnings if "the certificate is not for mx.example.com" in str(each)]


def test_what_was_validated_loads_from_the_bundle_without_the_disk(tmp_path: Path) -> None:
    furnish(tmp_path)
    operator = Operator(tmp_path)
    operator.loads(more="journal: {path: journal.db}\ndns: {zone: zone.json}\n")
    recording = RecordingFiles()
    config = load_config(operator.file, recording)
    for file in tmp_path.iterdir():
        if file.is_file():
            file.unlink()
    warnings: list[Problem] = []
    assert load_config(operator.file, BundleFiles(recording.bundle()), warnings=warnings) == config


_PAIR = "tls: {certificate: mx.pem, key: mx.key}"


@pytest.mark.parametrize(
    ("written", "asked", "ca"),
    [("off", False, None), ("ask", True, None), ("{}", True, None), ("{ca: ca.pem}", True, "ca.pem")],
)
def test_certificates_of_clients(written: str, asked: bool, ca: str | None, operator: Operator) -> None:
    change = (_PAIR, f"{_PAIR}\n    client_certificates: {written}")
    config = operator.loads(change)
    assert operator.warnings == []
    found = config.listeners[0].client_certificates
    assert (found is not None) == asked
    assert (found.ca.name if found and found.ca else None) == ca
    assert _valid(MINIMAL.replace(*change))
    again = operator.folder / "shown.yaml"
    again.write_text(show(config), "utf-8")
    assert load_config(again, DiskFiles()) == config
    assert _valid(show(config))


def test_an_authority_of_clients_that_expired(operator: Operator) -> None:
    operator.loads((_PAIR, f"{_PAIR}\n    client_certificates: {{ca: expired.pem}}"))
    (warning,) = operator.warned()
    assert "client_certificates" not in warning
    assert "expired on" in warning
    assert warning.startswith("gatepost.yaml:5:31: ")


def test_show_prints_what_loads_to_the_same(operator: Operator) -> None:
    config = operator.loads(
        ("  example.com: {backend: main}", '  "*.bücher.example": {backend: main}\n  example.com: {backend: main}'),
        ("    connections: 20", "    verify_recipients: off\n    tls: {minimum: 1.3, ca: ca.pem}"),
        more='admin: {bind: "[::1]:8025"}\nquarantine: a@example.com\ndeadlines: {command: 100ms, rate: 1500B}\n',
    )
    text = show(config)
    again = operator.folder / "shown.yaml"
    again.write_text(text, "utf-8")
    assert load_config(again, DiskFiles()) == config
    assert show(load_config(again, DiskFiles())) == text
    assert "command: 100ms" in text
    assert "rate: 1500B" in text
    assert "PRIVATE" not in text


def test_nothing_of_a_key_is_ever_printed(operator: Operator) -> None:
    body = "".join((operator.folder / "mx.key").read_text().splitlines()[1:-1])
    for key in ("mx.key", "other.key", "encrypted.key"):
        try:
            said = show(operator.loads(("key: mx.key", f"key: {key}")))
        except ConfigError as refused:
            said = str(refused)
        assert body[:20] not in said
        assert "BEGIN" not in said


# Addresses and names


@pytest.mark.parametrize(
    ("typed", "host", "port", "spelled"),
    [
        ("0.0.0.0:25", "0.0.0.0", 25, "0.0.0.0:25"),
        ("[::]:25", "::", 25, "[::]:25"),
        ("[2001:DB8::25]:465", "2001:db8::25", 465, "[2001:db8::25]:465"),
        ("localhost:0", "localhost", 0, "localhost:0"),
    ],
)
def test_binds(typed: str, host: str, port: int, spelled: str) -> None:
    assert parse_bind(typed) == HostPort(host, port)
    assert str(parse_bind(typed)) == spelled


def test_targets() -> None:
    assert parse_target("Mail1.Example.COM.:25") == HostPort("mail1.example.com", 25)
    assert parse_target("bücher.example:25") == HostPort("xn--bcher-kva.example", 25)
    assert parse_target("192.0.2.1:2525").address is not None
    assert parse_target("mail1.example.com:25").address is None


BAD_HOST_PORTS = [
    *[
        "",
        ":",
        ":25",
        "25",
        "[]:25",
        "[::1",
        "[::1]",
        "[::1]25",
        "[::1]:",
        "::1",
        "::1:25",
        "a:b:25",
        "1.2.3.4",
        "a b:25",
    ],
    *["192.0.2.1:", "192.0.2.1:x", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:٢٥", "[192.0.2.1]:25", "a_b:25"],
    *["-a.example:25", "*:25", "smtp://a:25", "256.1.1.1:25", "[fe80::1%25]]:25", 25, None, True, 1.5, [], {}],
]


@pytest.mark.parametrize("typed", BAD_HOST_PORTS)
def test_what_is_no_host_and_port(typed: object) -> None:
    for parse in (parse_bind, parse_target):
        with pytest.raises(Fault) as fault:
            parse(typed)
        assert fault.value.hint


@pytest.mark.parametrize("typed", ["0.0.0.0:25", "[::]:25", "192.0.2.1:0"])
def test_what_cannot_be_connected_to(typed: str) -> None:
    with pytest.raises(Fault):
        parse_target(typed)


@pytest.mark.parametrize(
    "typed", ["", "*", "*.", "a@b", "a b", "[192.0.2.1]", "192.0.2.1", "*.*.a.example", "a..b", 5, None]
)
def test_what_is_no_domain(typed: object) -> None:
    with pytest.raises(Fault) as fault:
        parse_domain(typed)
    assert fault.value.hint


@pytest.mark.parametrize("typed", ["", "192.0.2.1", "[::1]", "a_b.example", "a" * 64 + ".example", 5, None])
def test_what_is_no_host_name(typed: object) -> None:
    with pytest.raises(Fault) as fault:
        parse_host(typed)
    assert fault.value.hint


@pytest.mark.parametrize("typed", ["192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]:53", "[::1]"])
def test_dns_servers(typed: str) -> None:
    assert parse_server(typed)


@pytest.mark.parametrize("typed", ["dns.example", "192.0.2.53:", "192.0.2.53:0", "[::1]:x", "[x]", "", 53, None])
def test_what_is_no_dns_server(typed: object) -> None:
    with pytest.raises(Fault):
        parse_server(typed)


@pytest.mark.parametrize(
    "typed", ["a", "@example.com", "a@", "a@b@", "a b@c.example", "a@[192.0.2.1]", "é@c.example", "", 5]
)
def test_what_is_no_mailbox(typed: object) -> None:
    with pytest.raises(Fault):
        parse_mailbox(typed)


# The schema for editors


class Octets:
    """Files with one content."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self, path: Path) -> bytes:
        return self._text.encode()

    def names(self, directory: Path, pattern: str) -> list[Path]:
        return []


def _valid(text: str) -> bool:
    return bool(jsonschema.Draft202012Validator(schema()).is_valid(load(Path("f.yaml"), Octets(text)).data))


def test_the_schema_is_one_and_describes_itself() -> None:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert made["additionalProperties"] is False
    assert json.loads(json.dumps(made)) == made
    properties = made["properties"]
    assert isinstance(properties, dict)
    assert properties["greeting_delay"]["default"] == "100ms"
    assert properties["soften"]["description"].startswith("Speak every 5xx")


def test_the_schema_takes_what_the_loader_takes(operator: Operator) -> None:
    assert _valid(MINIMAL)
    assert _valid(EXAMPLE.read_text("utf-8"))
    config = operator.loads()
    assert _valid(show(config)), "defaults spelled out"


SCHEMA_REFUSES = [
    ("hostname:", "hostnam:"),
    ("hostname: mx.example.com\n", ""),
    ("connections: 20", "connections: '20'"),
    ("connections: 20", "connections: 0"),
    ("connections: 20", "verify_recipients: maybe"),
    ("connections: 20", "tls: {verify: none}"),
    ("connections: 20", "tls: {minimum: 1.1}"),
    ('"127.0.0.1:25"', '"127.0.0.1"'),
    ("state:", "limits: {message: 35}\nstate:"),
    ("state:", "limits: {message: 35mb}\nstate:"),
    ("state:", "dns: {timeout: 5}\nstate:"),
    ("state:", "workers: 0\nstate:"),
    ("sqlite:state.db", "memcached://x"),
    ("sqlite:state.db", '{redis: "http://x"}'),
    ("{backend: main}", "main"),
    ("  example.com:", "  '*':"),
    ("tls: {certificate: mx.pem", "client_certificates: required\n    tls: {certificate: mx.pem"),
    ("tls: {certificate: mx.pem", "client_certificates: {file: ca.pem}\n    tls: {certificate: mx.pem"),
]


@pytest.mark.parametrize(("old", "new"), SCHEMA_REFUSES)
def test_the_schema_refuses_what_the_loader_refuses(old: str, new: str, operator: Operator) -> None:
    with pytest.raises(ConfigError):
        operator.loads((old, new))
    assert not _valid(MINIMAL.replace(old, new, 1))


def test_the_example_loads(tmp_path: Path) -> None:
    furnish(tmp_path)
    (tmp_path / "tls").mkdir()
    for stem, wanted in (
        ("mx.pem", "mx.example.com.pem"),
        ("mx.key", "mx.example.com.key"),
        ("ca.pem", "internal-ca.pem"),
    ):
        os.link(tmp_path / stem, tmp_path / "tls" / wanted)
    text = EXAMPLE.read_text("utf-8").replace("/var/lib/gatepost/", "")
    warnings: list[Problem] = []
    (tmp_path / "gatepost.yaml").write_text(text)
    load_config(tmp_path / "gatepost.yaml", DiskFiles(), warnings=warnings, now=time.time())
    assert warnings == []


REDIS = [
    ("redis://127.0.0.1", "redis://127.0.0.1:6379/0", ""),
    ("redis://cache.example.com:6380/3", "redis://cache.example.com:6380/3", ""),
    ("rediss://gate:ses%40me@Cache.EXAMPLE.com/1", "rediss://gate:********@cache.example.com:6379/1", "ses@me"),
    ("redis://:sesame@[2001:db8::1]:6379", "redis://:********@[2001:db8::1]:6379/0", "sesame"),
    ("redis://gate@127.0.0.1/0", "redis://gate@127.0.0.1:6379/0", ""),
    ('{redis: "rediss://127.0.0.1", ca: ca.pem}', "rediss://127.0.0.1:6379/0", ""),
    ('{redis: "redis://gate@127.0.0.1", password_file: zone.json}', "redis://gate@127.0.0.1:6379/0", "{}"),
]


@pytest.mark.parametrize(("typed", "shown", "password"), REDIS)
def test_state_on_redis(typed: str, shown: str, password: str, operator: Operator) -> None:
    config = operator.loads(("sqlite:state.db", typed))
    assert isinstance(config.state, Redis)
    assert str(config.state.redis) == shown
    assert config.state.password == password
    assert config.state_path is None
    told = show(config) + repr(config) + config.state.redis.place
    assert "ses" not in told.replace("session", "")
    assert "gate" not in config.state.redis.place
    if "********" not in shown:
        operator.file.write_text(show(config))
        assert load_config(operator.file, DiskFiles()) == config


def test_another_password_is_another_configuration(operator: Operator) -> None:
    secret = operator.folder / "redis.secret"
    secret.write_text("one\n")
    typed = ("sqlite:state.db", '{redis: "redis://127.0.0.1", password_file: redis.secret}')
    first = operator.loads(typed)
    assert isinstance(first.state, Redis)
    assert first.state.password == "one"
    secret.write_text("two\n")
    assert load_config(operator.file, DiskFiles()).state != first.state


@pytest.mark.parametrize(
    ("typed", "doubt"),
    [
        ("redis://127.0.0.1", ""),
        ("redis://localhost", ""),
        ("rediss://192.0.2.1", ""),
        ("redis://192.0.2.1", "addresses cross the network in clear text"),
        ("redis://:x@cache.example.com", "addresses and the password cross the network in clear text"),
        ('{redis: "redis://127.0.0.1", password_file: zone.json}', "every user of this machine can read the password"),
    ],
)
def test_doubts_about_redis(typed: str, doubt: str, operator: Operator) -> None:
    operator.loads(("sqlite:state.db", typed))
    said = [problem.what for problem in operator.warnings if problem.position.line == 11]
    assert said == ([doubt] if doubt else [])


@pytest.mark.parametrize("line", ["state: sqlite:mx.key", "state: sqlite:policies"])
def test_a_state_that_is_another_kind_of_file_is_refused(operator: Operator, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        operator.loads(("state: sqlite:state.db", line))
    (problem,) = refused.value.problems
    assert (problem.position.line, problem.position.column) == (11, 8)
    assert problem.hint


def test_a_journal_that_is_another_kind_of_file_is_refused(operator: Operator) -> None:
    with pytest.raises(ConfigError, match=r"mx\.key: a file of another kind is there"):
        operator.loads(more="journal: {path: mx.key}\n")
