"""Options that several commands share."""

from typing import Annotated

import typer

Data = Annotated[str | None, typer.Option("--data", metavar="DIR", help="Folder of the embedded database.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
InWorkspace = Annotated[
    str | None, typer.Option("--workspace", metavar="ID|NAME", help="The workspace. [default: the first one]")
]
