"""An answer in nobody's words but those said before: the sentences that bear on a question, with date and speaker.

Pure: a context in, a reply out. Ranking: the share of the question's terms a sentence holds, rare terms first, a
little for standing in the right message, for the recall's own order and for looking like an answer; questions and
the assistant's own earlier quotations count for less or nothing. Of sentences that say as much, the newest is first.
"""

import datetime as dt
import math
import re
from typing import Literal

from aforesaid.model import Frozen
from aforesaid.providers.exchange import AnswerContext
from aforesaid.providers.words import ABOUT_ME, OLDEST, SEVERAL, Reader, is_question, kind_of, sentences

MAX_SENTENCES = 2_000
MAX_QUOTE = 400
MAX_WHOLE = 240
"""A message up to this long is quoted whole."""
MAX_QUOTES = 3
MAX_SUMMARY = 7
ENOUGH = 0.34
"""The share of a question that a sentence must hold to count as an answer to it."""
SOMETHING = 0.15
"""The share below which a sentence has nothing to do with a question."""

_MONTHS = "? January February March April May June July August September October November December"
_OWN_WORDS = re.compile(
    r"^(?:On \d{1,2} \w+ \d{4} .{1,40} said: “|Noted: “|Earlier in this conversation .{1,40} said: “|I looked for “|"
    r"Nothing I remember mentions|This is what (?:I remember about you|was said):|I can only quote)|"
    r"\(You said so (?:on|earlier)"
)
_LEANS_BACK = re.compile(r"(?:it|he|she|they|that|this|those|these|there|his|her|their|its)\b", re.IGNORECASE)
_NAME = re.compile(r"[^\W\d_][^\d_]{0,39}")
_DATE = re.compile(
    r"\b(?:january|february|march|april|may|june|july|august|september|october|november|december|monday|tuesday|"
    r"wednesday|thursday|friday|saturday|sunday|yesterday|today|tomorrow|tonight|week|month|year|morning|evening|ago|"
    r"weekend|noon|o'clock)s?\b|\d{1,2}[:/.]\d{2}|\b(?:19|20)\d\d\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred|thousand|once|twice)\b",
    re.IGNORECASE,
)
_PLACE = re.compile(r"\b(?:in|at|to|from|near|on)\s+(?:the\s+)?[A-ZÀ-Þ]")
_PROPER = re.compile(r"\S\s+[A-ZÀ-Þ][a-zà-ÿ]")
_LOOKS = (
    (re.compile(r"\bwhen\b|\bwhat (?:day|date|year|month|time)\b|\bhow long\b", re.IGNORECASE), _DATE),
    (re.compile(r"\bhow (?:many|much|old|often|far)\b|\bwhat number\b", re.IGNORECASE), _NUMBER),
    (re.compile(r"\bwhere\b|\b(?:which|what) (?:city|country|town|place)\b", re.IGNORECASE), _PLACE),
    (re.compile(r"\bwho\b|\bname\b", re.IGNORECASE), _PROPER),
)


class Quote(Frozen, frozen=True, kw_only=True):
    """Words said before. ``id`` is the message's, empty for a turn of the request itself.

    ``sentence`` is the one of ``text`` that bears on the question.
    """

    text: str
    sentence: str
    speaker: str
    created_us: int | None
    id: str
    share: float
    score: float
    terms: frozenset[str]


class Reply(Frozen, frozen=True, kw_only=True):
    """What to say. ``kind`` tells an answer from finding nothing; ``quotes`` are the words it rests on, best first."""

    text: str
    kind: Literal["answer", "nearest", "nothing", "statement", "summary"]
    quotes: tuple[Quote, ...] = ()


class _Said(Frozen, frozen=True, kw_only=True):
    """A message to quote from."""

    id: str
    text: str
    speaker: str
    role: str
    created_us: int | None
    rank: int


def day(created_us: int) -> str:
    """A date as it is written out: ``8 May 2023``."""
    when = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=created_us)
    return f"{when.day} {_MONTHS.split()[when.month]} {when.year}"


def reply(context: AnswerContext) -> Reply:
    """What the context holds on its question. *Cost*: about 1 ms for 20 messages; keep it off the event loop."""
    question = context.question.strip()
    said = _sayings(context)
    reader = Reader()
    kind = kind_of(question)
    if kind == "summary":
        return _summary(question, said, reader)
    terms = reader.terms(question)
    if not terms:
        # "And when?" is about what was asked before it.
        before = [text for role, text in context.turns[:-1] if role == "user" and reader.terms(text)]
        terms = reader.terms(before[-1]) if before and kind != "statement" else {}
    found = _ranked(question, terms, said, reader)
    if kind == "statement":
        return _heard(question, found, said)
    return _answered(question, terms, found, task=kind == "task")


def _sayings(context: AnswerContext) -> list[_Said]:
    """Everything to quote from, the recalled first, each text once, without the question and our own quotations."""
    seen = {_plain(context.question)}
    said: list[_Said] = []
    for rank, item in enumerate(context.items):
        if not _ours(item.role, item.text) and _plain(item.text) not in seen:
            seen.add(_plain(item.text))
            speaker = _speaker(item.role, item.sender, context.user_id)
            said.append(
                _Said(
                    id=item.id, text=item.text, speaker=speaker, role=item.role, created_us=item.created_us, rank=rank
                )
            )
    for role, text in context.turns:
        if role in ("user", "assistant", "tool") and not _ours(role, text) and _plain(text) not in seen:
            seen.add(_plain(text))
            speaker = _speaker(role, None, context.user_id)
            said.append(_Said(id="", text=text, speaker=speaker, role=role, created_us=None, rank=2))
    return said


def _ours(role: str, text: str) -> bool:
    return role == "assistant" and _OWN_WORDS.search(text) is not None


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _speaker(role: str, sender: str | None, user_id: str | None) -> str:
    """Who spoke, as the user would name them."""
    if role == "user" and (sender is None or sender == user_id or not _NAME.fullmatch(sender)):
        return "you"
    if sender and _NAME.fullmatch(sender) and sender.casefold() not in ("user", "assistant", "tool", "system"):
        return sender
    return {"user": "you", "assistant": "the assistant", "tool": "a tool", "function": "a tool"}.get(role, "a note")


def looks_for(question: str) -> re.Pattern[str] | None:
    """What an answer to a question of this kind tends to hold: a time, a number, a place, a name."""
    return next((pattern for asks, pattern in _LOOKS if asks.search(question)), None)


def _ranked(question: str, terms: dict[str, str], said: list[_Said], reader: Reader) -> list[Quote]:
    """The best quotation of each message that has anything to do with the terms, best first."""
    parts = [(one, sentences(one.text)) for one in said]
    read: list[list[set[str]]] = []
    left = MAX_SENTENCES
    for _, texts in parts:
        read.append([set(reader.terms(text)) for text in texts[:left]])
        left -= len(read[-1])
    count = sum(len(sets) for sets in read)
    weights = {
        term: math.log(1 + (count + 1) / (1 + sum(term in found for sets in read for found in sets))) for term in terms
    }
    total = sum(weights.values())
    if not total:
        return []
    look = looks_for(question)
    quotes = []
    for (one, texts), sets in zip(parts, read, strict=True):
        named = set(reader.terms(one.speaker))
        whole = set().union(*sets)
        best: tuple[float, float, int, frozenset[str]] | None = None
        for at, found in enumerate(sets):
            held = frozenset(term for term in terms if term in found or term in named)
            share = sum(weights[term] for term in held)
            for term in terms.keys() - held:
                if reader.related(term) & found:
                    share += 0.6 * weights[term]
                elif term in whole:
                    share += 0.4 * weights[term]
            share /= total
            if share < SOMETHING or not (held - named or share > sum(weights[term] for term in held) / total):
                continue
            score = share + 0.3 / (1 + one.rank / 4)
            if look and look.search(texts[at]):
                score += 0.2
            score *= 0.35 if is_question(texts[at]) else 1.0
            score *= 1.0 if one.role == "user" else 0.75
            score *= 1.0 if len(found) > 1 else 0.7
            if best is None or score > best[0]:
                best = score, share, at, held
        if best is not None:
            score, share, at, held = best
            words = [terms[term] for term in held]
            quotes.append(
                Quote(
                    text=_cut(one.text, texts, at, words),
                    sentence=" ".join(texts[at].split())[:MAX_QUOTE],
                    speaker=one.speaker,
                    created_us=one.created_us,
                    id=one.id,
                    share=share,
                    score=score,
                    terms=held,
                )
            )
    return sorted(quotes, key=lambda quote: -quote.score)


def _cut(text: str, texts: list[str], at: int, words: list[str]) -> str:
    """The words to quote: a short message whole; of a long one the sentence, with the one it leans on."""
    whole = " ".join(text.split())
    if len(whole) <= MAX_WHOLE:
        return whole
    chosen = texts[at]
    start = at
    if at and _LEANS_BACK.match(chosen) and len(texts[at - 1]) + len(chosen) < MAX_QUOTE:
        start = at - 1
        chosen = f"{texts[start]} {chosen}"
    chosen = " ".join(chosen.split())
    if len(chosen) > MAX_QUOTE:
        low = chosen.casefold()
        first = min((place for word in words if (place := low.find(word.casefold())) >= 0), default=0)
        begin = max(0, min(first - MAX_QUOTE // 4, len(chosen) - MAX_QUOTE))
        if begin:
            begin = chosen.find(" ", begin) + 1 or begin
        piece = chosen[begin : begin + MAX_QUOTE]
        if begin + MAX_QUOTE < len(chosen):
            piece = (piece.rsplit(" ", 1)[0] or piece) + "…"
        return ("…" if begin else "") + piece
    return chosen


def _answered(question: str, terms: dict[str, str], found: list[Quote], *, task: bool) -> Reply:
    only = "I can only quote what was said before. " if task else ""
    if not found:
        words = _listed(list(terms.values())) if terms else f"“{question[:MAX_WHOLE]}”"
        return Reply(text=f"{only}I looked for {words} in what I remember and found nothing on that.", kind="nothing")
    best = found[0]
    if best.share < ENOUGH:
        missing = _listed([word for term, word in terms.items() if term not in best.terms])
        text = f"{only}Nothing I remember mentions {missing}. The nearest: {_line(best)}"
        return Reply(text=text, kind="nearest", quotes=(best,))
    most = 2 * MAX_QUOTES if SEVERAL.search(question) else MAX_QUOTES
    chosen = [quote for quote in found[:most] if quote.score >= 0.6 * best.score and quote.share >= ENOUGH]
    # Those that say as much as the best may contradict each other: the newest first, unless the past was asked for.
    newest_first = not OLDEST.search(question)
    equal = [quote for quote in chosen if quote.score >= 0.8 * best.score and quote.terms >= best.terms]
    equal.sort(key=lambda quote: -(quote.created_us or 0) if newest_first else (quote.created_us or 0))
    chosen = equal + [quote for quote in chosen if quote not in equal]
    text = " ".join(_line(quote, after=chosen[0] if place else None) for place, quote in enumerate(chosen))
    return Reply(text=only + text, kind="answer", quotes=tuple(chosen))


def _line(quote: Quote, after: Quote | None = None) -> str:
    """A quotation with its date and speaker, as a sentence."""
    text = quote.text if quote.text[-1:] in ".!?…。！？" else f"{quote.text}."
    who = quote.speaker
    if quote.created_us is None:
        return f"Earlier in this conversation {who} said: “{text}”"
    earlier = after is not None and after.created_us is not None and quote.created_us < after.created_us
    return (
        f"Earlier, on {day(quote.created_us)}, {who} said: “{text}”"
        if earlier
        else (f"On {day(quote.created_us)} {who} said: “{text}”")
    )


def _listed(words: list[str]) -> str:
    quoted = [f"“{word}”" for word in words[:8]]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else "".join(quoted)


def _heard(told: str, found: list[Quote], said: list[_Said]) -> Reply:
    """What was told, said back, with what it fits."""
    short = " ".join(told.split())
    short = f"{short[:MAX_QUOTE].rsplit(' ', 1)[0]}…" if len(short) > MAX_QUOTE else short
    text = f"Noted: “{short}”" if short else "You said nothing."
    earlier = [quote for quote in found if quote.id and quote.share >= ENOUGH]
    if earlier:
        line = _line(earlier[0])
        return Reply(text=f"{text} It goes with this: {line}", kind="statement", quotes=(earlier[0],))
    last = max(
        (one for one in said if one.created_us and one.speaker == "you"),
        key=lambda one: one.created_us or 0,
        default=None,
    )
    if not found and last is not None and len(told.split()) < 4:
        quote = _as_quote(last, _cut(last.text, sentences(last.text) or [last.text], 0, []))
        return Reply(text=f"{text} The last I remember: {_line(quote)}", kind="statement", quotes=(quote,))
    return Reply(text=text, kind="statement")


def _as_quote(one: _Said, text: str) -> Quote:
    return Quote(
        text=text,
        sentence=text,
        speaker=one.speaker,
        created_us=one.created_us,
        id=one.id,
        share=1.0,
        score=0.0,
        terms=frozenset(),
    )


def _summary(question: str, said: list[_Said], reader: Reader) -> Reply:
    """The sentences that hold the most of what was said, in order, each with date and speaker."""
    about_me = ABOUT_ME.search(question) is not None
    turns = [one for one in said if not one.id]
    chosen = turns if not about_me and len(turns) > 1 else said
    if about_me:
        chosen = [one for one in chosen if one.role == "user"] or chosen
    spoken = [one for one in chosen if one.text.strip()]
    if not about_me and 0 < len(spoken) <= MAX_SUMMARY:  # so few that nothing need be left out
        return _told(spoken, [_cut(one.text, sentences(one.text)[:1] or [one.text], 0, []) for one in spoken], about_me)
    sized: list[tuple[_Said, str, set[str]]] = []
    for one in chosen:
        for text in sentences(one.text)[: max(1, MAX_SENTENCES - len(sized))]:
            terms = set(reader.terms(text))
            if terms and len(sized) < MAX_SENTENCES and not (is_question(text) and (about_me or one.role != "user")):
                sized.append((one, text, terms))
    if not sized:
        return Reply(text="I looked through what I remember and found nothing to sum up.", kind="nothing")
    frequency: dict[str, int] = {}
    for _, _, terms in sized:
        for term in terms:
            frequency[term] = frequency.get(term, 0) + 1
    picked = sorted(_fullest(sized, frequency))
    texts = [_cut(sized[at][1], [sized[at][1]], 0, []) for at in picked]
    return _told([sized[at][0] for at in picked], texts, about_me)


def _told(said: list[_Said], texts: list[str], about_me: bool) -> Reply:
    """The texts in the order of time, each with date and speaker; turns of this request come last, in their order."""
    later = max((one.created_us or 0 for one in said), default=0) + 1
    times = [later if one.created_us is None else one.created_us for one in said]
    order = sorted(range(len(said)), key=times.__getitem__)
    quotes = tuple(_as_quote(said[at], texts[at]) for at in order)
    lead = "This is what I remember about you:" if about_me else "This is what was said:"
    lines = []
    for quote in quotes:
        when = f"{day(quote.created_us)}, " if quote.created_us is not None else ""
        lines.append(f"- {when}{quote.speaker}: “{quote.text}”")
    return Reply(text="\n".join([lead, *lines]), kind="summary", quotes=quotes)


def _fullest(sized: list[tuple[_Said, str, set[str]]], frequency: dict[str, int]) -> list[int]:
    """The places of the sentences that together hold most of what is spoken of often, each adding something."""
    covered: set[str] = set()
    picked: list[int] = []
    while len(picked) < min(MAX_SUMMARY, len(sized)):
        worth = {
            at: sum(math.sqrt(frequency[term]) for term in terms - covered)
            / math.sqrt(4 + len(terms))
            * (1.0 if one.role == "user" else 0.6)
            for at, (one, _, terms) in enumerate(sized)
            if at not in picked
        }
        best = max(worth, key=worth.__getitem__)
        if picked and worth[best] < 0.5:
            break
        picked.append(best)
        covered |= sized[best][2]
    return picked
