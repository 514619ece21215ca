"""`gatepost policy`: check and test policy files, explain verdicts, try another policy on the past."""

import typer

from gateway.cli.policy.check import check, run, schema
from gateway.cli.policy.diff import diff
from gateway.cli.policy.explain import explain
from gateway.cli.policy.replay import replay

app = typer.Typer(
    name="policy",
    help="Check, test and explain policies; try another one on the past.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.command("check")(check)
app.command("test")(run)
app.command("explain")(explain)
app.command("diff")(diff)
app.command("replay")(replay)
app.command("schema")(schema)
