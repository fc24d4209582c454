"""``settings``: what is in force, and why."""

import typer

from aforesaid.cli.options import AsJson, Data


def settings(data: Data = None, as_json: AsJson = False) -> None:
    """Show every setting: its value, and where it comes from. Secrets are stars.

    \b
      aforesaid settings
      AFORESAID_CONFIG=/etc/aforesaid.toml aforesaid settings --json
    """
    from aforesaid.cli import terminal
    from aforesaid.settings import load, shown

    loaded = load(data=data)
    rows = shown(loaded.settings, loaded.sources)
    if as_json:
        terminal.show_json([{"name": name, "value": value, "source": source} for name, value, source in rows])
    else:
        terminal.show_table(("setting", "value", "from"), rows, empty="")


def add_to(app: typer.Typer) -> None:
    """The command is part of the line."""
    app.command()(settings)
