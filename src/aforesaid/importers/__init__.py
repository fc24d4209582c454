"""Foreign files in, Drafts out. Pure: nothing here knows a store or a network.

``read`` tells the format by the content, streams the file, and gives each conversation, or each row that can't be
read. *Source*: docs/how-to/import.md, docs/reference/jsonl.md.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec

from aforesaid.errors import Invalid
from aforesaid.importers import aforesaid, chatgpt, framing, limits, sessions
from aforesaid.importers.rows import Broken, Entry, Ignored, ImportedConversation, ImportedMessage, Read
from aforesaid.importers.source import Source
from aforesaid.model import DraftConversation, Json

__all__ = ["Broken", "Form", "Ignored", "ImportedConversation", "ImportedMessage", "Read", "Reading", "formats", "read"]


class Form(NamedTuple):
    """A format that can be imported."""

    name: str
    description: str
    fits: Callable[[Json], bool]
    read: Callable[[Iterator[Entry | Broken], Ignored], Iterator[Read]]


# In the order in which they are tried: the surest mark first.
_FORMS = (
    Form("chatgpt", "OpenAI's ChatGPT data export: conversations.json, or the .zip", chatgpt.fits, chatgpt.read),
    Form("sessions", "research sets: one conversation a line, in dated sessions", sessions.fits, sessions.read),
    Form(
        "aforesaid",
        "our JSONL, hand-written message or conversation lines, OpenAI fine-tuning JSONL",
        aforesaid.fits,
        aforesaid.read,
    ),
)


def formats() -> list[tuple[str, str]]:
    """Each format's name and what it is."""
    return [(form.name, form.description) for form in _FORMS]


def read(path: Path, form: str | None = None) -> "Reading":
    """The file is open and its format known; iterate to read it.

    *Takes*: a plain, gzipped or zipped file; ``form`` (a name of ``formats``) to not have the format told by content.
    *Gives*: conversations in stretches of at most 1,000 messages, so one may come several times with the same
    ``external_id``, and Broken for what can't be read. The file is closed at the end, or by ``close``.
    *Raises*: Invalid when the file is of no known format; OSError. *Cost*: memory of the largest row, never the file.
    """
    return Reading(path, form)


class Reading(Iterator[Read]):
    """A file being read.

    ``form`` is its format, ``ignored`` counts names that were met and not kept, ``read_bytes`` of ``total_bytes`` are
    read (for a pipe the total is 0).
    """

    def __init__(self, path: Path, form: str | None = None) -> None:
        known = {each.name: each for each in _FORMS}
        if form is not None and form not in known:
            raise Invalid(f"unknown format {form!r}: expected one of {', '.join(known)}", "form")
        self.ignored = Ignored()
        self._source = Source(path)
        try:
            entries = framing.entries(self._source)
            seen: list[Entry | Broken] = []
            chosen = known[form] if form else _detected(entries, seen)
        except BaseException:
            self._source.close()
            raise
        self.form = chosen.name
        self._stretches = _stretches(chosen.read(framing.replayed(seen, entries), self.ignored))

    @property
    def total_bytes(self) -> int:
        """The size of what is read: of the file, or of an archive's conversations unpacked."""
        return self._source.total_bytes

    @property
    def read_bytes(self) -> int:
        """How much of ``total_bytes`` is read."""
        return self._source.read_bytes

    def __iter__(self) -> "Reading":
        return self

    def __next__(self) -> Read:
        try:
            return next(self._stretches)
        except StopIteration:
            self.close()
            raise

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """The file is closed. Twice is once."""
        self._source.close()


def _detected(entries: Iterator[Entry | Broken], seen: list[Entry | Broken]) -> Form:
    """The format of the first row that is of one. What was looked at is appended to ``seen``."""
    for entry in entries:
        seen.append(entry)
        if not isinstance(entry, Broken):
            for form in _FORMS:
                if form.fits(entry[1]):
                    return form
        if len(seen) >= limits.DETECT_ROWS:
            break
    if not seen:
        raise Invalid("the file is empty", "file")
    first = seen[0]
    why = f"row {first.line} {first.reason}" if isinstance(first, Broken) else f"row {first[0]} is of none of them"
    raise Invalid(f"the file is of no known format ({', '.join(form.name for form in _FORMS)}): {why}", "file")


def _stretches(conversations: Iterator[Read]) -> Iterator[Read]:
    """The same, with long conversations cut."""
    step = limits.MAX_STRETCH_MESSAGES
    for item in conversations:
        if isinstance(item, DraftConversation) and len(item.messages) > step:
            for start in range(0, len(item.messages), step):
                yield msgspec.structs.replace(item, messages=item.messages[start : start + step])
        else:
            yield item
