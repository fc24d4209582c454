"""How messages become searchable: a few at once, many by jobs, as blocks of the text index; small blocks are folded.

Jobs of one scope are done in the order in which they were queued. The packing happens outside of transactions.
"""

import asyncio
from collections.abc import Iterable, Sequence

from aforesaid import ids
from aforesaid.core.jobs import FOLD_TEXT, FORGET_TEXT, INDEX_TEXT, add_index_jobs
from aforesaid.core.once import again
from aforesaid.core.textblock import VERSION
from aforesaid.core.textindex import BLOCK_MESSAGES, Entry, merge, pack, unpack, without
from aforesaid.model import Conversation, Job, Message
from aforesaid.store import conversations as conversation_store
from aforesaid.store import jobs as job_store
from aforesaid.store import messages as message_store
from aforesaid.store import texts, workspaces
from aforesaid.store.database import Database, Tx

TEXT_VERSION = "text_version"
"""Under this name the store knows what kind of blocks it holds."""
SMALL_BLOCKS = 16
"""Blocks less than half full that a scope may have before they are folded together."""
AT_ONCE_MESSAGES = 128
"""Messages of one write that are indexed by it."""
AT_ONCE_CHARACTERS = 64_000
"""Their text at most: a few milliseconds of packing, for which other writers wait."""
SLICE_MESSAGES = 2_000
"""Messages that are read and packed at once."""


def add(tx: Tx, conversation: Conversation, made: Sequence[Message]) -> None:
    """The messages are in the index when the transaction is, if they are few; else a job stands for them.

    A few are packed sooner than a job for them is queued, claimed, read and removed, and then the next question finds
    what was just said. While the owner's index has something to forget, all goes by jobs, in order.
    """
    few = len(made) <= AT_ONCE_MESSAGES and sum(len(message.content) for message in made) <= AT_ONCE_CHARACTERS
    workspace, owner_id = conversation.workspace, conversation.owner_id or ""
    if not few or job_store.has_jobs(tx, workspace, owner_id, FORGET_TEXT):
        add_index_jobs(tx, INDEX_TEXT, conversation, made[0].seq, made[-1].seq)
        return
    entries = [Entry(m.conversation, m.seq, m.created_us, m.sender_id, m.role, m.content) for m in made]
    last = texts.add_blocks(tx, workspace, owner_id, _packed(entries))
    if last % SMALL_BLOCKS == 0:
        job_store.add_job(tx, workspace, owner_id, FOLD_TEXT, {})


class ScopeChanged(Exception):
    """Another runner replaced blocks, or the jobs are not ours any more: nothing was changed, what is left runs again.

    Jobs are lost to another runner when their lease ran out, and altogether when their conversation is removed.
    """


async def run(db: Database, jobs: list[Job]) -> None:
    """The jobs, all of one scope, are done: their rows are gone with the commit that did them."""
    workspace, owner_id = jobs[0].workspace, jobs[0].owner_id or ""
    together: list[Job] = []
    for job in jobs:
        if job.kind == INDEX_TEXT:
            together.append(job)
            continue
        await _index(db, workspace, owner_id, together)
        together = []
        if job.kind == FOLD_TEXT:
            await db.write(job_store.remove_jobs, [job])
        else:
            await _remove(db, workspace, owner_id, job)
    await _index(db, workspace, owner_id, together)
    await _fold(db, workspace, owner_id)


async def _index(db: Database, workspace: int, owner_id: str, jobs: list[Job]) -> None:
    """The messages that the jobs name are in the index."""
    if not jobs:
        return
    ranges = [(job.payload["conversation"], job.payload["first"], job.payload["last"]) for job in jobs]
    blocks: list[tuple[int, bytes]] = []
    entries: list[Entry] = []
    for conversation, first, last in ranges:
        for start in range(first, last + 1, SLICE_MESSAGES):
            stop = min(last, start + SLICE_MESSAGES - 1)
            entries += await db.read(_entries, workspace, owner_id, conversation, start, stop)
            if len(entries) >= SLICE_MESSAGES:
                blocks += await asyncio.to_thread(_packed, entries)
                entries = []
    blocks += await asyncio.to_thread(_packed, entries)
    await db.write(_add, workspace, owner_id, blocks, jobs)


def _entries(tx: Tx, workspace: int, owner_id: str, conversation: int, first: int, last: int) -> list[Entry]:
    """The messages of a range, if the conversation still is this owner's."""
    found = conversation_store.get_conversation(tx, workspace, conversation)
    if found is None or (found.owner_id or "") != owner_id:
        return []
    return message_store.list_entries(tx, workspace, conversation, first, last, Entry)


def _packed(entries: list[Entry]) -> list[tuple[int, bytes]]:
    out = []
    for start in range(0, len(entries), BLOCK_MESSAGES):
        part = entries[start : start + BLOCK_MESSAGES]
        out.append((len(part), pack(part)))
    return out


def _add(tx: Tx, workspace: int, owner_id: str, blocks: list[tuple[int, bytes]], done: list[Job]) -> None:
    if not job_store.remove_jobs(tx, done):
        raise ScopeChanged
    if blocks:
        texts.add_blocks(tx, workspace, owner_id, blocks)


async def _remove(db: Database, workspace: int, owner_id: str, job: Job) -> None:
    """What the job names is out of the index, but for what the owner's conversation holds of it now.

    So a conversation that came back to its owner is whole, in whatever order its jobs are run.
    """
    conversation = job.payload["conversation"]

    def read(tx: Tx) -> tuple[int, list[tuple[int, bytes]], list[Entry]]:
        generation, _ = texts.get_scope(tx, workspace, owner_id)
        if job.kind == FORGET_TEXT:
            entries = _entries(tx, workspace, owner_id, conversation, 1, ids.NUMBER_MASK)
        else:
            entries = [entry for seq in seqs for entry in _entries(tx, workspace, owner_id, conversation, seq, seq)]
        return generation, texts.list_blocks(tx, workspace, owner_id), entries

    seqs: list[int] = job.payload.get("seqs", [])
    generation, blocks, entries = await db.read(read)
    gone = None if job.kind == FORGET_TEXT else {(conversation, seq) for seq in seqs}
    old, new = await asyncio.to_thread(_without, blocks, conversation, gone)
    new += await asyncio.to_thread(_packed, entries)
    await db.write(_replace, workspace, owner_id, generation, old, new, [job])


def _without(
    blocks: list[tuple[int, bytes]], conversation: int, gone: set[tuple[int, int]] | None
) -> tuple[list[int], list[tuple[int, bytes]]]:
    """(blocks to replace, what replaces them) so that these addresses, or the whole conversation, are out."""
    old: list[int] = []
    new: list[tuple[int, bytes]] = []
    for number, data in blocks:
        columns = unpack(data)
        mine = {(conversation, int(seq)) for seq in columns.seq[columns.conversation == conversation].tolist()}
        out = mine if gone is None else mine & gone
        if not out:
            continue
        old.append(number)
        rest = without(data, out)
        if rest is not None:
            new.append((len(columns.seq) - len(out), rest))
    return old, new


def _replace(
    tx: Tx,
    workspace: int,
    owner_id: str,
    generation: int,
    old: list[int],
    new: list[tuple[int, bytes]],
    done: Iterable[Job],
) -> None:
    if texts.lock_scope(tx, workspace, owner_id)[0] != generation or not job_store.remove_jobs(tx, done):
        raise ScopeChanged
    if old:
        texts.replace_blocks(tx, workspace, owner_id, old, new)
    elif new:
        texts.add_blocks(tx, workspace, owner_id, new)


async def _fold(db: Database, workspace: int, owner_id: str) -> None:
    """A scope with many small blocks has few large ones."""

    def read(tx: Tx) -> tuple[int, list[tuple[int, bytes]]]:
        sizes = texts.list_block_sizes(tx, workspace, owner_id)
        small = {number for number, size in sizes if size < BLOCK_MESSAGES // 2}
        if len(small) < SMALL_BLOCKS:
            return 0, []
        generation, _ = texts.get_scope(tx, workspace, owner_id)
        return generation, texts.get_blocks(tx, workspace, owner_id, sorted(small))

    generation, blocks = await db.read(read)
    if not blocks:
        return
    merged = await asyncio.to_thread(merge, [data for _, data in blocks])
    new = [(len(unpack(data).seq), data) for data in merged]
    await db.write(_folded, workspace, owner_id, generation, [number for number, _ in blocks], new)


def _folded(
    tx: Tx, workspace: int, owner_id: str, generation: int, old: list[int], new: list[tuple[int, bytes]]
) -> None:
    if texts.lock_scope(tx, workspace, owner_id)[0] == generation:  # else the next job folds
        texts.fold_blocks(tx, workspace, owner_id, old, new)


async def ensure_current(db: Database) -> bool:
    """The stored index is of this program's kind: one of another kind is dropped, and all messages queued anew.

    *Gives* whether that was needed. Searches find less until the jobs are done; nothing else is touched.
    """
    if await db.read(workspaces.get_meta, TEXT_VERSION) == VERSION:
        return False

    def renew(tx: Tx) -> bool:
        tx.alone("text version")
        known = workspaces.get_meta(tx, TEXT_VERSION)
        workspaces.replace_meta(tx, TEXT_VERSION, VERSION)
        if known in (None, VERSION):
            return False
        texts.remove_all(tx)
        for workspace, owner_id, conversation, last in conversation_store.list_spans(tx):
            payload = {"conversation": conversation, "first": 1, "last": last}
            job_store.add_job(tx, workspace, owner_id, INDEX_TEXT, payload, conversation=conversation)
        return True

    return await again(db, renew)
