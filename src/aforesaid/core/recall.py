"""Which messages a question is about: the lexical ranking, without a model.

Pure: an ``Index``, a ``Query`` and nothing else. The same messages give the same ranking, however they are packed.
How the signals work and what each is worth: docs/explanation/recall.md.
"""

import math
import re
from collections.abc import Sequence, Set
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from aforesaid.core import words
from aforesaid.core.dates import spans_in
from aforesaid.core.textindex import K1, NEAR, ROLES, STANDING, Address, Array, Index, Postings

TALK = 2  # terms that a question must share with the store for whole conversations to count
MAX_LETTERS = 2000  # of a question are looked at: half from its beginning, half from its end
MAX_TERMS = 48  # of them the rarest are looked for
ROUNDING = 1e-9  # more than a score can be off by the order of its sums
MAX_PARTS = 1000  # passages of a message that are told apart by the signal "few"

# Weights of the signals, set by hand on development sets of both kinds of chat.
PEOPLE = {"own": 0.3, "window": 0.55, "session": 0.2, "who": 0.4, "date": 0.6, "length": 0.12, "asks": -0.2}
ASSISTANT = {"own": 0.5, "window": 0.1, "who": 1.0, "said": 0.3, "standing": 0.2, "few": 0.1}

_USER, _ASSISTANT = ROLES.index("user"), ROLES.index("assistant")
_SAID = re.compile(
    r"\byou(?:r| have| had|'ve)?\b.*\b(?:said|say|recommend\w*|suggest\w*|told|tell|mention\w*|provide\w*|gave|give"
    r"|advise\w*|explain\w*|describe\w*|list\w*)"
)
# A table, because a vectorised logarithm may round differently from machine to machine.
_PARTS = np.array([0.0, *(-math.log(n) for n in range(1, MAX_PARTS))])


class Query(NamedTuple):
    """What to look for. ``asked_us`` is the moment that "yesterday" counts from; the newest message when None.

    The filters narrow what may be found; they don't change how anything is weighed.
    """

    text: str
    asked_us: int | None = None
    conversation: int | None = None
    since_us: int | None = None  # in it
    until_us: int | None = None  # not in it
    role: str | None = None
    sender: str | None = None


class Ranked(NamedTuple):
    """A message found. ``signals`` are the parts that add up to ``score``."""

    conversation: int
    seq: int
    score: float
    signals: dict[str, float]


class _Found(NamedTuple):
    """What was found of a question's words and dates, before it is weighed."""

    own: Array  # of each message
    window: Array  # of each message
    session: Array  # of each conversation
    sessions: bool  # whether whole conversations count
    date: Array | None  # of each message
    sender: int | None  # the one whom the question names
    said: bool  # whether it asks for what a machine said


def rank(index: Index, query: Query, limit: int, exclude: Set[Address] | None = None) -> list[Ranked]:
    """The messages that the question is about, best first; empty when nothing matches.

    Equal scores: the newer message first, then the higher address. *Cost*: 0.4 ms at 20,000 messages.
    """
    if limit < 1 or not index.size:
        return []
    found = _find(index, query)
    if found is None:
        return []
    places = _able(index, query, found, np.flatnonzero(found.window > 0), exclude)
    parts = _parts(index, found, places)
    score = _sum(parts, len(places))
    least = _least(score, limit)
    # Most messages have no word of the question in or around them: few of them can be as good as those that have.
    others = _able(index, query, found, _others(index, found, least), exclude)
    if len(others):
        more = _parts(index, found, others)
        places, parts = np.append(places, others), {name: np.append(parts[name], more[name]) for name in parts}
        score = _sum(parts, len(places))
        least = _least(score, limit)
    rows = np.flatnonzero(score >= least)
    return _ranked(index, places[rows], {name: part[rows] for name, part in parts.items()}, score[rows])[:limit]


def _sum(parts: dict[str, Array], size: int) -> Array:
    score = np.zeros(size)
    for part in parts.values():
        score += part
    return score


def _least(score: Array, limit: int) -> float:
    """The score of the last of the ``limit`` best; less than any where there are not so many."""
    if len(score) < limit:
        return -math.inf
    return float(np.partition(score, len(score) - limit)[len(score) - limit])


def _ranked(index: Index, places: Array, parts: dict[str, Array], score: Array) -> list[Ranked]:
    """The messages at those places, best first."""
    columns = index.columns
    conversation, seq = columns.conversation[places], columns.seq[places]
    order = np.lexsort((seq, conversation, columns.created_us[places], score))[::-1]
    rows = zip(*(part[order].tolist() for part in parts.values()), strict=True)
    heads = zip(conversation[order].tolist(), seq[order].tolist(), score[order].tolist(), rows, strict=True)
    return [
        Ranked(number, place, total, {name: value for name, value in zip(parts, row, strict=True) if value})
        for number, place, total, row in heads
    ]


def _able(index: Index, query: Query, found: _Found, places: Array, exclude: Set[Address] | None) -> Array:
    """Those of the places that may be found: something answers the question, and no filter stands against it."""
    columns = index.columns
    reason = found.window[places] > 0
    if found.sessions:
        reason |= found.session[index.neighbours.conversation[places]] > 0
    if found.date is not None:
        reason |= found.date[places] > 0
    if query.conversation is not None:
        reason &= columns.conversation[places] == query.conversation
    if query.since_us is not None:
        reason &= columns.created_us[places] >= query.since_us
    if query.until_us is not None:
        reason &= columns.created_us[places] < query.until_us
    if query.role is not None:
        reason &= columns.role[places] == (ROLES.index(query.role) if query.role in ROLES else 255)
    if query.sender is not None:
        known = query.sender in columns.senders
        reason &= columns.sender[places] == (columns.senders.index(query.sender) if known else -1)
    places = places[reason]
    return _without(index, places, exclude) if exclude else places


def _without(index: Index, places: Array, exclude: Set[Address]) -> Array:
    conversations = np.unique(np.fromiter((c for c, _ in exclude), np.int64, len(exclude)))
    suspect = places[np.isin(index.columns.conversation[places], conversations)]
    pairs = zip(index.columns.conversation[suspect].tolist(), index.columns.seq[suspect].tolist(), strict=True)
    gone = [place for place, pair in zip(suspect.tolist(), pairs, strict=True) if pair in exclude]
    return places[~np.isin(places, gone)] if gone else places


def _others(index: Index, found: _Found, least: float) -> Array:
    """The messages without a word of the question in or around them that may score ``least`` all the same."""
    none = found.window <= 0
    if found.date is not None or not math.isfinite(least):
        return np.flatnonzero(none)
    columns, weights = index.columns, ASSISTANT if index.machine else PEOPLE
    if index.machine:
        best = [weights["said"] * found.said, weights["who"]]
        enough = np.array([[worth, worth + weights["standing"]] for worth in best]).ravel() >= least - ROUNDING
        kind = 2 * (columns.role == _USER) + ((columns.flags & STANDING) > 0)
        return np.flatnonzero(none & enough.take(kind)) if enough.any() else np.zeros(0, np.int64)
    best = weights["session"] * _to_one(found.session).max() + weights["who"] * (found.sender is not None)
    short = (least - ROUNDING - best) / weights["length"]
    return np.flatnonzero(none & (index.length >= short)) if short <= index.longest else np.zeros(0, np.int64)


def _parts(index: Index, found: _Found, places: Array) -> dict[str, Array]:
    """Each signal of the messages at those places, times its weight."""
    columns = index.columns
    values: dict[str, Array] = {
        "own": _to_one(found.own, places),
        "window": _to_one(found.window, places),
        "length": index.length[places],
    }
    if found.date is not None:
        values["date"] = found.date[places]
    if index.machine:
        weights, role = ASSISTANT, columns.role[places]
        values["who"] = (role == _USER).astype(np.float64)
        if found.said:
            values["said"] = (role == _ASSISTANT).astype(np.float64)
        values["standing"] = ((columns.flags[places] & STANDING) > 0).astype(np.float64)
        values["few"] = _PARTS[np.minimum(columns.passages[places], MAX_PARTS - 1)]
    else:
        weights = PEOPLE
        values["session"] = _to_one(found.session, index.neighbours.conversation[places])
        values["asks"] = index.asks[places]
        if found.sender is not None:
            values["who"] = (columns.sender[places] == found.sender).astype(np.float64)
    return {name: weight * values[name] for name, weight in weights.items() if name in values}


def _find(index: Index, query: Query) -> _Found | None:
    """What is found of a question, or None when neither a word nor a date of it is known."""
    text = query.text
    if len(text) > MAX_LETTERS:  # a pasted text: what is asked stands before or behind
        text = f"{text[: MAX_LETTERS // 2]} {text[-MAX_LETTERS // 2 :]}"
    date = _date(index, text, query.asked_us)
    terms = words.question_terms(text, index.languages)
    if not index.machine:  # the signal "who" says it better than a word that stands in every greeting
        terms = [term for term in terms if index.name_terms.isdisjoint(term.hashes)] or terms
    postings = index.postings(terms)
    if len(terms) > MAX_TERMS:
        terms = _rarest(terms, postings)
        postings = index.postings(terms)
    if not len(postings.term) and date is None:
        return None
    session, shared = _session(index, postings, len(terms))
    return _Found(
        own=_own(index, postings, len(terms)),
        window=_window(index, postings, len(terms)),
        session=session,
        sessions=shared >= TALK,
        date=date,
        sender=None if index.machine else _named(index.names, text),
        said=index.machine and _SAID.search(text.lower()) is not None,
    )


def _named(names: list[str], question: str) -> int | None:
    """The place of the one sender that the question names."""
    asked = {words.fold(token).removesuffix("'s") for token in words.tokens(question)}
    named = [place for place, name in enumerate(names) if name in asked]
    return named[0] if len(named) == 1 else None


def _rarest(terms: Sequence[words.Term], postings: Postings) -> list[words.Term]:
    """The terms that say most, in their order."""
    having = np.bincount(postings.term, minlength=len(terms)).tolist()
    known = sorted((count, place) for place, count in enumerate(having) if count)[:MAX_TERMS]
    return [terms[place] for place in sorted(place for _, place in known)]


def _date(index: Index, text: str, asked_us: int | None) -> Array | None:
    oldest, newest = index.span_us
    spans = spans_in(text, newest if asked_us is None else asked_us, oldest, newest)
    if not spans:
        return None
    created, fit = index.columns.created_us, np.zeros(index.size)
    for span in spans:
        inside = (created >= span.start_us) & (created < span.end_us)
        fit[inside] = np.maximum(fit[inside], span.worth)
    return fit


def _idf(size: int, having: int) -> float:
    return math.log(1 + (size - having + 0.5) / (having + 0.5))


def _to_one(scores: Array, places: Array | None = None) -> Array:
    """The scores, or those at the places, as shares of the best of all."""
    top = scores.max()
    some = scores if places is None else scores[places]
    return some / top if top > 0 else some


def _own(index: Index, postings: Postings, terms: int) -> Array:
    """BM25 of each passage; of a message its best."""
    size = len(index.owner)
    idf = np.array([_idf(size, having) for having in np.bincount(postings.term, minlength=terms).tolist()])
    weight = idf[postings.term] * postings.times * (K1 + 1) / (postings.times + index.own_norm(postings.passage))
    best = np.bincount(postings.passage, weights=weight, minlength=size)
    if index.alone:
        return best
    out = np.zeros(index.size)
    np.maximum.at(out, index.owner[postings.passage], best[postings.passage])
    return out


def _by_message(index: Index, postings: Postings, terms: int) -> list[tuple[Array, Array, Array]]:
    """For each term of the question: the messages with it, its count there, and its count for their neighbours."""
    term, message, times, near = postings.term, index.owner[postings.passage], postings.times, postings.near
    if not index.alone and len(message):
        keys = term * index.size + message
        heads = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        term, message = term[heads], message[heads]
        times, near = np.add.reduceat(times, heads), np.add.reduceat(near, heads)
    bounds = np.searchsorted(term, np.arange(terms + 1)).tolist()
    return [(message[low:high], times[low:high], near[low:high]) for low, high in pairwise(bounds)]


def _window(index: Index, postings: Postings, terms: int) -> Array:
    """BM25 of each message together with its neighbours."""
    size = index.size
    out, held, seen = np.zeros(size + 1), np.zeros(size + 1), np.zeros(size + 1, bool)
    for message, count, near in _by_message(index, postings, terms):
        if not len(message):
            continue
        around = index.neighbours.rows.take(message, axis=1).astype(np.intp)
        held[around[0]] += count
        for row, share in zip(around[1:], NEAR, strict=True):
            held[row] += near * (share / 10)  # a message comes once a row; only "none" comes again, and is dropped
        places = around.ravel()
        seen[places] = True
        seen[size] = False
        idf = _idf(size, int(np.count_nonzero(seen)))
        many = held.take(places)
        worth = many * (idf * (K1 + 1))
        many += index.window_norm(places)
        worth /= many
        # A place that comes twice is given the same sum twice, not twice the sum: plain indexing doesn't accumulate.
        worth += out.take(places)
        out[places] = worth
        held[places], seen[places] = 0, False
    return out[:size]


def _session(index: Index, postings: Postings, terms: int) -> tuple[Array, int]:
    """BM25 of each whole conversation, and how many of the terms occur at all."""
    size, norm = index.neighbours.conversations, index.conversation_norm
    conversation = index.neighbours.conversation[index.owner[postings.passage]]
    bounds = np.searchsorted(postings.term, np.arange(terms + 1)).tolist()
    out, shared = np.zeros(size), 0
    for low, high in pairwise(bounds):
        if low == high:
            continue
        shared += 1
        many = np.bincount(conversation[low:high], weights=postings.times[low:high], minlength=size)
        out += _idf(size, int(np.count_nonzero(many))) * many * (K1 + 1) / (many + norm)
    return out, shared
