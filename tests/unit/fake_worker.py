"""A worker without mail, for the tests of the supervisor: keeps its promises on the control line, or breaks them.

The configuration is JSON: {"summary": {...}, "problem": "...", "die": ..., "deaf": true, "refuse": [row, ...],
"hang": PATH, "warning": "...", "stuck": [PATH, "python" | "C"], "wait": PATH}. The bundle is a copy of it. Before it is
ready it waits until somebody writes to the pipe of `wait`. Who can remove the file of `stuck` hangs once it is ready,
in a loop of Python or in C with the interpreter's lock. Accepted connections are told the worker's row, process id and
bundle.
"""

import argparse
import contextlib
import json
import os
import re
import selectors
import socket
import sys

from gateway import trace

parser = argparse.ArgumentParser()
for name in ("--config", "--listen-fds"):
    parser.add_argument(name)
for name in ("--bundle-fd", "--census-fd", "--row", "--workers", "--control-fd", "--trace-fd"):
    parser.add_argument(name, type=int)
parser.add_argument("--check", action="store_true")
parser.add_argument("--tested", action="store_true")
options = parser.parse_args()

if options.check:
    with open(options.config, encoding="utf-8") as file:
        text = file.read()
    config = json.loads(text)
    if "problem" in config:
        sys.stderr.write(config["problem"] + "\n")
        sys.exit(1)
    if "hang" in config:
        os.mkfifo(config["hang"])
        with open(config["hang"], "rb"):  # for ever: nobody writes
            pass
    if "warning" in config:
        sys.stderr.write(config["warning"] + "\n")
    os.write(options.bundle_fd, text.encode())
    print(json.dumps(config["summary"]))
    sys.exit(0)


def load(descriptor: int) -> dict[str, object]:
    with open(descriptor, "rb") as file:
        return json.loads(file.read())


bundle = load(options.bundle_fd)
if bundle.get("die"):
    sys.exit(3)
if "wait" in bundle:
    with open(str(bundle["wait"]), "rb"):
        pass
control = socket.socket(fileno=options.control_fd)
selector = selectors.DefaultSelector()
selector.register(control, selectors.EVENT_READ)
listeners = []
for pair in options.listen_fds.split(","):
    listener = socket.socket(fileno=int(pair.partition(":")[2]))
    listeners.append(listener)
    selector.register(listener, selectors.EVENT_READ)
os.pwrite(options.census_fd, b"\xff", options.row)


def say(**message: object) -> None:
    control.send(json.dumps(message).encode())


def loop_for_ever() -> None:
    while True:
        pass


def match_for_ever() -> None:
    re.match("(a*)*b", "a" * 60)


trace.left_in(options.trace_fd)
say(ready=True)
if "stuck" in bundle:
    file, where = bundle["stuck"]
    with contextlib.suppress(FileNotFoundError):
        os.unlink(file)
        (match_for_ever if where == "C" else loop_for_ever)()
while True:
    for key, _ in selector.select():
        if key.fileobj is not control:
            try:
                connection, _ = key.fileobj.accept()
            except BlockingIOError:
                continue
            with connection:
                census = os.pread(options.census_fd, 16, 0).hex()
                told = {"row": options.row, "pid": os.getpid(), "bundle": bundle, "census": census}
                connection.sendall(json.dumps(told).encode())
            continue
        octets, descriptors, _, _ = socket.recv_fds(control, 65536, 1)
        if not octets:
            sys.exit(0)  # the supervisor is gone
        message = json.loads(octets)
        if "reload" in message:
            offered = load(descriptors[0])
            if options.row in offered.get("refuse", ()):
                say(refused="I do not like it")
                continue
            bundle = offered
            say(reloaded=message["reload"])
        elif "ping" in message:
            say(pong=True)
        elif "drain" in message and not bundle.get("deaf"):
            say(drained=True)
            sys.exit(0)
