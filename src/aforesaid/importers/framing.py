"""A stream cut into rows: the lines of JSONL, the elements of one array, or documents one after the other.

Rows are cut without being parsed, so a file of any size takes the memory of its largest row.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from aforesaid.errors import Invalid
from aforesaid.importers import limits
from aforesaid.importers.rows import Broken, Entry
from aforesaid.importers.source import BUFFER_BYTES, Damaged, Source, Stream

BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_SPACE = b" \t\r\n"
# Up to the next bracket that stands in no string. Possessive, so it never backtracks.
_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+([\[\]{}])', re.DOTALL)
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def entries(source: Source) -> Iterator[Entry | Broken]:
    """Every row of the source as an object, or as Broken. Lines count on from part to part."""
    last = 0
    for stream in source.parts():
        try:
            for line, raw in _rows(stream, last):
                last = line
                yield raw if isinstance(raw, Broken) else _decoded(line, raw)
        except Damaged as error:
            yield Broken(line=last + 1, reason=str(error))


def _rows(stream: Stream, last: int) -> Iterator[tuple[int, bytes | Broken]]:
    """The rows with their places, counted from ``last``."""
    head = stream.peek(BUFFER_BYTES)
    if head.startswith(_WIDE_BOMS):
        raise Invalid("the file is UTF-16: save it as UTF-8", "file")
    if head.startswith(BOM):
        stream.read(len(BOM))
        head = head[len(BOM) :]
    start = head.lstrip(_SPACE)
    if start.startswith(b"["):
        while stream.read(1) in b" \t\r\n":
            pass
        return _documents(stream, last, in_array=True)
    if start.startswith(b"{") and _is_spread(start):
        return _documents(stream, last, in_array=False)
    return _lines(stream, last)


def _is_spread(head: bytes) -> bool:
    """Whether the first object is written over several lines, as printers of single documents do."""
    first, newline, _ = head.partition(b"\n")
    return bool(newline) and first.rstrip(_SPACE)[-1:] in (b"{", b"[", b",")


def _lines(stream: Stream, line: int) -> Iterator[tuple[int, bytes | Broken]]:
    while raw := stream.readline(limits.MAX_ROW_BYTES + 1):
        line += 1
        if len(raw) > limits.MAX_ROW_BYTES:
            del raw
            while (rest := stream.readline(BUFFER_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield line, _too_long(line)
        elif raw := raw.strip(_SPACE):
            yield line, raw


def _documents(stream: Stream, place: int, *, in_array: bool) -> Iterator[tuple[int, bytes | Broken]]:
    """The elements of the array whose bracket is read, or the documents of the stream."""
    outside = 1 if in_array else 0
    depth = outside
    buffer, begin, at, long = b"", 0, 0, False
    while True:
        found = _BRACKET.match(buffer, at)
        if found is None:
            # Keep from the begun row on, or from the last bracket when none is begun or it is too long to keep.
            keep = begin if depth > outside and not long else at
            buffer, begin, at = buffer[keep:], 0, at - keep
            if len(buffer) > limits.MAX_ROW_BYTES:
                if at == 0:
                    yield place + 1, _too_long(place + 1, "; what follows it is not read")
                    return
                long, buffer, at = True, buffer[at:], 0
            # Reading grows with what is kept, so that a long row isn't copied and scanned again and again.
            piece = stream.read1(max(BUFFER_BYTES, len(buffer) // 2))
            if not piece:
                break
            buffer += piece
            continue
        bracket, end = found.start(1), found.end()
        if buffer[bracket] in b"[{":
            if depth == outside:
                if buffer[at:bracket].strip(b" \t\r\n,"):
                    place += 1
                    yield place, Broken(line=place, reason="text that is not an object")
                begin, long = bracket, False
            depth += 1
        else:
            depth -= 1
            if depth == outside:
                place += 1
                long = long or end - begin > limits.MAX_ROW_BYTES
                yield place, (_too_long(place) if long else buffer[begin:end])
        at = end
        if depth < outside:
            break
    if depth > outside:
        yield place + 1, Broken(line=place + 1, reason="the file ends inside this row: it is not complete")
    elif (not in_array and depth < 0) or buffer[at:].strip(b" \t\r\n,") or stream.read(1024).strip(_SPACE):
        yield place + 1, Broken(line=place + 1, reason="text that is not an object")
    elif in_array and depth == outside:
        yield place + 1, Broken(line=place + 1, reason="the file ends inside the array: it is not complete")


def _too_long(line: int, more: str = "") -> Broken:
    return Broken(line=line, reason=f"is longer than {limits.MAX_ROW_BYTES:,} bytes{more}")


def _decoded(line: int, raw: bytes) -> Entry | Broken:
    """The row's object, or what is wrong with it."""
    try:
        value = _parsed(raw)
    except UnicodeDecodeError as error:
        return Broken(line=line, reason=f"is not UTF-8 (byte {error.start} of a text)")
    except RecursionError:
        return Broken(line=line, reason="is nested too deep")
    except (msgspec.DecodeError, ValueError) as error:
        return Broken(line=line, reason=f"is not JSON: {str(error)[:200]}")
    if not isinstance(value, dict):
        return Broken(line=line, reason="is not an object")
    return line, value


def _parsed(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except UnicodeDecodeError:
        raise
    except msgspec.DecodeError:
        if _HALF_PAIR.search(raw) is None:
            raise
    # Half a surrogate pair spoils one text. The standard library reads it, so the checks can name the field and the
    # rest of the row is kept.
    return json.loads(raw, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def replayed(first: Iterable[Entry | Broken], rest: Iterator[Entry | Broken]) -> Iterator[Entry | Broken]:
    """The rows already looked at, then the others."""
    yield from first
    yield from rest
