"""`gen`: the command and its sub-commands. Importing this imports neither torch nor numpy."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from gen_cli.arguments import Debug
from gen_cli.commands import (
    anomaly,
    compare,
    data,
    doctor,
    evaluate,
    plugins,
    recipes,
    report,
    run,
    runs,
    sample,
    sweep,
    train,
)
from gen_cli.failures import Guarded
from gen_cli.show import keep_stdout_for_json

app = typer.Typer(
    name="gen",
    cls=Guarded,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: rich would cost more than everything else together
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(on: bool) -> None:
    if on:
        from gen_core import __version__

        typer.echo(f"gen {__version__}")
        raise typer.Exit()


@app.callback()
def gen(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Generative models of medical volumes, and the proof of how good they are.

    Start with: gen run recipes/quickstart.toml
    """


app.command("run")(run.run)
app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("evaluate")(evaluate.evaluate)
app.command("anomaly")(anomaly.anomaly)
app.command("report")(report.report)
app.command("sweep")(sweep.sweep)
app.command("compare")(compare.compare)
app.add_typer(plugins.app, name="plugins")
app.add_typer(recipes.app, name="recipes")
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.command("doctor")(doctor.doctor)


def main() -> None:
    """The entry point of the `gen` command."""
    # Threads of torch spin long at their barriers by default. Spinning shortly is as fast on free cores (44 ms a codec
    # step) and twice as fast beside another busy process (130 against 245 ms).
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    if "--json" in sys.argv:
        keep_stdout_for_json()
    if os.environ.get("RANK", "0") != "0" and os.environ.get("WORLD_SIZE", "1") != "1":
        sys.stdout = open(os.devnull, "w")  # of several processes the first one talks
    app(prog_name="gen")


if __name__ == "__main__":
    main()
