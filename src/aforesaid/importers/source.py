"""The bytes of a file to import: plain, gzipped or in an archive, read once, forwards, with a count of how far."""

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeAlias

from aforesaid.errors import Invalid
from aforesaid.importers import limits

BUFFER_BYTES = 256 << 10
_CONVERSATIONS = re.compile(r"(?:.*/)?conversations(?:-\d+)?\.json", re.IGNORECASE)
_READABLE = re.compile(r".*\.(?:jsonl|ndjson|json)", re.IGNORECASE)


class Damaged(Exception):
    """The bytes can't be read to their end; what came before them is good."""


class _Counted(io.RawIOBase):
    """A stream that counts what it gives, fills each buffer whole, and stops at a bomb or at damage."""

    def __init__(self, inner: IO[bytes] | gzip.GzipFile, packed: Callable[[], int] | None) -> None:
        self._inner = inner
        # What one step unpacks, where there is such a thing: `read` would drop it when the next step fails.
        self._read: Callable[[int], bytes] = getattr(inner, "read1", inner.read)
        self._packed = packed
        self._damage: str | None = None
        self.given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        filled = 0
        while filled < len(buffer) and self._damage is None:
            try:
                piece = self._read(len(buffer) - filled)
            except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
                self._damage = f"the file can't be read on from here: {str(error) or type(error).__name__}"
                break
            if not piece:
                break
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
            self.given += len(piece)
            self._check_expansion()
        # The bytes before the damage go out first: the rows in them are good.
        if self._damage is not None and not filled:
            raise Damaged(self._damage)
        return filled

    def _check_expansion(self) -> None:
        if self._packed is None or self.given <= limits.EXPANSION_FREE_BYTES:
            return
        if self.given > self._packed() * limits.MAX_EXPANSION:
            self._damage = f"the file unpacks to more than {limits.MAX_EXPANSION} times its size, which no text does"

    def close(self) -> None:
        self._inner.close()
        super().close()


Stream: TypeAlias = "io.BufferedReader[_Counted]"


class Source:
    """An open file. ``parts`` gives its streams one after the other: one, or each conversation file of an archive."""

    def __init__(self, path: Path) -> None:
        """The file is open. *Raises*: OSError; Invalid when it is an archive without anything to read."""
        self._raw = path.open("rb", buffering=0)
        self._archive: zipfile.ZipFile | None = None
        self._done = 0
        self._current: _Counted | None = None
        try:
            self.total_bytes = path.stat().st_size
            self._head = io.BufferedReader(_Counted(self._raw, None), BUFFER_BYTES)
            magic = _peek(self._head)[:4]
            self._gzipped = magic[:2] == b"\x1f\x8b"
            self._members = self._open_archive(path) if magic == b"PK\x03\x04" else []
        except BaseException:
            self._raw.close()
            raise

    @property
    def read_bytes(self) -> int:
        """How much of ``total_bytes`` is read."""
        if self._current is None:
            return self._done
        return self._head.raw.given if self._gzipped else self._done + self._current.given

    def parts(self) -> Iterator[Stream]:
        """The streams, each closed before the next is opened."""
        if self._archive is not None:
            for member in self._members:
                packed = member.compress_size
                yield from self._part(self._archive.open(member), lambda size=packed: size)  # type: ignore[misc]
        elif self._gzipped:
            head = self._head
            yield from self._part(gzip.GzipFile(fileobj=head), lambda: head.raw.given)
        else:
            self._current = self._head.raw
            yield self._head
        self._done = self.total_bytes
        self._current = None

    def close(self) -> None:
        """The file is closed."""
        self._done = self.read_bytes
        self._current = None
        if self._archive is not None:
            self._archive.close()
        self._raw.close()

    def _part(self, inner: IO[bytes] | gzip.GzipFile, packed: Callable[[], int]) -> Iterator[Stream]:
        counted = _Counted(inner, packed)
        self._current = counted
        with io.BufferedReader(counted, BUFFER_BYTES) as stream:
            yield stream
        self._done += counted.given

    def _open_archive(self, path: Path) -> list[zipfile.ZipInfo]:
        """The files of the archive worth reading: the conversations of a data export, else its only JSON file."""
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise Invalid(f"the archive can't be opened: {error}", "file") from None
        infos = self._archive.infolist()
        if len(infos) > limits.MAX_MEMBERS:
            raise Invalid(f"the archive holds more than {limits.MAX_MEMBERS:,} files", "file")
        chosen = [info for info in infos if _CONVERSATIONS.fullmatch(info.filename)]
        if not chosen:
            chosen = [info for info in infos if _READABLE.fullmatch(info.filename)]
            if len(chosen) != 1:
                raise Invalid("the archive holds no conversations.json and not exactly one JSON file", "file")
        if any(info.flag_bits & 1 for info in chosen):
            raise Invalid("the archive is encrypted: unpack it first", "file")
        self.total_bytes = sum(info.file_size for info in chosen)
        return sorted(chosen, key=lambda info: info.filename)


def _peek(stream: Stream) -> bytes:
    try:
        return stream.peek(BUFFER_BYTES)
    except Damaged as error:
        raise Invalid(str(error), "file") from None
