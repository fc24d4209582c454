"""Conversations on both engines: made, changed, listed while they change, and gone without a rest."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from aforesaid import ids, limits
from aforesaid.core import conversations, messages, once, recollection
from aforesaid.core.conversations import Change
from aforesaid.errors import Invalid, NotFound, TooLarge
from aforesaid.model import Caller, Conversation, Draft, Receipt
from aforesaid.store import jobs as job_store
from aforesaid.store import turns
from aforesaid.store.database import Database, Tx
from tests.support.stores import (
    START_US,
    add_caller,
    add_conversation,
    add_messages,
    all_messages,
    draft,
    in_store,
    index_all,
    opened,
)


async def change(db: Database, caller: Caller, of: Conversation, **given: Any) -> Conversation:
    return await db.write(conversations.change, caller, of.id, Change(**given))


def test_what_is_not_given_stays_and_null_clears(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        full = Change(
            title="t", summary="s", is_public=True, collections=["b", "a", "b"], meta_data={"m": 1},
            settings={"x": [1]}, owner_id="ann", status="archived",
        )  # fmt: skip
        made = await db.write(conversations.add, caller, full)
        assert made.collections == ("b", "a")
        kept = await change(db, caller, made, title="new")
        for name in (
            "summary",
            "is_public",
            "collections",
            "meta_data",
            "settings",
            "owner_id",
            "status",
            "created_us",
        ):
            assert getattr(kept, name) == getattr(made, name), name
        assert kept.title == "new"
        assert kept.updated_us >= made.updated_us
        bare = await change(
            db, caller, made, title=None, summary=None, is_public=None, collections=None, meta_data=None, settings=None,
            owner_id=None,
        )  # fmt: skip
        assert (bare.title, bare.summary, bare.is_public, bare.collections) == (None, None, False, ())
        assert (bare.meta_data, bare.settings, bare.owner_id) == (None, None, None)
        assert await conversations.get(db, caller, made.number) == bare

    in_store(database_url, run)


def test_ends_and_statuses(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")

        async def state(of: Conversation, **given: Any) -> tuple[str, bool]:
            after = await change(db, caller, of, **given)
            return after.status, after.ended_us is not None

        home = await add_conversation(db, caller)
        assert await state(home, status="ended") == ("ended", True)
        first = (await conversations.get(db, caller, home.id)).ended_us
        assert (await db.write(conversations.end, caller, home.id)).ended_us == first
        assert (await change(db, caller, home, status="ended", title="x")).ended_us == first
        assert await state(home, status="archived") == ("archived", True)
        assert await state(home, status="active") == ("active", False)
        assert await state(home, ended_us=5) == ("ended", True)
        assert (await conversations.get(db, caller, home.id)).ended_us == 5
        assert await state(home, ended_us=None) == ("active", False)
        assert await state(home, status="ended", ended_us=7) == ("ended", True)
        assert await state(home, status=None) == ("ended", True)
        for given in ({"status": "active", "ended_us": 5}, {"status": "gone"}, {"status": "Active"}):
            with pytest.raises(Invalid):
                await change(db, caller, home, **given)
        assert (await conversations.get(db, caller, home.id)).ended_us == 7
        # Ending what has ended is no activity.
        before = await conversations.get(db, caller, home.id)
        assert await db.write(conversations.end, caller, home.id) == before
        assert await conversations.get(db, caller, home.id) == before

    in_store(database_url, run)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"title": "x" * 256}, "title"),
        ({"title": "\x00"}, "title"),
        ({"title": "\ud800"}, "title"),
        ({"summary": "x" * 20_001}, "summary"),
        ({"owner_id": ""}, "user_id"),
        ({"owner_id": "  "}, "user_id"),
        ({"owner_id": "x" * 257}, "user_id"),
        ({"owner_id": "a\x00"}, "user_id"),
        ({"collections": [""]}, "collections"),
        ({"collections": ["x"] * 1001}, "collections"),
        ({"meta_data": {"a": "\x00"}}, "meta_data"),
        ({"settings": {"\x00": 1}}, "settings"),
    ],
)
def test_what_can_not_be_kept_is_refused_by_name(tmp_path: Path, bad: dict[str, Any], field: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        with pytest.raises(Invalid) as refused:
            await change(db, caller, home, **bad)
        assert refused.value.field[0] == field
        with pytest.raises(Invalid):
            await db.write(conversations.add, caller, Change(**bad))
        assert await conversations.get(db, caller, home.id) == home
        with pytest.raises(TooLarge):
            await change(db, caller, home, meta_data={"a": "x" * limits.METADATA_BYTES})

    in_store(str(tmp_path / "a.db"), run)


def test_users_are_compared_exactly(database_url: str) -> None:
    """No two of these are one user, and none of them is everybody."""
    users = [
        "ann", "Ann", "ANN", "ann ", " ann", "*", "%", "_", "ａｎｎ", "ann\u200b", "e\u0301", "\u00e9", "null", "None",
        "'", '"', "\\", "ann*", "a%", "0", "00", "∅", "ſ", "s", "ı", "i",
    ]  # fmt: skip

    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        for user in users:
            home = await add_conversation(db, caller, user, user)
            await add_messages(db, caller, home.number, draft(f"zebra {users.index(user)}"))
        await index_all(db)
        held = recollection.Recollection()
        for user in users:
            wanted = conversations.Filter(owner_id=user)
            page = await conversations.list_(db, caller, wanted, skip=0, limit=99)
            assert [item.owner_id for item in page.items] == [user]
            said = await messages.list_(db, caller, messages.Filter(owner_id=user))
            assert [m.content for m in said.items] == [f"zebra {users.index(user)}"]
            hits = await recollection.search(db, held, caller, recollection.Search(query="zebra", user_id=user))
            assert [hit.message.content for hit in hits if hit.message] == [f"zebra {users.index(user)}"]
        for blank in ("", " ", "\t\n"):
            with pytest.raises(Invalid):
                await recollection.search(db, held, caller, recollection.Search(query="zebra", user_id=blank))
        with pytest.raises(Invalid):
            await recollection.search(db, held, caller, recollection.Search(query="zebra"))

    in_store(database_url, run)


SORTED = [(sort, down) for sort in conversations.SORTS for down in (True, False)]


@pytest.mark.parametrize(("sort", "down"), SORTED)
def test_paging_finds_each_once_while_rows_come_change_and_go(database_url: str, sort: str, down: bool) -> None:
    rng = random.Random(f"{sort}{down}")

    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        rows = [
            await add_conversation(db, caller, "ann", rng.choice([None, "same", "Same", f"t{i}", "ü"]))
            for i in range(40)
        ]
        still = {row.id for row in rows}
        seen: list[str] = []
        cursor = None
        while True:
            page = await conversations.list_(
                db, caller, conversations.Filter(), sort=sort, descending=down, cursor=cursor, limit=6
            )
            seen += [item.id for item in page.items]
            cursor = page.next_cursor
            assert page.has_more == (cursor is not None)
            if cursor is None:
                break
            # Between two pages, the row behind the cursor goes, another changes, and a new one comes.
            for touched in (page.items[-1], rng.choice(rows)):
                still.discard(touched.id)
                try:
                    if rng.random() < 0.5:
                        await db.write(conversations.remove, caller, touched.id)
                    else:
                        await change(db, caller, touched, title=f"moved {rng.random()}")
                except NotFound:
                    pass
            await add_conversation(db, caller, "ann", f"new {rng.random()}")
        assert still <= set(seen)
        for one in still:
            assert seen.count(one) == 1

    in_store(database_url, run)


@pytest.mark.parametrize(("sort", "down"), SORTED)
def test_paging_back_leads_where_one_came_from(tmp_path: Path, sort: str, down: bool) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        for i in range(17):
            await add_conversation(db, caller, "ann", f"t{i % 5}")

        async def page(cursor: str | None = None, *, back: bool = False) -> tuple[list[str], str | None, str | None]:
            found = await conversations.list_(
                db, caller, conversations.Filter(), sort=sort, descending=down, cursor=cursor, backwards=back, limit=5
            )
            return [item.id for item in found.items], found.next_cursor, found.prev_cursor

        forward = []
        items, following, before = await page()
        assert before is None
        forward.append(items)
        while following is not None:
            items, following, before = await page(following)
            forward.append(items)
        assert [len(part) for part in forward] == [5, 5, 5, 2]
        backward = [items]
        while before is not None:
            items, following, before = await page(before, back=True)
            backward.append(items)
            assert following is not None
        assert backward[::-1] == forward
        assert (await page(following))[0] == forward[1]

    in_store(str(tmp_path / "a.db"), run)


def test_cursors_of_another_order_another_kind_or_another_workspace_are_refused(tmp_path: Path) -> None:
    async def run(db: Database) -> None:
        caller, other = await add_caller(db, "one"), await add_caller(db, "two")
        for i in range(3):
            await add_conversation(db, caller, "ann", f"t{i}")
        foreign = await add_conversation(db, other)
        page = await conversations.list_(db, caller, conversations.Filter(), limit=1)
        for cursor in ("x", "", "e30", "W10", "bnVsbA", "\ud800", "ü", "a" * 5000, foreign.id, str(foreign.number)):
            with pytest.raises(Invalid) as refused:
                await conversations.list_(db, caller, conversations.Filter(), cursor=cursor)
            assert refused.value.field == ("query", "cursor")
        with pytest.raises(Invalid):
            await conversations.list_(db, caller, conversations.Filter(), sort="title", cursor=page.next_cursor)
        with pytest.raises(Invalid):
            await conversations.list_(db, caller, conversations.Filter(), sort="colour")
        # An id serves as well, as long as there is such a conversation.
        after = await conversations.list_(db, caller, conversations.Filter(), cursor=page.items[0].id)
        assert len(after.items) == 2
        # A cursor of one workspace shows another one its own rows only.
        theirs = await conversations.list_(db, other, conversations.Filter(), sort="updated_at", descending=False,
                                           cursor=page.next_cursor)  # fmt: skip
        assert {item.id for item in theirs.items} <= {foreign.id}

    in_store(str(tmp_path / "a.db"), run)


def test_offset_pages_count_everything(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        made = [await add_conversation(db, caller, "ann" if i % 2 else "ben", f"t{i}") for i in range(9)]
        page = await conversations.list_(
            db, caller, conversations.Filter(), sort="id", descending=False, skip=4, limit=3
        )
        numbers = sorted(row.number for row in made)
        assert [row.number for row in page.items] == numbers[4:7]
        assert (page.total, page.has_more, page.next_cursor) == (9, True, None)
        page = await conversations.list_(db, caller, conversations.Filter(owner_id="ann"), skip=3, limit=3)
        assert (page.total, page.has_more, len(page.items)) == (4, False, 1)
        page = await conversations.list_(db, caller, conversations.Filter(), skip=100, limit=3)
        assert (page.total, page.has_more, page.items) == (9, False, [])

    in_store(database_url, run)


def test_first_messages_are_stored_with_their_conversation_or_neither_is(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        rows = [draft("q", 1), draft("a", 2, role="assistant")]
        made = await db.write(
            conversations.add_with_messages, caller, Change(owner_id="ann", status="ended"), rows, session_id="s"
        )
        assert (made.message_count, made.status, made.session_id) == (2, "ended", "s")
        assert made.last_message_us == START_US + 2_000_000
        strict = Change(owner_id="ann", settings={"sender_policy": "strict"})
        mixed = [draft("q", sender="s"), draft("a", role="assistant", sender="s")]
        with pytest.raises(Invalid):
            await db.write(conversations.add_with_messages, caller, strict, mixed)
        page = await conversations.list_(db, caller, conversations.Filter(), skip=0)
        assert [item.id for item in page.items] == [made.id]

    in_store(database_url, run)


def test_an_owner_change_takes_everything_along(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home, stays = await add_conversation(db, caller, "ann"), await add_conversation(db, caller, "ann")
        await add_messages(db, caller, home.number, draft("zebra one"), draft("of eve", sender="eve"))
        await db.write(messages.add, caller, home.number, [draft("zebra two")], enable_memories=True)
        await add_messages(db, caller, home.number, Draft(content="zebra three", owner_id="somebody"))
        await add_messages(db, caller, stays.number, draft("zebra stays"))
        chain = ids.chain(b"", "user", "zebra one")
        await db.write(turns.set_chain, caller.workspace, "ann", chain, home.number, 1)
        await index_all(db)
        held = recollection.Recollection()

        async def found(user: str) -> list[str]:
            wanted = recollection.Search(query="zebra", user_id=user)
            hits = await recollection.search(db, held, caller, wanted)
            return sorted(hit.message.content for hit in hits if hit.message)

        assert len(await found("ann")) >= 4
        await change(db, caller, home, owner_id="ben")
        # At once, before any job has run, the old owner sees nothing of it any more.
        assert await found("ann") == ["zebra stays"]
        assert await db.read(turns.get_chain, caller.workspace, "ann", [chain]) is None
        said = await all_messages(db, caller, home.number)
        assert [m.owner_id for m in said] == ["ben", "ben", "ben", "somebody"]
        waiting = await db.read(job_store.list_jobs, caller.workspace, conversation=home.number)
        assert {job.owner_id for job in waiting} == {"ben"}
        await index_all(db)
        assert await found("ann") == ["zebra stays"]
        assert [text for text in await found("ben") if "zebra" in text] == ["zebra one", "zebra three", "zebra two"]
        # There and back again, and to nobody.
        await change(db, caller, home, owner_id="ann")
        await change(db, caller, home, owner_id="ben")
        await change(db, caller, home, owner_id="ann")
        await index_all(db)
        assert await found("ben") == []
        assert len([text for text in await found("ann") if "zebra" in text]) == 4
        await change(db, caller, home, owner_id=None)
        await index_all(db)
        assert await found("ann") == ["zebra stays"]
        by_place = recollection.Search(query="zebra", conversation_id=home.id)
        assert len(await recollection.search(db, held, caller, by_place)) >= 3

    in_store(database_url, run)


def erased_texts(i: int) -> dict[str, str]:
    names = "title summary meta settings content sender tag extra checksum outside session user collection".split()
    return {name: f"canary{name}{i}xyzzy" for name in names}


def fill(tx: Tx, caller: Caller, i: int) -> Conversation:
    """A conversation whose every field holds words of its own."""
    words = erased_texts(i)
    of = conversations.add(
        tx,
        caller,
        Change(
            title=words["title"],
            summary=words["summary"],
            meta_data={"a": words["meta"]},
            settings={"a": words["settings"]},
            owner_id=words["user"],
            collections=[words["collection"]],
        ),
        session_id=words["session"],
    )
    rows = [
        Draft(
            content=f"{words['content']} number {n} " * 40,
            sender_id=words["sender"],
            tags=(words["tag"],),
            meta_data={"a": words["extra"]},
            checksum=f"{words['checksum']} {n}",
            external_id=f"{words['outside']} {n}",
        )
        for n in range(60)
    ]
    messages.add(tx, caller, of.number, rows, enable_memories=True)
    turns.set_chain(tx, caller.workspace, words["user"], ids.chain(b"", "user", words["content"]), of.number, 1)
    turns.add_receipt(
        tx,
        Receipt(
            id=f"rcp_{of.number}", workspace=caller.workspace, user_id=words["user"], conversation=of.number,
            answer=None, model="m", items=[], tokens=0, recall_ms=0.0, skipped=None, created_us=START_US,
        ),
    )  # fmt: skip
    return of


def test_a_removed_conversation_leaves_nothing(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        made = [await db.write(fill, caller, i) for i in range(2)]
        gone, stays = made

        def render(done: Conversation) -> once.Answer:
            return once.Answer(status=200, headers={}, body=f"about {done.title}".encode())

        key = once.Once(key="k", digest=b"d")
        await once.write(
            db, caller, key, lambda tx: conversations.change(tx, caller, gone.id, Change(title="x")), render
        )
        await index_all(db)
        await db.write(conversations.remove, caller, gone.id)
        await index_all(db)

        def counts(tx: Tx, number: int) -> dict[str, int]:
            out = {}
            for table in ("message", "participant", "turn_chain", "receipt", "job", "idempotency_conversation"):
                out[table] = len(tx.rows(f"select 1 from {table} where conversation = ?", number))
            return out

        assert set((await db.read(counts, gone.number)).values()) == {0}
        kept = await db.read(counts, stays.number)
        assert kept == {"message": 60, "participant": 1, "turn_chain": 1, "receipt": 1, "job": 1,
                        "idempotency_conversation": 0}  # fmt: skip
        body = await db.read(lambda tx: tx.row("select body from idempotency where key = 'k'"))
        assert body is not None
        assert bytes(body[0]) == b""
        held = recollection.Recollection()
        for i, hits in ((0, 0), (1, 10)):
            wanted = recollection.Search(query=erased_texts(i)["content"], user_id=erased_texts(i)["user"])
            assert len(await recollection.search(db, held, caller, wanted)) == hits
        for call in (conversations.get, conversations.get_with_participants):
            with pytest.raises(NotFound):
                await call(db, caller, gone.id)
        with pytest.raises(NotFound):
            await db.write(conversations.remove, caller, gone.id)
        blocks = await db.read(
            lambda tx: tx.rows("select 1 from text_block where owner_id = ?", erased_texts(0)["user"])
        )
        assert blocks == []

    in_store(database_url, run)


def test_removed_text_is_nowhere_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def run() -> None:
        async with opened(str(path)) as db:
            caller = await add_caller(db, "one")
            made = [await db.write(fill, caller, i) for i in range(3)]
            await index_all(db)
            await db.write(conversations.remove, caller, made[1].id)
            (said, *_) = await all_messages(db, caller, made[2].number)
            await db.write(messages.change, caller, said.id, messages.Change(content="harmless"))
            await index_all(db)

    asyncio.run(run())
    raw = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.name.startswith("a.db"))
    for name, word in erased_texts(0).items():
        assert word.encode() in raw, name
    # The owner's name stays with the (empty) index that was theirs: erasing a user is another matter.
    for name, word in erased_texts(1).items():
        assert name == "user" or word.encode() not in raw, name
    assert b"canarycontent2xyzzy number 1 " in raw
    assert b"canarycontent2xyzzy number 0 " not in raw
