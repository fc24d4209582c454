"""Import: what a reader finds in a file is stored once, however often the file comes, and what became of it is told.

Batches are written one transaction each while the next one is read. An import that was stopped, by whatever, goes on
where it was when it is run again; two at once store what one would have.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

import msgspec

from aforesaid import ids, limits
from aforesaid.core import checks, conversations, messages
from aforesaid.core.once import again
from aforesaid.core.stretches import Outcome, Stretch, add_stretch, look_up
from aforesaid.errors import Invalid, Refused, TooLarge
from aforesaid.importers import Broken, ImportedConversation, Reading
from aforesaid.importers.rows import broken as as_broken
from aforesaid.model import Caller, Conversation, DraftConversation, Frozen
from aforesaid.store.database import Database

BATCH_MESSAGES = 1_000
"""Messages of one write: a commit serves many, and other writers do not wait long."""
BATCH_CONVERSATIONS = 1_000
BROKEN_SHOWN = 20
"""Broken rows that the report holds; all are counted."""
REMEMBERED_OWNERS = 10_000
"""Conversations of the file whose owner is known to later stretches that do not name it."""

Progress = Callable[["Report"], None]


class Report(Frozen, frozen=True, kw_only=True):
    """What became of a file. ``interrupted``: it was stopped before its end; ``strict_stop``: by a broken row."""

    form: str
    dry_run: bool
    conversations_new: int = 0
    conversations_known: int = 0
    messages_new: int = 0
    messages_known: int = 0
    broken: int = 0
    broken_rows: tuple[Broken, ...] = ()
    ignored: tuple[tuple[str, int], ...] = ()
    seconds: float = 0.0
    read_bytes: int = 0
    total_bytes: int = 0
    interrupted: bool = False
    strict_stop: bool = False


class Wanted(Frozen, frozen=True, kw_only=True):
    """How a file is imported.

    ``user_id`` owns everything, whatever the file says; without it the file names the owners. ``strict`` stops at the
    first broken row: what stands before it is stored.
    """

    user_id: str | None = None
    dry_run: bool = False
    strict: bool = False
    enable_memories: bool = False


async def run(
    db: Database,
    caller: Caller,
    reading: Reading,
    wanted: Wanted,
    *,
    progress: Progress | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """The file's conversations are stored, each message once, and its rows that can't be are told.

    *Takes*: ``progress``, called after each batch; ``stopped``, asked before each batch.
    *Raises*: ``Invalid`` for the user id; ``Unavailable``, with everything up to then stored.
    """
    if wanted.user_id is not None:
        checks.identifier(wanted.user_id, "user_id")
    return await _Import(db, caller, reading, wanted).run(progress, stopped)


class _Import:
    """One file on its way into the store."""

    def __init__(self, db: Database, caller: Caller, reading: Reading, wanted: Wanted) -> None:
        self._db = db
        self._caller = caller
        self._reading = reading
        self._wanted = wanted
        self._begun = time.perf_counter()
        self._conversations_new = self._messages_new = self._messages_known = self._broken = 0
        self._broken_rows: list[Broken] = []
        self._strict_stop = False
        self._conversations: set[int] = set()
        self._owners: OrderedDict[str, str | None] = OrderedDict()
        self._seen: set[int] = set()

    async def run(self, progress: Progress | None, stopped: Callable[[], bool]) -> Report:
        batches = self._batches()
        writing: asyncio.Task[None] | None = None
        interrupted = False
        try:
            while not (interrupted := stopped()):
                batch = await asyncio.to_thread(next, batches, None)
                if writing is not None:
                    await writing
                    writing = None
                    if progress is not None:
                        progress(self._report())
                if batch is None:
                    break
                writing = asyncio.create_task(self._store(batch))
        finally:
            if writing is not None:
                await writing
        return msgspec.structs.replace(self._report(), interrupted=interrupted)

    def _report(self) -> Report:
        return Report(
            form=self._reading.form,
            dry_run=self._wanted.dry_run,
            broken_rows=tuple(self._broken_rows),
            ignored=tuple(self._reading.ignored.most_common()),
            seconds=time.perf_counter() - self._begun,
            read_bytes=self._reading.read_bytes,
            total_bytes=self._reading.total_bytes,
            strict_stop=self._strict_stop,
            conversations_new=self._conversations_new,
            conversations_known=len(self._conversations) - self._conversations_new,
            messages_new=self._messages_new,
            messages_known=self._messages_known,
            broken=self._broken,
        )

    # -- reading: pure, in a thread ----------------------------------------------------------------------------------

    def _batches(self) -> Iterator[list[Stretch]]:
        batch: list[Stretch] = []
        size = 0
        for item in self._reading:
            if isinstance(item, Broken):
                self._note(item)
            else:
                stretch = self._checked(item)
                if stretch is not None:
                    if batch and (size + len(stretch.drafts) > BATCH_MESSAGES or len(batch) >= BATCH_CONVERSATIONS):
                        yield batch
                        batch, size = [], 0
                    batch.append(stretch)
                    size += len(stretch.drafts)
            if self._strict_stop:
                break
        if batch:
            yield batch

    def _note(self, row: Broken) -> None:
        self._broken += 1
        if len(self._broken_rows) < BROKEN_SHOWN:
            self._broken_rows.append(row)
        self._strict_stop = self._wanted.strict

    def _checked(self, source: DraftConversation) -> Stretch | None:
        """The stretch as it can be stored, or None when its conversation can't be."""
        try:
            checks.identifier(source.external_id, "external_id")
            owner_id = self._owner(source)
            blank = self._blank(source, owner_id)
        except (Invalid, TooLarge) as error:
            self._note(as_broken(source.line, _as_invalid(error)))
            return None
        drafts = []
        for place, draft in enumerate(source.messages):
            try:
                messages.check_draft(draft)
            except (Invalid, TooLarge) as error:
                self._note(as_broken(source.line, _as_invalid(error), "messages", place))
                if self._strict_stop:
                    break
            else:
                drafts.append(draft if self._wanted.user_id is None else msgspec.structs.replace(draft, owner_id=None))
        times = [draft.created_us for draft in drafts if draft.created_us is not None]
        touched_us = source.updated_us
        if touched_us is None:
            touched_us = max(times) if len(times) == len(drafts) and times else ids.now_us() if drafts else 0
        return Stretch(owner_id, source, blank, tuple(drafts), touched_us)

    def _owner(self, source: DraftConversation) -> str | None:
        """Whose the conversation is. *Raises* ``Invalid`` when neither the file nor the caller says."""
        if self._wanted.user_id is not None:
            return self._wanted.user_id
        key = source.external_id
        if source.owner_id is not None:
            owner_id: str | None = source.owner_id
        elif key in self._owners:
            owner_id = self._owners[key]
        else:
            owner_id = next((draft.owner_id for draft in source.messages if draft.owner_id is not None), None)
            own = source.id if isinstance(source, ImportedConversation) else None
            if owner_id is None and ids.number_of(own or key, ids.CONVERSATION) is None:
                raise Invalid("names no user, and no --user-id was given", "owner_id")
        self._owners[key] = owner_id
        self._owners.move_to_end(key)
        if len(self._owners) > REMEMBERED_OWNERS:
            self._owners.popitem(last=False)
        return owner_id

    def _blank(self, source: DraftConversation, owner_id: str | None) -> Conversation:
        """The conversation as it is made, under an id of its own. *Raises* ``Invalid``, ``TooLarge``."""
        times = [draft.created_us for draft in source.messages if draft.created_us is not None]
        created_us = source.created_us
        if created_us is None:
            created_us = min(times) if times else ids.now_us()
        updated_us = source.updated_us if source.updated_us is not None else max([created_us, *times])
        status = source.status
        if status not in conversations.STATUSES:
            self._reading.ignored.note(f"conversation.status {status}")
            status = "active"
        title = _cut(source.title, limits.TITLE_CHARACTERS)
        change = conversations.Change(
            title=title,
            summary=_cut(source.summary, limits.SUMMARY_CHARACTERS),
            status=status,
            meta_data=source.meta_data,
            ended_us=source.ended_us if source.ended_us is not None else updated_us if status == "ended" else None,
            owner_id=owner_id,
        )
        session_id, created_by = None, self._caller.key_id
        if isinstance(source, ImportedConversation):
            session_id, created_by = source.session_id, source.created_by or created_by
            if session_id is not None:
                checks.identifier(session_id, "session_id")
            change = msgspec.structs.replace(
                change, is_public=source.is_public, collections=list(source.collections), settings=source.settings
            )
        id = ids.new_id(ids.CONVERSATION)
        blank = Conversation(
            workspace=self._caller.workspace,
            number=ids.number_of(id, ids.CONVERSATION) or 0,
            id=id,
            owner_id=owner_id,
            session_id=session_id,
            created_by=created_by,
            created_us=created_us,
            updated_us=updated_us,
        )
        return conversations.changed(blank, change, updated_us)

    # -- storing -----------------------------------------------------------------------------------------------------

    async def _store(self, batch: list[Stretch]) -> None:
        """The batch is stored. Where the store refuses it, each of its stretches is, or is told as broken."""
        try:
            outcomes = await self._written(batch)
        except Refused:
            for stretch in batch:
                try:
                    outcomes = await self._written([stretch])
                except Refused as error:
                    self._note(Broken(line=stretch.source.line, reason=error.message))
                else:
                    self._count(stretch, outcomes[0])
            return
        for stretch, outcome in zip(batch, outcomes, strict=True):
            self._count(stretch, outcome)

    async def _written(self, batch: list[Stretch]) -> list[Outcome]:
        if self._wanted.dry_run:
            return [self._foreseen(*seen) for seen in await self._db.read(look_up, self._caller, batch)]
        enable_memories = self._wanted.enable_memories
        return await again(self._db, lambda tx: [add_stretch(tx, self._caller, s, enable_memories) for s in batch])

    def _count(self, stretch: Stretch, outcome: Outcome) -> None:
        self._messages_new += outcome.new
        self._messages_known += outcome.known
        key = hash(stretch.key)
        if key not in self._conversations:
            self._conversations.add(key)
            self._conversations_new += outcome.made

    def _foreseen(self, stretch: Stretch, found: bool, stored: set[int]) -> Outcome:
        """What storing the stretch would come to, given which of its messages the store has."""
        known = 0
        for place, draft in enumerate(stretch.drafts):
            identity = messages.identity(draft)
            mark = hash((stretch.key, identity))
            if place in stored or (identity is not None and mark in self._seen):
                known += 1
            self._seen.add(mark)
        return Outcome(not found, len(stretch.drafts) - known, known)


def _as_invalid(error: Invalid | TooLarge) -> Invalid:
    return error if isinstance(error, Invalid) else Invalid(error.message, *error.field)


def _cut(text: str | None, maximum: int) -> str | None:
    """The text, as much as is kept of it."""
    return text if text is None or len(text) <= maximum else f"{text[: maximum - 1]}…"
