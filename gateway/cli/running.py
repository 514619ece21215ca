"""`gatepost status | reload | drain`: how a running gateway is, and what it shall do.

They speak with the supervisor on its socket (`control` in the configuration, else beside the state), so they wait for
the outcome, which a signal cannot. Exit status: 0 fine; 1 not running, refused, or not as it should be; 2 a bad call.
"""

import sys
import time
from pathlib import Path
from typing import Annotated, cast

import typer

from gateway.cli.elsewhere import elsewhere
from gateway.cli.shown import line, moment, span, visible
from gateway.config import control_of
from gateway.control import Message
from gateway.files import DiskFiles
from gateway.mail.terms import Unavailable
from gateway.orders import Absent, ordered
from gateway.yamlfile import ConfigError

ConfigOption = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The configuration it runs with.")]
SocketOption = Annotated[
    Path | None, typer.Option("--socket", metavar="FILE", help="Its socket, instead of a configuration.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]
_DEFAULT = Path("gatepost.yaml")
#: The longest that a check and the swap in all workers may take, and some.
_RELOAD_SECONDS = 120.0
_STATUS_SECONDS = 5.0


def status(config: ConfigOption = _DEFAULT, socket: SocketOption = None, as_json: JsonOption = False) -> None:
    """Print whether the gateway runs and how: workers, policy revision, last reload.

    Exit status 1 when it does not run, a worker is missing or hangs, or the last reload was refused.

    Example: gatepost status -c /etc/gatepost/gatepost.yaml
    """
    told = _told(config, socket, "status", _STATUS_SECONDS, quiet=True)
    workers = cast("list[dict[str, object]]", told["workers"])
    reload = cast("dict[str, object]", told["last_reload"])
    fine = bool(reload["ok"]) and not told["draining"] and all(worker["ready"] for worker in workers)
    if as_json:
        print(line({"ok": fine, "uptime": time.time() - _number(told["started"]), **told}))
    else:
        print("\n".join(_described(told, workers, reload)))
    if not fine:
        raise typer.Exit(1)


def reload(config: ConfigOption = _DEFAULT, socket: SocketOption = None, as_json: JsonOption = False) -> None:
    """Read the configuration and policies anew, test them, and swap in all workers; or say why not.

    A fault anywhere, a failing test of the policy included, refuses the reload: the running configuration stays.

    Example: gatepost reload -c /etc/gatepost/gatepost.yaml
    """
    told = _told(config, socket, "reload", _RELOAD_SECONDS, quiet=as_json)
    if as_json:
        print(line(told))
    elif told["ok"]:
        for warning in cast("list[str]", told["warnings"]):
            print(visible(warning), file=sys.stderr)
        print(f"reloaded, the policy is revision {told['revision']}")
    else:
        for problem in str(told["error"]).splitlines():
            print(visible(problem), file=sys.stderr)
        print("gatepost: reload refused, the running configuration stays", file=sys.stderr)
    if not told["ok"]:
        raise typer.Exit(1)


def drain(config: ConfigOption = _DEFAULT, socket: SocketOption = None, as_json: JsonOption = False) -> None:
    """End the gateway gently: no new connections, mails past the dot still get their answer. Returns when it is done.

    Exit status 1 when a worker had to be killed.

    Example: gatepost drain -c /etc/gatepost/gatepost.yaml
    """
    told = _told(config, socket, "drain", None, quiet=as_json)
    if as_json:
        print(line(told))
    else:
        print("drained" if told["ok"] else f"ended; {told['killed']} workers did not drain in time and were killed")
    if not told["ok"]:
        raise typer.Exit(1)


def _told(config: Path, socket: Path | None, order: str, seconds: float | None, *, quiet: bool) -> Message:
    """The final answer to an order; progress goes to standard error."""
    place = socket if socket is not None else _place(config)
    told: Message = {}
    try:
        for told in ordered(place, order, seconds):
            if "progress" in told and not quiet:
                print(f"{told['progress']} ...", file=sys.stderr)
    except Absent as why:
        found = elsewhere(config) if socket is None else ""
        raise Unavailable(f"{place}: nobody takes orders there; {found}" if found else str(why)) from None
    if not told or "progress" in told:
        raise Unavailable(f"{place}: the gateway ended before it answered; its log says more")
    return told


def _place(config: Path) -> Path:
    """Where a gateway with this configuration takes its orders."""
    try:
        place = control_of(config, DiskFiles())
    except ConfigError as unreadable:
        hint = elsewhere(config) or "name the gateway's socket: --socket FILE"
        raise Unavailable(f"{unreadable.problems[0]}; {hint}") from None
    if place is None:
        hint = elsewhere(config) or "write control: FILE, and start the gateway anew"
        raise Unavailable(f"{config}: names no place for a socket; {hint}")
    return place


def _described(told: Message, workers: list[dict[str, object]], reload: dict[str, object]) -> list[str]:
    now = time.time()
    ready = sum(bool(worker["ready"]) for worker in workers)
    counts = cast("dict[str, int]", told["reloads"])
    word = "draining" if told["draining"] else "running"
    rows = [
        ("gateway", f"{word}, pid {told['pid']}, for {span(now - _number(told['started']))}"),
        ("policy", f"revision {told['revision']}"),
        ("workers", f"{ready} of {len(workers)} ready, {told['restarts']} restarts"),
        *(("", _worker(worker, now)) for worker in workers),
        ("listening", ", ".join(cast("list[str]", told["listening"]))),
    ]
    if sum(counts.values()):
        outcome = "accepted" if reload["ok"] else "refused, the configuration before it stays"
        rows.append(("reload", f"{moment(_number(reload['at']))} {outcome}"))
        rows += [("", problem) for problem in str(reload["error"]).splitlines()]
    return [f"{name:<10}{visible(value)}" for name, value in rows]


def _worker(worker: dict[str, object], now: float) -> str:
    state = "ready" if worker["ready"] else "not ready" if worker.get("silent") else "starting"
    told = f"{worker['row']}: pid {worker['pid']}, {state}, for {span(now - _number(worker['since']))}"
    if worker.get("silent"):
        told += f"; hangs, silent since {moment(_number(worker['silent']))}: the log will say where"
    if not worker["pid"]:
        told = f"{worker['row']}: not there, will be started again in {span(max(_number(worker['again']) - now, 0.0))}"
    if not worker["ready"] and not worker.get("silent") and worker["deaths"]:
        told += f"; died {worker['deaths']} times in a row, the last time with {worker['ended']}: the log says why"
    return told


def _number(value: object) -> float:
    return float(cast("float", value))
