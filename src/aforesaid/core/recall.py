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
RUN = 64  # messages that are compared with each other first, to find the best of all
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


class Signals(NamedTuple):
    """Each signal before its weight, one value a message, and the weights that fit this kind of chat."""

    values: dict[str, Array]
    weights: dict[str, float]
    reason: Array  # bool: something in or around the message, or its date, answers the question


def rank(index: Index, query: Query, limit: int, exclude: Set[Address] | None = None) -> list[Ranked]:
    """The messages that the question is about, best first; empty when nothing matches.

    Equal scores: the newer message first, then the higher address. *Cost*: 0.5 ms at 10,000 messages.
    """
    if limit < 1 or not index.size:
        return []
    found = signals(index, query)
    if found is None:
        return []
    score = np.zeros(index.size)
    parts = {name: weight * found.values[name] for name, weight in found.weights.items() if name in found.values}
    for part in parts.values():
        score += part
    allowed = _allowed(index, query)
    able = found.reason if allowed is None else found.reason & allowed
    if exclude:
        able = _without(index, able, exclude)
    places = _ordered(index, _best(score, able, limit), score)[:limit]
    names, columns = list(parts), index.columns
    rows = zip(*(part[places].tolist() for part in parts.values()), strict=True)
    heads = zip(
        columns.conversation[places].tolist(), columns.seq[places].tolist(), score[places].tolist(), rows, strict=True
    )
    return [
        Ranked(conversation, seq, total, {name: value for name, value in zip(names, row, strict=True) if value})
        for conversation, seq, total, row in heads
    ]


def _best(score: Array, able: Array, limit: int) -> Array:
    """The places of the ``limit`` best among the able, of those that equal the last of them, and perhaps of others."""
    kept = np.where(able, score, -np.inf)
    if len(kept) > limit * RUN:
        # At least ``limit`` messages score as much as the runs' own best, counted down so far: the others are out.
        tops = np.maximum.reduceat(kept, np.arange(0, len(kept), RUN))
        places = np.flatnonzero(kept >= np.partition(tops, len(tops) - limit)[len(tops) - limit])
    else:
        places = np.arange(len(kept))
    places = places[able[places]]
    if len(places) > limit:
        least = np.partition(score[places], len(places) - limit)[len(places) - limit]
        places = places[score[places] >= least]
    return places


def _ordered(index: Index, places: Array, score: Array) -> Array:
    """The places, best first."""
    columns = index.columns
    keys = (columns.seq[places], columns.conversation[places], columns.created_us[places], score[places])
    return places[np.lexsort(keys)[::-1]]


def _allowed(index: Index, query: Query) -> Array | None:
    """Which messages the filters of the query let through; None when it has none."""
    columns, tests = index.columns, list[Array]()
    if query.conversation is not None:
        tests.append(columns.conversation == query.conversation)
    if query.since_us is not None:
        tests.append(columns.created_us >= query.since_us)
    if query.until_us is not None:
        tests.append(columns.created_us < query.until_us)
    if query.role is not None:
        tests.append(columns.role == (ROLES.index(query.role) if query.role in ROLES else 255))
    if query.sender is not None:
        tests.append(columns.sender == (columns.senders.index(query.sender) if query.sender in columns.senders else -1))
    return np.logical_and.reduce(tests) if tests else None


def _without(index: Index, able: Array, exclude: Set[Address]) -> Array:
    conversations = np.unique(np.fromiter((c for c, _ in exclude), np.int64, len(exclude)))
    suspect = np.flatnonzero(able & np.isin(index.columns.conversation, conversations))
    pairs = zip(index.columns.conversation[suspect].tolist(), index.columns.seq[suspect].tolist(), strict=True)
    gone = [place for place, pair in zip(suspect.tolist(), pairs, strict=True) if pair in exclude]
    if not gone:
        return able
    rest = able.copy()
    rest[gone] = False
    return rest


def signals(index: Index, query: Query) -> Signals | None:
    """Every signal of every message, or None when neither a word nor a date of the question is known."""
    columns = index.columns
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
    own, window = _own(index, postings, len(terms)), _window(index, postings, len(terms))
    session, shared = _session(index, postings, len(terms))
    values = {"own": _to_one(own), "window": _to_one(window), "session": _to_one(session)}
    reason = (window > 0) | (session > 0) if shared >= TALK else window > 0
    if date is not None:
        values["date"] = date
        reason |= date > 0
    values["length"] = index.length
    if index.machine:
        values["who"] = (columns.role == _USER).astype(np.float64)
        if _SAID.search(text.lower()):
            values["said"] = (columns.role == _ASSISTANT).astype(np.float64)
        values["standing"] = ((columns.flags & STANDING) > 0).astype(np.float64)
        values["few"] = _PARTS[np.minimum(columns.passages, MAX_PARTS - 1)]
        return Signals(values, ASSISTANT, reason)
    values["asks"] = index.asks
    sender = _named(index.names, text)
    if sender is not None:
        values["who"] = (columns.sender == sender).astype(np.float64)
    return Signals(values, PEOPLE, reason)


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


def _to_one(scores: Array) -> Array:
    top = scores.max()
    return scores / top if top > 0 else scores


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
    """BM25 of the whole conversation, given to each of its messages, and how many of the terms occur at all."""
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
    spread: Array = out.take(index.neighbours.conversation)
    return spread, shared
