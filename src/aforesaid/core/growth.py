"""What lets an index become longer without being copied: room behind its arrays, and a tail that is looked up.

The longer index shares what it can with the shorter one, which stays as it is for whoever still asks it.
"""

import threading
from typing import Any, NamedTuple

import numpy as np

from aforesaid.core.textblock import Array, Columns

SPARE = 8  # an eighth of an array is the room behind it
ENTRY_BYTES = 80  # of the interpreter's, about, for a term in the tail


class Found(NamedTuple):
    """Where one term of a question stands. Passages may repeat."""

    term: int  # place in the question's hashes
    passages: Array
    times: Array
    near: Array  # of those times, how many count for the message's neighbours


class Tail:
    """The postings of the newest passages: few enough to be kept term by term as they come."""

    def __init__(self) -> None:
        self.size = 0
        self._codes: dict[int, list[int]] = {}

    def add(self, terms: Array, owner: Array, near: Array) -> None:
        """The terms stand in these passages, ``near`` 1 where they count for neighbours."""
        self.size += len(terms)
        codes = (owner.astype(np.int64) << 1 | near).tolist()
        for term, code in zip(terms.tolist(), codes, strict=True):
            self._codes.setdefault(term, []).append(code)

    def find(self, hashes: Array, passages: int) -> list[Found]:
        """Where each that occurs stands, among the first so many passages: later ones are a longer index's."""
        out = []
        for place, value in enumerate(hashes.tolist()):
            codes = self._codes.get(value)
            if codes is not None:
                known = np.array([code for code in codes if code >> 1 < passages], np.int64)
                if len(known):
                    out.append(Found(place, known >> 1, np.ones(len(known)), known & 1))
        return out


class Growth:
    """What one index and those that grow out of it share. Only the longest of them may use it."""

    def __init__(self) -> None:
        self.tail = Tail()
        self.lasts: dict[int, int] | None = None
        """The place of the last message of each conversation, once it was asked for."""
        self._rooms: dict[str, Array] = {}
        self._lock = threading.Lock()
        self._size = 0

    def give(self, size: int) -> None:
        """It belongs to the index with so many messages."""
        self._size = size

    def take(self, size: int) -> bool:
        """Whether the index with so many messages has it to itself now."""
        with self._lock:
            mine, self._size = self._size == size, -1
            return mine

    def grown(self, name: str, old: Array, more: Array) -> Array:
        """``old`` with ``more`` behind it."""
        size, room = len(old) + len(more), self._rooms.get(name)
        if room is None or old.base is not room or size > len(room):
            room = self._rooms[name] = np.empty(size + size // SPARE + SPARE, old.dtype)
            room[: len(old)] = old
        room[len(old) : size] = more
        return room[:size]

    def columns(self, old: Columns, more: Columns) -> Columns:
        """The messages of both, the new ones behind, under one list of senders."""
        senders = {name: place for place, name in enumerate(old.senders)}
        codes = np.array([senders.setdefault(name, len(senders)) for name in more.senders], np.int32)
        fresh = more._replace(sender=codes[more.sender] if len(codes) else np.zeros(0, np.int32))
        named = [name for name in Columns._fields if name != "senders"]
        arrays: list[Any] = [self.grown(name, getattr(old, name), getattr(fresh, name)) for name in named]
        return Columns._make([*arrays, old.senders if len(senders) == len(old.senders) else list(senders)])

    @property
    def nbytes(self) -> int:
        """Bytes held besides the arrays."""
        return self.tail.size * ENTRY_BYTES


def held_bytes(array: Array) -> int:
    """Bytes that an array keeps, the room behind it included."""
    return int(array.base.nbytes) if isinstance(array.base, np.ndarray) else array.nbytes
