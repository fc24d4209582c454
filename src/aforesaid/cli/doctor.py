"""``doctor``: the command. Its checks are in ``checking.py``, which is imported when it is called."""

from typing import Annotated

import typer

from aforesaid.cli.options import AsJson, Data

MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failed": "[red]✗[/]"}


def doctor(
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Queue the failed jobs afresh, then check.")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong, and how to mend it. Exit code 1 when something is.

    Looks at Python, the settings, the data folder and its disk, the database (opens, undamaged, schema, PostgreSQL),
    the clock, keys, model servers, the port, failed and waiting jobs.

    \b
      aforesaid doctor
      aforesaid doctor --retry-failed --json
    """
    from aforesaid.cli import checking, embedded, terminal

    found = embedded.run(checking.checked(data, retry_failed))
    if as_json:
        terminal.show_json(
            [{"check": f.check, "state": f.state, "told": f.told, "mend": f.mend or None} for f in found]
        )
    else:
        out = terminal.console()
        for finding in found:
            out.print(f"{MARKS[finding.state]} {finding.check:<14} {terminal.escaped(finding.told)}")
            if finding.mend:
                out.print(f"  {'':<14} → {terminal.escaped(finding.mend)}")
    if any(finding.state == "failed" for finding in found):
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """The command is part of the line."""
    app.command()(doctor)
