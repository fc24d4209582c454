"""Messages: stored once however often they come, in order, by whoever said them."""

from collections.abc import Mapping, Sequence

import msgspec

from aforesaid import ids, limits
from aforesaid.core import checks, conversations, indexing
from aforesaid.core.jobs import EXTRACT_MEMORIES, INDEX_KINDS, REINDEX_TEXT, add_index_jobs
from aforesaid.errors import Invalid, NotFound, TooLarge
from aforesaid.model import Caller, Conversation, Draft, Json, Message, Page, Stored
from aforesaid.store import conversations as conversation_store
from aforesaid.store import jobs as job_store
from aforesaid.store import messages as store
from aforesaid.store import turns as turn_store
from aforesaid.store.database import Database, Tx
from aforesaid.store.messages import SORTS, Filter

ASSISTANT = "assistant"
"""The sender of an assistant's message when neither the caller nor the conversation names one."""
SENDER_POLICIES = ("report", "strict")

__all__ = ["SORTS", "Filter"]


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What an export says of a message beyond its draft: the id that it has, free in this workspace; its rating."""

    id: str | None = None
    rating: int = 0
    updated_us: int | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller changes of a message. ``UNSET`` leaves a field alone, None clears it."""

    content: str | msgspec.UnsetType = msgspec.UNSET
    role: str | msgspec.UnsetType = msgspec.UNSET
    message_type: str | msgspec.UnsetType = msgspec.UNSET
    sender_id: str | msgspec.UnsetType = msgspec.UNSET
    sent_us: int | None | msgspec.UnsetType = msgspec.UNSET
    parent_message_id: str | None | msgspec.UnsetType = msgspec.UNSET
    tags: tuple[str, ...] | None | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[Json] | None | msgspec.UnsetType = msgspec.UNSET
    attachments: list[Json] | None | msgspec.UnsetType = msgspec.UNSET
    meta_data: Json | None | msgspec.UnsetType = msgspec.UNSET


def identity(draft: Draft) -> bytes | None:
    """What makes two imports the same message, or None for one that is always new.

    The caller's id, else the caller's checksum, else sender, role, text and the caller's own time.
    """
    if draft.external_id is not None:
        return ids.fingerprint("id", draft.external_id)
    if draft.checksum is not None:
        return ids.fingerprint("checksum", draft.checksum)
    if draft.created_us is not None:
        return ids.fingerprint("content", draft.sender_id, draft.role, draft.content, draft.created_us)
    return None


def check_draft(draft: Draft, *where: str | int) -> None:
    """The draft can be stored. *Raises* ``Invalid`` or ``TooLarge`` naming the field under ``where``."""
    checks.content(draft.content, *where, "content")
    if draft.sender_id is not None:
        checks.identifier(draft.sender_id, *where, "sender_id")
    for name, value in (("role", draft.role), ("message_type", draft.message_type)):
        if value not in ("user", "assistant", "text"):
            checks.text(checks.identifier(value, *where, name), *where, name, maximum=64)
    for name, given in (
        ("id", draft.external_id),
        ("checksum", draft.checksum),
        ("owner_id", draft.owner_id),
        ("parent_message_id", draft.parent_message_id),
    ):
        if given is not None:
            checks.identifier(given, *where, name)
    if draft.tags:
        if len(draft.tags) > limits.TAGS:
            raise Invalid(f"must have at most {limits.TAGS} items", *where, "tags", kind="too_long")
        for i, tag in enumerate(draft.tags):
            checks.text(tag, *where, "tags", i, maximum=limits.ID_CHARACTERS)
    if draft.meta_data or draft.tool_calls or draft.attachments:
        checks.json_value(draft.meta_data, *where, "meta_data")
        checks.json_value(draft.tool_calls, *where, "tool_calls")
        checks.json_value(draft.attachments, *where, "attachments")


def add(
    tx: Tx,
    caller: Caller,
    reference: str | int,
    drafts: Sequence[Draft],
    *,
    enable_memories: bool = False,
    sender_policy: str | None = None,
    into_ended: bool = False,
    restored: Mapping[int, Restored] | None = None,
    touched_us: int | None = None,
) -> Stored:
    """Every draft stands in the conversation once: new ones at its end, known ones where they were.

    *Takes* ``restored``, more about drafts by their places; ``touched_us``, up to when the conversation was active if
    that is not now. *Gives* the messages at the drafts' places. *Raises* ``NotFound``; ``Invalid`` when the
    conversation has ended (unless ``into_ended``) and something is new, or when a sender changes role under the
    strict policy.
    """
    now = ids.now_us()
    conversation = conversations.resolve(tx, caller, reference, lock_us=0)  # what adds nothing leaves no trace
    more = restored or {}
    prints, known, new = _sorted_out(tx, conversation, drafts, more)
    if new and conversation.status == "ended" and not into_ended:
        raise Invalid("the conversation has ended", "conversation_id")
    made = _made(tx, conversation, [(drafts[i], more.get(i)) for i in new], now)
    notes = _participants(tx, conversation, made, new, sender_policy)
    at: dict[int, Message] = dict(zip(new, made, strict=True))
    if made:
        store.add_messages(tx, [(message, prints[i]) for i, message in at.items()])
        last_us = max(message.created_us for message in made)
        if conversation.last_message_us is not None:
            last_us = max(last_us, conversation.last_message_us)
        next_seq = conversation.next_seq + len(made)
        active_us = now if touched_us is None else touched_us
        conversation_store.set_grown(tx, caller.workspace, conversation.number, next_seq, len(made), last_us, active_us)
        indexing.add(tx, conversation, made)
        if enable_memories:
            add_index_jobs(tx, EXTRACT_MEMORIES, conversation, conversation.next_seq, next_seq - 1)
    if known:
        places = {place for place in known.values() if place >= 0}
        stored = store.get_messages_at(tx, caller.workspace, [(conversation.number, seq) for seq in places])
        for i, seq in known.items():
            at[i] = stored[(conversation.number, seq)] if seq >= 0 else at[-seq - 1]
    return Stored(messages=[at[i] for i in range(len(drafts))], created=len(made), duplicates=len(known), notes=notes)


def add_batch(
    tx: Tx,
    caller: Caller,
    batch: Sequence[tuple[str | int, Draft]],
    *,
    enable_memories: bool = False,
    sender_policy: str | None = None,
) -> Stored:
    """Every (conversation, draft) of the batch is stored as ``add`` does it: all of them, or none."""
    by_conversation: dict[str | int, list[int]] = {}
    for i, (reference, _) in enumerate(batch):
        by_conversation.setdefault(reference, []).append(i)
    at: dict[int, Message] = {}
    created = duplicates = 0
    notes: list[Json] = []
    # All are held before anything else is touched, in one order for everybody, so that two batches can't each hold
    # what the other waits for.
    in_order = sorted(by_conversation.items(), key=lambda item: conversations.number_of(item[0]) or 0)
    if len(in_order) > 1:
        for reference, _ in in_order:
            conversations.resolve(tx, caller, reference, lock_us=0)
    for reference, rows in in_order:
        drafts = [batch[i][1] for i in rows]
        stored = add(tx, caller, reference, drafts, enable_memories=enable_memories, sender_policy=sender_policy)
        at.update(zip(rows, stored.messages, strict=True))
        created += stored.created
        duplicates += stored.duplicates
        notes += [{**note, "row": rows[note["row"]]} for note in stored.notes]
    return Stored(messages=[at[i] for i in range(len(batch))], created=created, duplicates=duplicates, notes=notes)


def _sorted_out(
    tx: Tx, conversation: Conversation, drafts: Sequence[Draft], restored: Mapping[int, Restored]
) -> tuple[list[bytes | None], dict[int, int], list[int]]:
    """(fingerprints to store, the known drafts with the place they have, the new ones).

    A draft that repeats one of this batch has the place -1 - i, where i is the one it repeats. A restored id is an
    identity of its own: where nothing else names the message, its words never make it another's repetition.
    """
    prints = [identity(draft) for draft in drafts]
    stored: dict[bytes, int] = {}
    wanted = [fingerprint for fingerprint in prints if fingerprint is not None]
    if wanted and conversation.next_seq > 1:
        stored = store.get_places(tx, conversation.workspace, conversation.number, wanted)
    known: dict[int, int] = {}
    new: list[int] = []
    first: dict[bytes, int] = {}
    for i, fingerprint in enumerate(prints):
        if fingerprint is None:
            new.append(i)
        elif fingerprint not in stored and fingerprint not in first:
            first[fingerprint] = i
            new.append(i)
        elif i in restored and restored[i].id and drafts[i].external_id is None and drafts[i].checksum is None:
            prints[i] = None
            new.append(i)
        else:
            known[i] = stored[fingerprint] if fingerprint in stored else -1 - first[fingerprint]
    return prints, known, new


def _made(tx: Tx, conversation: Conversation, drafts: list[tuple[Draft, Restored | None]], now: int) -> list[Message]:
    """The messages of the new drafts, at the end of the conversation."""
    if not drafts:
        return []
    assistant = ASSISTANT
    if conversation.next_seq > 1 and any(d.sender_id is None and d.role == "assistant" for d, _ in drafts):
        pairs = conversation_store.list_participants(tx, conversation.workspace, conversation.number)
        assistant = next((sender for sender, role in pairs if role == "assistant"), ASSISTANT)
    filled = {"user": conversation.owner_id or "user", "assistant": assistant}
    out = []
    seq = conversation.next_seq
    for (draft, restored), fresh in zip(drafts, ids.new_ids(ids.MESSAGE, len(drafts)), strict=True):
        id = restored.id if restored and restored.id else fresh
        number = ids.number_of(id, ids.MESSAGE)
        assert number is not None
        out.append(
            Message(
                workspace=conversation.workspace,
                conversation=conversation.number,
                conversation_id=conversation.id,
                seq=seq,
                number=number,
                id=id,
                sender_id=draft.sender_id or filled.get(draft.role, draft.role),
                role=draft.role,
                content=draft.content,
                message_type=draft.message_type,
                created_us=now if draft.created_us is None else draft.created_us,
                updated_us=restored.updated_us if restored and restored.updated_us is not None else now,
                sent_us=draft.sent_us,
                owner_id=draft.owner_id or conversation.owner_id,
                external_id=draft.external_id,
                checksum=draft.checksum,
                parent_message_id=draft.parent_message_id,
                tags=draft.tags,
                tool_calls=draft.tool_calls,
                attachments=draft.attachments,
                meta_data=draft.meta_data,
                rating=restored.rating if restored else 0,
                incomplete=draft.incomplete,
            )
        )
        seq += 1
    return out


def _participants(
    tx: Tx, conversation: Conversation, made: list[Message], rows: list[int], policy: str | None
) -> list[Json]:
    """The new (sender, role) pairs are kept, and every row whose sender had another role first is reported."""
    if not made:
        return []
    known: list[tuple[str, str]] = []
    if conversation.next_seq > 1:
        known = conversation_store.list_participants(tx, conversation.workspace, conversation.number)
    roles: dict[str, str] = {}
    for sender, role in known:
        roles.setdefault(sender, role)
    notes: list[Json] = []
    fresh: dict[tuple[str, str], int] = {}
    for row, message in zip(rows, made, strict=True):
        sender, role = message.sender_id, message.role
        if roles.setdefault(sender, role) != role:
            notes.append({"row": row, "sender_id": sender, "role": role, "known_role": roles[sender]})
        fresh.setdefault((sender, role), message.seq)
    for pair in known:
        fresh.pop(pair, None)
    if policy is None:
        policy = str((conversation.settings or {}).get("sender_policy") or "report")
    if notes and policy == "strict":
        told = "; ".join(
            f"row {n['row']}: {n['sender_id']!r} is {n['known_role']}, not {n['role']}" for n in notes[:20]
        )
        raise Invalid(f"a sender keeps one role in a conversation: {told}", "content", notes[0]["row"], "sender_id")
    pairs = [(sender, role, seq) for (sender, role), seq in fresh.items()]
    conversation_store.add_participants(tx, conversation.workspace, conversation.number, pairs)
    return notes


def resolve(tx: Tx, caller: Caller, reference: str | int) -> Message:
    """The message behind either spelling of its id. *Raises* ``NotFound``."""
    number = reference if isinstance(reference, int) else ids.number_of(reference, ids.MESSAGE)
    if isinstance(reference, str) and reference.isascii() and reference.isdigit() and len(reference) < 17:
        number = int(reference)
    if number is None or not 0 < number <= ids.NUMBER_MASK:
        raise NotFound("Message")
    found = store.get_message(tx, caller.workspace, number)
    if found is None or (isinstance(reference, str) and reference not in (found.id, str(number))):
        raise NotFound("Message")
    return found


def change(tx: Tx, caller: Caller, reference: str | int, wanted: Change) -> Message:
    """The message is changed, and the index follows when its text or sender did. *Raises* ``NotFound``, ``Invalid``."""
    conversation, before = _locked(tx, caller, reference)
    given = {name: value for name in wanted.__struct_fields__ if (value := getattr(wanted, name)) is not msgspec.UNSET}
    after = msgspec.structs.replace(before, **given, updated_us=ids.now_us())
    check_draft(
        Draft(
            **{
                name: getattr(after, name)
                for name in (
                    "content role sender_id message_type parent_message_id tags tool_calls attachments meta_data"
                ).split()
            }
        )
    )
    store.set_message(tx, after)
    if (after.sender_id, after.role) != (before.sender_id, before.role):
        pairs = [(after.sender_id, after.role, after.seq)]
        conversation_store.add_participants(tx, caller.workspace, after.conversation, pairs)
        _hear(tx, before)
    turn_store.forget_answers(tx, caller.workspace, after.conversation)
    if (after.content, after.sender_id, after.role) != (before.content, before.sender_id, before.role):
        _reindex(tx, conversation, [after.seq])
    return after


def remove(tx: Tx, caller: Caller, reference: str | int) -> Message:
    """The message is gone; its text leaves the index by a job. *Raises* ``NotFound``."""
    conversation, found = _locked(tx, caller, reference)
    store.remove_message(tx, caller.workspace, found.conversation, found.seq)
    _hear(tx, found)
    turn_store.forget_answers(tx, caller.workspace, found.conversation)
    _reindex(tx, conversation, [found.seq])
    return found


def _locked(tx: Tx, caller: Caller, reference: str | int) -> tuple[Conversation, Message]:
    """The message and its conversation, which is held: what is read here is not being changed by another."""
    number = resolve(tx, caller, reference).conversation
    conversation = conversations.resolve(tx, caller, number, lock_us=ids.now_us())
    return conversation, resolve(tx, caller, reference)


def _hear(tx: Tx, gone: Message) -> None:
    """Whoever spoke in this message only is no participant any more."""
    conversation_store.remove_unheard(tx, gone.workspace, gone.conversation, gone.sender_id, gone.role)


def _reindex(tx: Tx, conversation: Conversation, seqs: list[int]) -> None:
    job_store.add_job(
        tx,
        conversation.workspace,
        conversation.owner_id,
        REINDEX_TEXT,
        {"conversation": conversation.number, "seqs": seqs},
        conversation=conversation.number,
    )


def rate(tx: Tx, caller: Caller, reference: str | int, rating: int) -> Message:
    """The message's rating is this: 1 good, 0 none, -1 bad; the last one wins. *Raises* ``NotFound``, ``Invalid``."""
    if rating not in (-1, 0, 1):
        raise Invalid("must be 1 (good), 0 (no rating) or -1 (bad)", "rating_value")
    found = resolve(tx, caller, reference)
    store.set_rating(tx, caller.workspace, found.conversation, found.seq, rating)
    return msgspec.structs.replace(found, rating=rating)


async def get(db: Database, caller: Caller, reference: str | int) -> Message:
    """A message. *Raises* ``NotFound``."""
    return await db.read(resolve, caller, reference)


async def get_status(db: Database, caller: Caller, reference: str | int) -> tuple[Message, dict[str, str]]:
    """A message, and the state of the jobs that still concern it by kind. *Raises* ``NotFound``."""

    def read(tx: Tx) -> tuple[Message, dict[str, str]]:
        found = resolve(tx, caller, reference)
        states = {}
        for job in job_store.list_jobs(tx, caller.workspace, conversation=found.conversation):
            first, last = job.payload.get("first", 0), job.payload.get("last", -1)
            if first <= found.seq <= last or found.seq in job.payload.get("seqs", ()):
                states[job.kind] = str(job.state)
        return found, states

    return await db.read(read)


def unsearchable(jobs: dict[str, str]) -> bool:
    """Whether a job of the index still concerns a message with these job states."""
    return any(kind in INDEX_KINDS for kind in jobs)


async def list_(
    db: Database,
    caller: Caller,
    wanted: Filter,
    *,
    conversation: str | int | None = None,
    sort: str | None = None,
    descending: bool = False,
    skip: int = 0,
    limit: int = 100,
) -> Page[Message]:
    """A page of messages with ``total``, of one conversation where given. *Raises* ``NotFound`` for that one."""

    def read(tx: Tx) -> Page[Message]:
        exact = wanted
        if conversation is not None:
            number = conversations.resolve(tx, caller, conversation).number
            exact = msgspec.structs.replace(wanted, conversation=number)
        found = store.list_messages(
            tx, caller.workspace, exact, sort=sort, descending=descending, skip=skip, limit=limit
        )
        total = store.count_messages(tx, caller.workspace, exact)
        return Page(items=found, total=total, has_more=skip + len(found) < total)

    return await db.read(read)


def check_batch(drafts: Sequence[Draft], *where: str | int) -> None:
    """The batch can be stored as a whole. *Raises* naming the row and field."""
    if len(drafts) > limits.REQUEST_MESSAGES:
        raise TooLarge(
            f"at most {limits.REQUEST_MESSAGES} messages in one request",
            limit="messages",
            maximum=limits.REQUEST_MESSAGES,
            field=where,
        )
    for i, draft in enumerate(drafts):
        check_draft(draft, *where, i)
