"""Packed blocks of messages as terms: the form in which the text index is stored.

A block holds no text: for each message its address, time, sender, role and flags, and the 32-bit terms of its
passages in order. Layout, little-endian: a header, then one array a column, then the senders' names.
See docs/decisions/0005-text-index.md.
"""

import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from aforesaid.core import words

Array: TypeAlias = NDArray[Any]
Address: TypeAlias = tuple[int, int]

BLOCK_MESSAGES = 512  # messages of a full block
PASSAGE_LETTERS = 700  # characters of a passage: a longer message is cut, and its best passage counts
MAX_PASSAGES = 65_535  # of a message; what stands behind them is not searched
ROLES = ("user", "assistant", "system", "developer", "tool", "function")  # append only: the places are stored
ASKS = 1  # flag: the message ends with a question mark
STANDING = 2  # flag: the user says how something is always to be done, or what they prefer

_MAGIC, _FORMAT = b"AT", 1
VERSION = f"{_FORMAT}.{words.ANALYSIS}"  # of what a block holds: blocks of another one can't be read
_HEAD = struct.Struct("<2sBBIIIII")  # magic, format, analysis, then five counts: see _bytes
_KINDS = ("<i8", "<i8", "<u4", "<u4", "<u2", "<u2", "<u2", "u1", "u1", "u1")  # of the columns, in their order
_SENTENCE_END = re.compile(r"[.!?\n。！？।](?![^\s。！？])")
_QUESTION = ("?", "？", "؟")
_STANDING = re.compile(
    r"^\W*(?:please,? )?(?:always|never)\b|\bwhen(?:ever)? i ask\b|\bfrom now on\b|\bgoing forward\b"
    r"|\bi(?:'d| would)? (?:really |strongly |much |always |usually |generally )?(?:prefer|rather)\b"
    r"|\b(?:ab jetzt|von nun an|immer wenn ich|ich bevorzuge|mir ist lieber)\b"
    r"|\b(?:à partir de maintenant|dorénavant|je préfère)\b|\b(?:a partir de ahora|de ahora en adelante|prefiero)\b",
    re.IGNORECASE,
)
# Without one of these no text in ASCII says how something is always to be done: looked for first, as that is quicker.
_STANDING_WORDS = (
    "always", "never", "i ask", "from now on", "forward", "prefer", "rather",
    "ab jetzt", "von nun an", "immer wenn", "bevorzuge", "ist lieber", "ahora", "prefiero",
)  # fmt: skip


class Entry(NamedTuple):
    """A message as the index takes it. ``(conversation, seq)`` is its address."""

    conversation: int
    seq: int
    created_us: int
    sender_id: str
    role: str
    content: str


class Columns(NamedTuple):
    """Messages side by side, in order of arrival."""

    conversation: Array  # int64
    created_us: Array  # int64
    seq: Array  # uint32
    terms: Array  # uint32, the terms of all passages of all messages
    sender: Array  # uint16 or int32, place in ``senders``
    passages: Array  # uint16, passages of each message
    sizes: Array  # uint16, terms of each passage
    role: Array  # uint8, place in ROLES
    flags: Array  # uint8
    language: Array  # uint8, place in words.LANGUAGES
    senders: list[str]


def passages_of(text: str) -> list[str]:
    """The text cut into passages of at most ``PASSAGE_LETTERS`` characters, after a sentence where there is one."""
    out: list[str] = []
    start = 0
    while len(text) - start > PASSAGE_LETTERS and len(out) < MAX_PASSAGES - 1:
        piece = text[start : start + PASSAGE_LETTERS]
        # One character more is looked at: a point is no end of a sentence when a digit follows.
        found = _SENTENCE_END.finditer(text[start : start + PASSAGE_LETTERS + 1])
        ends = [match.end() for match in found if match.end() <= PASSAGE_LETTERS]
        cut = (ends[-1] if ends else piece.rfind(" ") + 1) or PASSAGE_LETTERS
        out.append(piece[:cut])
        start += cut
    out.append(text[start : start + PASSAGE_LETTERS])
    return out


def pack(entries: Sequence[Entry]) -> bytes:
    """One block of the messages, in the order given.

    *Takes* at most 65,535 messages; ``merge`` cuts and joins to ``BLOCK_MESSAGES``. *Cost*: 15 µs for 20 words.
    """
    languages: list[int] = []
    terms: list[int] = []
    passages: list[int] = []
    sizes: list[int] = []
    senders: dict[str, int] = {}
    for entry in entries:
        pieces = [words.tokens(piece) for piece in passages_of(entry.content)]
        language = words.detect(pieces[0] if len(pieces) == 1 else [word for piece in pieces[:3] for word in piece])
        languages.append(language)
        for piece in pieces:
            found = words.terms_of(piece, language)
            terms += found
            sizes.append(len(found))
        passages.append(len(pieces))
        senders.setdefault(entry.sender_id, len(senders))
    return _bytes(
        Columns(
            np.array([e.conversation for e in entries], np.int64),
            np.array([e.created_us for e in entries], np.int64),
            np.array([e.seq for e in entries], np.uint32),
            np.array(terms, np.uint32),
            np.array([senders[e.sender_id] for e in entries], np.uint16),
            np.array(passages, np.uint16),
            np.array(sizes, np.uint16),
            np.array([ROLES.index(e.role) if e.role in ROLES else 0 for e in entries], np.uint8),
            np.array([_flags(e) for e in entries], np.uint8),
            np.array(languages, np.uint8),
            list(senders),
        )
    )


def _flags(entry: Entry) -> int:
    asks = ASKS if entry.content.rstrip().endswith(_QUESTION) else 0
    return asks | STANDING if entry.role == "user" and _stands(entry.content[:PASSAGE_LETTERS]) else asks


def _stands(text: str) -> bool:
    """Whether the text says how something is always to be done, or what somebody prefers."""
    if text.isascii():
        lower = text.lower()
        if not any(words in lower for words in _STANDING_WORDS):
            return False
    return _STANDING.search(text) is not None


def _bytes(columns: Columns) -> bytes:
    names = [name.encode("utf-8", "surrogatepass") for name in columns.senders]
    tail = b"".join(struct.pack("<I", len(name)) + name for name in names)
    head = _HEAD.pack(
        _MAGIC,
        _FORMAT,
        words.ANALYSIS,
        len(columns.conversation),
        len(columns.sizes),
        len(columns.terms),
        len(names),
        len(tail),
    )
    arrays = [a.astype(kind, copy=False).tobytes() for a, kind in zip(columns[:-1], _KINDS, strict=True)]
    return b"".join([head, *arrays, tail])


def unpack(block: bytes) -> Columns:
    """The columns of a block: read-only views of its bytes.

    *Raises* ValueError when it is no block of this format and analysis; its messages must be indexed anew.
    """
    if len(block) < _HEAD.size:
        raise ValueError("not a text block: too short")
    magic, form, analysis, messages, passages, terms, senders, tail = _HEAD.unpack_from(block)
    if (magic, form, analysis) != (_MAGIC, _FORMAT, words.ANALYSIS):
        raise ValueError(f"not a text block of format {_FORMAT} and analysis {words.ANALYSIS}")
    counts = (messages, messages, messages, terms, messages, messages, passages, messages, messages, messages)
    sizes = [np.dtype(kind).itemsize * count for kind, count in zip(_KINDS, counts, strict=True)]
    if len(block) != _HEAD.size + sum(sizes) + tail:
        raise ValueError("not a text block: its length is wrong")
    columns: list[Any] = []
    at = _HEAD.size
    for kind, count, size in zip(_KINDS, counts, sizes, strict=True):
        columns.append(np.frombuffer(block, kind, count, at))
        at += size
    names = []
    for _ in range(senders):
        (length,) = struct.unpack_from("<I", block, at)
        names.append(block[at + 4 : at + 4 + length].decode("utf-8", "surrogatepass"))
        at += 4 + length
    return Columns._make([*columns, names])


def joined(parts: Sequence[Columns]) -> Columns:
    """The messages of all the parts, one behind the other, under one list of senders."""
    senders: dict[str, int] = {}
    codes: list[Array] = []
    for part in parts:
        places = np.array([senders.setdefault(name, len(senders)) for name in part.senders], np.int32)
        codes.append(places[part.sender] if len(places) else np.zeros(0, np.int32))

    def column(name: str) -> Array:
        return np.concatenate([getattr(part, name) for part in parts])

    return Columns(
        column("conversation"),
        column("created_us"),
        column("seq"),
        column("terms"),
        np.concatenate(codes),
        column("passages"),
        column("sizes"),
        column("role"),
        column("flags"),
        column("language"),
        list(senders),
    )


def chosen(columns: Columns, keep: Array) -> Columns:
    """The messages at those places, with only the senders that they have."""
    first = np.cumsum(columns.passages, dtype=np.int64) - columns.passages
    places = _ranges(first[keep], columns.passages[keep])
    starts = np.cumsum(columns.sizes, dtype=np.int64) - columns.sizes
    terms = columns.terms[_ranges(starts[places], columns.sizes[places])]
    used, appears, codes = np.unique(columns.sender[keep], return_index=True, return_inverse=True)
    order = np.argsort(appears)  # senders stand in the order in which they first speak, as in a fresh block
    codes = np.argsort(order)[codes]
    return Columns(
        columns.conversation[keep],
        columns.created_us[keep],
        columns.seq[keep],
        terms,
        codes.astype(np.int32),
        columns.passages[keep],
        columns.sizes[places],
        columns.role[keep],
        columns.flags[keep],
        columns.language[keep],
        [columns.senders[i] for i in used[order].tolist()],
    )


def _ranges(starts: Array, lengths: Array) -> Array:
    """start, start + 1, ... for each range, one behind the other."""
    wide = lengths.astype(np.int64)
    ends = np.cumsum(wide)
    out: Array = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - wide), wide)
    return out


def merge(blocks: Sequence[bytes]) -> list[bytes]:
    """The same messages in as few blocks as ``BLOCK_MESSAGES`` allows, in the same order."""
    if not blocks:
        return []
    whole = joined([unpack(block) for block in blocks])
    size = len(whole.conversation)
    return [
        _bytes(chosen(whole, np.arange(start, min(start + BLOCK_MESSAGES, size))))
        for start in range(0, size, BLOCK_MESSAGES)
    ]


def without(block: bytes, addresses: Iterable[Address]) -> bytes | None:
    """The block without those messages; None when nothing is left, the block itself when none of them was there."""
    columns, gone = unpack(block), set(addresses)
    pairs = zip(columns.conversation.tolist(), columns.seq.tolist(), strict=True)
    keep = np.array([i for i, pair in enumerate(pairs) if pair not in gone], np.int64)
    if len(keep) == len(columns.conversation):
        return block
    return _bytes(chosen(columns, keep)) if len(keep) else None
