"""Small blocks of the text index become large ones under the feet of those who read them."""

from aforesaid.core import indexing
from aforesaid.core.recollection import Recollection, Search
from aforesaid.store import texts
from aforesaid.store.database import Database
from tests.support.stores import START_US, add_caller, add_conversation, add_messages, draft, in_store, index_all


def test_a_reader_that_knows_some_of_the_folded_blocks_finds_everything_once(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)

        async def found(held: Recollection) -> list[tuple[str, float]]:
            wanted = Search(query="zebra at the river", user_id="ann", limit=100, asked_us=START_US)
            hits = await db.read(held.hits, caller, wanted)
            return [(hit.message.content, round(hit.score, 9)) for hit in hits if hit.message]

        async def tell(number: int) -> None:
            text = f"zebra {number} {'at the river' if number % 3 else 'in the garden'}"
            await add_messages(db, caller, home.number, draft(text))
            await index_all(db)

        early, late = Recollection(), Recollection()
        for number in range(indexing.SMALL_BLOCKS - 1):
            await tell(number)
            if number == 4:
                await found(early)
        assert len(await db.read(texts.list_block_sizes, caller.workspace, "ann")) == indexing.SMALL_BLOCKS - 1
        await found(late)
        generation, _ = await db.read(texts.get_scope, caller.workspace, "ann")
        await tell(99)
        assert len(await db.read(texts.list_block_sizes, caller.workspace, "ann")) == 1
        folded, _ = await db.read(texts.get_scope, caller.workspace, "ann")
        assert folded != generation  # writers notice
        assert texts.content_of(folded) == texts.content_of(generation)  # readers go on
        cold = await found(Recollection())
        assert len(cold) == indexing.SMALL_BLOCKS
        assert await found(early) == cold == await found(late)

    in_store(database_url, run)
