"""The store opened inside the command: the same parts as the server's, without listening."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from aforesaid.app import DATABASE_FILE, App
from aforesaid.core import access
from aforesaid.errors import NotFound, Refused
from aforesaid.model import Caller, Workspace
from aforesaid.settings import Settings, load

T = TypeVar("T")

OPERATOR = "command-line"
"""Stands where a key's id stands in what a request makes."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """What the work gives."""
    return asyncio.run(work)


def is_there(settings: Settings) -> bool:
    """Whether there is a store already; a PostgreSQL database always is."""
    return settings.database_url is not None or (Path(settings.data) / DATABASE_FILE).exists()


def require_store(settings: Settings) -> None:
    """There is a store. *Raises* ``Refused``, which says how to make one."""
    if not is_there(settings):
        raise Refused(
            f"there is no database in {settings.data}: name its folder with --data or AFORESAID_DATA, "
            "or make one with `aforesaid serve` or `aforesaid import`"
        )


@contextlib.asynccontextmanager
async def opened(data: str | None, *, make: bool = False, settings: Settings | None = None) -> AsyncIterator[App]:
    """The store, open and migrated. With ``make`` it is made where it is missing; its keys are not."""
    given = settings or load(data=data).settings
    log_to_stderr(given.log_level)
    if not make:
        require_store(given)
    app = App(given)
    try:
        await app.open(keys=False)
        yield app
    finally:
        await app.db.close()


def moved(settings: Settings, data: str) -> Settings:
    """The settings with an embedded store in another folder."""
    return msgspec.structs.replace(settings, data=data, database_url=None)


async def workspace_of(app: App, named: str | None) -> Workspace:
    """The workspace that an option names, else the first one. *Raises* ``NotFound``."""
    if named is None:
        return (await access.default_workspace(app.db))[0]
    try:
        return await access.get_workspace(app.db, named)
    except NotFound:
        known = ", ".join(workspace.name for workspace in await access.list_workspaces(app.db))
        raise Refused(f"there is no workspace {named!r}; there are: {known}") from None


async def operator(app: App, named: str | None) -> Caller:
    """Who runs the command, in the named workspace: may do everything there."""
    workspace = await workspace_of(app, named)
    return Caller(
        workspace=workspace.workspace, workspace_id=workspace.id, key_id=OPERATOR, kind="secret", label=OPERATOR
    )


def log_to_stderr(level: str) -> None:
    """Logs go to standard error, one line each."""
    logging.basicConfig(level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
