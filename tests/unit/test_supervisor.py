"""The supervisor with workers that know no mail: start, restart, reload, drain, and its own death."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import trace
from gateway.cli import running
from gateway.orders import ordered

WORKER = Path(__file__).with_name("fake_worker.py")
SUMMARY = {
    "listeners": [["127.0.0.1:0"]],
    "workers": 2,
    "admin": None,
    "revision": "r1",
    "census_head": 0,
    "census_row": 1,
}
PROGRAM = """
import sys
from pathlib import Path
from gateway.supervisor import run
worker = (sys.executable, sys.argv[2])
sys.exit(run(Path(sys.argv[1]), worker=worker, patience=float(sys.argv[3]), silence=float(sys.argv[4])))
"""


class Running:
    """A supervisor as a process, and its log lines."""

    def __init__(self, config: Path, patience: float, silence: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(config), str(WORKER), str(patience), str(silence)],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._queue.put(line.decode())
        self._queue.put(None)

    def event(self, name: str, times: int = 1) -> dict[str, object]:
        """The next log line of that event; all before it are skipped."""
        while True:
            line = self._queue.get(timeout=20)
            assert line is not None, "".join(self.lines)
            self.lines.append(line)
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("event") == name:
                times -= 1
                if not times:
                    return said

    def ended(self) -> int:
        status = self.process.wait(20)
        self._thread.join(10)
        while (line := self._queue.get(timeout=1)) is not None:
            self.lines.append(line)
        return status

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._thread.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()


Start = Callable[..., Running]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


@pytest.fixture
def start(config: Path) -> Iterator[Start]:
    running: list[Running] = []

    def begin(
        patience: float = 10.0,
        *,
        silence: float = 60.0,
        summary: dict[str, object] | None = None,
        **bundle: object,
    ) -> Running:
        write(config, summary=summary, **bundle)
        running.append(Running(config, patience, silence))
        return running[-1]

    yield begin
    for each in running:
        each.stop()


def write(path: Path, *, summary: dict[str, object] | None = None, **bundle: object) -> None:
    path.write_text(json.dumps({"summary": SUMMARY | (summary or {})} | bundle))


def ask(address: object) -> dict[str, object]:
    host, _, port = str(address).rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as line:
        octets = b""
        while piece := line.recv(4096):
            octets += piece
    return json.loads(octets)


def gone(pid: int) -> bool:
    """Waits until the process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    import select

    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(20_000))
    finally:
        os.close(descriptor)


def test_starts_serves_and_drains(start: Start) -> None:
    supervisor = start()
    address = supervisor.event("listening")["address"]
    assert not str(address).endswith(":0")
    supervisor.event("process ready", 2)
    assert ask(address)["bundle"] == {"summary": SUMMARY}
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.event("drained")
    assert supervisor.ended() == 0
    with pytest.raises(ConnectionRefusedError):
        ask(address)


def test_a_bad_configuration_at_the_start_is_said_and_ends_with_1(start: Start) -> None:
    supervisor = start(problem="gatepost.yaml:3:5: unknown key; did you mean x")
    assert supervisor.ended() == 1
    assert supervisor.lines == ["gatepost.yaml:3:5: unknown key; did you mean x\n"]


def test_an_address_in_use_is_said_and_ends_with_1(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        supervisor = start(summary={"listeners": [[f"127.0.0.1:{taken.getsockname()[1]}"]]})
        assert "address already in use" in str(supervisor.event("cannot listen")["why"])
        assert supervisor.ended() == 1


def test_a_dead_worker_is_replaced_and_its_census_row_is_zero(start: Start) -> None:
    supervisor = start(summary={"workers": 1})
    address = supervisor.event("listening")["address"]
    dead = ask(address)
    assert dead["census"] == "ff"
    os.kill(int(str(dead["pid"])), signal.SIGKILL)
    ended = supervisor.event("process ended, will be restarted")
    assert ended["how"] == "SIGKILL"
    supervisor.event("process ready")
    assert ask(address)["pid"] != dead["pid"]


@pytest.mark.parametrize(("where", "line"), [("python", "in loop_for_ever"), ("C", "in match_for_ever")])
def test_a_worker_that_hangs_says_where_and_is_replaced(start: Start, tmp_path: Path, where: str, line: str) -> None:
    socket_file, file = tmp_path / "gatepost.sock", tmp_path / "one of them"
    file.touch()
    supervisor = start(silence=3.0, stuck=[str(file), where], summary={"control": str(socket_file)})
    address = supervisor.event("listening")["address"]
    hangs = supervisor.event("process hangs")
    assert hangs["state"] == "R (running)"
    stuck = [worker for worker in told(socket_file, "status")["workers"] if worker["pid"] == hangs["pid"]]  # type: ignore[attr-defined]
    assert (stuck[0]["ready"], stuck[0]["silent"] > 0) == (False, True)
    assert "not ready" in (said := running._worker(stuck[0], time.time()))
    assert "hangs, silent since 20" in said
    assert ask(address)["pid"] != hangs["pid"]
    assert supervisor.event("killed, it hangs")["pid"] == hangs["pid"]
    ended = supervisor.event("process ended, will be restarted")
    assert ended["how"] == "SIGKILL"
    assert any(line in each for each in ended["trace"]), ended  # type: ignore[attr-defined]
    supervisor.event("process ready")
    status = told(socket_file, "status")
    assert (status["hangs"], status["restarts"]) == (1, 1)
    assert [(worker["ready"], worker["silent"]) for worker in status["workers"]] == [(True, 0.0)] * 2  # type: ignore[attr-defined]


def test_a_stopped_worker_that_goes_on_in_time_stays(start: Start) -> None:
    supervisor = start(silence=5.0)
    address = supervisor.event("listening")["address"]
    supervisor.event("process ready", 2)
    pid = int(str(ask(address)["pid"]))
    os.kill(pid, signal.SIGSTOP)
    hangs = supervisor.event("process hangs")
    assert (hangs["pid"], hangs["state"]) == (pid, "T (stopped)")
    os.kill(pid, signal.SIGCONT)
    assert supervisor.event("process answers again")["pid"] == pid
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.ended() == 0
    assert not any("process ended" in each for each in supervisor.lines)


def test_the_question_where_it_hangs_ends_nobody(start: Start, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    supervisor = start(wait=str(tmp_path / "pipe"), summary={"workers": 1})
    worker = int(str(supervisor.event("process started")["pid"]))
    os.kill(supervisor.process.pid, trace.SIGNAL)
    os.kill(worker, trace.SIGNAL)
    with open(tmp_path / "pipe", "wb"):
        assert supervisor.event("process ready")["pid"] == worker


def test_systemd_hears_that_it_is_ready_and_turns(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        supervisor = start()
        words: list[bytes] = []
        while b"READY=1" not in words or words.count(b"WATCHDOG=1") < 3:
            words.append(ear.recv(100))
        supervisor.process.send_signal(signal.SIGTERM)
        while words[-1] != b"STOPPING=1":
            words.append(ear.recv(100))


def test_workers_that_never_start_end_it_with_1(start: Start) -> None:
    supervisor = start(die=True)
    supervisor.event("no worker can start")
    assert supervisor.ended() == 1


def test_reload_gives_all_workers_the_new_bundle(start: Start, config: Path) -> None:
    supervisor = start(colour="red")
    address = supervisor.event("listening")["address"]
    supervisor.event("process ready", 2)
    write(config, summary={"revision": "r2"}, colour="green")
    supervisor.process.send_signal(signal.SIGHUP)
    assert supervisor.event("reloaded")["revision"] == "r2"
    write(config, problem="broken meanwhile")  # a worker that starts later must not see it
    first = ask(address)
    assert first["bundle"]["colour"] == "green"  # type: ignore[index]
    os.kill(int(str(first["pid"])), signal.SIGKILL)
    supervisor.event("process ready")
    assert {ask(address)["bundle"]["colour"] for _ in range(20)} == {"green"}  # type: ignore[index]


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ({"problem": "policies/10.yaml:1:1: no"}, "policies/10.yaml:1:1: no"),
        ({"summary": {"workers": 3}}, "restart"),
        ({"summary": {"workers": "many"}}, "check could not be done"),
    ],
)
def test_a_bad_reload_keeps_the_old_bundle(start: Start, config: Path, new: dict[str, object], why: str) -> None:
    supervisor = start(colour="red")
    address = supervisor.event("listening")["address"]
    supervisor.event("process ready", 2)
    write(config, **new, colour="green")  # type: ignore[arg-type]
    supervisor.process.send_signal(signal.SIGHUP)
    assert why in str(supervisor.event("reload refused, the old configuration stays")["problems"])
    assert ask(address)["bundle"]["colour"] == "red"  # type: ignore[index]


@pytest.mark.parametrize("refuse", [[0], [0, 1]])
def test_what_one_worker_refuses_no_worker_runs(start: Start, config: Path, refuse: list[int]) -> None:
    supervisor = start(colour="red")
    address = supervisor.event("listening")["address"]
    supervisor.event("process ready", 2)
    write(config, colour="green", refuse=refuse)
    supervisor.process.send_signal(signal.SIGHUP)
    problems = supervisor.event("reload refused, the old configuration stays")["problems"]
    # The same reason is told once.
    assert problems == [f"{', '.join(f'worker {row}' for row in refuse)} cannot run it: I do not like it"]
    told = [ask(address) for _ in range(10)]
    assert {str(one["bundle"]["colour"]) for one in told} == {"red"}  # type: ignore[index]


def test_who_does_not_drain_is_killed_at_the_second_signal(start: Start) -> None:
    supervisor = start(60.0, deaf=True)
    supervisor.event("process ready", 2)
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.event("draining")
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.event("drained")
    assert supervisor.ended() == 0


def test_who_does_not_drain_is_killed_in_the_end(start: Start) -> None:
    supervisor = start(-1.9, deaf=True)
    supervisor.event("process ready", 2)
    supervisor.process.send_signal(signal.SIGINT)
    supervisor.event("killed, it did not drain in time", 2)
    assert supervisor.ended() == 0


def appears(path: Path) -> None:
    """Waits for the file: the sign that a check hangs."""
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_check_that_hangs_does_not_keep_it_from_stopping(start: Start, config: Path, tmp_path: Path) -> None:
    supervisor = start()
    supervisor.event("process ready", 2)
    write(config, hang=str(tmp_path / "hangs"))
    supervisor.process.send_signal(signal.SIGHUP)
    appears(tmp_path / "hangs")
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.event("drained")
    assert supervisor.ended() == 0


def test_stopped_during_its_first_check(start: Start, tmp_path: Path) -> None:
    supervisor = start(hang=str(tmp_path / "hangs"))
    appears(tmp_path / "hangs")
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.ended() == 0


def test_reloads_leave_no_descriptors_behind(start: Start, config: Path) -> None:
    supervisor = start()
    supervisor.event("process ready", 2)
    counts = []
    for number in range(6):
        write(config, summary={"revision": f"r{number}"}, **({"problem": "no"} if number % 3 == 2 else {}))
        supervisor.process.send_signal(signal.SIGHUP)
        supervisor.event("reload refused, the old configuration stays" if number % 3 == 2 else "reloaded")
        counts.append(len(os.listdir(f"/proc/{supervisor.process.pid}/fd")))
    assert len(set(counts)) == 1


def test_its_death_leaves_no_orphans(start: Start) -> None:
    supervisor = start()
    supervisor.event("process ready", 2)
    pids = [json.loads(line)["pid"] for line in supervisor.lines if "process started" in line]
    assert len(pids) == 2
    supervisor.process.kill()
    assert all(gone(pid) for pid in pids)


def test_console_tells_how_things_are(start: Start, config: Path) -> None:
    supervisor = start(summary={"admin": "127.0.0.1:0"})
    address = ""
    while not address:
        line = supervisor.event("listening")
        address = str(line["address"]) if line["listener"] == "admin" else ""
    supervisor.event("process ready", 3)
    health = json.loads(get(f"http://{address}/health"))
    assert health["status"] == "ok"
    assert [worker["ready"] for worker in health["workers"]] == [True, True]
    write(config, problem="policies/10.yaml:1:1: <b>no</b>")
    supervisor.process.send_signal(signal.SIGHUP)
    supervisor.event("reload refused, the old configuration stays")
    deadline = time.monotonic() + 10
    while (health := json.loads(get(f"http://{address}/health")))["status"] == "ok":
        assert time.monotonic() < deadline
    assert health["last_reload"]["error"] == "policies/10.yaml:1:1: <b>no</b>"
    assert "&lt;b&gt;no" in get(f"http://{address}/")
    metrics = get(f"http://{address}/metrics")
    assert 'gatepost_reloads_total{outcome="refused"} 1.0' in metrics
    pid = next(
        each["pid"] for each in map(json.loads, supervisor.lines) if each.get("name") == "console" and "pid" in each
    )
    os.kill(pid, signal.SIGKILL)
    supervisor.event("process ready")
    assert json.loads(get(f"http://{address}/health"))["status"] == "degraded"
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.ended() == 0


def get(url: str) -> str:
    with contextlib.closing(urllib.request.urlopen(url, timeout=10)) as answer:
        return answer.read().decode()


def told(path: Path, order: str) -> dict[str, object]:
    """The final answer to an order."""
    return list(ordered(path, order, 60.0))[-1]


@pytest.fixture
def line(tmp_path: Path) -> Path:
    return tmp_path / "gatepost.sock"


def test_orders_status(start: Start, line: Path) -> None:
    supervisor = start(summary={"control": str(line)})
    supervisor.event("process ready", 2)
    status = told(line, "status")
    assert status["pid"] == supervisor.process.pid
    assert (status["revision"], status["draining"], status["restarts"]) == ("r1", False, 0)
    assert [worker["ready"] for worker in status["workers"]] == [True, True]  # type: ignore[attr-defined]
    assert told(line, "dance") == {"ok": False, "error": "no such order"}


def test_status_of_a_worker_that_dies_again_and_again(start: Start, config: Path, line: Path) -> None:
    supervisor = start(summary={"control": str(line)})
    supervisor.event("process ready", 2)
    write(config, summary={"control": str(line)}, die=True)  # who runs it serves on; who starts with it dies
    assert told(line, "reload")["ok"]
    os.kill(told(line, "status")["workers"][0]["pid"], signal.SIGKILL)  # type: ignore[index]
    supervisor.event("process ended, will be restarted", 5)
    dying, well = told(line, "status")["workers"]  # type: ignore[misc]
    assert (dying["pid"], dying["ready"], dying["ended"], dying["deaths"]) == (0, False, "exit status 3", 5)
    assert 0 < dying["again"] - time.time() <= 1.6
    assert (well["ready"], well["ended"], well["deaths"]) == (True, "", 0)
    assert "0: not there, will be started again in 9s" in running._worker(dying, dying["again"] - 9)
    assert "died 5 times in a row, the last time with exit status 3" in running._worker(dying, time.time())
    assert "died" not in running._worker(well, time.time())


def test_orders_reload_waits_for_the_outcome(start: Start, config: Path, line: Path) -> None:
    supervisor = start(summary={"control": str(line)})
    address = supervisor.event("listening")["address"]
    supervisor.event("process ready", 2)
    write(config, summary={"control": str(line), "revision": "r2"}, colour="green", warning="mind the gap")
    outcome = told(line, "reload")
    assert (outcome["ok"], outcome["revision"], outcome["warnings"]) == (True, "r2", ["mind the gap"])
    assert {ask(address)["bundle"]["colour"] for _ in range(20)} == {"green"}  # type: ignore[index]
    write(config, problem="policies/10.yaml:1:1: no")
    outcome = told(line, "reload")
    assert (outcome["ok"], outcome["error"], outcome["revision"]) == (False, "policies/10.yaml:1:1: no", "r2")
    assert told(line, "status")["reloads"] == {"accepted": 1, "refused": 1}


def test_orders_move_with_the_configuration(start: Start, config: Path, line: Path) -> None:
    supervisor = start(summary={"control": str(line)})
    supervisor.event("process ready", 2)
    moved = line.with_name("moved.sock")
    write(config, summary={"control": str(moved)})
    assert told(line, "reload")["ok"]
    deadline = time.monotonic() + 10
    while not moved.exists():
        assert time.monotonic() < deadline
    assert told(moved, "status")["draining"] is False
    assert not line.exists()


def test_orders_drain_returns_when_it_is_done(start: Start, line: Path) -> None:
    supervisor = start(summary={"control": str(line)})
    supervisor.event("process ready", 2)
    assert told(line, "drain") == {"ok": True, "killed": 0}
    assert supervisor.ended() == 0
    assert not line.exists()


def test_orders_drain_tells_of_the_killed(start: Start, line: Path) -> None:
    supervisor = start(-1.9, deaf=True, summary={"control": str(line)})
    supervisor.event("process ready", 2)
    assert told(line, "drain") == {"ok": False, "killed": 2}


def test_who_waits_for_a_reload_hears_of_the_end(start: Start, config: Path, line: Path, tmp_path: Path) -> None:
    supervisor = start(summary={"control": str(line)})
    supervisor.event("process ready", 2)
    write(config, hang=str(tmp_path / "hangs"))
    answers = ordered(line, "reload", 60.0)
    assert "progress" in next(answers)
    appears(tmp_path / "hangs")
    supervisor.process.send_signal(signal.SIGTERM)
    assert next(answers) == {"ok": False, "error": "the gateway is stopping"}
    assert supervisor.ended() == 0
