"""`gatepost serve`: run the gateway in the foreground."""

from pathlib import Path
from typing import Annotated

import typer

from gateway import supervisor
from gateway.log import configure

Configuration = Annotated[Path, typer.Option("-c", "--config", help="The configuration file.", show_default=True)]


def serve(config: Configuration = Path("gatepost.yaml")) -> None:
    """Run the gateway in the foreground; SIGHUP reloads, SIGTERM drains.

    Logs JSON lines to standard error. Example: gatepost serve -c /etc/gatepost/gatepost.yaml
    """
    configure()
    raise typer.Exit(supervisor.run(config))
