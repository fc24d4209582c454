"""The store's functions give the same on both engines, for every value that can come."""

import asyncio
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aforesaid import ids
from aforesaid.model import ApiKey, Caller, Conversation, Message, Receipt
from aforesaid.store import conversations, keys, messages, texts, turns, workspaces
from aforesaid.store.database import Clash, Database, Tx
from tests.support.stores import START_US, add_caller, in_store, opened

LAST_64 = 2**63 - 1
NASTY = [
    "plain",
    "Ümläut ñ ß ﬃ",
    "漢字かな交じり",
    "👩‍👩‍👧‍👦 🇨🇭",
    "e\u0301 vs \u00e9",
    "\u202eright to left\u202c",
    "tab\tnewline\nreturn\r\u2028\u2029\u0085",
    "'; drop table message; --",
    '{"json": ["\\u0000"]}',
    "\\ \\\\ %s %% ? :x $1 {} \\N \\.",
    "\ufeff\ufffe\uffff\U0010ffff\x01\x1f\x7f",
    "",
    " ",
    "a" * 5000,
]


def conversation(workspace: int, **more: Any) -> Conversation:
    made = ids.new_id(ids.CONVERSATION)
    number = ids.number_of(made, ids.CONVERSATION)
    assert number is not None
    base: dict[str, Any] = {
        "workspace": workspace, "number": number, "id": made, "owner_id": "ann", "created_us": START_US,
        "updated_us": START_US,
    }  # fmt: skip
    return Conversation(**{**base, **more})


def message(of: Conversation, seq: int, text: str = "hello", **more: Any) -> Message:
    made = ids.new_id(ids.MESSAGE)
    number = ids.number_of(made, ids.MESSAGE)
    assert number is not None
    base: dict[str, Any] = {
        "workspace": of.workspace, "conversation": of.number, "conversation_id": of.id, "seq": seq, "number": number,
        "id": made, "sender_id": "ann", "role": "user", "content": text, "created_us": START_US + seq,
        "updated_us": START_US + seq,
    }  # fmt: skip
    return Message(**{**base, **more})


def everything(tx: Tx, one: Conversation, extra: list[Message]) -> None:
    conversations.add_conversation(tx, one, "outside")
    messages.add_messages(tx, [(m, ids.fingerprint(m.id)) for m in extra])


def test_a_conversation_comes_back_as_it_was(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        for text in NASTY:
            full = conversation(
                caller.workspace, owner_id=text or None, session_id=text, title=text, summary=text, status="archived",
                is_public=True, collections=(text, "other"), meta_data={text: [text, None, 1.5, LAST_64, True]},
                settings={"a": {"b": [text]}}, ended_us=LAST_64, created_by=text, created_us=0, updated_us=LAST_64,
                message_count=7, next_seq=9, last_message_us=LAST_64,
            )  # fmt: skip
            await db.write(conversations.add_conversation, full, None)
            assert await db.read(conversations.get_conversation, caller.workspace, full.number) == full
            changed = conversation(
                caller.workspace, number=full.number, id=full.id, owner_id=None, session_id=text, created_by=text,
                created_us=0, message_count=7, next_seq=9, last_message_us=LAST_64,
            )  # fmt: skip
            await db.write(conversations.set_conversation, changed)
            assert await db.read(conversations.get_conversation, caller.workspace, full.number) == changed

    in_store(database_url, run)


def test_a_message_comes_back_as_it_was(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = conversation(caller.workspace)
        full = [
            message(
                home, seq, text, sender_id=text or "x", role=text[:60] or "user", message_type=text[:60] or "text",
                sent_us=LAST_64, owner_id=text, external_id=text, checksum=text, parent_message_id=text,
                tags=(text, "x"), tool_calls=[{"id": text}], attachments=[{text: text}], meta_data={"x": [text]},
                rating=-1, incomplete=True, created_us=LAST_64,
            )
            for seq, text in enumerate(NASTY, 1)
        ]  # fmt: skip
        full.append(message(home, len(full) + 1, "x" * (1 << 20)))
        full.append(message(home, len(full) + 1, "漢" * 300_000))
        await db.write(everything, home, full)
        assert await db.read(messages.list_range, caller.workspace, home.number, 1, 10**6) == full
        assert await db.read(messages.list_tail, caller.workspace, home.number, 3) == full[-3:]
        for one in full:
            assert await db.read(messages.get_message, caller.workspace, one.number) == one
        places = [(home.number, one.seq) for one in full] + [(home.number, 999), (1, 1)]
        assert await db.read(messages.get_messages_at, caller.workspace, places) == {
            (home.number, one.seq): one for one in full
        }
        numbers = [one.number for one in full] + [5]
        found = await db.read(messages.get_messages_by_number, caller.workspace, numbers)
        assert found == {one.number: one for one in full}
        prints = [ids.fingerprint(one.id) for one in full]
        assert await db.read(messages.get_places, caller.workspace, home.number, [*prints, b"no"]) == {
            fingerprint: one.seq for fingerprint, one in zip(prints, full, strict=True)
        }

    in_store(database_url, run)


def test_long_lists_of_parameters_are_cut_into_slices(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = conversation(caller.workspace)
        many = [message(home, seq) for seq in range(1, 1502)]
        await db.write(everything, home, many)
        numbers = [one.number for one in many]
        assert len(await db.read(messages.get_messages_by_number, caller.workspace, numbers)) == 1501
        places = [(home.number, one.seq) for one in many]
        assert len(await db.read(messages.get_messages_at, caller.workspace, places)) == 1501
        prints = [ids.fingerprint(one.id) for one in many]
        assert len(await db.read(messages.get_places, caller.workspace, home.number, prints)) == 1501
        assert len(await db.read(messages.get_messages_at, caller.workspace, places, owner_id=home.owner_id)) == 1501
        assert await db.read(messages.get_messages_at, caller.workspace, places, owner_id="somebody else") == {}

    in_store(database_url, run)


def test_everything_is_another_workspaces_business(database_url: str) -> None:
    async def run(db: Database) -> None:
        mine, other = await add_caller(db, "one"), await add_caller(db, "two")
        home = conversation(mine.workspace, session_id="s")
        said = message(home, 1)
        await db.write(everything, home, [said])
        for read in (
            lambda tx: conversations.get_conversation(tx, other.workspace, home.number),
            lambda tx: conversations.get_conversation_by_external_id(tx, other.workspace, "ann", "outside"),
            lambda tx: conversations.get_conversation_by_session(tx, other.workspace, "ann", "s"),
            lambda tx: conversations.get_conversations(tx, other.workspace, [home.number]),
            lambda tx: conversations.list_conversations(tx, other.workspace, conversations.Filter(), limit=9),
            lambda tx: conversations.lock_conversation(tx, other.workspace, home.number, 0),
            lambda tx: messages.get_message(tx, other.workspace, said.number),
            lambda tx: messages.get_messages_at(tx, other.workspace, [(home.number, 1)]),
            lambda tx: messages.get_messages_by_number(tx, other.workspace, [said.number]),
            lambda tx: messages.list_range(tx, other.workspace, home.number, 1, 9),
            lambda tx: messages.list_tail(tx, other.workspace, home.number, 9),
            lambda tx: messages.list_recent(tx, other.workspace, "ann", 9),
            lambda tx: messages.list_messages(tx, other.workspace, messages.Filter(), limit=9),
            lambda tx: messages.get_places(tx, other.workspace, home.number, [ids.fingerprint(said.id)]),
        ):
            assert not await db.write(read)
        await db.write(conversations.remove_conversation, other.workspace, home.number)
        assert await db.read(conversations.get_conversation, mine.workspace, home.number) == home
        assert await db.read(messages.get_message, mine.workspace, said.number) == said

    in_store(database_url, run)


def test_places_numbers_and_outside_names_are_taken_once(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = conversation(caller.workspace)
        said = message(home, 1)
        await db.write(everything, home, [said])
        for twin in (message(home, 1), message(home, 2, number=said.number)):
            with pytest.raises(Clash):
                await db.write(messages.add_messages, [(twin, None)])
        with pytest.raises(Clash):
            await db.write(messages.add_messages, [(message(home, 3), ids.fingerprint(said.id))])
        with pytest.raises(Clash):
            await db.write(conversations.add_conversation, conversation(caller.workspace), "outside")
        await db.write(conversations.add_conversation, conversation(caller.workspace, owner_id="ben"), "outside")
        # Messages without a fingerprint are never each other's twins.
        await db.write(messages.add_messages, [(message(home, 4), None), (message(home, 5), None)])

    in_store(database_url, run)


def both_engines(
    postgres_url: str, folder: Path, fill: Callable[[Tx, int], None], ask: Callable[[Tx, int], Any]
) -> tuple[Any, Any]:
    async def run(db: Database) -> Any:
        caller = await add_caller(db, "one")
        await db.write(fill, caller.workspace)
        return await db.read(ask, caller.workspace)

    return in_store(str(folder / "a.db"), run), in_store(postgres_url, run)


def test_lists_are_sorted_alike_on_both_engines(postgres_url: str, tmp_path: Path) -> None:
    rng = random.Random(11)
    letters = string.ascii_letters + "äÄöÖßéèñçøÅåẞıİ漢字кΩ😀 -_.0123456789"
    rows = []
    for _ in range(150):
        title = None if rng.random() < 0.1 else "".join(rng.choices(letters, k=rng.randint(0, 4)))
        when = START_US + rng.randint(0, 5)
        rows.append(conversation(1, title=title, created_us=when, updated_us=when + rng.randint(0, 5)))
    orders = [(sort, down) for sort in conversations.SORTS for down in (True, False)]

    def fill(tx: Tx, workspace: int) -> None:
        for row in rows:
            conversations.add_conversation(tx, row)

    def ask(tx: Tx, workspace: int) -> list[list[int]]:
        wanted = conversations.Filter()
        out = []
        for sort, down in orders:
            page = conversations.list_conversations(tx, workspace, wanted, sort=sort, descending=down, limit=999)
            out.append([row.number for row in page])
            # The same, page by page behind each row.
            paged: list[int] = []
            after = None
            while True:
                part = conversations.list_conversations(
                    tx, workspace, wanted, sort=sort, descending=down, after=after, limit=7
                )
                paged += [row.number for row in part]
                if len(part) < 7:
                    break
                after = (conversations.place(part[-1], sort), part[-1].number)
            assert paged == out[-1], (sort, down)
        return out

    sqlite, postgres = both_engines(postgres_url, tmp_path, fill, ask)
    for order, one, two in zip(orders, sqlite, postgres, strict=True):
        assert one == two, order
        assert sorted(one) == sorted(row.number for row in rows)


def test_filters_find_the_same_on_both_engines(postgres_url: str, tmp_path: Path) -> None:
    titles = [
        "100% Wolle",
        "100 Wolle",
        "a_b",
        "aXb",
        r"back\slash",
        "ÄPFEL",
        "äpfel",
        "apfel",
        "Apfel",
        'q"uote',
        None,
    ]
    tags = ["a", "A", ",", '","', "x,", "ä", "Ä", "[", '"', "\\", "%", "a%", "null", "1"]
    home = conversation(1, title="home")

    rooms = [home, *(conversation(1, title=title, collections=("x,", "y")) for title in titles)]
    rooms += [conversation(1, title=f"tag {tag}", collections=(tag, "shared")) for tag in tags]

    def fill(tx: Tx, workspace: int) -> None:
        for room in rooms:
            conversations.add_conversation(tx, room)
        rows = [message(home, i, title or "", tags=("x,", "y")) for i, title in enumerate(titles, 1)]
        rows += [message(home, 100 + i, tags=(tag, "shared")) for i, tag in enumerate(tags)]
        rows.append(message(home, 900, tags=None))
        rows.append(message(home, 901, tags=()))
        messages.add_messages(tx, [(row, None) for row in rows])

    searches = ["%", "_", "\\", "a_b", "100%", "äpfel", "ÄPFEL", "apfel", '"', "home"]

    def ask(tx: Tx, workspace: int) -> dict[str, list[Any]]:
        out: dict[str, list[Any]] = {}
        for text in searches:
            found = conversations.list_conversations(
                tx, workspace, conversations.Filter(search=text), sort="title", limit=99
            )
            out[f"title {text}"] = [row.title for row in found]
            assert conversations.count_conversations(tx, workspace, conversations.Filter(search=text)) == len(found)
            said = messages.list_messages(tx, workspace, messages.Filter(search=text), limit=99)
            out[f"content {text}"] = [row.seq for row in said]
        for tag in [*tags, "x,", "y", "shared", "b", ""]:
            wanted = conversations.Filter(collection_id=tag)
            out[f"collection {tag}"] = [
                row.collections for row in conversations.list_conversations(tx, workspace, wanted, limit=99)
            ]
            assert all(tag in row for row in out[f"collection {tag}"]), tag
            tagged = messages.list_messages(tx, workspace, messages.Filter(tags=(tag,)), limit=99)
            assert all(tag in (row.tags or ()) for row in tagged), tag
            assert messages.count_messages(tx, workspace, messages.Filter(tags=(tag,))) == len(tagged)
            out[f"tag {tag}"] = [row.seq for row in tagged]
        both = messages.list_messages(tx, workspace, messages.Filter(tags=("x,", "y")), limit=99)
        out["two tags"] = [row.seq for row in both]
        return out

    sqlite, postgres = both_engines(postgres_url, tmp_path, fill, ask)
    assert sqlite == postgres
    assert sqlite["title %"] == ["tag a%", "tag %", "100% Wolle"]
    assert sqlite["title _"] == ["a_b"]
    assert sqlite["title a_b"] == ["a_b"]
    assert sqlite["title apfel"] == ["apfel", "Apfel"]
    assert len(sqlite["tag shared"]) == len(tags)
    assert len(sqlite["tag a"]) == len(sqlite["tag A"]) == 1
    assert sqlite["tag ,"] == [102]
    assert len(sqlite["two tags"]) == len(titles)


def test_exact_filters(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home, other = conversation(caller.workspace), conversation(caller.workspace, owner_id="*", status="ended")
        rows = [
            message(home, 1, sender_id="a", role="user", created_us=10, rating=1),
            message(home, 2, sender_id="b", role="assistant", created_us=20, message_type="image", sent_us=5),
            message(home, 3, sender_id="A", role="user", created_us=20, updated_us=1),
            message(other, 1, sender_id="*", role="user", created_us=15),
        ]
        await db.write(everything, home, rows[:3])
        await db.write(conversations.add_conversation, other, None)
        await db.write(messages.add_messages, [(rows[3], None)])

        async def seqs(sort: str | None = None, down: bool = False, **wanted: Any) -> list[int]:
            found = await db.read(
                messages.list_messages, caller.workspace, messages.Filter(**wanted), sort=sort, descending=down,
                limit=99,
            )  # fmt: skip
            count = await db.read(messages.count_messages, caller.workspace, messages.Filter(**wanted))
            assert count == len(found)
            return [rows.index(row) for row in found]

        assert await seqs(conversation=home.number) == [0, 1, 2]
        assert await seqs(conversation=home.number, down=True) == [2, 1, 0]
        assert await seqs() == sorted(range(4), key=lambda i: (rows[i].created_us, rows[i].conversation, rows[i].seq))
        assert await seqs(sender_id="a") == [0]
        assert await seqs(sender_id="*") == [3]
        assert await seqs(owner_id="*") == [3]
        assert await seqs(owner_id="") == []
        assert await seqs(role="assistant", message_type="image") == [1]
        assert await seqs(rating=1) == [0]
        assert await seqs(since_us=15) == [3, 1, 2]
        assert await seqs(until_us=15) == [0]
        assert await seqs(since_us=20, until_us=20) == []
        assert await seqs("sent_at", conversation=home.number) == [1, 0, 2]
        assert await seqs("updated_at", conversation=home.number) == [2, 0, 1]
        assert await seqs("created_at", True, conversation=home.number) == [2, 1, 0]

        async def numbers(**wanted: Any) -> set[int]:
            found = await db.read(
                conversations.list_conversations, caller.workspace, conversations.Filter(**wanted), limit=99
            )
            return {row.number for row in found}

        assert await numbers(owner_id="*") == {other.number}
        assert await numbers(owner_id="") == set()
        assert await numbers(status="ended") == {other.number}
        assert await numbers(is_public=True) == set()
        assert await numbers(with_messages=True) == set()  # counts are kept by core

    in_store(database_url, run)


def test_locking_marks_activity_only_where_it_is_asked(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = conversation(caller.workspace)
        await db.write(conversations.add_conversation, home, None)
        assert await db.write(conversations.lock_conversation, caller.workspace, home.number, 0) == home
        later = await db.write(conversations.lock_conversation, caller.workspace, home.number, START_US + 5)
        assert later is not None
        assert later.updated_us == START_US + 5
        back = await db.write(conversations.lock_conversation, caller.workspace, home.number, START_US + 1)
        assert back == later  # clocks may go back, activity doesn't
        assert await db.write(conversations.lock_conversation, caller.workspace, 12345, 0) is None
        await db.write(conversations.set_grown, caller.workspace, home.number, 4, 3, START_US + 9, START_US + 7)
        grown = await db.read(conversations.get_conversation, caller.workspace, home.number)
        assert grown is not None
        assert (grown.next_seq, grown.message_count) == (4, 3)
        assert (grown.last_message_us, grown.updated_us) == (START_US + 9, START_US + 7)

    in_store(database_url, run)


def test_participants_are_known_once_in_the_order_they_spoke(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = conversation(caller.workspace)
        await db.write(everything, home, [message(home, 1, sender_id="zoe"), message(home, 2, sender_id="bot")])
        pairs = [("zoe", "user", 1), ("bot", "assistant", 2), ("amy", "user", 2)]
        await db.write(conversations.add_participants, caller.workspace, home.number, pairs)
        await db.write(conversations.add_participants, caller.workspace, home.number, [("zoe", "user", 99)])
        listed = await db.read(conversations.list_participants, caller.workspace, home.number)
        assert listed == [("zoe", "user"), ("amy", "user"), ("bot", "assistant")]
        await db.write(conversations.remove_unheard, caller.workspace, home.number, "zoe", "user")
        await db.write(conversations.remove_unheard, caller.workspace, home.number, "amy", "user")
        assert await db.read(conversations.list_participants, caller.workspace, home.number) == [
            ("zoe", "user"),
            ("bot", "assistant"),
        ]

    in_store(database_url, run)


def test_workspaces_are_found_by_id_before_name(database_url: str) -> None:
    async def run(db: Database) -> None:
        one = await db.write(workspaces.add_workspace, "one")
        sly = await db.write(workspaces.add_workspace, one.id)  # named like another's id
        assert await db.read(workspaces.get_workspace, one.id) == one
        assert await db.read(workspaces.get_workspace, sly.id) == sly
        assert await db.read(workspaces.get_workspace, "one") == one
        assert await db.read(workspaces.get_workspace, "One") is None
        assert await db.read(workspaces.list_workspaces) == [one, sly]
        assert await db.write(workspaces.set_meta, "a", "1") == "1"
        assert await db.write(workspaces.set_meta, "a", "2") == "1"
        assert await db.read(workspaces.get_meta, "b") is None

    in_store(database_url, run)


def test_keys_are_kept_by_digest_and_listed_by_workspace(database_url: str) -> None:
    async def run(db: Database) -> None:
        one, two = await add_caller(db, "one"), await add_caller(db, "two")

        def key(caller: Caller, n: int, **more: Any) -> ApiKey:
            base: dict[str, Any] = {
                "id": f"key_{n}", "workspace": caller.workspace, "workspace_id": caller.workspace_id, "kind": "anon",
                "key": f"mk_{n}", "label": "lä", "created_us": START_US, "updated_us": START_US,
            }  # fmt: skip
            return ApiKey(**{**base, **more})

        full = key(
            one, 1, permissions=("read",), ip_allow=("10.0.0.0/8",), origins=("https://x",), collections=("c",),
            expires_us=LAST_64, created_by="me", last_used_us=5, status="inactive",
        )  # fmt: skip
        await db.write(keys.add_key, full, b"one")
        await db.write(keys.add_key, key(one, 0), b"zero")
        await db.write(keys.add_key, key(two, 2), b"two")
        for twin in (key(two, 3), key(one, 3)):
            with pytest.raises(Clash):
                await db.write(keys.add_key, twin, b"one")
        assert await db.read(keys.get_key_by_digest, b"one") == full
        assert await db.read(keys.get_key_by_digest, b"on") is None
        assert await db.read(keys.get_key, one.workspace, "key_1") == full
        assert await db.read(keys.get_key, two.workspace, "key_1") is None
        assert [k.id for k in await db.read(keys.list_keys, one.workspace)] == ["key_0", "key_1"]
        assert [k.id for k in await db.read(keys.list_keys, one.workspace, 1, 1)] == ["key_1"]
        assert await db.read(keys.count_keys, one.workspace) == 2
        changed = key(one, 1, label="new", collections=None, last_used_us=5, created_by="me")
        await db.write(keys.set_key, changed)
        assert await db.read(keys.get_key, one.workspace, "key_1") == changed
        await db.write(keys.set_key_used, one.workspace, "key_1", 77)
        used = await db.read(keys.get_key, one.workspace, "key_1")
        assert used is not None
        assert used.last_used_us == 77
        assert not await db.write(keys.remove_key, two.workspace, "key_1")
        assert await db.write(keys.remove_key, one.workspace, "key_1")
        assert not await db.write(keys.remove_key, one.workspace, "key_1")
        assert await db.read(keys.get_key_by_digest, b"one") is None

    in_store(database_url, run)


def test_what_completions_leave_behind(database_url: str) -> None:
    async def run(db: Database) -> None:
        one, two = await add_caller(db, "one"), await add_caller(db, "two")
        chains = ids.chains([("user", str(i)) for i in range(1200)])
        await db.write(turns.set_chain, one.workspace, "ann", chains[2], 5, 3)
        await db.write(turns.set_chain, one.workspace, "ann", chains[700], 6, 4)
        await db.write(turns.set_chain, one.workspace, "ann", chains[700], 7, 9)
        assert await db.read(turns.get_chain, one.workspace, "ann", chains) == (701, 7, 9)
        assert await db.read(turns.get_chain, one.workspace, "ann", chains[:600]) == (3, 5, 3)
        assert await db.read(turns.get_chain, one.workspace, "Ann", chains) is None
        assert await db.read(turns.get_chain, two.workspace, "ann", chains) is None
        assert await db.read(turns.get_chain, one.workspace, "ann", []) is None
        await db.write(turns.remove_chains, one.workspace, 7)
        assert await db.read(turns.get_chain, one.workspace, "ann", chains) == (3, 5, 3)
        receipt = Receipt(
            id="rcp_1", workspace=one.workspace, user_id=None, conversation=5, answer=6, model="m", items=[{"id": "ä"}],
            tokens=3, recall_ms=1.25, skipped=None, created_us=START_US,
        )  # fmt: skip
        await db.write(turns.add_receipt, receipt)
        assert await db.read(turns.get_receipt, one.workspace, "rcp_1") == receipt
        assert await db.read(turns.get_receipt, two.workspace, "rcp_1") is None

    in_store(database_url, run)


def test_blocks_of_the_text_index(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        at = caller.workspace
        assert await db.read(texts.get_scope, at, "ann") == (0, 1)
        assert await db.write(texts.lock_scope, at, "ann") == (0, 1)
        assert await db.write(texts.add_blocks, at, "ann", [(2, b"a\x00b"), (3, b"c")]) == 2
        assert await db.write(texts.add_blocks, at, "ann", [(1, b"d")]) == 3
        assert await db.write(texts.add_blocks, at, "ben", [(9, b"z")]) == 1
        assert await db.read(texts.get_scope, at, "ann") == (0, 4)
        assert await db.read(texts.list_blocks, at, "ann", 1) == [(2, b"c"), (3, b"d")]
        assert await db.read(texts.get_blocks, at, "ann", [3, 1, 8]) == [(1, b"a\x00b"), (3, b"d")]
        assert await db.read(texts.list_block_sizes, at, "ann") == [(1, 2), (2, 3), (3, 1)]
        await db.write(texts.replace_blocks, at, "ann", [1, 3], [(3, b"ad")])
        assert await db.read(texts.get_scope, at, "ann") == (1, 5)
        assert await db.read(texts.list_blocks, at, "ann") == [(2, b"c"), (4, b"ad")]
        await db.write(texts.replace_blocks, at, "ann", [2, 4], [])
        assert await db.read(texts.list_blocks, at, "ann") == []
        assert await db.read(texts.get_scope, at, "ann") == (2, 5)
        assert await db.read(texts.list_blocks, at, "ben") == [(1, b"z")]

    in_store(database_url, run)


def test_a_store_opened_again_holds_what_it_held(database_url: str) -> None:
    async def run() -> None:
        async with opened(database_url) as db:
            caller = await add_caller(db, "one")
            home = conversation(caller.workspace)
            await db.write(everything, home, [message(home, 1, "kept")])
        async with opened(database_url) as db:
            assert await db.read(conversations.get_conversation, caller.workspace, home.number) == home
            (said,) = await db.read(messages.list_range, caller.workspace, home.number, 1, 9)
            assert said.content == "kept"

    asyncio.run(run())
