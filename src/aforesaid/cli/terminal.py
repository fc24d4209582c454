"""What commands show: tables and bars for people, JSON and plain lines for programs."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def console(*, stderr: bool = False) -> "Console":
    """A console that adds colour where a person looks, and nothing where a program reads."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """The line stands on standard output."""
    print(text, flush=True)


def note(text: str) -> None:
    """The line stands on standard error: it is about the command, not its result."""
    print(text, file=sys.stderr, flush=True)


def show_json(value: Any) -> None:
    """The value stands on standard output as indented JSON."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode(), flush=True)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """The rows under their columns: a table on a terminal, else lines with tabs; ``empty`` where there are none."""
    shown = [[_cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for line in [columns, *shown]:
            say("\t".join(" ".join(value.split()) for value in line))
        return
    if not shown:
        note(empty)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in shown:
        table.add_row(*(escaped(value) for value in row))
    console().print(table)


def escaped(text: str) -> str:
    """The text as it stands, without meaning to the console, and without control characters that move its cursor."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text))


def bar(*columns: str, unit: str) -> "Progress":
    """A progress bar on standard error, not there when that is no terminal. ``columns`` are fields shown after it."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    shown = [TextColumn(f"{{task.fields[{name}]}}") for name in columns]
    return Progress(
        TextColumn(f"{{task.description:<{max(len(unit), 10)}}}"),
        BarColumn(),
        TaskProgressColumn(),
        *shown,
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _cell(value: object) -> str:
    return "" if value is None else str(value)
