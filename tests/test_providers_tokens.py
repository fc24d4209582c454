"""Token counts: exact, bounded, estimated."""

import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aforesaid.providers.tokens import count_tokens, encoding_of, estimate, split, upper_bound

PROSE = {
    "English": "Yesterday my sister and I drove to the coast, ate far too much ice cream, and slept in the car. " * 3,
    "German": "Gestern bin ich mit meiner Schwester ans Meer gefahren, und wir haben im Auto geschlafen. " * 3,
    "French": "Hier, je suis allé à la plage avec mes enfants, et nous avons mangé une glace près du port. " * 3,
    "Spanish": "Mi hermana pequeña se mudó el año pasado porque encontró un trabajo mejor en otra ciudad. " * 3,
    "Russian": "Вчера мы ездили с сестрой к морю, ели мороженое и спали в машине. " * 3,
    "Greek": "Χθες πήγα με την αδερφή μου στη θάλασσα και φάγαμε παγωτό δίπλα στο λιμάνι. " * 3,
    "Arabic": "ذهبت أمس مع أختي إلى البحر وأكلنا المثلجات بالقرب من الميناء. " * 3,
    "Hindi": "कल मैं अपनी बहन के साथ समुद्र तट पर गया और हमने आइसक्रीम खाई। " * 3,
    "Thai": "เมื่อวานฉันไปทะเลกับน้องสาวและเรากินไอศกรีมใกล้ท่าเรือ " * 3,
    "Chinese": "昨天我和妹妹去了海边，在老港口附近吃了冰淇淋，天气非常好。" * 3,
    "Japanese": "昨日は妹と一緒に海へ行って、港の近くでアイスクリームを食べました。" * 3,
    "Korean": "어제 여동생과 함께 바다에 가서 항구 근처에서 아이스크림을 먹었어요. " * 3,
}
DENSE = {
    "code": "def f(x: int) -> list[int]:\n    return [i**2 for i in range(x) if i % 3 == 0]\n" * 3,
    "JSON": '{"id":"a1","values":[1,2,3,4.5,null,true],"nested":{"k":"v"}}' * 3,
    "digits": "31415926535897932384626433832795028841971693993751" * 3,
    "base64": "qL8R1kP0zZVxFQ3Jm2nH7tYbUw9CdEoS5aGiKXrTfMDgNjvBlAhpWyuOIse46c" * 3,
    "emoji": "😀🎉👩‍👩‍👧‍👦🏳️‍🌈❤️🔥" * 3,
    "signs": "!?#$%^&*()_+{}|:<>,./;'[]\\-=`~" * 3,
}
TABLES = ("cl100k_base", "o200k_base", "qwen3.5")


def exact(text: str, table: str) -> int:
    return int(importlib.import_module("toktok").batch_count([text], table, 1)[0])


def test_which_table() -> None:
    for model, table in {
        "gpt-4o-mini": "o200k_base",
        "openai/gpt-5": "o200k_base",
        "o3-mini": "o200k_base",
        "o1": "o200k_base",
        "gpt-4.1": "o200k_base",
        "ft:gpt-4o:org": "o200k_base",
        "gpt-oss-20b": "o200k_harmony",
        "gpt-4": "cl100k_base",
        "GPT-3.5-turbo": "cl100k_base",
        "text-embedding-3-small": "cl100k_base",
        "claude-opus": None,
        "o": None,
        "orca": None,
        "": None,
    }.items():
        assert encoding_of(model) == table, model


def test_known_models_are_counted_exactly() -> None:
    assert count_tokens("Hello world", "gpt-4o") == 2
    assert count_tokens("tiktoken is great!", "gpt-4") == 6
    assert count_tokens("", "gpt-4") == 0


@pytest.mark.parametrize("name", [*PROSE, *DENSE])
def test_the_bound_holds_and_is_not_far_off(name: str) -> None:
    text = {**PROSE, **DENSE}[name]
    counts = [exact(text, table) for table in TABLES]
    assert max(counts) <= upper_bound(text) == count_tokens(text, "claude-opus") <= 3 * max(counts)


@pytest.mark.parametrize("name", [*PROSE, *DENSE])
def test_the_estimate_stays_within_what_it_says(name: str) -> None:
    text = {**PROSE, **DENSE}[name]
    count = exact(text, "o200k_base")
    if name in PROSE:
        assert count <= estimate(text) <= 2.7 * count
    else:
        assert count / 3.4 <= estimate(text) <= 2.7 * count


@given(st.text(max_size=200))
def test_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(split(text)) == text
    assert upper_bound(text) >= 0
    assert estimate(text) >= 1
