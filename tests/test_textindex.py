"""The text index: what is packed comes back, and how it was packed makes no difference."""

import numpy as np
import pytest

from aforesaid.core import words
from aforesaid.core.neighbours import NONE, SLOWLY
from aforesaid.core.textblock import PASSAGE_LETTERS
from aforesaid.core.textindex import (
    ASKS,
    BLOCK_MESSAGES,
    ROLES,
    TAIL_TERMS,
    Entry,
    Index,
    merge,
    pack,
    passages_of,
    unpack,
    without,
)

TEXTS = ("The cat sleeps", "Where is the dog?", "Die Katze schläft und der Hund ist hier", "我喜欢苹果", "", "🎉")


def entries(count: int, conversation: int = 1, start: int = 1) -> list[Entry]:
    first = 1_700_000_000_000_000
    return [
        Entry(conversation, start + i, first + i, f"sender {i % 3}", ROLES[i % 2], TEXTS[i % len(TEXTS)])
        for i in range(count)
    ]


def where(index: Index, word: str) -> list[tuple[int, int, float, float]]:
    """(conversation, seq, times, near times) of each passage with the word."""
    found = index.postings(words.question_terms(word, index.languages))
    messages = index.owner[found.passage]
    columns = index.columns
    rows = zip(columns.conversation[messages], columns.seq[messages], found.times, found.near, strict=True)
    return sorted((int(c), int(s), float(t), float(n)) for c, s, t, n in rows)


def test_a_block_gives_back_what_was_packed() -> None:
    given = [
        Entry(2**52 - 1, 2**32 - 1, -5, "Zoë \ud800", "assistant", "Is it true?  "),
        Entry(7, 1, 2**62, "", "tool", "x " * 1000),
    ]
    columns = unpack(pack(given))
    assert columns.conversation.tolist() == [2**52 - 1, 7]
    assert columns.seq.tolist() == [2**32 - 1, 1]
    assert columns.created_us.tolist() == [-5, 2**62]
    assert [columns.senders[i] for i in columns.sender] == ["Zoë \ud800", ""]
    assert [ROLES[i] for i in columns.role] == ["assistant", "tool"]
    assert (columns.flags & ASKS).tolist() == [1, 0]
    assert columns.passages.tolist() == [1, 3]
    assert columns.sizes.tolist() == [1, 350, 350, 300]
    assert columns.terms[0] == words.hashed("true")
    assert len(columns.terms) == 1001


def test_the_same_messages_are_the_same_bytes() -> None:
    assert pack(entries(50)) == pack(entries(50))


def test_other_bytes_are_refused() -> None:
    good = pack(entries(3))
    for spoilt in (good[:10], good[:-1], good + b"x", b"XX" + good[2:], b""):
        with pytest.raises(ValueError, match="text block"):
            unpack(spoilt)


def test_another_analysis_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    block = pack(entries(3))
    monkeypatch.setattr(words, "ANALYSIS", words.ANALYSIS + 1)
    with pytest.raises(ValueError, match="analysis"):
        unpack(block)


def test_merge_keeps_messages_and_order_and_fills_blocks() -> None:
    given = entries(BLOCK_MESSAGES + 100)
    merged = merge([pack(given[i : i + 7]) for i in range(0, len(given), 7)])
    assert [len(unpack(b).seq) for b in merged] == [BLOCK_MESSAGES, 100]
    assert merged[0] == pack(given[:BLOCK_MESSAGES])
    assert merged[1] == pack(given[BLOCK_MESSAGES:])
    assert merge([]) == []


def test_without_leaves_no_trace_of_a_message() -> None:
    given = [*entries(10), Entry(2, 1, 5, "only here", "user", "unheard of")]
    block = pack(given)
    assert without(block, {(2, 1), (9, 9)}) == pack(given[:10])
    assert without(block, {(9, 9)}) is block
    assert without(block, {(e.conversation, e.seq) for e in given}) is None


@pytest.mark.parametrize(
    "text", ["a" * 2000, "word " * 500, "One sentence. " * 200, "短い。" * 900, "\n" * 1500, "x" * 700 + "."]
)
def test_passages_hold_the_whole_text_in_short_pieces(text: str) -> None:
    pieces = passages_of(text)
    assert "".join(pieces) == text
    assert len(pieces) > 1
    assert all(0 < len(piece) <= PASSAGE_LETTERS for piece in pieces)


def test_passages_end_with_a_sentence() -> None:
    assert all(piece.endswith(("3.5 km.", "3.5 km. ")) for piece in passages_of("He ran 3.5 km. " * 100)[:-1])
    assert passages_of("short") == ["short"]


def test_a_question_finds_its_passages_scanned_or_sorted() -> None:
    index = Index.of([pack([*entries(12), Entry(1, 13, 0, "a", "user", "cat cat dog " * 400)])])
    first = where(index, "cats")
    assert first[:2] == [(1, 1, 1, 1), (1, 7, 1, 1)]
    assert sum(times for *_, times, _ in first[2:]) == 800
    assert sum(near for *_, near in first[2:]) == 40  # of the first 60 terms
    assert where(index, "cats") == first
    assert where(index, "giraffe") == []


def test_forms_of_several_languages_count_as_one_term() -> None:
    texts = ("Ich habe viele Hunde und eine Katze", "The hunde is what we have here")
    index = Index.of([pack([Entry(1, i, 0, "a", "user", text) for i, text in enumerate(texts)])])
    assert {seq for _, seq, _, _ in where(index, "Hunde")} == {0, 1}


def test_neighbours_are_of_the_same_conversation() -> None:
    mixed = [e for pair in zip(entries(5, 1), entries(5, 2), strict=True) for e in pair]
    for given in (mixed, mixed[::-1]):
        index = Index.of([pack(given)])
        columns, near = index.columns, index.neighbours
        assert near.conversations == 2
        for place in range(10):
            others = [int(row[place]) for row in near.rows[1:]]
            for other, step in zip(others, (-1, 1, -2, 2), strict=True):
                seq = int(columns.seq[place]) + step
                if 1 <= seq <= 5:
                    assert (columns.conversation[other], columns.seq[other]) == (columns.conversation[place], seq)
                else:
                    assert other == NONE


@pytest.mark.parametrize("size", [1, 2, SLOWLY, SLOWLY + 1])
@pytest.mark.parametrize("conversation", [1, 2, 3])
def test_an_extended_index_answers_like_a_new_one(size: int, conversation: int) -> None:
    old = [pack(entries(20, 1)), pack(entries(3, 2))]
    fresh = pack(entries(size, conversation, start=21))
    index = Index.of(old)
    where(index, "cat")
    where(index, "cat")
    extended, whole = index.extended([fresh]), Index.of([*old, fresh])
    assert index.size == 23
    assert extended.size == whole.size == 23 + size
    assert where(extended, "cat") == where(whole, "cat")
    assert where(extended, "苹果") == where(whole, "苹果")
    assert np.array_equal(extended.neighbours.rows, whole.neighbours.rows)
    for name in "terms owner first length asks window_terms conversation_terms languages machine names span_us".split():
        assert np.array_equal(getattr(extended, name), getattr(whole, name)), name


def test_a_message_that_comes_late_finds_its_place() -> None:
    given = entries(9)
    index = Index.of([pack(given[:4] + given[5:])]).extended([pack([given[4]])])
    assert [int(row[8]) for row in index.neighbours.rows[1:]] == [3, 4, 2, 5]


def test_a_message_indexed_twice_counts_once_and_the_last_is_kept() -> None:
    twice = Entry(1, 3, 0, "a", "user", "a purple giraffe")
    for index in (Index.of([pack(entries(5)), pack([twice])]), Index.of([pack(entries(5))]).extended([pack([twice])])):
        assert index.size == 5
        assert where(index, "giraffe") == [(1, 3, 1, 1)]
        assert where(index, "Katze") == []


def test_a_long_tail_is_sorted_in() -> None:
    index = Index.of([pack(entries(2))])
    long = [Entry(1, 10 + i, 0, "a", "user", "word " * 100) for i in range(TAIL_TERMS // 100)]
    for i in range(0, len(long), 41):
        index = index.extended([pack(long[i : i + 41])])
        assert index._tail.size > 0
    index = index.extended([pack(entries(41, start=5000))])
    assert index._tail.size == 0
    assert len(where(index, "cat")) == 8


def test_an_empty_index_has_no_answer() -> None:
    index = Index.of([])
    assert index.size == 0
    assert where(index, "cat") == []
    assert index.extended([]) is index
    assert where(index.extended([pack(entries(1))]), "cat") == [(1, 1, 1, 1)]


def test_size_is_told_and_modest() -> None:
    index = Index.of([pack(entries(1000))])
    assert 50 * 1000 < index.nbytes < 250 * 1000


def test_indexes_that_grow_out_of_one_do_not_disturb_each_other() -> None:
    base = [pack(entries(20, 1)), pack(entries(3, 2))]
    cats, dogs = pack([Entry(1, 30, 9, "c", "user", "a cat")]), pack([Entry(7, 1, 9, "d", "user", "a dog, a dog")])
    index = Index.of(base)
    grown = [index.extended([cats]), index.extended([dogs])]
    grown += [grown[0].extended([dogs]), grown[1].extended([cats])]
    for one, blocks in zip(
        [index, *grown], [base, [*base, cats], [*base, dogs], *[[*base, cats, dogs]] * 2], strict=True
    ):
        whole = Index.of(blocks)
        assert one.size == whole.size
        for word in ("cat", "dog"):
            assert sorted(where(one, word)) == sorted(where(whole, word))
        assert sorted(one.window_terms.tolist()) == sorted(whole.window_terms.tolist())
        assert one.columns.senders == whole.columns.senders or one is grown[3]
