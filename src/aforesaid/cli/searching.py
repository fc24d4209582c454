"""``search``."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from aforesaid.cli.options import AsJson, Data, InWorkspace

if TYPE_CHECKING:
    from aforesaid.model import Hit, Json

SHOWN_CHARACTERS = 400
"""Of a message, on a terminal."""


def search(
    query: Annotated[str, typer.Argument(help="Words or a question.")],
    user_id: Annotated[
        str | None, typer.Option("--user-id", metavar="U", help="The user whose conversations are searched.")
    ] = None,
    conversation: Annotated[
        str | None, typer.Option("--conversation", metavar="ID", help="Only this conversation.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Hits at most.")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Show what every signal added to the score.")] = False,
    workspace: InWorkspace = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Search what a user's conversations hold.

    Best first: what a completion would remember.

    \b
      aforesaid search "what is my sourdough starter called" --user-id ada
      aforesaid search bread --user-id ada --limit 3 --explain --json
    """
    from aforesaid.cli import embedded, terminal
    from aforesaid.core import overview, recollection
    from aforesaid.ids import now_us

    if user_id is None and conversation is None:
        raise typer.BadParameter("name the user", param_hint="--user-id")
    wanted = recollection.Search(
        query=query, user_id=user_id, conversation_id=conversation, limit=limit, asked_us=now_us()
    )

    async def work() -> "tuple[list[Hit], int]":
        async with embedded.opened(data) as running:
            caller = await embedded.operator(running, workspace)
            found = await recollection.search(running.db, running.recollection, caller, wanted)
            return found, (await overview.get_indexing(running.db, caller, user_id)).pending

    hits, pending = embedded.run(work())
    if as_json:
        terminal.show_json({"query": query, "data": [_shown(hit, explain) for hit in hits], "pending": pending})
        return
    for place, hit in enumerate(hits, 1):
        _print(place, hit, explain)
    if not hits:
        terminal.note("nothing found")
    if pending:
        terminal.note(
            f"{pending:,} jobs of the index are waiting: what they hold is not found yet. A running server does them, "
            "or `aforesaid work --drain`"
        )


def _print(place: int, hit: "Hit", explain: bool) -> None:
    from aforesaid.cli import terminal
    from aforesaid.times import iso

    message = hit.message
    assert message is not None
    day = iso(message.created_us)[:16].replace("T", " ")
    text = " ".join(message.content.split())
    if not sys.stdout.isatty():
        why = [" ".join(f"{name}={value:.3f}" for name, value in hit.signals.items() if value)] if explain else []
        terminal.say("\t".join((f"{hit.score:.3f}", day, message.sender_id, message.id, text, *why)))
        return
    text = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
    out = terminal.console()
    out.print(f"[bold]{place}.[/] [cyan]{terminal.escaped(message.sender_id)}[/]  [dim]{day}  {message.id}[/]")
    out.print(f"   {terminal.escaped(text)}")
    if explain:
        signals = "  ".join(f"{name} {value:.3f}" for name, value in hit.signals.items() if value)
        out.print(f"   [dim]{hit.score:.3f} = {signals}[/]")


def _shown(hit: "Hit", explain: bool) -> "Json":
    from aforesaid.times import iso

    message = hit.message
    assert message is not None
    shown: Json = {
        "kind": hit.kind,
        "id": hit.id,
        "score": round(hit.score, 6),
        "conversation_id": message.conversation_id,
        "sender_id": message.sender_id,
        "role": message.role,
        "created_at": iso(message.created_us),
        "content": message.content,
    }
    if explain:
        shown["explain"] = {name: round(value, 6) for name, value in hit.signals.items()}
    return shown


def add_to(app: typer.Typer) -> None:
    """The command is part of the line."""
    app.command()(search)
