"""What the admin address answers: `/health`, `/metrics`, and a plain page for people. Reading only.

`/health` is 200 while at least one worker takes mail and 503 when none does or a drain has begun, so that a load
balancer may ask it. `status` says more: `ok`; `degraded` (a worker is missing or hangs, or the last reload was refused
and the old configuration stays); `down`. Nothing of any mail is here, and every word is escaped. The address has no
authentication: it is for loopback or a management network.
"""

import html
import struct
import time
from collections.abc import Callable, Iterable
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Status = dict[str, object]

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="10">
<title>Gatepost: {status}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;margin:2em;max-width:60em}}th{{text-align:left;padding-right:2em}}
pre{{background:#eee;padding:1em;white-space:pre-wrap}}.ok{{color:#060}}.degraded{{color:#a50}}.down{{color:#a00}}</style>
<h1>Gatepost <span class="{status}">{status}</span></h1>
<table>{rows}</table>{error}
<p><a href="health">health</a> · <a href="metrics">metrics</a></p></html>
"""


def application(status: Callable[[], Status], metrics_folder: str | None, now: Callable[[], float]) -> Starlette:
    """The application over the supervisor's last word (`status`) and the workers' counters."""

    async def health(_: Request) -> Response:
        said = judged(status(), now())
        return JSONResponse(said, 503 if said["status"] == "down" else 200, headers=_HEADERS)

    async def page(_: Request) -> Response:
        return Response(rendered(judged(status(), now())), media_type="text/html; charset=utf-8", headers=_HEADERS)

    async def metrics(_: Request) -> Response:
        try:
            octets = await run_in_threadpool(_exposition, status(), metrics_folder)
        except (OSError, ValueError, RuntimeError, struct.error) as error:  # a worker is making its file just now
            return Response(f"try again: {error}", 503, media_type="text/plain", headers=_HEADERS)
        return Response(octets, media_type=CONTENT_TYPE_LATEST, headers=_HEADERS)

    return Starlette(routes=[Route("/", page), Route("/health", health), Route("/metrics", metrics)])


def judged(said: Status, now: float) -> Status:
    """The supervisor's words with the one word that sums them up."""
    workers = cast("list[dict[str, object]]", said.get("workers", []))
    ready = sum(bool(worker.get("ready")) for worker in workers)
    reload = cast("dict[str, object]", said.get("last_reload", {}))
    if not ready or said.get("draining"):
        word = "down"
    elif ready < len(workers) or not reload.get("ok", True):
        word = "degraded"
    else:
        word = "ok"
    started = said.get("started")
    uptime = now - started if isinstance(started, int | float) else 0.0
    return {"status": word, "ready": ready, "uptime": round(uptime, 1)} | said


def rendered(said: Status) -> str:
    """The page for people."""
    reload = cast("dict[str, object]", said.get("last_reload", {}))
    at = reload.get("at")
    workers = cast("list[dict[str, object]]", said.get("workers", []))
    rows: list[tuple[str, object]] = [
        ("Workers ready", f"{said['ready']} of {len(workers)}"),
        ("Worker restarts", said.get("restarts", 0)),
        *((f"Worker {worker.get('row')}", f"hangs, silent since {_moment(worker['silent'])}")
          for worker in workers if worker.get("silent")),
        ("Uptime", f"{said['uptime']} s"),
        ("Policy revision", said.get("revision", "")),
        ("Listening", ", ".join(str(each) for each in cast("list[object]", said.get("listening", [])))),
        ("Draining", "yes" if said.get("draining") else "no"),
        ("Last reload", "fine" if reload.get("ok", True) else "refused, the old configuration stays"),
        ("", _moment(at)),
    ]  # fmt: skip
    table = "".join(f"<tr><th>{html.escape(name)}<td>{html.escape(str(value))}" for name, value in rows)
    error = f"<pre>{html.escape(str(reload['error']))}</pre>" if reload.get("error") else ""
    return _PAGE.format(status=said["status"], rows=table, error=error)


def _moment(at: object) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at)) if isinstance(at, int | float) else ""


class _Supervisor(Collector):
    """What the supervisor counts, as metrics."""

    def __init__(self, said: Status) -> None:
        self._said = said

    def collect(self) -> Iterable[Metric]:
        workers = cast("list[dict[str, object]]", self._said.get("workers", []))
        yield GaugeMetricFamily("gatepost_workers", "Workers that should run.", value=len(workers))
        ready = sum(bool(worker.get("ready")) for worker in workers)
        yield GaugeMetricFamily("gatepost_workers_ready", "Workers that take mail.", value=ready)
        restarts = cast("float", self._said.get("restarts", 0))
        yield CounterMetricFamily("gatepost_worker_restarts", "Workers that died and were replaced.", value=restarts)
        hangs = cast("float", self._said.get("hangs", 0))
        yield CounterMetricFamily("gatepost_worker_hangs", "Workers that were killed because they hung.", value=hangs)
        reloads = CounterMetricFamily("gatepost_reloads", "Reloads by outcome.", labels=["outcome"])
        for outcome, count in cast("dict[str, float]", self._said.get("reloads", {})).items():
            reloads.add_metric([outcome], count)
        yield reloads
        last = cast("dict[str, object]", self._said.get("last_reload", {}))
        yield GaugeMetricFamily(
            "gatepost_last_reload_ok", "1 unless the last reload was refused.", value=float(bool(last.get("ok", True)))
        )


def _exposition(said: Status, folder: str | None) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Supervisor(said))
    if folder:
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
