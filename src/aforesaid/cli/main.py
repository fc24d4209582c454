"""The commands and their options."""

import sys
from typing import Annotated

import typer

from aforesaid import __version__
from aforesaid.errors import AforesaidError

app = typer.Typer(
    name="aforesaid",
    help="The self-hosted server that brings your conversations along and makes every completion remember them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Data = Annotated[str | None, typer.Option("--data", metavar="DIR", help="Folder of the embedded database.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"aforesaid {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Settings come from options, then the environment (AFORESAID_…), then aforesaid.toml."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. [default: 8000]")] = None,
    data: Data = None,
    workers: Annotated[int | None, typer.Option(help="Server processes. [default: 1]")] = None,
) -> None:
    """Run the server. The first start makes a workspace and shows its keys, once."""
    from aforesaid.cli.serving import run

    run(host=host, port=port, data=data, workers=workers)


def main() -> None:
    """The process's command line is done; errors of ours are one line, not a trace."""
    try:
        app()
    except AforesaidError as error:
        print(f"aforesaid: {error.message}", file=sys.stderr)
        sys.exit(1)
