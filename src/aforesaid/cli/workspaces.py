"""``workspaces``: create, list."""

from typing import TYPE_CHECKING, Annotated

import typer

from aforesaid.cli.options import AsJson, Data

if TYPE_CHECKING:
    from aforesaid.model import Json, Workspace

app = typer.Typer(
    help="Workspaces: tenants that never see each other.", no_args_is_help=True, rich_markup_mode=None
)  # fmt: skip


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Its name; the id is made.")], data: Data = None, as_json: AsJson = False
) -> None:
    """Make a workspace. It has no keys yet.

    \b
      aforesaid workspaces create acme
      aforesaid keys create --workspace acme
    """
    from aforesaid.cli import embedded, terminal
    from aforesaid.core import access

    async def work() -> "Workspace":
        async with embedded.opened(data, make=True) as running:
            return await access.add_workspace(running.db, name)

    made = embedded.run(work())
    if as_json:
        terminal.show_json(_shown(made))
    else:
        terminal.say(f"{made.id}  {made.name}")
        terminal.note(f"next: aforesaid keys create --workspace {made.id}")


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """Show all workspaces, oldest first."""
    from aforesaid.cli import embedded, terminal
    from aforesaid.core import access

    async def work() -> "list[Workspace]":
        async with embedded.opened(data) as running:
            return await access.list_workspaces(running.db)

    found = [_shown(workspace) for workspace in embedded.run(work())]
    if as_json:
        terminal.show_json(found)
    else:
        terminal.show_table(("id", "name", "made"), [tuple(row.values()) for row in found], empty="none")


def _shown(workspace: "Workspace") -> "Json":
    from aforesaid.times import iso

    return {"id": workspace.id, "name": workspace.name, "created_at": iso(workspace.created_us)}
