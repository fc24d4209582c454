"""A store whose text index another version made: it is made anew, and nothing but the index is touched."""

from pathlib import Path

import pytest

from aforesaid.app import App
from aforesaid.core import access, conversations, indexing, messages, recollection
from aforesaid.model import Caller, Draft
from aforesaid.settings import Settings
from aforesaid.store import workspaces
from aforesaid.store.database import Tx


def settings_of(database_url: str) -> Settings:
    if database_url.startswith("postgresql"):
        return Settings(database_url=database_url)
    return Settings(data=str(Path(database_url).parent))


async def caller_of(app: App) -> Caller:
    workspace, _ = await access.default_workspace(app.db)
    return Caller(workspace=workspace.workspace, workspace_id=workspace.id, key_id="key_test", kind="secret")


@pytest.mark.parametrize("version", ["0.0", "9.9"])
def test_an_index_of_another_version_is_made_anew(database_url: str, version: str) -> None:
    import asyncio

    async def scenario() -> None:
        app = App(settings_of(database_url))
        await app.open()
        caller = await caller_of(app)
        change = conversations.Change(owner_id="ada")

        def bring(tx: Tx) -> None:
            made = conversations.add(tx, caller, change)
            messages.add(tx, caller, made.id, [Draft(content=f"The {word} is blue.") for word in ("kettle", "lamp")])

        await app.db.write(bring)
        await app.runner.drain()
        wanted = recollection.Search(query="Which kettle?", user_id="ada")
        before = await recollection.search(app.db, app.recollection, caller, wanted)
        assert [hit.message.content for hit in before if hit.message][:1] == ["The kettle is blue."]

        await app.db.write(workspaces.replace_meta, indexing.TEXT_VERSION, version)
        assert await indexing.ensure_current(app.db)
        assert await recollection.search(app.db, app.recollection, caller, wanted) == []
        await app.runner.drain()
        after = await recollection.search(app.db, app.recollection, caller, wanted)
        assert [(hit.id, hit.score) for hit in after] == [(hit.id, hit.score) for hit in before]
        assert not await indexing.ensure_current(app.db)
        await app.db.close()

    asyncio.run(scenario())
