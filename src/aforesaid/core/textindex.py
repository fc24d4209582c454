"""The text index of one user in memory: built from the stored blocks, ready to be asked.

All statistics (how rare a term is, how long messages are) are that user's alone. See docs/explanation/recall.md.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from aforesaid.core.growth import Found, Growth, Tail, held_bytes
from aforesaid.core.neighbours import NONE, Neighbours, appended, linked, repeated
from aforesaid.core.textblock import (
    ASKS,
    BLOCK_MESSAGES,
    ROLES,
    STANDING,
    Address,
    Array,
    Columns,
    Entry,
    chosen,
    joined,
    merge,
    pack,
    passages_of,
    unpack,
    without,
)
from aforesaid.core.words import LANGUAGES, Term, fold, hashed, stem, tokens

__all__ = [
    "ASKS",
    "BLOCK_MESSAGES",
    "ROLES",
    "STANDING",
    "Address",
    "Array",
    "Columns",
    "Entry",
    "Index",
    "Postings",
    "merge",
    "pack",
    "passages_of",
    "unpack",
    "without",
]

NEAR_TERMS = 60  # first terms of a message that count for its neighbours
NEAR = (8, 10, 4, 6)  # tenths that their terms are worth: message before, after, second before, second after
LONG = 40  # terms: a longer message is no more informative
K1, B = 1.4, 0.85  # of BM25: how soon a repeated term adds nothing, how much a long text is charged
MACHINE_RATIO = 2.5  # assistants that write so many times more than the users are machines
# So many terms may come before all are sorted anew.
TAIL_TERMS = 16_384
SCANS_BEFORE_SORT = 1  # a single question is answered sooner by a scan than by sorting first
_MOST = 255  # a term's count in a passage is kept up to this

_USER, _ASSISTANT = ROLES.index("user"), ROLES.index("assistant")
_MACHINES = frozenset("assistant ai bot chatbot model agent system gpt chatgpt claude gemini llm".split())
# A table, because a vectorised logarithm may round differently from machine to machine.
_LENGTHS = np.array([math.log1p(n) for n in range(LONG + 1)])
_SHIFT, _ONE, _PLACES = np.uint64(32), np.uint64(1), np.uint64(0x7FFF_FFFF)


class Postings(NamedTuple):
    """Where the terms of a question stand: a row for each (question term, passage), ascending, none twice."""

    term: Array  # int64, place in the question
    passage: Array  # int64, place in the index
    times: Array  # float64, how often in the passage
    near: Array  # float64, those times that count for the message's neighbours


class _Sorted(NamedTuple):
    """Postings by term: ``places[starts[i]:starts[i + 1]]`` are the passages with ``keys[i]``."""

    keys: Array  # uint32, ascending
    starts: Array  # int32
    places: Array  # int32, passages within the part
    times: Array  # uint8
    near: Array  # uint8


def _located(columns: Columns, message: int, passage: int) -> tuple[Array, Array]:
    """For each term from a message on, whose first passage is given: its passage, and 1 where it counts as near."""
    sizes, passages = columns.sizes[passage:], columns.passages[message:]
    owner = np.repeat(np.arange(passage, passage + len(sizes), dtype=np.int32), sizes)
    starts = np.cumsum(sizes, dtype=np.int64) - sizes
    begins = np.repeat(starts[np.cumsum(passages, dtype=np.int64) - passages], passages)
    return owner, (np.arange(len(owner)) - begins[owner - passage] < NEAR_TERMS).astype(np.uint8)


class _Main:
    """The postings of all passages up to some: scanned, or sorted once they have been asked often enough."""

    def __init__(self, columns: Columns) -> None:
        self.messages, self.passages = len(columns.passages), len(columns.sizes)
        self._terms, self._asked = columns.terms, 0
        # Two threads may ask while one of them sorts: each sees either form whole.
        self._form: _Sorted | tuple[Array, Array] = _located(columns, 0, 0)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self._form)

    def find(self, hashes: Array) -> list[Found]:
        """Where each that occurs stands."""
        self._asked += 1
        form = self._form
        if not isinstance(form, _Sorted) and self._asked > SCANS_BEFORE_SORT:
            form = self._form = _by_term(self._terms, *form)
        out: list[Found] = []
        if not isinstance(form, _Sorted):
            owner, near = form
            for place, value in enumerate(hashes):
                where = np.flatnonzero(self._terms == value)
                if len(where):
                    out.append(Found(place, owner[where], np.ones(len(where)), near[where]))
        elif len(form.keys):
            at = np.minimum(np.searchsorted(form.keys, hashes), len(form.keys) - 1)
            for place in np.flatnonzero(form.keys[at] == hashes).tolist():
                rows = slice(form.starts[at[place]], form.starts[at[place] + 1])
                out.append(Found(place, form.places[rows], form.times[rows], form.near[rows]))
        return out


def _by_term(terms: Array, owner: Array, near: Array) -> _Sorted:
    """The postings of all terms. *Cost*: 40 ns a term."""
    keys = terms.astype(np.uint64) << _SHIFT | owner.astype(np.uint64) << _ONE | near
    keys.sort()
    pairs = keys >> _ONE
    heads = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1]))[: len(pairs)]
    nears = np.concatenate(([0], np.cumsum(keys & _ONE)))
    ends = np.append(heads[1:], len(keys))[: len(heads)]
    pairs = pairs[heads]
    keys = (pairs >> (_SHIFT - _ONE)).astype(np.uint32)
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))[: len(keys)]
    return _Sorted(
        keys[first],
        np.append(first, len(keys)).astype(np.int32),
        (pairs & _PLACES).astype(np.int32),
        np.minimum(ends - heads, _MOST).astype(np.uint8),
        np.minimum(nears[ends] - nears[heads], _MOST).astype(np.uint8),
    )


class _Tallies(NamedTuple):
    """Sums over all messages."""

    roles: Array  # int64, messages by role
    role_terms: Array  # int64, their terms
    speakers: Array  # int64, messages of the role assistant by sender
    languages: int  # bit mask
    oldest_us: int
    newest_us: int


class Index:
    """All messages of one user. Unchanging to the caller; several threads may ask it.

    Per message, in order of arrival: ``columns``, ``terms`` (how many), ``neighbours``, ``first`` (its first passage),
    ``window_terms`` (tenths of terms of it and its neighbours; one more entry, 0, for "none"), and two signals that
    don't depend on the question: ``length`` and ``asks``. ``owner`` is the message of each passage,
    ``conversation_terms`` the terms of each conversation.
    """

    columns: Columns
    neighbours: Neighbours
    owner: Array
    first: Array
    terms: Array
    length: Array
    asks: Array
    conversation_terms: Array
    window_terms: Array
    _tallies: _Tallies
    _main: _Main
    _growth: Growth

    def __init__(self, columns: Columns, old: "Index | None" = None, growth: Growth | None = None) -> None:
        """*Takes* ``old``, whose messages are the first of ``columns``, and a ``growth`` that was taken for it."""
        self._growth = growth or Growth()
        near = None if old is None else appended(old.neighbours, columns, self._growth)
        kept = old
        if near is None:
            order = np.lexsort((columns.seq, columns.conversation))
            again = repeated(columns, order)
            if again is not None:
                columns, kept, self._growth = chosen(columns, again), None, Growth()
                order = np.lexsort((columns.seq, columns.conversation))
            near, old, self._growth.lasts = linked(columns, order), None, None
        self.columns, self.neighbours = columns, near
        self.size = len(columns.seq)
        self._count(old)
        if kept is None or self._growth.tail.size + len(columns.terms) - len(kept.columns.terms) > TAIL_TERMS:
            self._main, self._growth.tail = _Main(columns), Tail()
        else:
            self._main, (owner, close) = kept._main, _located(columns, kept.size, len(kept.owner))
            self._growth.tail.add(columns.terms[len(kept.columns.terms) :], owner, close)
        self._tail = self._growth.tail
        self._growth.give(self.size)

    def _count(self, old: "Index | None") -> None:
        """What is known of each message and of all; of those in ``old`` it is taken from there."""
        columns, grown = self.columns, self._growth.grown
        known, passage = (old.size, len(old.owner)) if old is not None else (0, 0)
        passages, wide = columns.passages[known:].astype(np.int64), columns.sizes[passage:].astype(np.int64)
        owner = np.repeat(np.arange(known, self.size, dtype=np.int32), passages)
        first = np.cumsum(passages) - passages
        terms = wide if len(owner) == len(passages) else np.add.reduceat(wide, first)
        length = _LENGTHS[np.minimum(terms, LONG)]
        asks = (columns.flags[known:] & ASKS).astype(np.float64)
        self._tallies = _tallied(columns, known, terms, old._tallies if old is not None else None)
        self.owner, self.first, self.terms, self.length, self.asks = owner, first, terms, length, asks
        by_conversation = np.zeros(self.neighbours.conversations, np.int64)
        if old is not None:
            self.owner, self.first = grown("owner", old.owner, owner), grown("first", old.first, first + passage)
            self.length, self.asks = grown("length", old.length, length), grown("asks", old.asks, asks)
            self.terms = grown("count", old.terms, terms)
            by_conversation[: len(old.conversation_terms)] = old.conversation_terms
        self.alone = len(self.owner) == self.size  # every message is one passage
        np.add.at(by_conversation, self.neighbours.conversation[known:], terms)
        self.conversation_terms = by_conversation
        self.window_terms = self._windows(old)
        if old is not None and len(old.columns.senders) == len(columns.senders):
            for name in ("names", "name_terms"):
                if name in old.__dict__:
                    self.__dict__[name] = old.__dict__[name]

    def _windows(self, old: "Index | None") -> Array:
        total, rows = np.zeros(self.size + 1, np.int64), self.neighbours.rows
        changed: Array | slice = slice(self.size)
        if old is not None:
            total[: old.size] = old.window_terms[:-1]
            touched = np.unique(rows[:, old.size :])
            changed = touched[touched != NONE]
        near = np.append(np.minimum(self.terms, NEAR_TERMS), 0)
        around = 10 * self.terms[changed]
        for row, share in zip(rows[1:], NEAR, strict=True):
            around += share * near.take(row[changed])
        total[changed] = around
        return total

    @classmethod
    def of(cls, blocks: Sequence[bytes]) -> "Index":
        """The index of a user's blocks, in any order. Of a message that is there twice, the last counts."""
        return cls(joined([unpack(block) for block in blocks] or [unpack(pack([]))]))

    def extended(self, blocks: Sequence[bytes]) -> "Index":
        """The index with more messages; this one stays as it is.

        *Cost*: 0.2 ms at 20,000 messages when the new ones end their conversations; else, and whenever the tail has
        grown too long, that of linking or sorting anew. The second index made out of the same one is copied.
        """
        if not blocks:
            return self
        growth = self._growth if self._growth.take(self.size) else None
        fresh = joined([unpack(block) for block in blocks])
        if growth is None:
            return Index(joined([self.columns, fresh]))
        return Index(growth.columns(self.columns, fresh), self, growth)

    @property
    def nbytes(self) -> int:
        """Bytes held, without the interpreter's own overhead."""
        near = (self.neighbours.rows, self.neighbours.conversation, self.window_terms, self.conversation_terms)
        arrays = [*self.columns[:-1], self.owner, self.first, self.terms, self.length, self.asks, *near]
        return sum(map(held_bytes, arrays)) + self._main.nbytes + self._growth.nbytes

    @property
    def span_us(self) -> tuple[int, int]:
        """The times of the oldest and of the newest message."""
        return self._tallies.oldest_us, self._tallies.newest_us

    def own_norm(self, passages: Array) -> Array:
        """BM25's charge for the length of these passages."""
        return _norm(self.columns.sizes.take(passages), len(self.columns.terms), len(self.owner))

    def window_norm(self, messages: Array) -> Array:
        """The same for these messages with their neighbours."""
        return _norm(self.window_terms.take(messages), self._all_windows, self.size)

    @cached_property
    def longest(self) -> float:
        """The most that ``length`` is."""
        return float(self.length.max()) if self.size else 0.0

    @cached_property
    def _all_windows(self) -> int:
        return int(self.window_terms.sum())

    @cached_property
    def conversation_norm(self) -> Array:
        """The same for each conversation."""
        return _norm(self.conversation_terms, len(self.columns.terms), self.neighbours.conversations)

    @cached_property
    def names(self) -> list[str]:
        """The first word of each sender's id, folded; empty where there is none to call somebody by."""
        first = [fold((tokens(sender) or [""])[0]) if sender else "" for sender in self.columns.senders]
        return [name if len(name) > 1 else "" for name in first]

    @cached_property
    def name_terms(self) -> frozenset[int]:
        """The terms that those names may have in a question."""
        places = range(len(LANGUAGES))
        return frozenset(hashed(stem(name, place) or name) for name in self.names if name for place in places)

    @cached_property
    def machine(self) -> bool:
        """Whether the messages of the role assistant are a machine's: by their senders' names, or far longer."""
        counts, terms = self._tallies.roles.tolist(), self._tallies.role_terms.tolist()
        if not counts[_ASSISTANT]:
            return False
        spoken = zip(self.columns.senders, self._tallies.speakers.tolist(), strict=True)
        if 2 * sum(count for sender, count in spoken if count and _generic(sender)) >= counts[_ASSISTANT]:
            return True
        return bool(terms[_ASSISTANT] * counts[_USER] > MACHINE_RATIO * counts[_ASSISTANT] * terms[_USER] > 0)

    @property
    def languages(self) -> int:
        """The bit mask of the languages of the messages."""
        return self._tallies.languages

    def postings(self, terms: Sequence[Term]) -> Postings:
        """Where the terms stand; a passage with several forms of a term counts them together."""
        hashes = np.array([value for term in terms for value in term.hashes], np.uint32)
        whose = [place for place, term in enumerate(terms) for _ in term.hashes]
        found = [*self._main.find(hashes), *self._tail.find(hashes, len(self.owner))]
        if not found:
            return Postings(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
        passages = len(self.owner)
        keys = np.concatenate([row[1] + np.int64(whose[row[0]] * passages) for row in found])
        counts = np.concatenate([row[2] for row in found]).astype(np.float64)
        nears = np.concatenate([row[3] for row in found]).astype(np.float64)
        if len(keys) > 1 and not (keys[1:] > keys[:-1]).all():
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            heads = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
            counts, nears = np.add.reduceat(counts[order], heads), np.add.reduceat(nears[order], heads)
            keys = keys[heads]
        term = keys // passages
        return Postings(term, keys - term * passages, counts, nears)


def _generic(sender: str) -> bool:
    """Whether the sender's id has no word, or one that machines are called by."""
    some = tokens(sender)
    return not some or not _MACHINES.isdisjoint(some)


def _tallied(columns: Columns, known: int, terms: Array, old: _Tallies | None) -> _Tallies:
    """The sums over ``old`` and the messages from ``known`` on, which have so many terms."""
    role, sender, created = columns.role[known:], columns.sender[known:], columns.created_us[known:]
    roles = np.bincount(role, minlength=len(ROLES))
    role_terms = np.bincount(role, weights=terms, minlength=len(ROLES)).astype(np.int64)
    speakers = np.bincount(sender[role == _ASSISTANT], minlength=len(columns.senders))
    spoken = np.flatnonzero(np.bincount(columns.language[known:])).tolist()
    languages = sum(1 << place for place in spoken)
    span = (int(created.min()), int(created.max())) if len(created) else (0, 0)
    if old is None:
        return _Tallies(roles, role_terms, speakers, languages, *span)
    if len(created):
        span = (min(old.oldest_us, span[0]), max(old.newest_us, span[1]))
    speakers[: len(old.speakers)] += old.speakers
    return _Tallies(roles + old.roles, role_terms + old.role_terms, speakers, languages | old.languages, *span)


def _norm(lengths: Array, total: int, count: int) -> Array:
    # Whole numbers: their sum, and so the ranking, can't depend on the order of the messages.
    average = max(total / max(count, 1), 1e-9)
    norm: Array = K1 * (1 - B) + lengths * (K1 * B / average)
    return norm
