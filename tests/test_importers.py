"""Importers: every shape is read, nothing broken stops the rest, and no file is held in memory."""

import contextlib
import gzip
import json
import os
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aforesaid.errors import Invalid
from aforesaid.importers import Broken, ImportedConversation, ImportedMessage, formats, limits, read
from aforesaid.limits import MESSAGE_BYTES, METADATA_BYTES
from aforesaid.model import DraftConversation

JUNE_US = 1_749_551_286_658_000
Writer = Callable[..., Path]
many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """A file of the given bytes, or of the given rows a line each."""

    def file(*rows: Any, name: str = "file") -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows))
        return path

    return file


def parts(path: Path, form: str | None = None) -> tuple[list[DraftConversation], list[Broken]]:
    """What the file gives, sorted in two."""
    good: list[DraftConversation] = []
    bad: list[Broken] = []
    with read(path, form) as reading:
        for item in reading:
            if isinstance(item, Broken):
                bad.append(item)
            else:
                good.append(item)
        assert reading.read_bytes == reading.total_bytes
    return good, bad


def one(path: Path, form: str | None = None) -> DraftConversation:
    good, bad = parts(path, form)
    assert (bad, len(good)) == ([], 1)
    return good[0]


def words(conversation: DraftConversation) -> list[tuple[str, str]]:
    return [(draft.role, draft.content) for draft in conversation.messages]


# --- our own JSONL ---------------------------------------------------------------------------------------------------


def test_own_format_keeps_every_field(write: Writer) -> None:
    path = write(
        {"type": "aforesaid", "version": 1, "exported_at": "2025-07-01T00:00:00Z"},
        {
            "type": "conversation", "id": "conv_A", "external_id": "ext-1", "owner_id": "ada", "session_id": "s1",
            "title": "Bread", "summary": "About bread", "status": "ended", "is_public": True, "collections": ["col_1"],
            "meta_data": {"a": [1, None]}, "settings": {"x": 1}, "created_by": "key_1",
            "created_at": "2025-06-10T10:28:06.658Z", "updated_at": 1749551286658, "ended_at": 1749551286.658,
        },
        {
            "type": "message", "conversation": "ext-1", "id": "msg_1", "external_id": "m1", "checksum": "c",
            "role": "assistant", "sender_id": "baker", "owner_id": "ada", "content": "Knead it.",
            "message_type": "text", "parent_message_id": "msg_0", "created_at": "2025-06-10T12:28:06.658+02:00",
            "updated_at": 1749551286658, "sent_at": 1749551286658, "tags": ["t"], "tool_calls": [{"id": "call"}],
            "attachments": [{"type": "file"}], "meta_data": {"k": "v"}, "rating": -1, "incomplete": True, "seq": 1,
        },
    )  # fmt: skip
    message = ImportedMessage(
        id="msg_1", external_id="m1", checksum="c", role="assistant", sender_id="baker", owner_id="ada",
        content="Knead it.", parent_message_id="msg_0", created_us=JUNE_US, updated_us=JUNE_US, sent_us=JUNE_US,
        tags=("t",), tool_calls=[{"id": "call"}], attachments=[{"type": "file"}], meta_data={"k": "v"}, rating=-1,
        incomplete=True,
    )  # fmt: skip
    assert one(path) == ImportedConversation(
        id="conv_A", external_id="ext-1", owner_id="ada", session_id="s1", title="Bread", summary="About bread",
        status="ended", is_public=True, collections=("col_1",), meta_data={"a": [1, None]}, settings={"x": 1},
        created_by="key_1", created_us=JUNE_US, updated_us=JUNE_US, ended_us=JUNE_US, line=2, messages=(message,),
    )  # fmt: skip


def test_a_conversation_may_come_in_stretches(write: Writer) -> None:
    path = write(
        {"type": "conversation", "id": "a", "title": "A"},
        {"type": "message", "conversation": "a", "id": "1", "content": "one"},
        {"type": "message", "conversation_id": "b", "id": "2", "content": "two"},
        {"type": "message", "conversation": "a", "id": "3", "content": "three"},
        {"type": "conversation", "id": "c"},
    )
    good, bad = parts(path)
    assert bad == []
    told = [(c.external_id, c.title, isinstance(c, ImportedConversation) and c.described) for c in good]
    assert told == [("a", "A", True), ("b", None, False), ("a", None, False), ("c", None, True)]
    assert [[m.content for m in c.messages] for c in good] == [["one"], ["two"], ["three"], []]


def test_hand_written_lines(write: Writer) -> None:
    path = write(
        {"conversation_id": 7, "role": "human", "text": "Hi", "timestamp": "2025-06-10 10:28:06.658", "sender": "ada"},
        {"conversation_id": "7", "role": "AI", "content": [{"type": "text", "text": "Hello"}, {"type": "image_url"}]},
        {"id": "x", "user_id": "ada", "messages": [{"role": "user", "content": "inline", "message_id": 5}]},
    )
    first, second = parts(path)[0]
    assert first.external_id == "7"
    assert words(first) == [("user", "Hi"), ("assistant", "Hello")]
    assert (first.messages[0].created_us, first.messages[0].sender_id) == (JUNE_US, "ada")
    assert first.messages[1].attachments == [{"type": "image_url"}]
    assert (second.owner_id, second.messages[0].external_id) == ("ada", "5")


def test_fine_tuning_lines_are_named_by_their_content(write: Writer) -> None:
    row = {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "ok", "name": "ada"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function"}]},
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
            {"role": "user", "content": "ok"},
            {"role": "user", "content": "ok"},
        ]
    }
    other = {"messages": [{"role": "user", "content": "ok"}]}
    first, again, different = parts(write(row, row, other))[0]
    assert (first.external_id, first.messages) == (again.external_id, again.messages)
    assert different.external_id != first.external_id
    assert first.messages[2].tool_calls == [{"id": "c1", "type": "function"}]
    assert first.messages[3].meta_data == {"tool_call_id": "c1"}
    marks = [draft.checksum for draft in first.messages]
    assert None not in marks
    assert len(set(marks)) == 6


def test_messages_without_identity_are_known_by_their_place(write: Writer) -> None:
    rows = [{"conversation_id": key, "role": "user", "content": "ok"} for key in "aabab"]
    once = [m.checksum for c in parts(write(*rows))[0] for m in c.messages]
    longer = [m.checksum for c in parts(write(*rows, rows[0]))[0] for m in c.messages]
    assert len(set(once)) == 5
    assert longer[:5] == once
    assert longer[5] not in once


def test_unknown_names_are_counted_not_refused(write: Writer) -> None:
    rows = [{"conversation_id": "a", "role": "user", "content": "x", "mood": 1, "id": str(n)} for n in range(3)]
    with read(write(*rows)) as reading:
        assert len(list(reading)) == 1
    assert reading.ignored == {"message.mood": 3}


def test_a_newer_version_is_reported(write: Writer) -> None:
    _, bad = parts(write({"type": "aforesaid", "version": 2}))
    assert bad[0].field == "version"
    assert "reads up to 1" in bad[0].reason


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"content": "a\0b"}, "content", "NUL"),
        ({"content": "a\ud800"}, "content", "surrogate"),
        ({"content": 5}, "content", "expected text"),
        ({"content": None}, "content", "needs content"),
        ({"content": "x" * (MESSAGE_BYTES + 1)}, "content", "1,048,577 bytes"),
        ({"content": "é" * (MESSAGE_BYTES // 2 + 1)}, "content", "1,048,578 bytes"),
        ({"content": [{"type": "text", "text": 1}]}, "content[0].text", "expected text"),
        ({"role": "king"}, "role", "known role"),
        ({"role": ["user"]}, "role", "known role"),
        ({"created_at": "soon"}, "created_at", "not a time"),
        ({"created_at": 1e300}, "created_at", "1970"),
        ({"id": "x" * 513}, "id", "256"),
        ({"meta_data": []}, "meta_data", "object"),
        ({"metadata": {"k": "x" * METADATA_BYTES}}, "metadata", "65,5"),
        ({"meta_data": {"k": "\ud800"}}, "meta_data", "surrogate"),
        ({"meta_data": {"k": "\0"}}, "meta_data", "NUL"),
        ({"tool_calls": ["x"]}, "tool_calls", "list of objects"),
        ({"tags": [1]}, "tags[0]", "expected text"),
        ({"rating": 5}, "rating", "-1, 0 or 1"),
        ({"rating": True}, "rating", "-1, 0 or 1"),
        ({"incomplete": "yes"}, "incomplete", "true or false"),
        ({"conversation_id": {}}, "conversation_id", "expected text"),
    ],
)
def test_a_bad_field_is_named_and_the_rest_goes_on(write: Writer, row: Any, field: str, reason: str) -> None:
    good = {"conversation_id": "a", "role": "user", "id": "1", "content": "fine"}
    conversations, bad = parts(write(good, {**good, "id": "2", **row}, {**good, "id": "3"}))
    assert [m.external_id for c in conversations for m in c.messages] == ["1", "3"]
    assert [(b.line, b.field) for b in bad] == [(2, field)]
    assert reason in bad[0].reason


def test_limits_themselves_are_allowed(write: Writer) -> None:
    meta = {"k": "x" * (METADATA_BYTES - len('{"k":""}'))}
    largest = one(write({"id": "a", "messages": [{"content": "x" * MESSAGE_BYTES, "meta_data": meta}]}))
    assert largest.messages[0].meta_data == meta
    deep: Any = 1
    for _ in range(limits.MAX_DEPTH):
        deep = {"d": deep}
    assert one(write({"id": "a", "meta_data": deep, "messages": []})).meta_data == deep
    _, bad = parts(write({"id": "a", "meta_data": {"d": deep}, "messages": []}))
    assert bad[0].reason == f"is nested deeper than {limits.MAX_DEPTH}"
    assert one(write({"id": "a", "meta_data": {"k": "\\u0000"}, "messages": []})).meta_data == {"k": "\\u0000"}


def test_messages_below_a_broken_conversation_line_do_not_fall_to_the_one_above(write: Writer) -> None:
    good, bad = parts(
        write(
            {"type": "conversation", "id": "a"},
            {"type": "conversation", "id": "b", "created_at": "never"},
            {"type": "message", "content": "whose?"},
            {"type": "message", "conversation": "b", "content": "b's", "id": "1"},
        )
    )
    assert [(c.external_id, len(c.messages)) for c in good] == [("a", 0), ("b", 1)]
    assert [(b.line, b.field) for b in bad] == [(2, "created_at"), (3, "conversation_id")]


def test_rows_that_are_not_json_are_reported_with_their_line(write: Writer) -> None:
    message = {"conversation_id": "a", "role": "user", "content": "x", "id": "1"}
    good, bad = parts(
        write(
            b"\xef\xbb\xbf",
            message,
            b"\r\n \n",
            b"{oops}\n",
            b'{"content": "\xff"}\n',
            b"[" * 100_000 + b"\n",
            b'{"meta_data":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
            b'{"a": NaN}\n{"a": 1e999}\n',
            b'"text"\n',
            b'{"a": 1} {"b": 2}\n',
            b'{"content": "half \\ud83d", "role": "user", "a": Infinity}\n',
            json.dumps({**message, "id": "2"}).encode() + b"\r\n",
            b'{"conversation_id": "a", "role": "user", "id": "3", "content": "no line end"}',
        )
    )
    assert [m.external_id for c in good for m in c.messages] == ["1", "2", "3"]
    assert [b.line for b in bad] == [4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert "UTF-8" in bad[1].reason
    assert "nested too deep" in bad[2].reason
    assert "nested too deep" in bad[3].reason


# --- research sets ---------------------------------------------------------------------------------------------------


def test_sessions_become_conversations(write: Writer) -> None:
    path = write(
        {
            "dataset": "set", "conversation_id": "c1", "participants": ["Ann", "Ben"], "questions": [],
            "sessions": [
                {
                    "session_id": "S1", "started_at": "2025-06-10T10:28:06.658",
                    "messages": [
                        {"message_id": "m1", "sender": "Ann", "text": "Look!", "image_caption": "a cat"},
                        {"message_id": "m2", "sender": "Ben", "role": "assistant", "text": "Nice."},
                        {"message_id": "m3", "sender": "Ben", "role": "assistant", "text": 3},
                    ],
                },
                {"session_id": "S2", "messages": [{"role": "user", "text": "ok"}, {"role": "user", "text": "ok"}]},
                "not a session",
            ],
        },
        {"conversation_id": "c2", "sessions": {}},
    )  # fmt: skip
    (first, second), bad = parts(path)
    assert (first.external_id, first.created_us, first.meta_data) == ("c1/S1", JUNE_US, {"dataset": "set"})
    assert words(first) == [("user", "Look! [shared a photo: a cat]"), ("assistant", "Nice.")]
    assert [m.created_us for m in first.messages] == [JUNE_US, JUNE_US + 1_000_000]
    assert [(m.external_id, m.sender_id) for m in first.messages] == [("m1", "Ann"), ("m2", "Ben")]
    assert second.external_id == "c1/S2"
    assert len({m.checksum for m in second.messages} - {None}) == 2
    wrong = [(b.line, b.field) for b in bad]
    assert wrong == [(1, "sessions[0].messages[2].text"), (1, "sessions[2]"), (2, "sessions")]


# --- ChatGPT exports -------------------------------------------------------------------------------------------------


def node(key: str, parent: str | None, *children: str, role: str = "user", **message: Any) -> dict[str, Any]:
    """A node of an export's tree; ``content`` may be a text."""
    if isinstance(message.get("content"), str):
        message["content"] = {"content_type": "text", "parts": [message["content"]]}
    body = {"id": key, "author": {"role": role, "name": None, "metadata": {}}, "metadata": {}, **message}
    return {key: {"id": key, "parent": parent, "children": list(children), "message": body if message else None}}


def chat(*nodes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    mapping = {key: value for each in nodes for key, value in each.items()}
    return {"title": "Soup", "conversation_id": "cid", "create_time": 1749551286.658, "mapping": mapping, **fields}


def edited() -> dict[str, Any]:
    """A conversation whose first answer was regenerated and whose second question was edited twice."""
    return chat(
        node("root", None, "q1"),
        node("q1", "root", "a1", "a2", content="Which soup?", create_time=1749551287.0),
        node("a1", "q1", role="assistant", content="Leek.", create_time=1749551288.0),
        node("a2", "q1", "q2", "q3", "q4", role="assistant", content="Onion.", create_time=1749551289.5),
        node("q2", "a2", "a3", content="How long?"),
        node("a3", "q2", role="assistant", content="An hour."),
        node("q3", "a2", content="How much?"),
        node("q4", "a2", "a4", content="How hot?"),
        node("a4", "q4", role="assistant", content="Very.", metadata={"model_slug": "gpt-x"}),
        current_node="a4",
        update_time=1749551300.25,
    )


def test_branches_stand_before_the_path_and_are_marked(write: Writer) -> None:
    found = one(write([edited()]))
    assert (found.external_id, found.title, found.line) == ("cid", "Soup", 1)
    assert (found.created_us, found.updated_us) == (JUNE_US, 1_749_551_300_250_000)
    assert [m.external_id for m in found.messages] == ["q1", "a1", "a2", "q2", "a3", "q3", "q4", "a4"]
    assert [(m.meta_data or {}).get("branch", 0) for m in found.messages] == [0, 1, 0, 2, 2, 3, 0, 0]
    assert [m.parent_message_id for m in found.messages] == [None, "q1", "q1", "a2", "q2", "a2", "a2", "q4"]
    # A message without a time has that of what it answers.
    assert [m.created_us for m in found.messages[-2:]] == [1_749_551_289_500_000] * 2
    assert found.messages[-1].meta_data == {"model": "gpt-x"}


def test_another_current_node_marks_another_branch(write: Writer) -> None:
    found = one(write([{**edited(), "current_node": "a3"}]))
    assert [m.external_id for m in found.messages] == ["q1", "a1", "a2", "q3", "q4", "a4", "q2", "a3"]
    assert [(m.meta_data or {}).get("branch", 0) for m in found.messages] == [0, 1, 0, 2, 3, 3, 0, 0]
    for current in (None, 5, "gone"):  # the newest child at every fork, as the site shows it
        found = one(write([{**edited(), "current_node": current}]))
        assert [m.external_id for m in found.messages if not (m.meta_data or {}).get("branch")][-1] == "a4"


def test_kinds_of_content(write: Writer) -> None:
    hidden = {"is_visually_hidden_from_conversation": True}
    image = {
        "content_type": "image_asset_pointer", "asset_pointer": "file-service://f1", "width": 8, "height": 9,
        "metadata": {"dalle": {"prompt": "a leek"}}, "fovea": 1,
    }  # fmt: skip
    speech = {
        "content_type": "real_time_user_audio_video_asset_pointer",
        "audio_asset_pointer": {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://f2"},
    }
    quote = {"content_type": "tether_quote", "title": "Leeks", "text": "Grow well.", "url": "example.org/leek"}
    nodes: list[tuple[str, dict[str, Any]]] = [
        ("system", {"content": "You are hidden.", "metadata": hidden}),
        ("system", {"content": ""}),
        ("system", {"content": "Project rules."}),
        ("user", {"content": {"content_type": "user_editable_context", "user_profile": "I cook"}}),
        ("user", {"content": {"content_type": "multimodal_text", "parts": [image, "What is it?"]}}),
        ("user", {"content": {"content_type": "multimodal_text", "parts": [
            {"content_type": "audio_transcription", "text": "Spoken words", "direction": "in"}, speech]}}),
        ("user", {"content": "See file", "metadata": {"attachments": [
            {"id": "f3", "name": "a.pdf", "mimeType": "application/pdf", "size": 7}]}}),
        ("assistant", {"content": {"content_type": "thoughts", "thoughts": [{"content": "hm"}]}}),
        ("assistant", {"content": {"content_type": "reasoning_recap", "content": "Thought for 2s"}}),
        ("assistant", {"content": {"content_type": "code", "text": "1+1"}, "recipient": "python"}),
        ("tool", {"content": {"content_type": "execution_output", "text": "2"},
                  "author": {"role": "tool", "name": "python"}}),
        ("tool", {"content": quote}),
        ("tool", {"content": {"content_type": "tether_browsing_display", "result": "L0: leek", "summary": "s"}}),
        ("assistant", {"content": "search('x')", "recipient": "browser"}),
        ("assistant", {"content": "It is a", "status": "in_progress", "recipient": "all"}),
        ("assistant", {"content": "unseen", "weight": 0}),
    ]  # fmt: skip
    chain = [
        node(f"n{i}", f"n{i - 1}" if i else None, role=role, **({"content": ""} | fields))
        for i, (role, fields) in enumerate(nodes)
    ]
    with read(write([chat(*chain)])) as reading:
        (found,) = list(reading)
    assert isinstance(found, DraftConversation)
    assert [(m.role, m.content, m.message_type) for m in found.messages] == [
        ("system", "Project rules.", "text"),
        ("user", "What is it?", "text"),
        ("user", "Spoken words", "text"),
        ("user", "See file", "text"),
        ("assistant", "1+1", "code"),
        ("tool", "2", "text"),
        ("tool", "Leeks\nGrow well.\nexample.org/leek", "text"),
        ("tool", "L0: leek", "text"),
        ("assistant", "search('x')", "tool_call"),
        ("assistant", "It is a", "text"),
    ]
    kept = {m.content: m for m in found.messages}
    assert kept["What is it?"].attachments == [
        {"type": "image", "asset_pointer": "file-service://f1", "width": 8, "height": 9, "prompt": "a leek"}
    ]
    assert kept["Spoken words"].attachments == [{"type": "audio", "asset_pointer": "sediment://f2"}]
    assert kept["See file"].attachments == [
        {"type": "file", "id": "f3", "name": "a.pdf", "mime_type": "application/pdf", "size_bytes": 7}
    ]
    # What is left out is not lost as a parent: the answer hangs on the nearest message that was kept.
    assert kept["1+1"].parent_message_id == "n6"
    assert kept["2"].sender_id == "python"
    assert kept["It is a"].incomplete
    assert reading.ignored == {
        "message.hidden": 2, "content.user_editable_context": 1, "content.thoughts": 1, "content.reasoning_recap": 1,
    }  # fmt: skip


def test_a_broken_message_leaves_its_conversation(write: Writer) -> None:
    broken = chat(
        node("q", None, content="Good"),
        node("nul", "q", content="a\0"),
        node("half", "nul", content="\ud83d"),
        node("long", "half", content="x" * (MESSAGE_BYTES + 1)),
        node("role", "long", role="wizard", content="x"),
        {"text": "no node"},
        {"odd": {"message": "no message", "parent": "q"}},
        node("a", "long", role="assistant", content="Also good", create_time="noon"),
    )
    broken |= {"title": "Half \ud83d", "default_model_slug": "\ud83d"}
    good, bad = parts(write([broken, {**broken, "mapping": 5}, {"mapping": {}}, 7, {"no": "mapping"}]))
    assert words(good[0]) == [("user", "Good"), ("assistant", "Also good")]
    assert good[0].messages[1].parent_message_id == "q"
    assert (good[0].title, good[0].meta_data) == (None, {"source": "chatgpt"})
    fields = [b.field for b in bad if b.line == 1]
    assert sorted(fields, key=str) == [
        "mapping.half.message.content", "mapping.long.message.content", "mapping.nul.message.content",
        "mapping.odd.message", "mapping.role.message.author.role", "mapping.text",
    ]  # fmt: skip
    assert [(b.line, b.field) for b in bad if b.line > 1] == [
        (2, "mapping"), (3, "conversation_id"), (4, None), (5, "mapping"),
    ]  # fmt: skip


def test_the_oldest_exports_name_no_conversation(write: Writer) -> None:
    bare = {key: value for key, value in edited().items() if key != "conversation_id"}
    first = one(write([bare])).external_id
    grown = {**bare, "mapping": {**bare["mapping"], **node("q5", "a4", content="More")}, "current_node": "q5"}
    assert one(write([grown])).external_id == first
    assert one(write([{**bare, "id": "old"}])).external_id == "old"


KEYS = st.sampled_from(["a", "b", "c", "d", "e", "f"])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | KEYS, inner, max_size=3),
    max_leaves=8,
)


@many
@given(
    st.dictionaries(KEYS, st.tuples(st.none() | KEYS | st.just("gone"), st.lists(KEYS)), max_size=6),
    st.none() | KEYS,
)
def test_any_tree_gives_each_message_once(
    tmp_path: Path, links: dict[str, tuple[str | None, list[str]]], current: str | None
) -> None:
    nodes = [node(key, parent, *children, content=f"says {key}") for key, (parent, children) in links.items()]
    path = tmp_path / "tree.json"
    path.write_text(json.dumps([chat(*nodes, current_node=current)]))
    found = one(path)
    keys = [m.external_id for m in found.messages]
    assert sorted(map(str, keys)) == sorted(links)
    for place, message in enumerate(found.messages):
        assert message.parent_message_id is None or message.parent_message_id in keys[:place]
    if current in links:
        on_path = [m.external_id for m in found.messages if not (m.meta_data or {}).get("branch")]
        assert on_path[-1] == current


def replacements(value: Any, junk: Any) -> Iterator[Any]:
    """The value with junk in each place in turn."""
    yield junk
    if isinstance(value, dict):
        for key in value:
            for changed in replacements(value[key], junk):
                yield {**value, key: changed}
    elif isinstance(value, list):
        for place, item in enumerate(value):
            for changed in replacements(item, junk):
                yield [*value[:place], changed, *value[place + 1 :]]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JUNK)
def test_wrong_types_anywhere_never_raise(tmp_path: Path, junk: Any) -> None:
    path = tmp_path / "junk"
    for form, row in (
        ("chatgpt", edited()),
        ("sessions", {"conversation_id": "c", "sessions": [{"session_id": "s", "messages": [{"text": "t"}]}]}),
        ("aforesaid", {"id": "c", "created_at": 1, "messages": [{"id": "i", "content": "t", "meta_data": {}}]}),
    ):
        with path.open("w") as file:
            for changed in replacements(row, junk):
                file.write(json.dumps(changed) + "\n")
        for item in read(path, form):
            assert isinstance(item, DraftConversation | Broken)


# --- files -----------------------------------------------------------------------------------------------------------


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_json", ".json"), content)
    return path


def test_the_same_export_in_every_wrapping(write: Writer, tmp_path: Path) -> None:
    row = edited()
    wanted = one(write([row]))
    array = json.dumps([row]).encode()
    for content in (
        b"\xef\xbb\xbf \r\n" + array,
        json.dumps([row], indent=2).encode(),
        json.dumps(row, indent="\t").encode(),
        json.dumps(row).encode(),
        gzip.compress(array),
    ):
        assert one(write(content, name="misleading.txt")) == wanted
    assert one(zipped(tmp_path / "a.zip", chat_html=b"<p>", user_json=b"{}", conversations_json=array)) == wanted
    assert one(zipped(tmp_path / "b.zip", export__conversations_json=array)) == wanted


def test_an_export_in_numbered_files_counts_on(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for part in (1, 0):
            rows = [chat(node(f"n{part}{i}", None, content="x"), conversation_id=f"{part}{i}") for i in range(2)]
            archive.writestr(f"conversations-00{part}.json", json.dumps(rows))
    assert [(c.line, c.external_id) for c in parts(path)[0]] == [(1, "00"), (2, "01"), (3, "10"), (4, "11")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf\n \n", "empty"),
        (b"[]", "empty"),
        (b"hello\n", "not JSON"),
        (b'{"hello": "world"}', "none of them"),
        (b"%PDF-1.4\n\x00\xff", "no known format"),
        ('{"content": "x"}'.encode("utf-16"), "UTF-16"),
        (gzip.compress(gzip.compress(b'{"messages": []}', mtime=0), mtime=0), "no known format"),
        (b"PK\x03\x04 not really", "archive"),
    ],
)
def test_a_file_of_no_known_format_is_refused_with_the_reason(write: Writer, content: bytes, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        read(write(content))


def test_archives_without_conversations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="holds no"):
        read(zipped(tmp_path / "a.zip", one_json=b"{}", two_json=b"{}"))
    assert one(zipped(tmp_path / "b.zip", one_json=b'{"messages": []}')).messages == ()


def test_a_given_format_is_not_told_by_content(write: Writer) -> None:
    assert [name for name, _ in formats()] == ["chatgpt", "sessions", "aforesaid"]
    assert [b.field for b in parts(write({"messages": []}), "chatgpt")[1]] == ["mapping"]
    with pytest.raises(Invalid, match="unknown format"):
        read(write(b""), "csv")
    with pytest.raises(FileNotFoundError):
        read(Path("/nonexistent"))


def test_a_file_cut_off_gives_what_came_before(write: Writer) -> None:
    rows = [chat(node(f"n{i}", None, content=f"text {i}"), conversation_id=str(i)) for i in range(50)]
    array = json.dumps(rows).encode()
    for end in range(len(array) // 2, len(array) // 2 + 400, 7):
        good, bad = parts(write(array[:end]))
        whole = array[:end].count(b'"text ')
        assert len(good) in (whole, whole - 1)
        assert "not complete" in bad[0].reason
    for packed in (gzip.compress(array, 0)[:-3000], gzip.compress(array, 0)[:-8] + b"\0" * 8):
        good, bad = parts(write(packed), "chatgpt")
        assert len(good) > 10
        assert "can't be read on" in bad[0].reason


def test_text_between_elements_is_reported(write: Writer) -> None:
    row = json.dumps(edited()).encode()
    good, bad = parts(write(b"[" + row + b', "stray", ' + row + b", {bad} , " + row + b"] more"))
    assert [c.line for c in good] == [1, 3, 5]
    assert [b.line for b in bad] == [2, 4, 6]


@many
@given(st.lists(st.dictionaries(st.text(), JUNK | st.text()), max_size=6), st.sampled_from([None, 0, 3]))
def test_arrays_are_cut_where_a_parser_would(tmp_path: Path, rows: list[Any], indent: int | None) -> None:
    path = tmp_path / "array"
    turns = [{"messages": [{"content": json.dumps(row), "id": "x"}]} for row in rows]
    for text in (json.dumps(turns, indent=indent), "\n".join(json.dumps(turn, indent=indent) for turn in turns)):
        path.write_text(text)
        with contextlib.suppress(Invalid):  # no rows at all
            assert [c.messages[0].content for c in parts(path, "aforesaid")[0]] == [json.dumps(row) for row in rows]


def test_a_row_too_long_is_passed_over(write: Writer) -> None:
    small = b'{"conversation_id": "a", "role": "user", "content": "x", "id": "%d"}'
    long = b'{"content": "' + b"x" * limits.MAX_ROW_BYTES + b'"}'
    good, bad = parts(write(small % 1 + b"\n" + long + b"\n" + small % 2))
    assert [m.external_id for c in good for m in c.messages] == ["1", "2"]
    assert [b.line for b in bad] == [2]
    listed = b'{"a": [' + (b"[1" + b"0" * 997 + b"],") * (limits.MAX_ROW_BYTES // 1000) + b"0]}"
    good, bad = parts(write(b"[" + small % 1 + b"," + listed + b"," + small % 2 + b"]"))
    assert [m.external_id for c in good for m in c.messages] == ["1", "2"]
    assert [(b.line, "67,108,864" in b.reason) for b in bad] == [(2, True)]


def test_bombs_are_stopped(tmp_path: Path) -> None:
    first = b'{"conversation_id": "a", "role": "user", "content": "x", "id": "1"}\n'
    blank = b" " * (1 << 20) + b"\n"
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as file:
        file.write(first)
        for _ in range(128):
            file.write(blank)
    with (
        zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb.jsonl", "w") as member,
    ):
        member.write(first)
        for _ in range(128):
            member.write(blank)
    for name in ("bomb", "bomb.zip"):
        with read(tmp_path / name) as reading:
            good, *bad = list(reading)
        assert isinstance(good, DraftConversation)
        assert [m.external_id for m in good.messages] == ["1"]
        assert ["unpacks to more" in b.reason for b in bad if isinstance(b, Broken)] == [True]


def test_long_conversations_come_in_stretches(write: Writer) -> None:
    count = 2 * limits.MAX_STRETCH_MESSAGES + 1
    messages = [{"conversation_id": "a", "content": "x", "id": str(n)} for n in range(count)]
    told = {"conversation_id": "a", "sessions": [{"session_id": "s", "messages": [{"text": "x"}] * count}]}
    for rows in ([{"id": "a", "title": "T", "messages": messages}], messages, [told]):
        good, _ = parts(write(*rows))
        assert [len(c.messages) for c in good] == [1000, 1000, 1]
        assert len({c.external_id for c in good}) == 1
        assert len({m.external_id or m.checksum for c in good for m in c.messages}) == count
    big = [{"conversation_id": "a", "content": "x" * 1_000_000, "id": str(n)} for n in range(10)]
    assert [len(c.messages) for c in parts(write(*big))[0]] == [9, 1]


@pytest.mark.parametrize("wrapping", ["lines", "array", "gzip", "zip"])
def test_memory_stays_flat(tmp_path: Path, wrapping: str) -> None:
    row = json.dumps({"messages": [{"role": "user", "content": "{word] " * 400, "id": "1"}] * 20}).encode()
    joint = b"\n" if wrapping == "lines" else b","
    path = tmp_path / "conversations.json"
    with gzip.open(path, "wb", compresslevel=1) if wrapping == "gzip" else path.open("wb") as file:
        if wrapping != "lines":
            file.write(b"[")
        for number in range(700):
            file.write((joint if number else b"") + row)
        if wrapping != "lines":
            file.write(b"]")
    if wrapping == "zip":
        with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(path, path.name)
        path = tmp_path / "all.zip"
    tracemalloc.start()
    try:
        reading = read(path)
        steps = set()
        count = 0
        for item in reading:
            count += 1
            assert isinstance(item, DraftConversation)
            steps.add(reading.read_bytes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 700
    assert 700 * len(row) > 35_000_000
    assert peak < 6_000_000
    assert reading.read_bytes == reading.total_bytes
    assert wrapping == "gzip" or len(steps) > 100


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def fill() -> None:
        with path.open("wb", buffering=0) as file:
            for number in range(3):
                file.write(json.dumps({"conversation_id": "a", "content": "x", "id": number}).encode() + b"\n")

    writer = threading.Thread(target=fill)
    writer.start()
    with read(path) as reading:
        found = list(reading)
    writer.join()
    assert [len(c.messages) for c in found if isinstance(c, DraftConversation)] == [3]
