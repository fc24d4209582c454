"""From text to search terms: tokens, language, stems, and their stable hashes.

A term is the 32-bit CRC of a folded stem: the same in every process and on every machine, because it is stored. A
change of tokens, folding, stop words or stemmer changes what is stored, so it needs a new ``ANALYSIS`` and a re-index.
"""

import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from itertools import repeat

import Stemmer

from aforesaid.core.stopwords import FUNCTION_WORDS

ANALYSIS = 1  # version of the analysis, stored with each block
LANGUAGES = tuple(FUNCTION_WORDS)
DETECT_TOKENS = 100  # of a text are looked at to tell its language: a lane of 8 bits holds their votes
MEMO_WORDS = 15_000  # words of a language that are remembered, and as many older ones: about 4 MB when full
MEMO_LETTERS = 24  # longer tokens (hashes, encoded data) are not remembered
LONGEST_TOKEN = 128  # characters of a token that count: the rest tells nobody anything

# Scripts written without spaces between words, or (Hangul) with particles glued on: searched by pairs of characters.
_RUNS = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Signs that belong to the word but that Python's \w leaves out: accents, points, vowel signs, joiners.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963"
    "\u0966-\u0dff\u0f00-\u0fff\u200c\u200d"
)
_PICTURES = "\u2190-\u23ff\u2600-\u27bf\u2900-\u2bff\U0001f000-\U0001f3fa\U0001f400-\U0001faff"
_LETTER = rf"[^\W_{_RUNS}]"

_ASCII = re.compile(r"\d+(?:[.,]\d+)+|[a-z0-9]+(?:'[a-z]+)?(?:\+\+|#(?![a-z0-9]))?")
_WIDE = re.compile(
    rf"\d+(?:[.,]\d+)+|{_LETTER}+(?:[{_MARKS}]+{_LETTER}*)*(?:'[^\W\d_{_RUNS}]+)?(?:\+\+|#(?![^\W_]))?"
    rf"|[{_RUNS}]+|[\U0001f1e6-\U0001f1ff]{{2}}|[{_PICTURES}]"
)
_RUN = re.compile(rf"[{_RUNS}]")
_ACCENTS = re.compile("[\u0300-\u036f]")
_POINTS = re.compile("[\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u200c\u200d]")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "ı": "i", "þ": "th", "ħ": "h"})
_QUOTES = str.maketrans({"\u2019": "'", "\u02bc": "'", "\uff07": "'", "\u2018": "'"})
_ELIDED = frozenset("l d j c n s t m qu jusqu lorsqu puisqu dell all nell sull dall un quest".split())
_CLIPPED = frozenset("t re ve ll d m s".split())

_ENGLISH = 0
# The word's own script decides where the text's language can't: a Russian name in an English sentence.
_SCRIPTS = tuple(
    (low, high, LANGUAGES.index(code))
    for low, high, code in (
        ("\u0370", "\u03ff", "el"),
        ("\u0400", "\u052f", "ru"),
        ("\u0600", "\u06ff", "ar"),
        ("\u0900", "\u097f", "hi"),
    )
)
_OTHER_SCRIPTS = frozenset(place for _, _, place in _SCRIPTS)


def fold(word: str) -> str:
    """The word in lower case without accents: "Zoë" and "ZOE" are one, "ß" is "ss"."""
    word = unicodedata.normalize("NFKC", word).casefold()
    if word.isascii():
        return word
    if "\u0400" <= word[0] <= "\u052f":
        return _ACCENTS.sub("", word.replace("ё", "е"))  # й is a letter of its own: its mark stays
    apart = _ACCENTS.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", _POINTS.sub("", apart)).translate(_LETTERS)


def _lists() -> tuple[list[frozenset[str]], dict[str, int]]:
    stops, votes = [], dict[str, int]()
    for place, (_, text) in enumerate(FUNCTION_WORDS.values()):
        words = {w.casefold() for w in text.split()}
        stops.append(frozenset(fold(w) for w in words))
        for word in words | {fold(w) for w in words if len(w) > 2}:
            votes[word] = votes.get(word, 0) | 1 << 8 * place
    return stops, votes


_STOPS, _VOTES = _lists()
_STEMMERS: dict[int, Callable[[str], str]] = {}
_MEMOS: list[dict[str, int]] = [{} for _ in LANGUAGES]
_OLDER: list[dict[str, int]] = [{} for _ in LANGUAGES]  # what was remembered before; a word in use comes back from it


def tokens(text: str) -> list[str]:
    """The words, numbers and pictures of a text in order, in lower case; runs of unspaced script stay whole.

    *Cost*: 3 to 5 µs for 20 words.
    """
    if text.isascii():
        return _ASCII.findall(text.lower())
    return _WIDE.findall(unicodedata.normalize("NFKC", text).casefold().translate(_QUOTES))


def detect(words: Sequence[str], present: int = 0) -> int:
    """The place in ``LANGUAGES`` of the language that the tokens are most likely written in.

    By function words, else by script, else English. ``present`` is a bit mask of languages that win a tie.
    """
    total = sum(map(_VOTES.get, words[:DETECT_TOKENS], repeat(0)))
    if total:
        counts = total.to_bytes(len(LANGUAGES), "little")
        most = max(counts)
        if present:
            tied = [place for place, count in enumerate(counts) if count == most]
            return next((place for place in tied if present >> place & 1), tied[0])
        return counts.index(most)
    for word in words[:DETECT_TOKENS]:
        if not word.isascii():
            return _of_script(word, _ENGLISH)
    return _ENGLISH


def _of_script(word: str, language: int) -> int:
    """The language to stem this word in: the given one where it writes this script."""
    for low, high, place in _SCRIPTS:
        if low <= word[0] <= high:
            return place
    return _ENGLISH if language in _OTHER_SCRIPTS else language


def _stemmer(language: int) -> Callable[[str], str]:
    made = _STEMMERS.get(language)
    if made is None:
        stemmer = Stemmer.Stemmer(FUNCTION_WORDS[LANGUAGES[language]][0])
        stemmer.maxCacheSize = 0  # remembered here, by language and with the hash
        made = _STEMMERS[language] = stemmer.stemWord
    return made


def hashed(term: str) -> int:
    """The 32-bit number that stands for a term in the index; never 0."""
    return zlib.crc32(term.encode("utf-8", "surrogatepass")) or 1


def _number(word: str) -> str:
    """1,000 is 1000, 3,5 is 3.5, 05 is 5: one spelling of each number."""
    parts = re.split("[.,]", word)
    if "," in word and "." not in word and all(len(p) == 3 for p in parts[1:]):
        parts = ["".join(parts)]
    head = str(int(parts[0])) if len(parts[0]) < 19 else parts[0]
    return ".".join([head, *parts[1:]])


def stem(word: str, language: int) -> str:
    """The term that a token stands for in a language; empty when it is a stop word there."""
    word = fold(word[:LONGEST_TOKEN])
    if not word or word in _STOPS[language]:
        return ""
    if word[0].isdecimal():
        if word[-1].isdecimal() and all(c.isdecimal() or c in ".," for c in word):
            return _number(word)
        ordinal = _ORDINAL.fullmatch(word)
        return _number(ordinal[1]) if ordinal else word
    if word[-1] in "+#":
        return word if len(word.rstrip("+#")) < 3 else stem(word.rstrip("+#"), language)
    if "'" in word:
        head, _, tail = word.partition("'")
        if tail in _CLIPPED:
            return "" if tail == "t" else stem(head, language)
        if head not in _ELIDED:
            return stem(head + tail, language)
        word = tail
        if word in _STOPS[language]:
            return ""
    return _stemmer(_of_script(word, language))(word)


def _remember(word: str, language: int) -> int:
    memo = _MEMOS[language]
    value = _OLDER[language].get(word)
    if value is None:
        term = stem(word, language)
        value = hashed(term) if term else 0
    if len(word) <= MEMO_LETTERS:
        if len(memo) >= MEMO_WORDS:
            _OLDER[language] = memo
            memo = _MEMOS[language] = {}
        memo[word] = value
    return value


def _split(words: Sequence[str], *, whole: bool) -> list[str]:
    """Runs of unspaced script become pairs of characters; with ``whole`` also the single characters."""
    out: list[str] = []
    for word in words:
        if _RUN.match(word):
            out += [word[i : i + 2] for i in range(len(word) - 1)]
            if whole or len(word) == 1:
                out += word
        else:
            out.append(word)
    return out


def terms_of(words: Sequence[str], language: int) -> list[int]:
    """The terms of a text's tokens in order, stop words left out unless there is nothing else.

    *Cost*: 1.5 µs for 20 known words.
    """
    if not "".join(words).isascii() and any(word > "\u0e00" and _RUN.match(word) for word in words):
        words = _split(words, whole=True)
    found = list(map(_MEMOS[language].get, words))
    if None in found:
        pairs = zip(words, found, strict=True)
        found = [_remember(word, language) if value is None else value for word, value in pairs]
    kept = [value for value in found if value]
    return kept or [hashed(fold(word)) for word in words]


class Term:
    """A word of a question: every term that it may stand for in the index."""

    __slots__ = ("hashes", "word")

    def __init__(self, word: str, hashes: tuple[int, ...]) -> None:
        self.word = word
        self.hashes = hashes


def question_terms(text: str, present: int = 0) -> list[Term]:
    """The distinct words of a question in order, each with its stems in all languages ``present`` (a bit mask).

    A short question's language is easily misjudged, and its words may stand in messages of several languages. Stop
    words of its own language are left out unless there is nothing else.
    """
    words = list(dict.fromkeys(_split(tokens(text), whole=False)))
    language = detect(words, present)
    kept = [word for word in words if _value(word, language)]
    languages = [language] + [place for place in range(len(LANGUAGES)) if present >> place & 1 and place != language]
    out: list[Term] = []
    seen = set[int]()
    for word in kept or words:
        hashes = dict.fromkeys(_value(word, place) for place in languages)
        hashes.pop(0, None)
        if not kept:
            hashes[hashed(fold(word))] = None
        first = next(iter(hashes))
        if first not in seen:
            seen.add(first)
            out.append(Term(word, tuple(hashes)))
    return out


def _value(word: str, language: int) -> int:
    value = _MEMOS[language].get(word)
    return _remember(word, language) if value is None else value
