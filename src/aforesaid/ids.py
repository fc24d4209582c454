"""Public ids and their two spellings, and fingerprints.

An id is a prefix and a ULID (https://github.com/ulid/spec): 48 bits of milliseconds, 80 of randomness, 26 characters
of Crockford's base 32. Its *number* is the low 52 bits of the randomness: a positive integer below 2^53 that every
JSON reader keeps exact. So one key has two spellings, and an export that keeps the ids keeps the numbers.

Ids of one batch count upwards from a random start: they sort in order, and an index on the number grows at one place
a batch. Batches start at random places, so nobody's numbers tell another's.
"""

import hashlib
import secrets
import time
from collections.abc import Iterable

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
NUMBER_BITS = 52
NUMBER_MASK = (1 << NUMBER_BITS) - 1
FINGERPRINT_BYTES = 16

CONVERSATION, MESSAGE, MEMORY, COLLECTION, CONTENT = "conv", "msg", "mem", "col", "con"
CHUNK, KEY, WORKSPACE, RECEIPT, USER = "chunk", "key", "wsp", "rcp", "usr"

_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]
# To the digits that Python reads in base 32, and whatever is none of the alphabet to what is no digit.
_DIGITS = bytes(b"0123456789abcdefghijklmnopqrstuv!"[ALPHABET.find(chr(code))] for code in range(256))


def now_us() -> int:
    """The wall clock in microseconds UTC."""
    return time.time_ns() // 1000


def _spelled(value: int) -> str:
    """A 128-bit value as 26 characters."""
    pairs = []
    for _ in range(13):
        pairs.append(_PAIRS[value & 1023])
        value >>= 10
    return "".join(reversed(pairs))


def new_ids(prefix: str, count: int) -> list[str]:
    """``count`` fresh ids in ascending order, none of whose numbers is 0. *Cost*: 2 µs, and 0.2 µs each."""
    # The top of the 52-bit space is left free, so that a batch never wraps round.
    low = secrets.randbelow(NUMBER_MASK - count) + 1
    high = (time.time_ns() // 1_000_000 << 28 | secrets.randbits(28)) << NUMBER_BITS
    out, top, head = list[str](), -1, ""
    for value in range(high | low, (high | low) + count):
        if value >> 20 != top:  # the last four characters are all that changes for a while
            top, head = value >> 20, f"{prefix}_{_spelled(value)[:-4]}"
        out.append(head + _PAIRS[value >> 10 & 1023] + _PAIRS[value & 1023])
    return out


def new_id(prefix: str) -> str:
    """One fresh id."""
    return new_ids(prefix, 1)[0]


def number_of(public_id: str, prefix: str) -> int | None:
    """The integer spelling of an id, or None when the text is no id of that kind."""
    head, _, ulid = public_id.partition("_")
    if head != prefix or len(ulid) != 26 or ulid[0] > "7" or not ulid.isascii():
        return None
    try:
        value = int(ulid.encode().translate(_DIGITS), 32)
    except ValueError:
        return None
    return value & NUMBER_MASK or None


def fingerprint(*parts: str | int | None) -> bytes:
    """A 16-byte digest of the parts. Lengths are part of it, so no two lists of parts run together."""
    pieces = []
    for part in parts:
        raw = b"" if part is None else str(part).encode("utf-8", "surrogatepass")
        pieces.append(b"%d:%b" % (-1 if part is None else len(raw), raw))
    return hashlib.sha256(b"".join(pieces)).digest()[:FINGERPRINT_BYTES]


def chain(previous: bytes, role: str, content: str) -> bytes:
    """The fingerprint of a list of turns, one turn longer: how a resent history is recognised."""
    return hashlib.sha256(previous + fingerprint(role, content)).digest()[:FINGERPRINT_BYTES]


def chains(turns: Iterable[tuple[str, str]], start: bytes = b"") -> list[bytes]:
    """The chained fingerprint after each of the (role, content) turns."""
    out = []
    for role, content in turns:
        start = chain(start, role, content)
        out.append(start)
    return out
