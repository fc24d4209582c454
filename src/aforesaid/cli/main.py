"""The command line: its groups put together, and errors told in one line."""

import os
import sys
from typing import Annotated

import typer

from aforesaid import __version__
from aforesaid.cli import (
    backup,
    chatting,
    doctor,
    importing,
    keys,
    migrating,
    searching,
    serve,
    settings,
    working,
    workspaces,
)
from aforesaid.errors import AforesaidError

FAILED = 1
INTERRUPTED = 130

app = typer.Typer(
    name="aforesaid",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a third of the start-up time of a help page
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    """The self-hosted server that brings your conversations along and makes every completion remember them.

    \b
      aforesaid serve                                      start here
      aforesaid import conversations.json --user-id ada    bring what there is
      aforesaid chat --user-id ada                         ask about it
      aforesaid doctor                                     when something is wrong

    Commands work on the store itself, also while a server runs. Settings come from options, then the environment
    (AFORESAID_…), then aforesaid.toml: see `aforesaid settings`.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
    """


# In the order in which the help shows them.
for group in (serve, importing, searching, chatting, doctor, settings):
    group.add_to(app)
app.add_typer(keys.app, name="keys")
app.add_typer(workspaces.app, name="workspaces")
for group in (working, migrating, backup):
    group.add_to(app)


def main() -> None:
    """The process's command line is done; errors of ours are one line, not a trace."""
    try:
        app()
    except AforesaidError as error:
        _end(error.message, FAILED)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        _end(f"{named}{error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        _end("interrupted", INTERRUPTED)


def _end(told: str, code: int) -> None:
    print(f"aforesaid: {told}", file=sys.stderr)
    sys.exit(code)
