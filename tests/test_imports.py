"""The import use case, on both engines: a file is stored once however often it comes, and everything is told."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aforesaid import ids
from aforesaid.core import conversations, imports, messages
from aforesaid.core.imports import Report, Wanted
from aforesaid.errors import Invalid
from aforesaid.importers import read
from aforesaid.model import Caller, Conversation, Draft
from aforesaid.store.database import Database
from tests.support.stores import add_caller, all_messages, in_store

Rows = Sequence[Any]
ADA = Wanted(user_id="ada")


def spoken(conversation: str, *texts: str, **more: Any) -> list[dict[str, Any]]:
    """Message lines of a conversation, each with an id of its own, later ones by the alphabet."""
    begun = 1_700_000_000 + 100 * (ord(conversation[0]) - ord("a"))
    return [
        {"conversation_id": conversation, "id": f"{conversation}-{place}", "content": text,
         "role": ("user", "assistant")[place % 2], "created_at": begun + place, **more}
        for place, text in enumerate(texts)
    ]  # fmt: skip


def told(conversation: str, *texts: str, **more: Any) -> dict[str, Any]:
    """A conversation with its messages on one line."""
    return {"id": conversation, "messages": spoken(conversation, *texts), **more}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Rows], Path]:
    """Writes rows, or lines that are no JSON, to a file."""

    def to_file(rows: Rows) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return to_file


async def bring(db: Database, caller: Caller, path: Path, wanted: Wanted = ADA, **more: Any) -> Report:
    """The file's report."""
    with read(path) as reading:
        return await imports.run(db, caller, reading, wanted, **more)


async def held(db: Database, caller: Caller) -> list[Conversation]:
    """Every conversation of the workspace, oldest first."""
    page = await conversations.list_(db, caller, conversations.Filter(), sort="created_at", descending=False, limit=900)
    return page.items


def counts(report: Report) -> tuple[int, int, int, int, int]:
    return (
        report.conversations_new, report.conversations_known, report.messages_new, report.messages_known, report.broken
    )  # fmt: skip


def test_twice_is_once_and_leaves_no_trace(database_url: str, write: Callable[[Rows], Path]) -> None:
    path = write([told("a", "one", "two", title="A", updated_at=1_700_000_500), *spoken("b", "x", "y", "z")])

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        assert counts(await bring(db, caller, path)) == (2, 0, 5, 0, 0)
        before = await held(db, caller)
        assert counts(await bring(db, caller, path)) == (0, 2, 0, 5, 0)
        assert await held(db, caller) == before
        a, b = before
        assert (a.title, a.owner_id, a.created_us, a.updated_us, a.message_count) == (
            "A", "ada", 1_700_000_000_000_000, 1_700_000_500_000_000, 2
        )  # fmt: skip
        assert b.updated_us == b.last_message_us == 1_700_000_102_000_000
        assert [(m.content, m.role, m.sender_id) for m in await all_messages(db, caller, b.id)] == [
            ("x", "user", "ada"), ("y", "assistant", "assistant"), ("z", "user", "ada")
        ]  # fmt: skip

    in_store(database_url, run)


def test_a_file_that_has_grown_adds_what_is_new(database_url: str, write: Callable[[Rows], Path]) -> None:
    first, grown = write(spoken("a", "one", "two")), write([*spoken("a", "one", "two", "three"), *spoken("b", "x")])

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        await bring(db, caller, first)
        assert counts(await bring(db, caller, grown)) == (1, 1, 2, 2, 0)
        a = (await held(db, caller))[0]
        assert [m.content for m in await all_messages(db, caller, a.id)] == ["one", "two", "three"]

    in_store(database_url, run)


def test_two_honest_oks_are_both_kept_and_none_comes_back(database_url: str, write: Callable[[Rows], Path]) -> None:
    path = write([{"conversation_id": "a", "content": text} for text in ("ok", "well", "ok", "ok")])

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        assert counts(await bring(db, caller, path)) == (1, 0, 4, 0, 0)
        assert counts(await bring(db, caller, path)) == (0, 1, 0, 4, 0)

    in_store(database_url, run)


def test_batches_cut_nothing_and_double_nothing(
    database_url: str, write: Callable[[Rows], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_MESSAGES", 3)
    monkeypatch.setattr(imports, "BATCH_CONVERSATIONS", 2)
    rows = [told(f"c{n}", *[f"{n}.{i}" for i in range(n)]) for n in range(9)]
    path = write(rows)

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        seen: list[int] = []
        report = await bring(db, caller, path, progress=lambda r: seen.append(r.messages_new))
        assert counts(report) == (9, 0, 36, 0, 0)
        assert seen == sorted(seen)
        assert len(seen) >= 6
        assert counts(await bring(db, caller, path)) == (0, 9, 0, 36, 0)

    in_store(database_url, run)


def test_an_import_that_was_stopped_goes_on(
    database_url: str, write: Callable[[Rows], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_MESSAGES", 2)
    path = write([told(f"c{n}", "one", "two") for n in range(10)])

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        asked = 0

        def stopped() -> bool:
            nonlocal asked
            asked += 1
            return asked > 4

        part = await bring(db, caller, path, stopped=stopped)
        assert part.interrupted
        assert 0 < part.messages_new < 20
        assert part.messages_new == sum(c.message_count for c in await held(db, caller))
        rest = await bring(db, caller, path)
        assert (rest.messages_new, rest.messages_known) == (20 - part.messages_new, part.messages_new)
        assert not rest.interrupted

    in_store(database_url, run)


def test_imports_at_once_store_what_one_would(
    database_url: str, write: Callable[[Rows], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_MESSAGES", 7)
    path = write([told(f"c{n}", *[f"{n}.{i}" for i in range(5)]) for n in range(12)])

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        reports = await asyncio.gather(*(bring(db, caller, path) for _ in range(4)))
        assert sum(report.messages_new for report in reports) == 60
        assert sum(report.messages_known for report in reports) == 180
        assert [c.message_count for c in await held(db, caller)] == [5] * 12

    in_store(database_url, run)


def test_broken_rows_are_told_and_the_rest_is_stored(database_url: str, write: Callable[[Rows], Path]) -> None:
    rows = [
        *spoken("a", "one"),
        {"conversation_id": "a", "content": 7},
        "{no json",
        *spoken("b", "x"),
        {"id": "c" * 400, "messages": spoken("c", "too long a name")},
        told("d", "fine", meta_data={"a": 1}),
        {"id": "e", "messages": [{"content": "t", "tags": ["x"] * 101}]},
    ]
    path = write(rows)

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        report = await bring(db, caller, path)
        assert counts(report) == (4, 0, 3, 0, 4)
        assert [(row.line, row.field) for row in report.broken_rows] == [
            (2, "content"), (3, None), (5, "id"), (7, "messages[0].tags")
        ]  # fmt: skip

    in_store(database_url, run)


def test_strict_stops_at_the_first_broken_row_and_keeps_what_stands_before(
    database_url: str, write: Callable[[Rows], Path]
) -> None:
    path = write([*spoken("a", "one", "two"), "{no json", *spoken("b", "x"), "{nor this"])

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        report = await bring(db, caller, path, Wanted(user_id="ada", strict=True))
        assert counts(report) == (1, 0, 2, 0, 1)
        assert report.strict_stop

    in_store(database_url, run)


def test_many_broken_rows_are_counted_and_the_first_are_shown(database_url: str, write: Callable[[Rows], Path]) -> None:
    path = write([*spoken("a", "one"), *["{"] * 50])

    async def run(db: Database) -> None:
        report = await bring(db, await add_caller(db, "w"), path)
        assert report.broken == 50
        assert [row.line for row in report.broken_rows] == list(range(2, 2 + imports.BROKEN_SHOWN))

    in_store(database_url, run)


def test_a_dry_run_counts_as_the_import_does_and_writes_nothing(
    database_url: str, write: Callable[[Rows], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_MESSAGES", 2)
    first = write(spoken("a", "one", "two"))
    second = write([*spoken("a", "one", "two", "three"), *spoken("b", "x"), *spoken("a", "one"), *spoken("b", "x")])

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        dry = Wanted(user_id="ada", dry_run=True)
        assert counts(await bring(db, caller, first, dry)) == (1, 0, 2, 0, 0)
        assert await held(db, caller) == []
        await bring(db, caller, first)
        before = await held(db, caller)
        foreseen = counts(await bring(db, caller, second, dry))
        assert await held(db, caller) == before
        assert foreseen == counts(await bring(db, caller, second)) == (1, 1, 2, 4, 0)

    in_store(database_url, run)


def test_the_given_user_owns_everything_else_the_file_says_whose_it_is(
    database_url: str, write: Callable[[Rows], Path]
) -> None:
    rows = [
        told("a", "one", owner_id="eve"),
        *spoken("b", "x", user_id="bob"),
        {"conversation_id": "b", "content": "y"},
        *spoken("c", "whose?"),
        told("d", "same name", owner_id="eve"),
        told("d", "same name", owner_id="bob"),
    ]
    path = write(rows)

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        report = await bring(db, caller, path, Wanted())
        assert counts(report) == (4, 0, 5, 0, 1)
        assert [(row.line, row.field) for row in report.broken_rows] == [(4, "owner_id")]
        assert sorted(str(c.owner_id) for c in await held(db, caller)) == ["bob", "bob", "eve", "eve"]
        other = await add_caller(db, "other")
        assert counts(await bring(db, other, path)) == (4, 0, 5, 1, 0)
        found = await held(db, other)
        assert {c.owner_id for c in found} == {"ada"}
        for c in found:
            assert {m.owner_id for m in await all_messages(db, other, c.id)} == {"ada"}

    in_store(database_url, run)


def test_a_blank_user_is_refused(database_url: str, write: Callable[[Rows], Path]) -> None:
    path = write(spoken("a", "one"))

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        with pytest.raises(Invalid):
            await bring(db, caller, path, Wanted(user_id="  "))
        assert await held(db, caller) == []

    in_store(database_url, run)


def exported(owner_id: str | None = "ada") -> list[dict[str, Any]]:
    """An export of this program: public ids, ratings, times; two messages alike, written in the same microsecond."""
    conversation, *said = ids.new_id(ids.CONVERSATION), *ids.new_ids(ids.MESSAGE, 3)
    moment = "2025-06-10T10:28:06.658001Z"
    return [
        {"type": "aforesaid", "version": 1},
        {"type": "conversation", "id": conversation, "owner_id": owner_id, "title": "T", "summary": "S",
         "status": "ended", "session_id": "s", "is_public": True, "collections": ["c"], "meta_data": {"a": [1]},
         "settings": {"sender_policy": "strict"}, "created_at": moment, "updated_at": "2025-06-11T00:00:00Z",
         "ended_at": "2025-06-10T23:00:00Z", "created_by": "key_x"},
        *({"type": "message", "conversation": conversation, "id": id, "role": role, "content": "ok", "sender_id": "one",
           "created_at": moment, "updated_at": "2025-06-12T00:00:00Z", "rating": rating, "tags": ["t"]}
          for id, role, rating in zip(said, ("user", "user", "assistant"), (0, 1, -1), strict=True)),
    ]  # fmt: skip


def test_an_export_imports_back_equal(database_url: str, write: Callable[[Rows], Path]) -> None:
    rows = exported()
    path = write(rows)

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        assert counts(await bring(db, caller, path, Wanted())) == (1, 0, 3, 0, 0)
        (found,) = await held(db, caller)
        line = rows[1]
        for name in ("id", "owner_id", "title", "summary", "status", "session_id", "meta_data", "settings"):
            assert getattr(found, name) == line[name], name
        assert (found.is_public, found.collections, found.created_by) == (True, ("c",), "key_x")
        assert found.number == ids.number_of(line["id"], ids.CONVERSATION)
        assert (found.created_us, found.updated_us, found.ended_us) == (
            1_749_551_286_658_001, 1_749_600_000_000_000, 1_749_596_400_000_000
        )  # fmt: skip
        said = await all_messages(db, caller, found.id)
        assert [(m.id, m.rating, m.role, m.external_id, m.tags) for m in said] == [
            (row["id"], row["rating"], row["role"], None, ("t",)) for row in rows[2:]
        ]
        assert {m.updated_us for m in said} == {1_749_686_400_000_000}
        assert counts(await bring(db, caller, path, Wanted())) == (0, 1, 0, 3, 0)
        assert counts(await bring(db, caller, path, Wanted(dry_run=True))) == (0, 1, 0, 3, 0)

    in_store(database_url, run)


def test_an_export_imported_where_it_was_made_adds_nothing(database_url: str, write: Callable[[Rows], Path]) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        await bring(db, caller, write(spoken("a", "one", "two")))
        (found,) = await held(db, caller)
        said = await all_messages(db, caller, found.id)
        rows = [
            {"type": "conversation", "id": found.id, "owner_id": "ada"},
            *({"type": "message", "conversation": found.id, "id": m.id, "content": m.content} for m in said),
        ]
        assert counts(await bring(db, caller, write(rows), Wanted())) == (0, 1, 0, 2, 0)

    in_store(database_url, run)


def test_ids_that_are_taken_are_made_anew_and_still_found_again(
    database_url: str, write: Callable[[Rows], Path]
) -> None:
    path = write(exported())

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        await bring(db, caller, path, Wanted())
        copy = Wanted(user_id="bob")
        assert counts(await bring(db, caller, path, copy)) == (1, 0, 3, 0, 0)
        assert counts(await bring(db, caller, path, copy)) == (0, 1, 0, 3, 0)
        first, second = await held(db, caller)
        assert first.id != second.id
        assert {first.owner_id, second.owner_id} == {"ada", "bob"}
        everything = [m for c in (first, second) for m in await all_messages(db, caller, c.id)]
        assert len({m.id for m in everything}) == 6
        assert sorted(m.rating for m in everything) == [-1, -1, 0, 0, 1, 1]

    in_store(database_url, run)


def test_a_conversation_of_nobody_stays_nobodys(database_url: str, write: Callable[[Rows], Path]) -> None:
    path = write(exported(None))

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        assert counts(await bring(db, caller, path, Wanted())) == (1, 0, 3, 0, 0)
        assert [c.owner_id for c in await held(db, caller)] == [None]

    in_store(database_url, run)


def test_what_is_odd_about_a_conversation_never_costs_its_messages(
    database_url: str, write: Callable[[Rows], Path]
) -> None:
    path = write([told("a", "one", title="t" * 300, status="simmering", settings={"sender_policy": "strict"})])

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        report = await bring(db, caller, path)
        assert counts(report) == (1, 0, 1, 0, 0)
        assert ("conversation.status simmering", 1) in report.ignored
        (found,) = await held(db, caller)
        assert found.title is not None
        assert (len(found.title), found.title[-1], found.status) == (255, "…", "active")

    in_store(database_url, run)


def test_gaps_are_filled_and_nothing_that_stands_is_changed(database_url: str, write: Callable[[Rows], Path]) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        await bring(db, caller, write(spoken("a", "one")))
        await bring(db, caller, write([told("a", "one", title="First", meta_data={"n": 1})]))
        await bring(db, caller, write([told("a", "one", title="Second", summary="S", meta_data={"n": 2})]))
        (found,) = await held(db, caller)
        assert (found.title, found.summary, found.meta_data) == ("First", "S", {"n": 1})

    in_store(database_url, run)


def test_an_ended_conversation_takes_what_an_import_adds(database_url: str, write: Callable[[Rows], Path]) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        await bring(db, caller, write([told("a", "one", status="ended")]))
        assert counts(await bring(db, caller, write(spoken("a", "one", "two")))) == (0, 1, 1, 1, 0)
        (found,) = await held(db, caller)
        assert (found.status, found.message_count) == ("ended", 2)

    in_store(database_url, run)


def test_restored_ids_outrank_words_but_not_names(database_url: str) -> None:
    """An id of an export makes a message its own, unless its sender's id or checksum says that it is there."""

    async def run(db: Database) -> None:
        caller = await add_caller(db, "w")
        made = await db.write(conversations.add, caller, conversations.Change(owner_id="ada"))
        plain = Draft(content="ok", created_us=5)
        named = msgspec.structs.replace(plain, external_id="mine")
        drafts = [plain, plain, named, named]
        kept = {place: messages.Restored(id=id) for place, id in enumerate(ids.new_ids(ids.MESSAGE, 4))}
        stored = await db.write(messages.add, caller, made.id, drafts, restored=kept)
        assert (stored.created, stored.duplicates) == (3, 1)
        assert [m.seq for m in stored.messages] == [1, 2, 3, 3]

    in_store(database_url, run)
