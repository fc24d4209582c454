"""``import``."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aforesaid.cli.options import AsJson, Data, InWorkspace

if TYPE_CHECKING:
    from aforesaid.core.imports import Report, Wanted
    from aforesaid.importers import Reading
    from aforesaid.model import Json

INTERRUPTED = 130
IGNORED_SHOWN = 8
SPEED_S = 0.5
"""An import shorter than this says nothing about speed."""


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Plain, .gz or .zip; - is standard input.")],
    user_id: Annotated[
        str | None,
        typer.Option(
            "--user-id", metavar="U", help="The user all of it belongs to. Without it, the file names its users."
        ),
    ] = None,
    workspace: InWorkspace = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what is new, and store nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first broken row, with exit code 1.")] = False,
    form: Annotated[
        str | None,
        typer.Option("--form", metavar="NAME", help="chatgpt, sessions or aforesaid. [default: told by content]"),
    ] = None,
    enable_memories: Annotated[
        bool, typer.Option("--enable-memories", help="Queue the extraction of memories too.")
    ] = False,
    index: Annotated[bool, typer.Option("--index/--no-index", help="Make it searchable before the end.")] = True,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Import conversations from a file.

    Reads ChatGPT exports, our JSONL, hand-written lines and research sets: docs/how-to/import.md.

    Twice is once: what is there already stays as it is. Ctrl-C stops after the batch under way; run it again to go
    on. A broken row is reported with its line, and the rest goes on.

    \b
      aforesaid import conversations.json --user-id ada --dry-run
      aforesaid import conversations.json --user-id ada
      aforesaid import export.jsonl.gz
    """  # fmt: skip
    from aforesaid import importers
    from aforesaid.cli import embedded, terminal
    from aforesaid.core import imports

    path = Path("/dev/stdin") if str(file) == "-" else file
    if user_id is not None and not user_id.strip():
        raise typer.BadParameter("must not be blank", param_hint="--user-id")
    if path.is_dir():
        raise typer.BadParameter(f"{file} is a folder", param_hint="FILE")
    with importers.read(path, form) as reading:
        if user_id is None and reading.form != "aforesaid":
            raise typer.BadParameter("this kind of file names no user: say whose it is", param_hint="--user-id")
        wanted = imports.Wanted(user_id=user_id, dry_run=dry_run, strict=strict, enable_memories=enable_memories)
        report, waiting = embedded.run(_work(reading, wanted, workspace, data, index=index))
    if as_json:
        terminal.show_json(_shown(report, waiting))
    else:
        _tell(report, waiting, str(file), user_id)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    if report.strict_stop or (report.broken and not report.messages_new + report.messages_known):
        raise typer.Exit(1)


async def _work(
    reading: "Reading", wanted: "Wanted", workspace: str | None, data: str | None, *, index: bool
) -> "tuple[Report, int]":
    """The report, and how many jobs of the index are still waiting."""
    from aforesaid.cli import embedded, terminal
    from aforesaid.cli.working import finish_index
    from aforesaid.core import imports, overview
    from aforesaid.settings import load

    settings = load(data=data).settings
    with contextlib.ExitStack() as stack:
        if wanted.dry_run and not embedded.is_there(settings):  # everything is new, and not even a file is made
            settings = embedded.moved(settings, stack.enter_context(tempfile.TemporaryDirectory()))
            workspace = None
        async with embedded.opened(None, make=True, settings=settings) as running:
            caller = await embedded.operator(running, workspace)
            with _stopped() as stop, terminal.bar("messages", "speed", unit="importing") as progress:
                task = progress.add_task("importing", total=reading.total_bytes or None, messages="", speed="")

                def moved(report: "Report") -> None:
                    count = report.messages_new + report.messages_known
                    progress.update(
                        task,
                        completed=report.read_bytes,
                        messages=f"{count:,} messages",
                        speed=f"{count / max(report.seconds, 1e-9):,.0f}/s",
                    )

                report = await imports.run(running.db, caller, reading, wanted, progress=moved, stopped=stop.is_set)
            if wanted.dry_run:
                return report, 0
            if not index or report.interrupted:
                return report, (await overview.get_indexing(running.db, caller, wanted.user_id)).pending
            return report, await finish_index(running, caller, wanted.user_id)


@contextlib.contextmanager
def _stopped() -> Iterator[asyncio.Event]:
    """Set by the first Ctrl-C or SIGTERM; the second one is what it always is."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def first() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, first)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _tell(report: "Report", waiting: int, file: str, user_id: str | None) -> None:
    from aforesaid.cli.terminal import note, say

    head = "would be new" if report.dry_run else "new"
    count = report.messages_new + report.messages_known
    say(f"{file}: {report.form}")
    say(f"  conversations {report.conversations_new:>9,} {head}, {report.conversations_known:,} already there")
    say(f"  messages      {report.messages_new:>9,} {head}, {report.messages_known:,} already there")
    speed = f", {count / report.seconds:,.0f} messages/s" if report.seconds >= SPEED_S else ""
    say(f"  time          {report.seconds:>9.1f} s{speed}")
    if report.ignored:
        shown = [f"{name} ×{number:,}" for name, number in report.ignored[:IGNORED_SHOWN]]
        more = len(report.ignored) - len(shown)
        say(f"  left out      {', '.join(shown)}" + (f" and {more} more" if more > 0 else ""))
    if report.broken:
        say(f"  broken rows   {report.broken:>9,}")
        for row in report.broken_rows:
            say(f"    line {row.line}: " + (f"{row.field}: " if row.field else "") + row.reason)
        if report.broken > len(report.broken_rows):
            say(f"    … and {report.broken - len(report.broken_rows):,} more")
    if report.strict_stop:
        note("stopped at the first broken row; what stands before it is stored" * (not report.dry_run))
    elif report.interrupted:
        note("interrupted; run the same command again to go on")
    elif report.dry_run:
        note("dry run: nothing was stored")
    elif waiting:
        note(
            f"searchable in the background: {waiting:,} jobs wait for a running server, or for `aforesaid work --drain`"
        )
    elif report.messages_new:
        note("searchable now" + (f': aforesaid search "…" --user-id {user_id}' if user_id else ""))


def _shown(report: "Report", waiting: int) -> "Json":
    return {
        "form": report.form,
        "dry_run": report.dry_run,
        "conversations": {"new": report.conversations_new, "known": report.conversations_known},
        "messages": {"new": report.messages_new, "known": report.messages_known},
        "broken": report.broken,
        "broken_rows": [{"line": row.line, "field": row.field, "reason": row.reason} for row in report.broken_rows],
        "ignored": dict(report.ignored),
        "seconds": round(report.seconds, 3),
        "interrupted": report.interrupted,
        "stopped_at_broken_row": report.strict_stop,
        "index_jobs_waiting": waiting,
    }


def add_to(app: typer.Typer) -> None:
    """The command is part of the line."""
    app.command("import")(import_)
