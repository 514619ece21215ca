"""The console's answers, asked without a socket."""

import asyncio
import json
from pathlib import Path

import pytest
from starlette.types import Message

from gateway.console.app import Status, application, judged

GOOD: Status = {
    "started": 100.0,
    "draining": False,
    "revision": "r1",
    "listening": ["[::]:25"],
    "workers": [{"row": 0, "pid": 7, "ready": True}, {"row": 1, "pid": 8, "ready": True}],
    "restarts": 2,
    "hangs": 1,
    "reloads": {"accepted": 3, "refused": 1},
    "last_reload": {"ok": True, "at": 150.0, "error": ""},
}


def ask(path: str, status: Status = GOOD, method: str = "GET", folder: str | None = None) -> tuple[int, str]:
    """Status and body of one request."""
    app = application(lambda: status, folder, lambda: 160.0)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(app(scope, receive, send))
    headers = dict(sent[0]["headers"])
    if sent[0]["status"] in {200, 503}:
        assert headers[b"cache-control"] == b"no-store"
        assert b"default-src 'none'" in headers[b"content-security-policy"]
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


def with_workers(*ready: bool) -> Status:
    return GOOD | {"workers": [{"row": row, "ready": each} for row, each in enumerate(ready)]}


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (GOOD, 200, "ok"),
        (with_workers(True, False), 200, "degraded"),
        (GOOD | {"last_reload": {"ok": False, "error": "no"}}, 200, "degraded"),
        (with_workers(False, False), 503, "down"),
        (GOOD | {"draining": True}, 503, "down"),
        ({}, 503, "down"),
    ],
)
def test_health(status: Status, code: int, word: str) -> None:
    got, body = ask("/health", status)
    assert got == code
    assert json.loads(body)["status"] == word


def test_health_tells_what_the_supervisor_said() -> None:
    said = json.loads(ask("/health")[1])
    assert said == {"status": "ok", "ready": 2, "uptime": 60.0} | GOOD


@pytest.mark.parametrize("path", ["/", "/health", "/metrics"])
def test_only_reading(path: str) -> None:
    assert ask(path, method="HEAD")[0] == 200  # the server leaves out the body
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ask(path, method=method)[0] == 405
    assert ask("/journal")[0] == 404


def test_the_page_escapes_every_word() -> None:
    evil = "<script>alert(1)</script>"
    reload = {"ok": False, "at": 150.0, "error": evil}
    body = ask("/", GOOD | {"revision": evil, "listening": [evil], "last_reload": reload})[1]
    assert "<script" not in body
    assert body.count("&lt;script&gt;") == 3
    assert "degraded" in body
    assert ask("/", {})[0] == 200


def test_metrics_of_the_supervisor(tmp_path: Path) -> None:
    for folder in (None, str(tmp_path)):
        code, body = ask("/metrics", folder=folder)
        assert code == 200
        for line in (
            "gatepost_workers 2.0",
            "gatepost_workers_ready 2.0",
            "gatepost_worker_restarts_total 2.0",
            "gatepost_worker_hangs_total 1.0",
            'gatepost_reloads_total{outcome="refused"} 1.0',
            "gatepost_last_reload_ok 1.0",
        ):
            assert line in body, line


def test_a_counter_file_that_is_being_made_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "counter_row0.db").write_bytes(b"")
    assert ask("/metrics", folder=str(tmp_path))[0] == 503


def test_judging_survives_anything_missing() -> None:
    assert judged({"workers": [{}]}, 1.0)["status"] == "down"


def test_the_page_tells_of_a_worker_that_hangs() -> None:
    hanging: Status = {"row": 1, "pid": 8, "ready": False, "silent": 60.0}
    said = GOOD | {"workers": [{"row": 0, "pid": 7, "ready": True, "silent": 0.0}, hanging]}
    assert json.loads(ask("/health", said)[1])["status"] == "degraded"
    body = ask("/", said)[1]
    assert "<th>Worker 1<td>hangs, silent since 1970-01-01 00:01:00 UTC" in body
    assert "Worker 0" not in body
