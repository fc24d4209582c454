"""``migrate``."""

from typing import Annotated

import typer

from aforesaid.cli.options import AsJson, Data


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and change nothing.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Bring the database to the schema of this version. `serve` does it by itself.

    \b
      aforesaid migrate --dry-run
    """
    from aforesaid.app import database_of
    from aforesaid.cli import embedded, terminal
    from aforesaid.settings import load
    from aforesaid.store import migrate as store

    settings = load(data=data).settings
    embedded.log_to_stderr(settings.log_level)

    async def work() -> list[str]:
        if dry_run and not embedded.is_there(settings):
            return [f"{number:04d}_{name}" for number, name, _ in store.versions()]
        db = database_of(settings)
        try:
            await db.open()
            return await (store.pending(db) if dry_run else store.migrate(db))
        finally:
            await db.close()

    names = embedded.run(work())
    if as_json:
        terminal.show_json({"dry_run": dry_run, "migrations": names})
    elif not names:
        terminal.say("the schema is the newest")
    else:
        for name in names:
            terminal.say(f"{'would run' if dry_run else 'ran'} {name}")


def add_to(app: typer.Typer) -> None:
    """The command is part of the line."""
    app.command()(migrate)
