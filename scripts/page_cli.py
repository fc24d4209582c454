"""Writes docs/reference/cli.md from the commands themselves. ``page`` gives its text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from aforesaid.cli.main import app

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "reference" / "cli.md"
WIDTH = 100

HEAD = """# Command line

Commands work on the store itself, embedded or PostgreSQL, also while a server runs on it. What is asked for goes to
standard output; progress, hints and errors go to standard error. On a terminal there are tables and bars; in a pipe,
lines with tabs. With `--json`, standard output is one JSON value.

| exit code | |
|---|---|
| 0 | done |
| 1 | refused or failed; one line on standard error says why |
| 2 | wrong usage |
| 130 | interrupted; `import` goes on when it is run again |

Any [setting](settings.md) can be given in the environment of a command.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its path, groups before what is in them."""

    def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield path, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(f"{path} {name}", inner)

    yield from walk("aforesaid", get_command(app))


def help_of(path: str, command: Any) -> str:
    """What ``--help`` shows."""
    with command.context_class(
        command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=["-h", "--help"]
    ) as context:
        lines = command.get_help(context).splitlines()
    return "\n".join(line.rstrip() for line in lines)


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for path, command in commands():
        title = "All commands" if path == "aforesaid" else path.removeprefix("aforesaid ")
        parts.append(f"\n## {title}\n\n```text\n{help_of(path, command)}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    TARGET.write_text(page(), "utf-8")
