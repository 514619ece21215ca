"""`gatepost serve`: run the gateway in the foreground."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

Configuration = Annotated[Path, typer.Option("-c", "--config", help="The configuration file.", show_default=True)]


def serve(config: Configuration = Path("gatepost.yaml")) -> None:
    """Run the gateway in the foreground; SIGHUP reloads, SIGTERM drains.

    Logs JSON lines to standard error. Example: gatepost serve -c /etc/gatepost/gatepost.yaml
    """
    # A process of its own image: the supervisor needs no mail code, and lives as long as the machine.
    os.execv(sys.executable, [sys.executable, "-m", "gateway.supervisor", str(config)])  # noqa: S606 - ourselves
