"""Recall: the right message comes first, and the ranking depends on the messages alone."""

import datetime as dt
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aforesaid.core.dates import DAY_US, spans_in
from aforesaid.core.recall import MAX_LETTERS, MAX_TERMS, Query, Ranked, rank
from aforesaid.core.textindex import Entry, Index, merge, pack, without


def us(year: int, month: int, day: int) -> int:
    return int(dt.datetime(year, month, day, tzinfo=dt.UTC).timestamp()) * 1_000_000


def talk(conversation: int, day: int, lines: str, start: int = 1) -> list[Entry]:
    """``Ann: text`` a line, a second apart."""
    out = []
    for i, line in enumerate(lines.strip().splitlines()):
        name, _, text = line.strip().partition(": ")
        role = "assistant" if name in ("Bob", "assistant") else "user"
        out.append(Entry(conversation, start + i, day + i * 1_000_000, name, role, text))
    return out


FRIENDS = [
    *talk(
        1,
        us(2023, 5, 8),
        """
        Ann: Hi Bob, how are you?
        Bob: Fine, Ann! What did you do at the weekend?
        Ann: I signed up for a pottery class with my sister
        Bob: Wow, what did you make there?
        Ann: A blue bowl for my mother
        Bob: I should try that. I only ever cook
        """,
    ),
    *talk(
        2,
        us(2023, 7, 20),
        """
        Bob: My dog Rex ate the whole birthday cake
        Ann: Oh no! Is he all right?
        Bob: Yes, the vet in Leeds said he will be fine
        Ann: I went to Leeds by train once
        """,
    ),
    *talk(
        3,
        us(2024, 1, 3),
        """
        Ann: Happy new year! We went skiing in the Alps
        Bob: Lovely, how was the snow?
        Ann: Deep and very cold
        """,
    ),
]
INDEX = Index.of([pack(FRIENDS)])


def addresses(found: list[Ranked]) -> list[tuple[int, int]]:
    return [(hit.conversation, hit.seq) for hit in found]


def best(question: str, index: Index = INDEX, **filters: int | str) -> tuple[int, int]:
    return addresses(rank(index, Query(question, **filters), 5))[0]  # type: ignore[arg-type]  # one per filter


@pytest.mark.parametrize(
    ("question", "address"),
    [
        ("What class did Ann sign up for?", (1, 3)),
        ("What happened to the birthday cake?", (2, 1)),
        ("Who has been to Leeds by train?", (2, 4)),
        ("pottery", (1, 3)),
        ("What did Bob say of Leeds?", (2, 3)),
        ("What did Ann say of Leeds?", (2, 4)),
    ],
)
def test_the_message_that_answers_comes_first(question: str, address: tuple[int, int]) -> None:
    assert best(question) == address


def test_an_answer_is_found_by_the_words_of_its_question() -> None:
    assert (1, 5) in addresses(rank(INDEX, Query("What did Ann make in the pottery class?"), 3))


def test_signals_add_up_to_the_score_and_scores_fall() -> None:
    found = rank(INDEX, Query("Did Ann go skiing in January 2024?"), 20)
    assert {"own", "window", "who", "date", "session", "length"} <= found[0].signals.keys()
    assert all(sum(hit.signals.values()) == pytest.approx(hit.score) for hit in found)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


@pytest.mark.parametrize("question", ["", "   ", "?!", "zebra crossing", "what is the"])
def test_nothing_in_common_is_no_hit(question: str) -> None:
    assert rank(INDEX, Query(question), 10) == []


def test_being_the_sender_or_long_is_no_reason() -> None:
    found = addresses(rank(INDEX, Query("Bob cake"), 50))
    assert found
    assert {conversation for conversation, _ in found} == {2}


def test_limit_and_empty_index() -> None:
    assert len(rank(INDEX, Query("Ann pottery Leeds skiing snow"), 4)) == 4
    assert rank(INDEX, Query("pottery"), 0) == []
    assert rank(Index.of([]), Query("pottery"), 5) == []


@pytest.mark.parametrize("question", ["Where was the pottery class? {}", "{} Where was the pottery class?"])
def test_a_pasted_text_does_not_hide_the_question(question: str) -> None:
    paste = " ".join(f"w{i}x" for i in range(MAX_LETTERS))
    assert best(question.format(paste)) == (1, 3)


def test_of_many_words_the_rarest_are_looked_for() -> None:
    common = [f"x{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(MAX_TERMS + 9)]
    texts = [*([" ".join(common)] * 9), "marmalade"]
    index = Index.of([pack([Entry(i, 1, i, "Ann", "user", text) for i, text in enumerate(texts)])])
    assert (9, 1) in addresses(rank(index, Query(" ".join([*common, "marmalade"])), 50))


def test_filters_narrow_and_weigh_nothing() -> None:
    question = "Leeds pottery skiing cake"
    everything = {(h.conversation, h.seq): h for h in rank(INDEX, Query(question), 50)}
    for query, allowed in (
        (Query(question, conversation=2), lambda e: e.conversation == 2),
        (Query(question, since_us=us(2023, 7, 20)), lambda e: e.created_us >= us(2023, 7, 20)),
        (Query(question, until_us=us(2023, 7, 20)), lambda e: e.created_us < us(2023, 7, 20)),
        (Query(question, role="assistant"), lambda e: e.role == "assistant"),
        (Query(question, sender="Ann"), lambda e: e.sender_id == "Ann"),
        (Query(question, sender="Nobody"), lambda _: False),
        (Query(question, role="nothing"), lambda _: False),
    ):
        found = {(h.conversation, h.seq): h for h in rank(INDEX, query, 50)}
        wanted = {(e.conversation, e.seq) for e in FRIENDS if allowed(e)}
        assert found == {address: hit for address, hit in everything.items() if address in wanted}


def test_excluded_messages_make_room_for_others() -> None:
    query = Query("Leeds")
    found = addresses(rank(INDEX, query, 3))
    left = addresses(rank(INDEX, query, 3, exclude={found[0], (9, 9)}))
    assert found[0] not in left
    assert left[:2] == found[1:]


def test_equal_scores_newest_first_then_address() -> None:
    given = [Entry(c, 1, time, "Ann", "user", "the same words") for c, time in ((1, 10), (2, 30), (3, 20), (4, 20))]
    assert addresses(rank(Index.of([pack(given)]), Query("words"), 10)) == [(2, 1), (4, 1), (3, 1), (1, 1)]


def test_dates_of_the_question_find_messages_of_that_time() -> None:
    for question in (
        "What happened on 20 July 2023?",
        "on July 20th",
        "am 20. Juli 2023",
        "2023-07-20",
        "20.7.2023",
        "le 20 juillet 2023",
        "el 20 de julio de 2023",
        "7/20/2023",
        "in July",
        "2023-07",
    ):
        assert best(question)[0] == 2, question
    assert best("in 2024")[0] == 3
    assert {c for c, _ in addresses(rank(INDEX, Query("in May 2023"), 50))} == {1}


def test_relative_dates_count_from_the_moment_of_asking() -> None:
    asked = us(2023, 7, 27)  # a Thursday
    for question in ("what did we say last week", "a week ago", "7 days ago", "last Thursday", "this month"):
        assert best(question, asked_us=asked)[0] == 2, question
    assert best("two months ago", asked_us=us(2023, 7, 10))[0] == 1
    assert best("yesterday", asked_us=us(2023, 5, 9))[0] == 1
    assert best("today")[0] == 3  # of the newest message
    assert rank(INDEX, Query("yesterday", asked_us=us(2022, 1, 1)), 5) == []


@pytest.mark.parametrize(
    "question", ["may I come?", "march on", "I paid 20", "May", "the 31st of February 2023", "99/99/2023"]
)
def test_what_only_looks_like_a_date_is_none(question: str) -> None:
    assert [s for s in spans_in(question, us(2023, 5, 8), us(2023, 1, 1), us(2023, 12, 1)) if s.worth > 0.2] == []


@given(st.text(max_size=60), st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62))
def test_any_question_at_any_time_has_harmless_spans(text: str, asked: int, other: int) -> None:
    low, high = sorted((asked, other))
    for question in (text, text + " 3 years ago", "in May " + text, "last month", "yesterday"):
        assert all(span.start_us < span.end_us or span.worth < 1 for span in spans_in(question, asked, low, high))


def test_a_day_reaches_a_little_beyond_itself() -> None:
    inner, outer = spans_in("8 May 2023", us(2023, 6, 1), us(2023, 1, 1), us(2023, 6, 1))
    assert (inner.start_us, inner.end_us) == (us(2023, 5, 7), us(2023, 5, 8) + 11 * DAY_US)
    assert outer.start_us < inner.start_us
    assert outer.end_us > inner.end_us
    assert outer.worth < inner.worth


ASSISTANT = [
    *talk(
        1,
        us(2024, 2, 1),
        """
        user: I am allergic to peanuts and love curry
        assistant: Noted! Here are curry recipes without peanuts: curry of lentils, curry of chickpeas, curry of peas
        user: Thanks, the lentils sound good
        assistant: Enjoy your curry, and ask me for more curry whenever you like
        """,
    ),
]


def test_with_an_assistant_the_users_own_words_come_first() -> None:
    index = Index.of([pack(ASSISTANT)])
    assert index.machine
    assert best("What curry do I love?", index) == (1, 1)
    found = rank(index, Query("Which curry recipes did you recommend to me?"), 5)
    assert any("said" in hit.signals for hit in found)


def test_what_the_user_always_wants_stands_above_equal_messages() -> None:
    given = [
        Entry(1, 1, 1, "user", "user", "Always give deadlines as month and day"),
        Entry(2, 1, 2, "user", "user", "Sometimes give deadlines as month and day"),
        Entry(3, 1, 3, "assistant", "assistant", "Always give deadlines as month and day"),
    ]
    found = rank(Index.of([pack(given)]), Query("When are the deadlines?"), 5)
    assert addresses(found) == [(1, 1), (2, 1), (3, 1)]
    assert ["standing" in hit.signals for hit in found] == [True, False, False]


def test_roles_alone_make_no_machine() -> None:
    assert not INDEX.machine
    assert not Index.of([pack(talk(1, 0, "Ann: hello"))]).machine
    long = [e._replace(sender_id="Kim", content=e.content * 9) if e.role == "assistant" else e for e in ASSISTANT]
    assert Index.of([pack(long)]).machine


def test_the_best_passage_of_a_long_message_counts() -> None:
    filler = "We talked of this and that and many other things besides. " * 40
    given = [
        Entry(1, 1, 1, "Ann", "user", filler + "The password of the boat is marmalade. " + filler),
        Entry(2, 1, 2, "Ann", "user", "The boat is in the harbour of some town or other, I forgot which one it was"),
    ]
    assert best("What is the boat's password?", Index.of([pack(given)])) == (1, 1)


VOCABULARY = "cat dog boat tree house Katze Hund pottery Leeds 苹果 snow train May 2023 Ann skiing".split()


@st.composite
def stores(draw: st.DrawFn) -> list[Entry]:
    out = []
    for conversation in range(1, draw(st.integers(1, 4)) + 1):
        for seq in range(1, draw(st.integers(1, 6)) + 1):
            chosen = draw(st.lists(st.sampled_from([*VOCABULARY, "the", "und"]), max_size=6))
            repeats = draw(st.sampled_from([1, 1, 1, 60]))
            who = draw(st.sampled_from(["Ann", "Bob", "Cleo Smith"]))
            time = us(2023, 5, draw(st.integers(1, 28)))
            role = draw(st.sampled_from(["user", "assistant"]))
            out.append(Entry(conversation, seq, time, who, role, " ".join(chosen * repeats)))
    return out


@settings(max_examples=60, deadline=None)
@given(stores(), st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_ranking_depends_on_the_messages_alone(store: list[Entry], asked: list[str], chance: random.Random) -> None:
    query = Query(" ".join(asked))
    wanted = rank(Index.of([pack(store)]), query, 50)
    shuffled = chance.sample(store, len(store))
    cuts = sorted(chance.randrange(len(store) + 1) for _ in range(3))
    blocks = [pack(shuffled[a:b]) for a, b in zip([0, *cuts], [*cuts, len(store)], strict=True) if b > a]
    packed_otherwise = Index.of(blocks)
    merged = Index.of(merge(blocks))
    grown = Index.of(blocks[:1])
    rank(grown, query, 5)
    for block in blocks[1:]:
        grown = grown.extended([block])
    extra = Entry(99, 1, us(2023, 5, 9), "Dora", "assistant", "cat Schnee und die Katze " * 99)
    erased = without(pack([*shuffled, extra]), {(99, 1)})
    assert erased is not None
    for index in (packed_otherwise, merged, grown, Index.of([erased])):
        for _ in range(3):  # scanned, then sorted
            assert rank(index, query, 50) == wanted
