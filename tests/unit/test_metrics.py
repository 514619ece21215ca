"""Metrics: counted with and without the supervisor's folder, bounded labels, worker rows that count on."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from gateway import metrics

PROGRAM = """
from gateway import metrics
metrics.transaction("accepted", 0.2)
metrics.rule_fired("size", "reject")
metrics.check("spf", "pass", 0.01)
metrics.check("iprev", "fail")
metrics.relay("main", "delivered", 0.5)
metrics.connection_opened()
metrics.connection_opened()
metrics.connection_closed()
metrics.connection_refused("limit")
metrics.journal_dropped(3)
metrics.state_error("greylist")
"""


def worker(folder: Path, row: str) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), metrics.PROCESS_VARIABLE: row}
    subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], env=environment, check=True)


def exposed(folder: Path) -> str:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    return generate_latest(registry).decode()


def test_workers_are_summed_and_a_restarted_one_counts_on(tmp_path: Path) -> None:
    for row in ("row0", "row1", "row1"):
        worker(tmp_path, row)
    text = exposed(tmp_path)
    for line in (
        'gatepost_transactions_total{outcome="accepted"} 3.0',
        'gatepost_rules_fired_total{action="reject",rule="size"} 3.0',
        'gatepost_checks_total{check="spf",result="pass"} 3.0',
        'gatepost_check_seconds_count{check="spf"} 3.0',
        'gatepost_relays_total{backend="main",outcome="delivered"} 3.0',
        'gatepost_connections_refused_total{reason="limit"} 3.0',
        "gatepost_connections_accepted_total 6.0",
        "gatepost_journal_dropped_total 9.0",
        'gatepost_state_errors_total{call="greylist"} 3.0',
    ):
        assert line in text, line
    assert len(list(tmp_path.iterdir())) == 8  # four kinds a row, however often it was restarted


def test_all_that_is_usually_used_is_had_before(tmp_path: Path) -> None:
    """Else a disk that fills up kills the worker that next counts something."""
    worker(tmp_path, "row0")
    for file in tmp_path.iterdir():
        assert file.stat().st_blocks * 512 >= file.stat().st_size, file


def test_where_the_folder_has_no_room_the_process_goes_on(tmp_path: Path) -> None:
    program = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n" + PROGRAM
    program += "assert not metrics.shown\n"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), metrics.PROCESS_VARIABLE: "row0"}
    subprocess.run([sys.executable, "-W", "error", "-c", program], env=environment, check=True)
    assert "gatepost_transactions_total" not in exposed(tmp_path)


def test_a_dead_worker_has_no_connections(tmp_path: Path) -> None:
    worker(tmp_path, "row0")
    worker(tmp_path, "row1")
    assert "gatepost_connections 2.0" in exposed(tmp_path)
    mark_process_dead("row0", str(tmp_path))
    assert "gatepost_connections 1.0" in exposed(tmp_path)


def test_without_a_folder_they_live_in_the_process() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PROMETHEUS_MULTIPROC_DIR"}
    subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], env=environment, check=True)


def test_labels_are_bounded() -> None:
    registry = CollectorRegistry()
    labelled = metrics.Labelled(Counter("things", "Things.", ["name"], registry=registry), limit=3)
    for number in range(10):
        labelled.of(f"n{number}").inc()
    labelled.of("n0").inc()
    assert registry.get_sample_value("things_total", {"name": "n0"}) == 2.0
    assert registry.get_sample_value("things_total", {"name": "other"}) == 7.0
