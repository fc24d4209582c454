"""``work``: the jobs without a server; and the waiting for the index that other commands do."""

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from aforesaid.cli.options import AsJson, Data

if TYPE_CHECKING:
    from aforesaid.app import App
    from aforesaid.model import Caller

PATIENCE_S = 10.0
"""How long the index is waited for while nothing moves: another process holds its jobs, or they wait to be tried
again."""
PAUSE_S = 0.1


def work(
    drain: Annotated[bool, typer.Option("--drain", help="End when nothing is due any more.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Run the jobs until a signal.

    They index what was stored. A server does it by itself, unless it is told not to (`jobs = false`).

    \b
      aforesaid work
      aforesaid work --drain --json
    """
    from aforesaid.cli import embedded, terminal

    async def until_done() -> dict[str, int]:
        async with embedded.opened(data) as running:
            if drain:
                await running.runner.drain()
            else:
                await _until_signal(running)
            return {"done": running.runner.done, "failed": running.runner.failed}

    told = embedded.run(until_done())
    if as_json:
        terminal.show_json(told)
    else:
        terminal.say(f"{told['done']:,} jobs done" + (f", {told['failed']:,} failed" if told["failed"] else ""))
    if told["failed"]:
        terminal.note("see `aforesaid doctor`")
        raise typer.Exit(1)


async def _until_signal(running: "App") -> None:
    from aforesaid.cli import terminal

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    running.db.on_wake = running.runner.wake
    running.runner.start()
    terminal.note("working; Ctrl-C stops")
    await stop.wait()
    await running.runner.stop()


async def finish_index(running: "App", caller: "Caller", user_id: str | None) -> int:
    """What was stored is searchable. *Gives* how many jobs of the index still wait: for others, or to be tried again.

    A running server works on the same jobs at the same time.
    """
    from aforesaid.cli import terminal
    from aforesaid.core import overview

    async def waiting() -> int:
        return (await overview.get_indexing(running.db, caller, user_id)).pending

    left = most = await waiting()
    loop = asyncio.get_running_loop()
    moved_s = loop.time()
    with terminal.bar(unit="indexing") as progress:
        task = progress.add_task("indexing", total=most)
        while left and loop.time() - moved_s < PATIENCE_S:
            if not await running.runner.run_once():
                await asyncio.sleep(PAUSE_S)
            before, left = left, await waiting()
            if left < before:
                moved_s = loop.time()
            most = max(most, left)
            progress.update(task, total=most, completed=most - left)
    return left


def add_to(app: typer.Typer) -> None:
    """The command is part of the line."""
    app.command()(work)
