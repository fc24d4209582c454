"""``serve``: the command. Its work is in ``serving.py``, which is imported when it is called."""

from typing import Annotated

import typer

from aforesaid.cli.options import Data


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. [default: 8000]")] = None,
    data: Data = None,
    workers: Annotated[int | None, typer.Option(help="Server processes. [default: 1]")] = None,
) -> None:
    """Run the server.

    Makes and migrates what is missing. The first start makes keys and shows them, once; AFORESAID_API_KEY and
    AFORESAID_ANON_KEY register given ones instead. SIGTERM or Ctrl-C stops it: streams go on for `shutdown_s`, then
    end with an error event.

    \b
      aforesaid serve
      aforesaid serve --host 0.0.0.0 --port 80 --workers 4
      AFORESAID_DATABASE_URL=postgresql://me@db/aforesaid aforesaid serve
    """
    from aforesaid.cli.serving import run

    run(host=host, port=port, data=data, workers=workers)


def add_to(app: typer.Typer) -> None:
    """The command is part of the line."""
    app.command()(serve)
