"""The console's process: `python -m gateway.console --bind-fd N --control-fd M`, started by the supervisor.

It inherits its listening socket, learns the state of things over the control line, and ends with it.
"""

import argparse
import asyncio
import contextlib
import os
import socket
import time

import uvicorn

from gateway import log as logging
from gateway import trace
from gateway.console.app import Status, application
from gateway.control import Control, Message


def main() -> None:
    """Serves until the supervisor says so or is gone."""
    parser = argparse.ArgumentParser(prog="gateway.console")
    parser.add_argument("--bind-fd", type=int, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--trace-fd", type=int, required=True)
    options = parser.parse_args()
    logging.configure()
    trace.left_in(options.trace_fd)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.bind_fd, options.control_fd))


async def serve(bind: int, line: int) -> None:
    """The server between the two descriptors."""
    status: Status = {}
    app = application(lambda: status, os.environ.get("PROMETHEUS_MULTIPROC_DIR"), time.time)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            loop="none",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # a stranger's garbage is no warning
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody stands before us, and nothing here depends on who asks
            limit_concurrency=50,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=8192,
        )
    )

    def received(message: Message, descriptor: int | None) -> None:
        if descriptor is not None:
            os.close(descriptor)
        said = message.get("status")
        if isinstance(said, dict):
            status.clear()
            status.update(said)
        if "drain" in message:
            server.should_exit = True

    def closed() -> None:
        server.should_exit = True

    control = Control.inherited(line, received, closed)
    control.send({"ready": True})
    try:
        with socket.socket(fileno=bind) as listener:
            await server.serve(sockets=[listener])
    finally:
        control.close()


if __name__ == "__main__":
    main()
