"""What is stored becomes searchable, stays so, and the ranking depends on nothing but what is stored."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from aforesaid.core import conversations, indexing, messages, overview
from aforesaid.core.conversations import Change
from aforesaid.core.recollection import Recollection, Search
from aforesaid.core.textindex import unpack
from aforesaid.jobs import Runner
from aforesaid.model import Caller, Draft, Job
from aforesaid.store import jobs as job_store
from aforesaid.store import texts
from aforesaid.store.database import Database, Tx
from tests.support.stores import (
    START_US,
    add_caller,
    add_conversation,
    add_messages,
    draft,
    in_store,
    index_all,
    opened,
)

WORDS = "zebra lion river lantern copper orchard violin harbour thunder maple silver engine garden winter".split()
QUERIES = ["zebra", "lion river", "the copper lantern in winter", "violins and orchards?", "harbour!", "zébra"]
Ranking = list[list[tuple[str, float]]]


def corpus(count: int, seed: int = 5) -> list[tuple[int, Draft]]:
    """(conversation, message) pairs whose words are drawn at random."""
    rng = random.Random(seed)
    return [
        (
            rng.randrange(4),
            Draft(
                content=" ".join(rng.choices(WORDS, k=rng.randint(1, 25))),
                role=rng.choice(["user", "assistant"]),
                sender_id=rng.choice(["ann", "bot", "eve"]),
                created_us=START_US + i * 60_000_000,
                external_id=f"m{i}",
            ),
        )
        for i in range(count)
    ]


@pytest.fixture
def by_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a single message is indexed by a job."""
    monkeypatch.setattr(indexing, "AT_ONCE_MESSAGES", 0)


async def load(db: Database, caller: Caller, rows: list[tuple[int, Draft]], size: int, *, indexed: bool) -> None:
    """The rows stand in four conversations, brought in batches of that size."""
    change = Change(owner_id="ann")
    homes = [await db.write(conversations.add, caller, change, created_us=START_US + i) for i in range(4)]
    for start in range(0, len(rows), size):
        part: list[tuple[str | int, Draft]] = [(homes[k].number, row) for k, row in rows[start : start + size]]
        await db.write(messages.add_batch, caller, part)
        if indexed:
            await index_all(db)
    await index_all(db)


async def ranking(db: Database, caller: Caller, held: Recollection | None = None, limit: int = 30) -> Ranking:
    """What each query finds: the outside names of the messages and their scores."""
    held = held or Recollection()
    out = []
    for query in QUERIES:
        hits = await db.read(held.hits, caller, Search(query=query, user_id="ann", limit=limit, asked_us=START_US))
        out.append([(str(hit.message.external_id), round(hit.score, 9)) for hit in hits if hit.message])
    return out


@pytest.mark.usefixtures("by_jobs")
def test_messages_become_searchable_and_say_so(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        stored = await db.write(messages.add, caller, home.number, [draft("a zebra")], enable_memories=True)
        said = stored.messages[0]
        state = await overview.get_indexing(db, caller, "ann")
        assert (state.pending, state.parked) == (1, 1)
        _, jobs = await messages.get_status(db, caller, said.id)
        assert jobs == {"index_text": "queued", "extract_memories": "parked"}
        assert messages.unsearchable(jobs)
        held = Recollection()
        search = Search(query="zebra", user_id="ann")
        assert await db.read(held.hits, caller, search) == []
        assert await index_all(db) == 1
        state = await overview.get_indexing(db, caller, "ann")
        assert (state.pending, state.parked, state.failed) == (0, 1, 0)
        _, jobs = await messages.get_status(db, caller, said.id)
        assert jobs == {"extract_memories": "parked"}
        assert not messages.unsearchable(jobs)
        (hit,) = await db.read(held.hits, caller, search)
        assert hit.message_ids == (said.id,)
        assert await index_all(db) == 0  # what is parked never blocks and is never run

    in_store(database_url, run)


def test_a_few_messages_are_found_by_the_next_question(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        held = Recollection()
        search = Search(query="zebra", user_id="ann")
        for count in range(1, indexing.SMALL_BLOCKS + 1):
            await add_messages(db, caller, home.number, draft(f"zebra {count}"))
            assert len(await db.read(held.hits, caller, search)) == min(count, 10)
            assert (await overview.get_indexing(db, caller, "ann")).pending == 0
        kinds = (await overview.get_indexing(db, caller, "ann")).kinds
        assert kinds == {"fold_text": {"queued": 1}}
        assert await index_all(db) == 1
        assert await db.read(texts.list_block_sizes, caller.workspace, "ann") == [(16, 16)]

        many = [draft(f"gnu {i}") for i in range(indexing.AT_ONCE_MESSAGES + 1)]
        await add_messages(db, caller, home.number, *many)
        await add_messages(db, caller, home.number, draft("gnu " * indexing.AT_ONCE_CHARACTERS))
        assert (await overview.get_indexing(db, caller, "ann")).pending == 2
        assert await index_all(db) == 2
        assert await indexed_messages(db, caller) == 16 + len(many) + 1

    in_store(database_url, run)


def test_what_comes_while_something_is_to_be_forgotten_waits_for_it(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        await add_messages(db, caller, home.number, draft("zebra"))
        for owner in ("ben", "ann"):  # away and back: the index of ann has it to forget
            await db.write(conversations.change, caller, home.id, Change(owner_id=owner))
        await add_messages(db, caller, home.number, draft("another zebra"))
        await index_all(db)
        hits = await db.read(Recollection().hits, caller, Search(query="zebra", user_id="ann"))
        assert len(hits) == 2

    in_store(database_url, run)


@pytest.mark.usefixtures("by_jobs")
def test_the_status_finds_a_job_behind_thousands(tmp_path: Path) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        last = (await add_messages(db, caller, home.number, draft("first"))).messages[0]
        for i in range(1100):
            last = (await add_messages(db, caller, home.number, draft(f"m{i}"))).messages[0]
        _, jobs = await messages.get_status(db, caller, last.id)
        assert jobs == {"index_text": "queued"}

    in_store(str(tmp_path / "a.db"), run)


def test_edits_and_removals_reach_the_index(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        drafts = [draft("zebra"), draft("zebra and lion"), draft("river")]
        one, two, three = (await add_messages(db, caller, home.number, *drafts)).messages
        held = Recollection()

        async def found(query: str, **more: Any) -> set[str]:
            hits = await db.read(held.hits, caller, Search(query=query, user_id="ann", **more))
            return {hit.id for hit in hits}  # neighbours of what was named among them

        async def named(query: str) -> set[str]:
            hits = await db.read(held.hits, caller, Search(query=query, user_id="ann"))
            return {hit.id for hit in hits if hit.message and query in hit.message.content}

        # An edit before the first indexing, and one after.
        await db.write(messages.change, caller, one.id, messages.Change(content="copper"))
        await index_all(db)
        assert await named("zebra") == {two.id}
        assert await named("copper") == {one.id}
        await db.write(messages.change, caller, two.id, messages.Change(content="lantern"))
        _, jobs = await messages.get_status(db, caller, two.id)
        assert jobs == {"reindex_text": "queued"}
        await index_all(db)
        assert await found("zebra") == set()
        assert await named("lantern") == {two.id}
        await db.write(messages.change, caller, two.id, messages.Change(sender_id="eve"))
        await index_all(db)
        assert two.id not in await found("lantern", sender_id="ann")
        assert await found("lantern", sender_id="eve") == {two.id}
        # Removed, it is not found even before its job has run.
        await db.write(messages.remove, caller, three.id)
        assert three.id not in await found("river")
        await index_all(db)
        assert await found("river") == set()
        # A change that does not touch the text makes no work.
        await db.write(messages.change, caller, one.id, messages.Change(tags=("t",)))
        assert (await overview.get_indexing(db, caller, "ann")).pending == 0

    in_store(database_url, run)


def test_the_ranking_is_the_same_on_both_engines_in_any_batches_and_after_a_restart(
    postgres_url: str, tmp_path: Path
) -> None:
    rows = corpus(400)
    found: dict[str, Ranking] = {}

    async def run(url: str, name: str, size: int, indexed: bool) -> None:
        async with opened(url) as db:
            caller = await add_caller(db, name)
            await load(db, caller, rows, size, indexed=indexed)
            held = Recollection()
            found[name] = await ranking(db, caller, held)
            assert await ranking(db, caller, held) == found[name]  # the index has another form by now
        async with opened(url) as db:
            assert await ranking(db, caller) == found[name]

    for name, url, size, indexed in (
        ("sqlite, at once", str(tmp_path / "a.db"), 400, False),
        ("sqlite, small", str(tmp_path / "b.db"), 7, True),
        ("sqlite, single jobs", str(tmp_path / "c.db"), 1, False),
        ("postgresql", postgres_url, 50, True),
    ):
        asyncio.run(run(url, name, size, indexed))
    first = found["sqlite, at once"]
    assert all(len(part) == 30 for part in first[:3])
    for name, other in found.items():
        assert other == first, name


def test_importing_again_changes_no_ranking(database_url: str) -> None:
    rows = corpus(150)

    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        await load(db, caller, rows, 40, indexed=True)
        before = await ranking(db, caller)
        page = await conversations.list_(db, caller, conversations.Filter(), sort="created_at", descending=False)
        for size in (11, 150):
            for start in range(0, len(rows), size):
                part: list[tuple[str | int, Draft]] = [
                    (page.items[k].number, row) for k, row in rows[start : start + size]
                ]
                assert (await db.write(messages.add_batch, caller, part)).created == 0
            assert await index_all(db) == 0
        assert await ranking(db, caller) == before

    in_store(database_url, run)


def test_folding_small_blocks_changes_no_ranking(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = corpus(90)

    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        monkeypatch.setattr(indexing, "SMALL_BLOCKS", 10_000)
        held = Recollection()
        with monkeypatch.context() as once:
            once.setattr(indexing, "AT_ONCE_MESSAGES", 0)
            await load(db, caller, rows, 3, indexed=True)
        before = await ranking(db, caller, held)
        blocks = await db.read(texts.list_block_sizes, caller.workspace, "ann")
        assert len(blocks) == 30
        monkeypatch.setattr(indexing, "SMALL_BLOCKS", 16)
        home = await add_conversation(db, caller)
        for text in ("something else entirely", "and so on"):  # the 32nd block asks for the folding
            await add_messages(db, caller, home.number, draft(text))
        await index_all(db)
        folded = await db.read(texts.list_block_sizes, caller.workspace, "ann")
        assert len(folded) == 1
        assert sum(size for _, size in folded) == 92
        # The index in memory follows the new generation, a cold one reads it whole: both agree.
        assert await ranking(db, caller, held) == await ranking(db, caller)
        await db.write(conversations.remove, caller, home.id)
        await index_all(db)
        assert await ranking(db, caller, held) == before == await ranking(db, caller)

    in_store(database_url, run)


def test_removing_leaves_the_ranking_of_never_having_had_it(database_url: str) -> None:
    rows = corpus(120)

    async def run(db: Database) -> None:
        caller, other = await add_caller(db, "one"), await add_caller(db, "two")
        await load(db, caller, rows, 25, indexed=True)
        before = await ranking(db, caller)
        home = await add_conversation(db, caller)
        extra = corpus(200, seed=77)
        drafts = [Draft(content=row.content, external_id=f"x{i}") for i, (_, row) in enumerate(extra)]
        await add_messages(db, caller, home.number, *drafts)
        await index_all(db)
        assert await ranking(db, caller) != before
        await db.write(conversations.remove, caller, home.id)
        await index_all(db)
        assert await ranking(db, caller) == before
        # What another workspace holds under the same user's name changes nothing either.
        await load(db, other, [(k, row) for k, row in corpus(60, seed=9)], 60, indexed=True)
        assert await ranking(db, caller) == before

    in_store(database_url, run)


async def claimed(db: Database) -> list[Job]:
    return await db.write(job_store.claim_jobs, ["index_text", "reindex_text", "forget_text"], 64, 20_000_000, 8)


async def run_out(db: Database) -> None:
    await db.write(lambda tx: tx.run("update job set lease_until_us = 1 where state = 'running'"))


async def indexed_messages(db: Database, caller: Caller) -> int:
    return sum(size for _, size in await db.read(texts.list_block_sizes, caller.workspace, "ann"))


@pytest.mark.usefixtures("by_jobs")
def test_a_runner_that_lost_its_lease_adds_nothing(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        await add_messages(db, caller, home.number, *(draft(f"zebra {i}") for i in range(5)))
        late = await claimed(db)
        await run_out(db)
        assert await index_all(db) == 1
        assert await indexed_messages(db, caller) == 5
        with pytest.raises(indexing.ScopeChanged):
            await indexing.run(db, late)
        assert await indexed_messages(db, caller) == 5
        assert (await overview.get_indexing(db, caller, None)).pending == 0

    in_store(database_url, run)


@pytest.mark.usefixtures("by_jobs")
def test_what_is_removed_while_it_is_being_indexed_does_not_come_back(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        await add_messages(db, caller, home.number, draft("zebra"))
        underway = await claimed(db)
        entries = await db.read(indexing._entries, caller.workspace, "ann", home.number, 1, 1)
        assert len(entries) == 1  # one runner has read the text
        await db.write(conversations.remove, caller, home.id)
        await index_all(db)  # another one has forgotten it
        with pytest.raises(indexing.ScopeChanged):  # and the first goes on to store what it read
            await db.write(indexing._add, caller.workspace, "ann", indexing._packed(entries), underway)
        assert await indexed_messages(db, caller) == 0

    in_store(database_url, run)


def test_one_bad_job_of_a_group_does_not_do_the_others_twice(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        await add_messages(db, caller, home.number, *(draft(f"zebra {i}") for i in range(5)))
        await db.write(job_store.add_job, caller.workspace, "ann", "reindex_text", {"no": "conversation"})
        await add_messages(db, caller, home.number, *(draft(f"lion {i}") for i in range(5)))
        await Runner(db).run_once()
        assert await indexed_messages(db, caller) == 10
        (bad,) = await db.read(job_store.list_jobs, caller.workspace)
        assert (bad.kind, bad.state) == ("reindex_text", "queued")

    in_store(database_url, run)


@pytest.mark.parametrize("seed", range(4))
def test_any_life_ends_with_the_index_of_what_is_left(database_url: str, seed: int) -> None:
    """Random writes with jobs run, lost and run again in between, by several runners: then every message is indexed
    exactly once, and nothing else is."""
    rng = random.Random(seed)

    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        homes = [(await add_conversation(db, caller, rng.choice(["ann", "ben"]))).id for _ in range(3)]
        runners = [Runner(db), Runner(db)]

        async def act() -> None:
            home = rng.choice(homes)
            page = await messages.list_(db, caller, messages.Filter(), conversation=home)
            deed = rng.random()
            if deed < 0.45:
                rows = [draft(" ".join(rng.choices(WORDS, k=4))) for _ in range(rng.randint(1, 4))]
                await add_messages(db, caller, home, *rows)
            elif deed < 0.6 and page.items:
                text = " ".join(rng.choices(WORDS, k=3))
                await db.write(messages.change, caller, rng.choice(page.items).id, messages.Change(content=text))
            elif deed < 0.7 and page.items:
                await db.write(messages.remove, caller, rng.choice(page.items).id)
            elif deed < 0.85:
                await db.write(conversations.change, caller, home, Change(owner_id=rng.choice(["ann", "ben"])))
            elif deed < 0.9:
                await db.write(conversations.remove, caller, home)
                homes.remove(home)
                homes.append((await add_conversation(db, caller, rng.choice(["ann", "ben"]))).id)
            else:
                await claimed(db)  # by somebody who dies
                await run_out(db)

        for _ in range(80):
            await asyncio.gather(act(), *(runner.run_once() for runner in runners if rng.random() < 0.4))
        await run_out(db)
        while (await overview.get_indexing(db, caller, None)).pending:
            await db.write(lambda tx: tx.run("update job set run_at_us = 0 where state = 'queued'"))
            await index_all(db)
        assert (await overview.get_indexing(db, caller, None)).failed == 0
        for user in ("ann", "ben"):
            held = await db.read(stored_index, caller, user)
            said = await messages.list_(db, caller, messages.Filter(owner_id=user), limit=1000)
            assert held == sorted((m.conversation, m.seq) for m in said.items), user
            for word in WORDS[:4]:
                wanted = Search(query=word, user_id=user, limit=200)
                hits = await db.read(Recollection().hits, caller, wanted)
                named = {hit.id for hit in hits if hit.message and word in hit.message.content.split()}
                assert named == {m.id for m in said.items if word in m.content.split()}, word

    in_store(database_url, run)


def stored_index(tx: Tx, caller: Caller, user: str) -> list[tuple[int, int]]:
    """The (conversation, seq) of everything in the stored blocks, as often as it is there."""
    out: list[tuple[int, int]] = []
    for _, data in texts.list_blocks(tx, caller.workspace, user):
        columns = unpack(data)
        out += zip(columns.conversation.tolist(), columns.seq.tolist(), strict=True)
    return sorted(out)
