"""Text to terms: every script and punctuation is findable, and the same word is the same term."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aforesaid.core import words


def terms(text: str) -> list[int]:
    found = words.tokens(text)
    return words.terms_of(found, words.detect(found))


def found(text: str, question: str) -> bool:
    """Whether every word of the question stands for a term of the text."""
    have = set(terms(text))
    present = 1 << words.detect(words.tokens(text))
    asked = words.question_terms(question, present)
    return bool(asked) and all(have.intersection(term.hashes) for term in asked)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("I went to the shop and bought some bread", "en"),
        ("Ich habe gestern mit meiner Mutter gesprochen und sie ist krank", "de"),
        ("Je ne sais pas où il est allé avec son frère", "fr"),
        ("No sé dónde está mi hermano porque no me lo dijo", "es"),
        ("Non so dove sia andato ma ho visto che gli piace molto", "it"),
        ("Eu não sei onde você está mas também gosto muito disso", "pt"),
        ("Ik weet niet waar hij is maar het was een mooie dag", "nl"),
        ("Jag vet inte var han är men det var en fin dag och mycket sol", "sv"),
        ("Jeg ved ikke hvad han har sagt til dem af mig", "da"),
        ("Jeg vet ikke hva han har sagt til deg etter at vi ble med", "no"),
        ("Minä en ole vielä nähnyt sitä mutta se on hyvä", "fi"),
        ("Я не знаю, что он сказал мне вчера", "ru"),
        ("Δεν ξέρω πού είναι ο αδελφός μου", "el"),
        ("أنا لا أعرف أين هو الآن", "ar"),
        ("Nie wiem co on powiedział ale jest bardzo miły", "pl"),
        ("मैं नहीं जानता कि वह क्या है", "hi"),
        ("Москва", "ru"),
        ("", "en"),
        ("12 %", "en"),
    ],
)
def test_language_is_told_by_function_words_or_script(text: str, code: str) -> None:
    assert words.LANGUAGES[words.detect(words.tokens(text))] == code


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("She was running with two dogs", "runs dog"),
        ("My niece Zoë lives in Malmö", "zoe malmo"),
        ("My niece Zoe is here", "Zoë"),
        ("Die Straße in Köln ist sehr lang", "strasse koln"),
        ("Wir haben zwei Häuser und eine Katze", "Haus"),
        ("J'adore l'été et les chansons de ma mère", "chanson ete mere"),
        ("Las canciones son de mi abuela", "canción"),
        ("I write C++ and C# but no C at work", "c++"),
        ("I write C++ and C# but no C at work", "C#"),
        ("the ticket is AB-1234, sorry", "ab-1234"),
        ("write to anna.lee@example.com or see https://example.org/a_b?c=1", "anna.lee@example.com"),
        ("see https://example.org/path_one?c=42", "https://example.org/path_one?c=42"),
        ("#throwback with @bob", "throwback bob"),
        ("It costs 1,000 dollars, 3.5 stars", "1000"),
        ("It costs 1,000 dollars, 3.5 stars", "3,5"),
        ("born on the 8th", "08"),
        ("Don\u2019t forget Anna\u2019s keys", "anna's key"),
        ("I met O'Brien at nine o'clock", "OBrien"),
        ("congratulations 🎉👍🏽", "🎉"),
        ("congratulations 🎉👍🏽", "👍"),
        ("we moved to 🇩🇪", "🇩🇪"),
        ("我昨天在北京吃了苹果", "苹果"),
        ("我昨天在北京吃了苹果", "吃"),
        ("昨日は東京で寿司を食べました", "寿司"),
        ("어제 서울에서 친구를 만났어요", "서울"),
        ("เมื่อวานฉันไปกรุงเทพ", "กรุงเทพ"),
        ("ខ្ញុំស្រឡាញ់ភ្នំពេញ", "ភ្នំពេញ"),
        ("Я люблю свою ёлку и йогурт", "елка йогурт"),
        ("मैं दिल्ली में रहता हूँ", "दिल्ली"),
        ("أحب القهوة كثيراً", "القَهوة"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("to be or not to be", "to be or not to be"),
        ("who are you", "Who?"),
    ],
)
def test_word_is_found_however_it_is_written(text: str, question: str) -> None:
    assert found(text, question)


def test_other_words_are_not_found() -> None:
    assert not found("I like apples", "pears")
    assert not found("我喜欢苹果", "北京")


def test_stop_words_are_left_out_unless_there_is_nothing_else() -> None:
    assert [t.word for t in words.question_terms("What did you do in the garden?")] == ["garden"]
    assert [t.word for t in words.question_terms("Who are you?")] == ["who", "are", "you"]
    assert words.question_terms("?! -- …") == []


def test_a_question_word_has_its_stems_in_all_languages_of_the_store() -> None:
    german = 1 << words.LANGUAGES.index("de")
    alone, both = words.question_terms("Katzen"), words.question_terms("Katzen", german)
    assert len(alone[0].hashes) == 1
    assert set(alone[0].hashes) < set(both[0].hashes)
    assert set(terms("Wir haben zwei Katzen")) & set(both[0].hashes)


def test_terms_are_the_same_in_every_process() -> None:
    assert words.hashed("garden") == 1_007_229_162
    assert terms("gardens") == terms("Garden!")


def test_memo_stays_bounded() -> None:
    for start in range(0, words.MEMO_WORDS + 2000, 100):
        words.terms_of([f"q{i}" for i in range(start, start + 100)], 0)
        assert len(words._MEMOS[0]) <= words.MEMO_WORDS
    assert words.terms_of(["x" * 5000], 0) == words.terms_of(["x" * 5000], 0)
    assert "x" * 5000 not in words._MEMOS[0]


@given(st.text(max_size=300))
def test_any_text_is_harmless_and_finds_itself(text: str) -> None:
    have = terms(text)
    assert all(0 < value < 2**32 for value in have)
    present = 1 << words.detect(words.tokens(text))
    for term in words.question_terms(text, present):
        assert set(term.hashes) & set(have)


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=200))
def test_plain_text_has_the_same_tokens_on_the_wide_path(text: str) -> None:
    wide = [t for t in words.tokens(text + " \u00e9") if t != "\u00e9"]
    assert [words.stem(t, 0) for t in wide] == [words.stem(t, 0) for t in words.tokens(text)]
