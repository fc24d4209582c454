"""Messages in the store of both engines: each once, in order, by whoever said it."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aforesaid import limits
from aforesaid.core import conversations, messages
from aforesaid.core.once import again
from aforesaid.errors import Invalid, NotFound, TooLarge
from aforesaid.model import Caller, Conversation, Draft, Message, Stored
from aforesaid.store import conversations as conversation_store
from aforesaid.store.database import Database, Tx
from tests.support.stores import (
    START_US,
    add_caller,
    add_conversation,
    add_messages,
    all_messages,
    draft,
    in_store,
)

Shown = tuple[int, str, str, str, int]


def shown(stored: Sequence[Message]) -> list[Shown]:
    """What of messages must not depend on how they came."""
    return [(m.seq, m.sender_id, m.role, m.content, m.created_us) for m in stored]


def batch(count: int) -> list[Draft]:
    """Messages of every kind of identity, some with equal words."""
    out = []
    for i in range(count):
        kind = i % 4
        out.append(
            Draft(
                content=f"text {i % 5}",
                role="user" if i % 2 else "assistant",
                sender_id="ann" if i % 2 else "bot",
                created_us=START_US + i if kind in (0, 3) else None,
                external_id=f"id {i}" if kind == 1 else None,
                checksum=f"sum {i}" if kind == 2 else None,
            )
        )
    return out


async def snapshot(db: Database, caller: Caller, home: Conversation) -> tuple[Any, ...]:
    """Everything that is stored of a conversation."""

    def read(tx: Tx) -> tuple[Any, ...]:
        return (
            conversation_store.get_conversation(tx, caller.workspace, home.number),
            conversation_store.list_participants(tx, caller.workspace, home.number),
            tx.rows("select * from message where conversation = ? order by seq", home.number),
            tx.rows("select * from job where conversation = ? order by id", home.number),
        )

    return await db.read(read)


def test_imported_twice_is_once_at_every_split(database_url: str) -> None:
    """Every way of cutting the batch in two, then the whole again, and each single row again."""
    drafts = batch(9)

    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        expected: list[Any] | None = None
        for cut in range(len(drafts) + 1):
            home = await add_conversation(db, caller)
            for part in (drafts[:cut], drafts[cut:]):
                if part:
                    stored = await add_messages(db, caller, home.number, *part)
                    assert (stored.created, stored.duplicates) == (len(part), 0)
            before = await snapshot(db, caller, home)
            again_stored = await add_messages(db, caller, home.number, *drafts)
            assert (again_stored.created, again_stored.duplicates) == (0, len(drafts))
            for one in drafts:
                stored = await add_messages(db, caller, home.number, one)
                assert (stored.created, stored.duplicates) == (0, 1)
            assert await snapshot(db, caller, home) == before  # not even a time has changed
            found = [row[:1] + row[1:4] for row in shown(await all_messages(db, caller, home.number))]
            assert expected is None or found == expected
            expected = found

    in_store(database_url, run)


def test_any_overlap_of_parts_in_any_order_stores_each_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    drafts = batch(8)

    async def check(db: Database, caller: Caller, parts: list[list[int]]) -> None:
        home = await add_conversation(db, caller)
        sent: list[int] = []
        for part in parts:
            stored = await add_messages(db, caller, home.number, *(drafts[i] for i in part))
            fresh = [i for i in dict.fromkeys(part) if i not in sent]
            assert stored.created == len(fresh)
            assert stored.duplicates == len(part) - len(fresh)
            assert [m.content for m in stored.messages] == [drafts[i].content for i in part]
            sent += fresh
        found = await all_messages(db, caller, home.number)
        assert [m.seq for m in found] == list(range(1, len(sent) + 1))
        assert [m.content for m in found] == [drafts[i].content for i in sent]
        kept = await conversations.get(db, caller, home.number)
        assert (kept.message_count, kept.next_seq) == (len(sent), len(sent) + 1)

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.lists(st.integers(0, len(drafts) - 1), min_size=1, max_size=10), min_size=1, max_size=5))
    def cases(parts: list[list[int]]) -> None:
        url = str(tmp_path_factory.mktemp("overlap") / "a.db")

        async def run(db: Database) -> None:
            await check(db, await add_caller(db, "one"), parts)

        in_store(url, run)

    cases()


def test_a_changed_order_stores_the_same_set(database_url: str) -> None:
    drafts = batch(12)

    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        await add_messages(db, caller, home.number, *drafts)
        before = await snapshot(db, caller, home)
        for order in (drafts[::-1], random.Random(3).sample(drafts, len(drafts))):
            stored = await add_messages(db, caller, home.number, *order)
            assert stored.created == 0
            assert [m.content for m in stored.messages] == [d.content for d in order]
        assert await snapshot(db, caller, home) == before

    in_store(database_url, run)


def test_eight_writers_of_one_batch_store_it_once(database_url: str) -> None:
    drafts = batch(40)

    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)

        async def writer(k: int) -> int:
            created = 0
            for start in range(0, len(drafts), 5 + k):
                part = drafts[start : start + 5 + k]
                stored = await again(db, lambda tx, part=part: messages.add(tx, caller, home.number, part))  # type: ignore[misc]
                created += stored.created
            return created

        created = await asyncio.gather(*(writer(k) for k in range(8)))
        assert sum(created) == len(drafts)
        found = await all_messages(db, caller, home.number)
        assert [m.seq for m in found] == list(range(1, len(drafts) + 1))
        assert sorted(m.content for m in found) == sorted(d.content for d in drafts)
        assert len({m.number for m in found}) == len(drafts)

    in_store(database_url, run)


def test_sixteen_writers_number_densely_and_keep_their_own_order(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)

        async def writer(k: int) -> None:
            for i in range(12):
                drafts = [draft(f"{k}/{i}/{j}", sender=f"s{k}") for j in range(1 + (i + k) % 3)]
                stored = await add_messages(db, caller, home.number, *drafts)
                seqs = [m.seq for m in stored.messages]
                assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))  # a batch stands together

        await asyncio.gather(*(writer(k) for k in range(16)))
        found = await all_messages(db, caller, home.number)
        assert [m.seq for m in found] == list(range(1, len(found) + 1))
        for k in range(16):
            own = [m.content for m in found if m.sender_id == f"s{k}"]
            assert own == sorted(own, key=lambda text: [int(n) for n in text.split("/")])
        kept = await conversations.get(db, caller, home.number)
        assert (kept.message_count, kept.next_seq) == (len(found), len(found) + 1)

    in_store(database_url, run)


def test_batches_over_the_same_conversations_in_opposite_order_all_go_through(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        homes = [await add_conversation(db, caller) for _ in range(4)]

        async def writer(k: int) -> None:
            order = homes if k % 2 else homes[::-1]
            for i in range(5):
                rows: list[tuple[str | int, Draft]] = [(home.id, draft(f"{k}/{i}")) for home in order]
                stored = await db.write(messages.add_batch, caller, rows)
                assert stored.created == len(homes)

        await asyncio.gather(*(writer(k) for k in range(8)))
        for home in homes:
            assert [m.seq for m in await all_messages(db, caller, home.number)] == list(range(1, 41))

    in_store(database_url, run)


def test_what_makes_two_messages_the_same() -> None:
    same: list[tuple[Draft, Draft]] = [
        (Draft(content="a", external_id="x"), Draft(content="b", role="tool", external_id="x", created_us=1)),
        (Draft(content="a", external_id="x", checksum="1"), Draft(content="a", external_id="x", checksum="2")),
        (Draft(content="a", checksum="x"), Draft(content="b", checksum="x", created_us=1)),
        (Draft(content="a", created_us=1, sender_id="s"), Draft(content="a", created_us=1, sender_id="s", tags=("t",))),
    ]
    for one, two in same:
        assert messages.identity(one) == messages.identity(two) is not None
    different = [
        Draft(content="a", created_us=1),
        Draft(content="a", created_us=2),
        Draft(content="A", created_us=1),
        Draft(content="a", created_us=1, role="assistant"),
        Draft(content="a", created_us=1, sender_id="s"),
        Draft(content="a", created_us=1, sender_id=""),
        Draft(content="x", external_id="a"),
        Draft(content="x", checksum="a"),
        Draft(content="x", external_id="id"),
        Draft(content="1", created_us=11),
        Draft(content="11", created_us=1),
        Draft(content="\u00e9", created_us=1),
        Draft(content="e\u0301", created_us=1),
    ]
    prints = [messages.identity(one) for one in different]
    assert None not in prints
    assert len(set(prints)) == len(different)
    assert messages.identity(Draft(content="a", sender_id="s", sent_us=5)) is None


def test_what_has_no_identity_is_always_new(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        for _ in range(3):
            stored = await add_messages(db, caller, home.number, draft("ok"), draft("ok"))
            assert (stored.created, stored.duplicates) == (2, 0)
        assert len(await all_messages(db, caller, home.number)) == 6
        # Two honest "ok"s with times of their own both stay, also when they come again.
        for created in (2, 0):
            stored = await add_messages(db, caller, home.number, draft("ok", 1), draft("ok", 2))
            assert stored.created == created

    in_store(database_url, run)


def test_duplicates_in_one_batch_stand_at_their_places(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        rows = [draft("a", 1), draft("b", 2), draft("a", 1), draft("c"), draft("b", 2), draft("a", 1)]
        stored = await add_messages(db, caller, home.number, *rows)
        assert (stored.created, stored.duplicates) == (3, 3)
        assert [m.content for m in stored.messages] == ["a", "b", "a", "c", "b", "a"]
        assert [m.seq for m in stored.messages] == [1, 2, 1, 3, 2, 1]
        assert len({m.id for m in stored.messages}) == 3

    in_store(database_url, run)


def test_the_first_copy_stays_and_an_edit_does_not_make_its_import_new(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        first = (await add_messages(db, caller, home.number, draft("typo", 1))).messages[0]
        await db.write(messages.change, caller, first.id, messages.Change(content="corrected"))
        stored = await add_messages(db, caller, home.number, draft("typo", 1))
        assert (stored.created, stored.messages[0].content) == (0, "corrected")
        # Removed on purpose and imported again, it is new, at a new place: no place is ever used twice.
        await db.write(messages.remove, caller, first.id)
        stored = await add_messages(db, caller, home.number, draft("typo", 1))
        assert (stored.created, stored.messages[0].seq) == (1, 2)

    in_store(database_url, run)


def test_one_bad_row_of_a_batch_over_conversations_stores_nothing(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller, other = await add_caller(db, "one"), await add_caller(db, "two")
        homes = [await add_conversation(db, caller) for _ in range(3)]
        foreign = await add_conversation(db, other)
        ended = await add_conversation(db, caller)
        await db.write(conversations.end, caller, ended.id)
        good: list[tuple[str | int, Draft]] = [(home.id, draft("x", 1)) for home in homes]
        for bad in (foreign.id, foreign.number, "conv_none", "nothing", "", "0", str(2**52), "٣", 2**60):
            with pytest.raises(NotFound):
                await db.write(messages.add_batch, caller, [*good, (bad, draft("y"))])
        with pytest.raises(Invalid, match="ended"):
            await db.write(messages.add_batch, caller, [*good, (ended.id, draft("y"))])
        for home in homes:
            assert await all_messages(db, caller, home.number) == []
            assert await conversations.get(db, caller, home.id) == home
        # Both spellings of an id are one conversation.
        mixed: list[tuple[str | int, Draft]] = [
            (homes[0].id, draft("a", 1)), (homes[0].number, draft("a", 1)), (str(homes[0].number), draft("b", 2)),
            (homes[1].id, draft("a", 1)),
        ]  # fmt: skip
        stored = await db.write(messages.add_batch, caller, mixed)
        assert (stored.created, stored.duplicates) == (3, 1)
        assert [m.content for m in stored.messages] == ["a", "a", "b", "a"]

    in_store(database_url, run)


def test_an_ended_conversation_takes_nothing_new_but_answers_repetitions(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        await add_messages(db, caller, home.number, draft("a", 1))
        await db.write(conversations.end, caller, home.id)
        stored = await add_messages(db, caller, home.number, draft("a", 1))
        assert (stored.created, stored.duplicates) == (0, 1)
        for rows in ([draft("b", 2)], [draft("a", 1), draft("b", 2)], [draft("no identity")]):
            with pytest.raises(Invalid, match="ended"):
                await add_messages(db, caller, home.number, *rows)
        assert len(await all_messages(db, caller, home.number)) == 1
        await db.write(conversations.change, caller, home.id, conversations.Change(status="active"))
        assert (await add_messages(db, caller, home.number, draft("b", 2))).created == 1

    in_store(database_url, run)


def test_missing_senders_are_filled(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller, "ann")
        stored = await add_messages(
            db, caller, home.number, draft("q"), draft("a", role="assistant"), draft("s", role="system"),
            draft("t", role="tool"), draft("q", sender="eve"),
        )  # fmt: skip
        assert [m.sender_id for m in stored.messages] == ["ann", "assistant", "system", "tool", "eve"]
        named = await add_conversation(db, caller, "ann")
        await add_messages(db, caller, named.number, draft("hi", role="assistant", sender="Marvin"))
        stored = await add_messages(db, caller, named.number, draft("a", role="assistant"), draft("q"))
        assert [m.sender_id for m in stored.messages] == ["Marvin", "ann"]
        nobody = await add_conversation(db, caller, None)
        stored = await add_messages(db, caller, nobody.number, draft("q"))
        assert stored.messages[0].sender_id == "user"
        assert stored.messages[0].owner_id is None

    in_store(database_url, run)


def test_a_sender_that_changes_role_is_reported_row_by_row(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)

        async def add(policy: str | None, *rows: Draft) -> Stored:
            return await db.write(messages.add, caller, home.number, rows, sender_policy=policy)

        zoe, bot = draft("q", sender="zoe"), draft("a", role="assistant", sender="zoe")
        stored = await add(None, zoe, bot, draft("x", sender="other"), bot)
        assert [(n["row"], n["role"], n["known_role"]) for n in stored.notes] == [
            (1, "assistant", "user"),
            (3, "assistant", "user"),
        ]
        # The first role stays the known one, whatever the alphabet says; and a second time it is still told.
        stored = await add("report", zoe, bot)
        assert [n["row"] for n in stored.notes] == [1]
        before = await all_messages(db, caller, home.number)
        with pytest.raises(Invalid, match=r"row 1: 'zoe' is user, not assistant.*row 2") as refused:
            await add("strict", zoe, bot, bot)
        assert refused.value.field[1] == 1
        assert await all_messages(db, caller, home.number) == before
        assert (await add("strict", zoe)).created == 1

    in_store(database_url, run)


def test_the_conversations_settings_can_ask_for_the_strict_policy(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        change = conversations.Change(owner_id="ann", settings={"sender_policy": "strict"})
        home = await db.write(conversations.add, caller, change)
        rows = [draft("q", sender="s"), draft("a", role="assistant", sender="s")]
        with pytest.raises(Invalid):
            await add_messages(db, caller, home.number, *rows)
        stored = await db.write(messages.add, caller, home.number, rows, sender_policy="report")
        assert stored.created == 2
        # Repetitions are no news, strict or not.
        known = [draft("q", 1, sender="k")]
        await add_messages(db, caller, home.number, *known)
        assert (await add_messages(db, caller, home.number, *known)).duplicates == 1

    in_store(database_url, run)


def test_changes_and_removals_keep_the_conversation_right(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        rows = [draft("a", 1, sender="x"), draft("b", 9, sender="y"), draft("c", 5, sender="x")]
        one, two, three = (await add_messages(db, caller, home.number, *rows)).messages
        kept = await conversations.get(db, caller, home.id)
        assert kept.last_message_us == two.created_us
        await db.write(messages.remove, caller, two.id)
        kept, people = await conversations.get_with_participants(db, caller, home.id)
        assert (kept.message_count, kept.next_seq, kept.last_message_us) == (2, 4, three.created_us)
        assert people == [("x", "user")]
        changed = await db.write(
            messages.change, caller, one.number, messages.Change(sender_id="z", role="assistant", tags=("t",))
        )
        assert (changed.seq, changed.content, changed.tags) == (1, "a", ("t",))
        assert changed.updated_us >= one.updated_us
        _, people = await conversations.get_with_participants(db, caller, home.id)
        assert sorted(people) == [("x", "user"), ("z", "assistant")]
        for gone in (two.id, two.number, str(two.number)):
            for fn in (messages.remove, messages.resolve):
                with pytest.raises(NotFound):
                    await db.write(fn, caller, gone)
        await db.write(messages.remove, caller, one.id)
        await db.write(messages.remove, caller, three.id)
        kept = await conversations.get(db, caller, home.id)
        assert (kept.message_count, kept.last_message_us, kept.next_seq) == (0, None, 4)

    in_store(database_url, run)


def test_removed_by_two_at_once_is_removed_once(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        made = (await add_messages(db, caller, home.number, *(draft(str(i)) for i in range(10)))).messages
        tries = [db.write(messages.remove, caller, m.id) for m in made[:5] for _ in range(4)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(1 for o in outcomes if isinstance(o, Message)) == 5
        assert sum(1 for o in outcomes if isinstance(o, NotFound)) == 15
        assert (await conversations.get(db, caller, home.id)).message_count == 5

    in_store(database_url, run)


def test_two_changes_at_once_both_count(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        made = (await add_messages(db, caller, home.number, *(draft(str(i)) for i in range(10)))).messages
        changes = itertools.product(made, (messages.Change(content="new"), messages.Change(meta_data={"a": 1})))
        await asyncio.gather(*(db.write(messages.change, caller, m.id, change) for m, change in changes))
        for m in await all_messages(db, caller, home.number):
            assert (m.content, m.meta_data) == ("new", {"a": 1})

    in_store(database_url, run)


def test_rating(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller, other = await add_caller(db, "one"), await add_caller(db, "two")
        home = await add_conversation(db, caller)
        (said,) = (await add_messages(db, caller, home.number, draft("a", 1))).messages
        for rating in (1, -1, 0, 1):
            assert (await db.write(messages.rate, caller, said.id, rating)).rating == rating
            assert (await messages.get(db, caller, said.number)).rating == rating
        for rating in (2, -2, 100):
            with pytest.raises(Invalid):
                await db.write(messages.rate, caller, said.id, rating)
        with pytest.raises(NotFound):
            await db.write(messages.rate, other, said.id, 1)
        assert (await add_messages(db, caller, home.number, draft("a", 1))).messages[0].rating == 1

    in_store(database_url, run)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (Draft(content="a\x00b"), "content"),
        (Draft(content="a", sender_id=""), "sender_id"),
        (Draft(content="a", sender_id=" \t"), "sender_id"),
        (Draft(content="a", sender_id="x" * 257), "sender_id"),
        (Draft(content="a", sender_id="x\x00"), "sender_id"),
        (Draft(content="a", role=""), "role"),
        (Draft(content="a", role="r" * 65), "role"),
        (Draft(content="a", message_type=" "), "message_type"),
        (Draft(content="a", external_id=""), "id"),
        (Draft(content="a", checksum="\x00"), "checksum"),
        (Draft(content="a", owner_id=" "), "owner_id"),
        (Draft(content="a", parent_message_id=""), "parent_message_id"),
        (Draft(content="a", tags=("x",) * 101), "tags"),
        (Draft(content="a", tags=("x" * 257,)), "tags"),
        (Draft(content="a", tags=("\ud800",)), "tags"),
        (Draft(content="a", meta_data={"a": "\x00"}), "meta_data"),
        (Draft(content="a", meta_data={"\x00": 1}), "meta_data"),
        (Draft(content="a", tool_calls=[{"a": ["\x00"]}]), "tool_calls"),
        (Draft(content="a", attachments=[{"a": {"b": "\x00"}}]), "attachments"),
    ],
)
def test_what_can_not_be_kept_is_refused_by_name(bad: Draft, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        messages.check_draft(bad, "body", 3)
    assert refused.value.field[:3] == ("body", 3, field)


def test_limits_of_a_message() -> None:
    for good in ("x" * limits.MESSAGE_BYTES, "é" * (limits.MESSAGE_BYTES // 2), "😀" * (limits.MESSAGE_BYTES // 4), ""):
        messages.check_draft(Draft(content=good))
    for bad in ("x" * (limits.MESSAGE_BYTES + 1), "é" * (limits.MESSAGE_BYTES // 2) + "x"):
        with pytest.raises(TooLarge) as refused:
            messages.check_draft(Draft(content=bad))
        assert (refused.value.limit, refused.value.maximum) == ("message", limits.MESSAGE_BYTES)
    room = limits.METADATA_BYTES - len('{"a":""}')
    messages.check_draft(Draft(content="", meta_data={"a": "x" * room}))
    with pytest.raises(TooLarge) as refused:
        messages.check_draft(Draft(content="", meta_data={"a": "x" * (room + 1)}))
    assert (refused.value.limit, refused.value.maximum) == ("metadata", limits.METADATA_BYTES)
    messages.check_batch([Draft(content="")] * limits.REQUEST_MESSAGES)
    with pytest.raises(TooLarge) as refused:
        messages.check_batch([Draft(content="")] * (limits.REQUEST_MESSAGES + 1))
    assert (refused.value.limit, refused.value.maximum) == ("messages", limits.REQUEST_MESSAGES)


def test_a_full_request_is_stored_whole(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        rows = [draft(f"m{i}", i) for i in range(limits.REQUEST_MESSAGES)]
        assert (await add_messages(db, caller, home.number, *rows)).created == limits.REQUEST_MESSAGES
        stored = await add_messages(db, caller, home.number, *rows[::-1])
        assert stored.duplicates == limits.REQUEST_MESSAGES
        assert [m.seq for m in stored.messages] == list(range(limits.REQUEST_MESSAGES, 0, -1))

    in_store(database_url, run)
