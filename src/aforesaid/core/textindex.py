"""The text index of one user in memory: built from the stored blocks, ready to be asked.

All statistics (how rare a term is, how long messages are) are that user's alone. See docs/explanation/recall.md.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from aforesaid.core.neighbours import Neighbours, appended, linked, repeated
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
K1, B = 1.4, 0.85  # of BM25: how soon a repeated term adds nothing, how much a long text is charged
MACHINE_RATIO = 2.5  # assistants that write so many times more than the users are machines
# A tail of this many terms is scanned at each question; beyond it, and an eighth of the rest, all is sorted anew.
TAIL_TERMS = 16_384
SCANS_BEFORE_SORT = 1  # a single question is answered sooner by a scan than by sorting first
_MOST = 255  # a term's count in a passage is kept up to this

_USER, _ASSISTANT = ROLES.index("user"), ROLES.index("assistant")
_MACHINES = frozenset("assistant ai bot chatbot model agent system gpt chatgpt claude gemini llm".split())
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


class _Part:
    """A run of passages and their terms: scanned, or sorted once it has been asked often enough."""

    def __init__(self, columns: Columns, message: int, passage: int, term: int) -> None:
        """The part from that message on, whose first passage and first term are given."""
        self.base, self.terms, self.asked = passage, columns.terms[term:], 0
        sizes, passages = columns.sizes[passage:], columns.passages[message:]
        owner = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        starts = np.cumsum(sizes, dtype=np.int64) - sizes
        begins = np.repeat(starts[np.cumsum(passages, dtype=np.int64) - passages], passages)
        near = (np.arange(len(self.terms)) - begins[owner] < NEAR_TERMS).astype(np.uint8)
        # Two threads may ask while one of them sorts: each sees either form whole.
        self._form: _Sorted | tuple[Array, Array] = (owner, near)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self._form)

    def find(self, hashes: Array) -> list[tuple[int, Array, Array, Array]]:
        """(place in ``hashes``, passages, times, near times) of each that occurs. Passages may repeat."""
        self.asked += 1
        form = self._form
        if not isinstance(form, _Sorted) and not self.base and self.asked > SCANS_BEFORE_SORT:
            form = self._form = _by_term(self.terms, *form)
        out: list[tuple[int, Array, Array, Array]] = []
        if not isinstance(form, _Sorted):
            owner, near = form
            for place, value in enumerate(hashes):
                where = np.flatnonzero(self.terms == value)
                if len(where):
                    out.append((place, owner[where] + self.base, np.ones(len(where)), near[where]))
        elif len(form.keys):
            at = np.minimum(np.searchsorted(form.keys, hashes), len(form.keys) - 1)
            for place in np.flatnonzero(form.keys[at] == hashes).tolist():
                rows = slice(form.starts[at[place]], form.starts[at[place] + 1])
                out.append((place, form.places[rows] + self.base, form.times[rows], form.near[rows]))
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


class Index:
    """All messages of one user. Unchanging to the caller; several threads may ask it.

    Per message, in order of arrival: ``columns``, ``terms`` (how many), ``neighbours``, ``first`` (its first passage).
    ``owner`` is the message of each passage.
    """

    def __init__(
        self,
        columns: Columns,
        neighbours: Neighbours | None = None,
        main: _Part | None = None,
        split: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        """*Takes* what is kept from an earlier index: the main part, and the message, passage and term it ends at."""
        if neighbours is None:
            order = np.lexsort((columns.seq, columns.conversation))
            again = repeated(columns, order)
            if again is not None:
                columns, main = chosen(columns, again), None
                order = np.lexsort((columns.seq, columns.conversation))
            neighbours = linked(columns, order)
        self.columns, self.neighbours = columns, neighbours
        self.size = len(columns.seq)
        self.owner = np.repeat(np.arange(self.size, dtype=np.int32), columns.passages)
        self.alone = len(self.owner) == self.size  # every message is one passage
        self.first = np.cumsum(columns.passages, dtype=np.int64) - columns.passages
        sizes = columns.sizes.astype(np.int64)
        self.terms = sizes if self.alone else np.add.reduceat(sizes, self.first)
        ends = (self.size, len(self.owner), len(columns.terms))
        if main is None or ends[2] - split[2] > max(TAIL_TERMS, split[2] // 8):
            self._parts, self._split = [_Part(columns, 0, 0, 0)], ends
        else:
            self._parts, self._split = [main, _Part(columns, *split)], split

    @classmethod
    def of(cls, blocks: Sequence[bytes]) -> "Index":
        """The index of a user's blocks, in any order. Of a message that is there twice, the last counts."""
        return cls(joined([unpack(block) for block in blocks] or [unpack(pack([]))]))

    def extended(self, blocks: Sequence[bytes]) -> "Index":
        """The index with more messages; this one stays as it is.

        *Cost*: 0.3 ms at 20,000 messages when the new ones end their conversations; else, and whenever the tail has
        grown too long, that of sorting anew.
        """
        if not blocks:
            return self
        columns = joined([self.columns, *(unpack(block) for block in blocks)])
        return Index(columns, appended(self.neighbours, columns), self._parts[0], self._split)

    @property
    def nbytes(self) -> int:
        """Bytes held, without the interpreter's own overhead."""
        near = (self.neighbours.rows, self.neighbours.conversation)
        arrays = [*self.columns[:-1], self.owner, self.first, self.terms, *near]
        return sum(a.nbytes for a in arrays) + sum(part.nbytes for part in self._parts)

    @cached_property
    def span_us(self) -> tuple[int, int]:
        """The times of the oldest and of the newest message."""
        created = self.columns.created_us
        return int(created.min()), int(created.max())

    @cached_property
    def own_norm(self) -> Array:
        """BM25's charge for the length of each passage."""
        return _norm(self.columns.sizes.astype(np.int64))

    @cached_property
    def window_norm(self) -> Array:
        """The same for each message with its neighbours; one more entry for "none"."""
        near = np.append(np.minimum(self.terms, NEAR_TERMS), 0)
        total = 10 * self.terms
        for row, share in zip(self.neighbours.rows[1:], NEAR, strict=True):
            total += share * near.take(row)
        return np.append(_norm(total), 1.0)

    @cached_property
    def conversation_norm(self) -> Array:
        """The same for each conversation."""
        lengths = np.bincount(self.neighbours.conversation, weights=self.terms, minlength=self.neighbours.conversations)
        return _norm(lengths.astype(np.int64))

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
        columns, roles = self.columns, len(ROLES)
        counts = np.bincount(columns.role, minlength=roles).tolist()
        if not counts[_ASSISTANT]:
            return False
        words = [tokens(sender) for sender in columns.senders]
        generic = np.array([not some or not _MACHINES.isdisjoint(some) for some in words], bool)
        by_sender = np.bincount(columns.sender[columns.role == _ASSISTANT], minlength=len(generic))
        if 2 * int(by_sender[generic].sum()) >= counts[_ASSISTANT]:
            return True
        terms = np.bincount(columns.role, weights=self.terms, minlength=roles).tolist()
        return bool(terms[_ASSISTANT] * counts[_USER] > MACHINE_RATIO * counts[_ASSISTANT] * terms[_USER] > 0)

    @cached_property
    def languages(self) -> int:
        """The bit mask of the languages of the messages."""
        counts = np.bincount(self.columns.language).tolist()
        return sum(1 << place for place, count in enumerate(counts) if count)

    def postings(self, terms: Sequence[Term]) -> Postings:
        """Where the terms stand; a passage with several forms of a term counts them together."""
        hashes = np.array([value for term in terms for value in term.hashes], np.uint32)
        whose = [place for place, term in enumerate(terms) for _ in term.hashes]
        found = [row for part in self._parts for row in part.find(hashes)]
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


def _norm(lengths: Array) -> Array:
    # Whole numbers: their sum, and so the ranking, can't depend on the order of the messages.
    average = max(int(lengths.sum()) / max(len(lengths), 1), 1e-9)
    norm: Array = K1 * (1 - B) + lengths * (K1 * B / average)
    return norm
