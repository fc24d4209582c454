"""Events out of any pieces, and what a stream amounts to."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aforesaid.errors import UpstreamFailed
from aforesaid.providers import sse
from aforesaid.providers.exchange import MAX_EVENT_BYTES
from aforesaid.providers.sse import Answer, Collector, Splitter

ENDS = ("\n", "\r\n", "\r")


def chunk(delta: object, index: int = 0, reason: str | None = None, **more: object) -> str:
    choice = {"index": index, "delta": delta, "finish_reason": reason, "x_unknown": 1}
    return json.dumps({"id": "c1", "model": "m-1", "choices": [choice], **more}, ensure_ascii=False)


CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
DATA = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"role": "assistant", "content": ""}, 1),
    chunk({"content": "Grüße, "}),
    chunk({"content": "two"}, 1),
    chunk({"content": "你好 🙂"}),
    chunk({"tool_calls": [CALL]}, 1),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}, 1),
    chunk({"tool_calls": [{"index": 1, "id": "call_2", "function": {"name": "time", "arguments": "{}"}}]}, 1),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]}, 1),
    chunk({"refusal": "no"}, 2),
    chunk({}, 0, "stop"),
    chunk({}, 1, "tool_calls"),
    chunk({}, 2, "stop"),
    json.dumps({"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}),
    "[DONE]",
]


def stream(end: str = "\n") -> bytes:
    """The events with comments and other fields between, and one in two data lines."""
    events = [f": hello{end}{end}"]
    for place, data in enumerate(DATA):
        if place == 4:
            head, tail = data.split(", ", 1)
            data = f"{head},{end}data: {tail}"
        name = f"event: chunk{end}id: {place}{end}" if place % 3 == 0 else ""
        events.append(f"{name}data: {data}{end}{end}")
    return "".join(events).encode()


def collected(pieces: list[bytes]) -> Answer:
    splitter, collector = Splitter(), Collector()
    given_out = b""
    for piece in pieces:
        whole = splitter.feed(piece)
        given_out += whole
        if whole:
            collector.feed(whole)
    assert given_out + splitter.rest == b"".join(pieces)
    return collector.answer()


def test_what_a_stream_amounts_to() -> None:
    answer = collected([stream()])
    assert (answer.id, answer.model, answer.complete, answer.truncated) == ("c1", "m-1", True, False)
    assert answer.usage == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    first, second, third = answer.choices
    assert (first.content, first.finish_reason, first.tool_calls) == ("Grüße, 你好 🙂", "stop", None)
    assert (second.content, second.finish_reason) == ("two", "tool_calls")
    assert second.tool_calls == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]
    assert (third.content, third.refusal) == ("", "no")


@pytest.mark.parametrize("end", ENDS)
def test_a_cut_at_every_byte_changes_nothing(end: str) -> None:
    whole = stream(end)
    expected = collected([stream()])
    for place in range(len(whole) + 1):
        assert collected([whole[:place], whole[place:]]) == expected
    assert collected([whole[at : at + 1] for at in range(len(whole))]) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_event_is_given_out_with_its_last_byte_and_never_in_part(end: str) -> None:
    whole = stream(end)
    gap = (end + end).encode()
    splitter, fed = Splitter(), b""
    for at in range(len(whole)):
        fed += whole[at : at + 1]
        given_out = splitter.feed(whole[at : at + 1])
        assert bool(given_out) == fed.endswith(gap)
        assert not given_out or given_out.endswith(gap)


@given(st.lists(st.integers(1, 400), max_size=40), st.sampled_from(ENDS))
def test_any_pieces_amount_to_the_same(sizes: list[int], end: str) -> None:
    whole, pieces, at = stream(end), [], 0
    for size in sizes:
        pieces.append(whole[at : at + size])
        at += size
    assert collected([*pieces, whole[at:]]) == collected([stream()])


@given(st.binary(max_size=400))
def test_garbage_never_breaks_the_collector(noise: bytes) -> None:
    collector = Collector()
    for piece in (noise, b"data: " + noise + b"\n\n", stream()):
        collector.feed(piece)
    collector.feed_body(noise)
    assert collector.answer() is not None


def test_long_streams_are_read_in_blocks_and_come_out_whole() -> None:
    collector = Collector()
    words = [f"w{i} " for i in range(5_000)]
    for word in words:
        collector.feed(f"data: {chunk({'content': word})}\n\n".encode())
    answer = collector.answer()
    assert answer.choices[0].content == "".join(words)
    assert not answer.complete


def test_a_collector_keeps_no_more_than_its_limit() -> None:
    collector = Collector()
    piece = f"data: {chunk({'content': 'x' * 1_000_000})}\n\n".encode()
    for _ in range(12):
        collector.feed(piece)
    answer = collector.answer()
    assert answer.truncated
    assert len(answer.choices[0].content) <= sse.MAX_TEXT + 1_000_000


def test_an_event_beyond_the_limit_is_refused() -> None:
    splitter = Splitter()
    half = b"x" * (MAX_EVENT_BYTES // 2)
    assert splitter.feed(half) == splitter.feed(half) == b""
    with pytest.raises(UpstreamFailed, match="longer than"):
        splitter.feed(b"x")


def test_complete_needs_every_choice_or_the_end_mark() -> None:
    def answer_of(*data: str) -> Answer:
        return collected([f"data: {one}\n\n".encode() for one in data])

    begun = [chunk({"content": "a"}), chunk({"content": "b"}, 1)]
    assert not answer_of(*begun).complete
    assert not answer_of(*begun, chunk({}, 0, "stop")).complete
    assert answer_of(*begun, chunk({}, 0, "stop"), chunk({}, 1, "length")).complete
    assert answer_of(*begun, "[DONE]").complete
    broken = answer_of(*begun, json.dumps({"error": {"message": "overloaded"}}))
    assert (broken.complete, broken.error) == (False, {"message": "overloaded"})


def test_a_body_is_collected_like_a_stream() -> None:
    body = {
        "id": "c2",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
            }
        ],
        "usage": {"total_tokens": 4},
    }
    collector = Collector()
    collector.feed_body(msgspec.json.encode(body))
    answer = collector.answer()
    assert answer.complete
    assert answer.usage == {"total_tokens": 4}
    assert answer.choices[0].tool_calls == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


def test_fields_of_unexpected_types_cost_only_themselves() -> None:
    odd = [
        {"id": 7, "model": "m", "choices": [{"index": 0, "delta": {"content": "a", "tool_calls": "none"}}]},
        {"choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": "b"}, {"type": "image"}]}}]},
        {"choices": [{"index": "0", "delta": {"content": "c", "role": 5}}]},
        {"choices": "none", "usage": 3},
        {"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}], "usage": {"total_tokens": 1}},
    ]
    answer = collected([f"data: {json.dumps(one)}\n\n".encode() for one in odd])
    assert answer.choices[0].content == "abc"
    assert (answer.id, answer.model, answer.usage, answer.complete) == (None, "m", {"total_tokens": 1}, True)


def test_calls_without_an_index_are_told_apart_by_their_ids() -> None:
    calls = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("a", "b")]
    answer = collected([f"data: {chunk({'tool_calls': [call]})}\n\n".encode() for call in calls])
    made = answer.choices[0].tool_calls
    assert made is not None
    assert [call["id"] for call in made] == ["a", "b"]


def test_the_end_mark_is_a_line_of_its_own() -> None:
    assert sse.is_done(b"data: {}\n\ndata: [DONE]\n\n")
    assert sse.is_done(b"data:[DONE]\r\n\r\n")
    assert not sse.is_done(f"data: {chunk({'content': 'data: [DONE]'})}\n\n".encode())
    quoted = chunk({"content": '"finish_reason": "stop"'})
    assert sse.finishes(f"data: {quoted}\n\n".encode()) == 0
    assert sse.finishes(f"data: {chunk({}, 0, 'stop')}\n\ndata: {chunk({}, 1, 'stop')}\n\n".encode()) == 2
