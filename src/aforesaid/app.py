"""The composition root: settings in, running parts out, in the order in which they start and stop."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from aforesaid import __version__
from aforesaid.core import access, completion, indexing, upkeep
from aforesaid.core.recollection import Recollection
from aforesaid.core.services import Options, Services
from aforesaid.errors import Invalid
from aforesaid.jobs import Runner
from aforesaid.model import KeyKind, Workspace
from aforesaid.providers.chat import Chat, Chats
from aforesaid.settings import Settings
from aforesaid.store.database import Database
from aforesaid.store.keys import count_keys
from aforesaid.store.migrate import migrate
from aforesaid.store.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log = logging.getLogger("aforesaid")

DATABASE_FILE = "aforesaid.db"
UPKEEP_S = 30.0
"""How often kept answers are aged out and last uses of keys are stored."""


class FirstStart:
    """What the first start made, to be shown once: secrets are kept nowhere."""

    def __init__(self) -> None:
        self.workspace: Workspace | None = None
        self.keys: dict[KeyKind, str] = {}
        self.registered: set[KeyKind] = set()


def database_of(settings: Settings) -> Database:
    """The store that the settings name, not opened yet."""
    if settings.database_url:
        from aforesaid.store.postgres import PostgresDatabase  # a sixth of a second that the embedded store needs not

        return PostgresDatabase(settings.database_url)
    return SqliteDatabase(Path(settings.data) / DATABASE_FILE)


def chat_of(settings: Settings) -> Chat:
    """What answers completions."""
    embedded: Chat | None = None
    if settings.local_model and not settings.upstreams:
        from aforesaid.providers.local_model import GenerativeAnswerer

        embedded = GenerativeAnswerer()
    return Chats(settings.upstreams, embedded)


def default_model(settings: Settings) -> str | None:
    """Who answers where a request names no model, as far as the settings say: a whole name, never a pattern."""
    named = (model for upstream in settings.upstreams for model in upstream.models if not set(model) & set("*?["))
    return settings.default_model or next(named, None)


class App:
    """The running parts of one process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.db = database_of(settings)
        self.chat = chat_of(settings)
        self.recollection = Recollection(settings.index_cache_mib << 20)
        self.runner = Runner(self.db)
        self.first = FirstStart()
        self.keyring: access.Keyring
        self.services: Services
        self._upkeep: asyncio.Task[None] | None = None

    async def open(self, *, keys: bool = True) -> None:
        """The store is open, migrated and has its workspace; with ``keys``, these too. Nothing listens or works yet."""
        await self.db.open()
        await migrate(self.db)
        if await indexing.ensure_current(self.db):
            log.warning("the text index is of an older kind: it is made anew in the background")
        self.keyring = access.Keyring(self.db, await access.load_pepper(self.db, self.settings.secret))
        await self._ensure(keys)
        options = Options(
            recall_budget_s=self.settings.recall_budget_ms / 1000,
            recall_items=self.settings.recall_items,
            recall_tokens=self.settings.recall_tokens,
            default_model=default_model(self.settings),
            legacy_unauthenticated=self.settings.legacy_unauthenticated,
            version=__version__,
        )
        self.services = Services(self.db, self.keyring, self.chat, self.recollection, options)

    async def start(self, *, jobs: bool | None = None) -> None:
        """Everything runs."""
        await self.chat.start()
        self.db.on_wake = self.runner.wake
        if self.settings.jobs if jobs is None else jobs:
            self.runner.start()
        self._upkeep = asyncio.create_task(self._keep_up(), name="upkeep")

    async def stop(self) -> None:
        """What was accepted is stored, and everything is closed."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._upkeep
        await completion.settle()
        await self.runner.stop()
        await self.chat.stop()
        with contextlib.suppress(Exception):
            await self.keyring.flush_used()
        await self.db.close()

    async def _ensure(self, keys: bool) -> None:
        """There is a workspace; it has the keys that the settings give, or new ones where it has none at all."""
        workspace, _ = await access.default_workspace(self.db)
        if not keys:
            return
        keyless = not await self.db.read(count_keys, workspace.workspace)
        self.first.workspace = workspace if keyless else None
        given: dict[KeyKind, str | None] = {"secret": self.settings.api_key, "anon": self.settings.anon_key}
        for kind, secret in given.items():
            if secret is not None:
                if await self.keyring.holds(secret) is None:
                    with contextlib.suppress(Invalid):  # another process was quicker
                        await self.keyring.add(workspace, kind, secret=secret)
                self.first.registered.add(kind)
            elif keyless:
                _, self.first.keys[kind] = await self.keyring.add(workspace, kind)

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_S)
            try:
                await self.keyring.flush_used()
                await upkeep.age_out(self.db)
            except Exception:
                log.exception("upkeep failed")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["App"]:
        """Open and started here, stopped at the end."""
        await self.open()
        await self.start()
        try:
            yield self
        finally:
            await self.stop()


def asgi(app: App) -> "ASGIApp":
    """The application as an ASGI server runs it; ``app`` is open."""
    from aforesaid.http import api
    from aforesaid.http.server import application

    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        await app.start()
        try:
            yield
        finally:
            await app.stop()

    return application(api.table(app.services), api.dialect_of, lifespan)
