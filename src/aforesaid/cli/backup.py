"""``backup``."""

from pathlib import Path
from typing import Annotated

import typer

from aforesaid.cli.options import Data


def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; it must not exist yet.")], data: Data = None
) -> None:
    """Copy the SQLite database, also while a server runs. The copy is one consistent state.

    \b
      aforesaid backup /backups/aforesaid-$(date +%F).db

    To restore, stop the server and put the copy in the data folder as aforesaid.db, without the -wal and -shm files
    beside the old one. PostgreSQL has pg_dump.
    """
    from aforesaid.cli import embedded, terminal
    from aforesaid.errors import Refused

    if file.exists():
        raise Refused(f"{file} exists already: a backup never overwrites")
    if not file.parent.is_dir():
        raise Refused(f"there is no folder {file.parent}")
    half = file.with_name(file.name + ".part")

    async def work() -> None:
        async with embedded.opened(data) as running:
            await running.db.backup(str(half))

    try:
        embedded.run(work())
        half.rename(file)
    finally:
        half.unlink(missing_ok=True)
    terminal.say(f"{file}  {file.stat().st_size / (1 << 20):.1f} MiB")


def add_to(app: typer.Typer) -> None:
    """The command is part of the line."""
    app.command()(backup)
