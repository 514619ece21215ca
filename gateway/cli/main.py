"""`gatepost`: the command line. One file a command; this one mounts them and keeps tracebacks from users.

Exit status: 0 fine, 1 a fault was found, 2 a bad call.
"""

import io
import os
import sys
from typing import Annotated

import typer

from gateway import __version__
from gateway import log as logging
from gateway.cli import (
    check,
    config,
    demo,
    doctor,
    greylist,
    journal,
    policy,
    recipients,
    rehearse,
    running,
    serve,
    sink,
)
from gateway.mail.terms import Unavailable
from gateway.yamlfile import ConfigError

app = typer.Typer(
    name="gatepost",
    help="An SMTP-terminating security gateway. Start with: gatepost demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.command("serve")(serve.serve)
app.command("status")(running.status)
app.command("reload")(running.reload)
app.command("drain")(running.drain)
app.command("demo")(demo.demo)
app.command("check")(check.check)
app.command("doctor")(doctor.doctor)
app.command("rehearse")(rehearse.rehearse)
app.command("sink")(sink.sink)
app.add_typer(config.app, name="config")
app.add_typer(policy.app, name="policy")
app.add_typer(journal.app, name="journal")
app.add_typer(greylist.app, name="greylist")
app.add_typer(recipients.app, name="recipients")


def _version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.command("version")
def version() -> None:
    """Print the version."""
    print(__version__)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """What stands before a command."""


def main() -> None:
    """The console script. Faults are one clear line each, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode shows escapes
    logging.configure("warning")  # on standard error: standard output is for programs
    try:
        app()
    except ConfigError as fault:
        print(fault, file=sys.stderr)
    except Unavailable as fault:
        print(f"gatepost: {fault}", file=sys.stderr)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone (`| head`): nothing to say, nobody to say it to
    except OSError as fault:
        where = f"{fault.filename}: " if fault.filename else ""
        print(f"gatepost: {where}{fault.strerror or fault}", file=sys.stderr)
    except Exception as bug:
        if os.environ.get("GATEPOST_TRACEBACK"):
            raise
        print(f"gatepost: internal error: {type(bug).__name__}: {bug}", file=sys.stderr)
        print("this is a bug; GATEPOST_TRACEBACK=1 shows where, please report it with that", file=sys.stderr)
    else:
        return
    sys.exit(1)


if __name__ == "__main__":
    main()
