"""Stores of both engines for tests: opened, migrated, closed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from aforesaid.core import access, conversations, messages
from aforesaid.jobs import Runner
from aforesaid.model import Caller, Conversation, Draft, Message, Stored, Workspace
from aforesaid.store import workspaces
from aforesaid.store.database import Database
from aforesaid.store.migrate import migrate
from aforesaid.store.postgres import PostgresDatabase
from aforesaid.store.sqlite import SqliteDatabase

R = TypeVar("R")

PEPPER = b"pepper of the tests"
START_US = 1_700_000_000_000_000


def database(url: str) -> Database:
    """The database behind the ``database_url`` fixture, not opened yet."""
    return PostgresDatabase(url) if url.startswith("postgresql://") else SqliteDatabase(Path(url))


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """The migrated database, closed at the end."""
    db = database(url)
    await db.open()
    try:
        await migrate(db)
        yield db
    finally:
        await db.close()


def in_store(url: str, fn: Callable[[Database], Awaitable[R]]) -> R:
    """What ``fn`` gives with the open, migrated database."""

    async def run() -> R:
        async with opened(url) as db:
            return await fn(db)

    return asyncio.run(run())


async def add_caller(db: Database, name: str) -> Caller:
    """Somebody with every permission in a new workspace of that name."""
    made = await db.write(workspaces.add_workspace, name)
    return caller_of(made)


def caller_of(workspace: Workspace) -> Caller:
    """Somebody with every permission in the workspace."""
    return Caller(workspace=workspace.workspace, workspace_id=workspace.id, key_id="key", kind="secret")


def keyring(db: Database) -> access.Keyring:
    """A keyring of the tests' own pepper."""
    return access.Keyring(db, PEPPER)


async def add_conversation(
    db: Database, caller: Caller, owner_id: str | None = "ann", title: str | None = None
) -> Conversation:
    """A new, empty conversation."""
    change = conversations.Change(owner_id=owner_id, title=title)
    return await db.write(conversations.add, caller, change)


async def add_messages(db: Database, caller: Caller, reference: str | int, *drafts: Draft) -> Stored:
    """The drafts are stored in the conversation."""
    return await db.write(messages.add, caller, reference, drafts)


def draft(text: str, at: int | None = None, *, role: str = "user", sender: str | None = None) -> Draft:
    """A message; with ``at`` seconds after the start of the tests' time, it has an identity."""
    created = None if at is None else START_US + at * 1_000_000
    return Draft(content=text, role=role, sender_id=sender, created_us=created)


async def all_messages(db: Database, caller: Caller, reference: str | int) -> list[Message]:
    """Every message of a conversation, in its order."""
    page = await messages.list_(db, caller, messages.Filter(), conversation=reference, limit=100_000)
    return page.items


async def index_all(db: Database) -> int:
    """Every due job has been run. *Gives* how many."""
    return await Runner(db).drain()
