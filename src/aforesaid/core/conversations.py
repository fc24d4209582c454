"""Conversations: made, changed, ended, listed, removed."""

import base64
import contextlib
from collections.abc import Sequence

import msgspec

from aforesaid import ids, limits
from aforesaid.core import checks
from aforesaid.core.jobs import EXTRACT_MEMORIES, FORGET_TEXT, INDEX_TEXT, add_index_jobs
from aforesaid.errors import Invalid, NotFound
from aforesaid.model import Caller, Conversation, Draft, Json, Page
from aforesaid.store import conversations as store
from aforesaid.store import jobs, turns, workspaces
from aforesaid.store import messages as message_store
from aforesaid.store.conversations import SORTS, Filter
from aforesaid.store.database import Database, Tx

STATUSES = ("active", "ended", "archived")

__all__ = ["SORTS", "STATUSES", "Filter"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a conversation. ``UNSET`` leaves a field alone, None clears it."""

    title: str | None | msgspec.UnsetType = msgspec.UNSET
    summary: str | None | msgspec.UnsetType = msgspec.UNSET
    status: str | None | msgspec.UnsetType = msgspec.UNSET
    is_public: bool | None | msgspec.UnsetType = msgspec.UNSET
    collections: list[str] | None | msgspec.UnsetType = msgspec.UNSET
    meta_data: Json | None | msgspec.UnsetType = msgspec.UNSET
    settings: Json | None | msgspec.UnsetType = msgspec.UNSET
    ended_us: int | None | msgspec.UnsetType = msgspec.UNSET
    owner_id: str | None | msgspec.UnsetType = msgspec.UNSET


def number_of(reference: str | int) -> int | None:
    """The number that either spelling of an id stands for, whether or not there is such a conversation."""
    if isinstance(reference, int):
        return reference
    if reference.isascii() and reference.isdigit() and len(reference) < 17:
        return int(reference)
    return ids.number_of(reference, ids.CONVERSATION)


def resolve(tx: Tx, caller: Caller, reference: str | int, *, lock_us: int | None = None) -> Conversation:
    """The conversation behind either spelling of its id, held until the end of the transaction with ``lock_us``.

    It is marked as active at ``lock_us``; with 0 it is held only.
    *Raises* ``NotFound``, the same for what is not there and what is another workspace's.
    """
    number = number_of(reference)
    if number is None or not 0 < number <= ids.NUMBER_MASK:
        raise NotFound("Conversation")
    if lock_us is None:
        found = store.get_conversation(tx, caller.workspace, number)
    else:
        found = store.lock_conversation(tx, caller.workspace, number, lock_us)
    if found is None or (isinstance(reference, str) and reference not in (found.id, str(number))):
        raise NotFound("Conversation")
    return found


def add(
    tx: Tx,
    caller: Caller,
    change: Change,
    *,
    session_id: str | None = None,
    external_id: str | None = None,
    created_us: int | None = None,
    id: str | None = None,
) -> Conversation:
    """A new conversation, under the given fresh ``id`` where there is one. *Raises* ``Invalid``."""
    if session_id is not None:
        checks.identifier(session_id, "session_id")
    id, now = id or ids.new_id(ids.CONVERSATION), ids.now_us()
    number = ids.number_of(id, ids.CONVERSATION)
    assert number is not None
    blank = Conversation(
        workspace=caller.workspace,
        number=number,
        id=id,
        owner_id=None,
        session_id=session_id,
        created_by=caller.key_id,
        created_us=created_us if created_us is not None else now,
        updated_us=now,
    )
    made = changed(blank, change, now)
    store.add_conversation(tx, made, external_id)
    return made


def add_with_messages(
    tx: Tx,
    caller: Caller,
    change: Change,
    drafts: Sequence[Draft],
    *,
    session_id: str | None = None,
    enable_memories: bool = False,
) -> Conversation:
    """A new conversation with its first messages. *Raises* ``Invalid``."""
    from aforesaid.core import messages  # messages stand in conversations; this is the one way back

    made = add(tx, caller, change, session_id=session_id)
    if drafts:
        messages.add(tx, caller, made.number, drafts, enable_memories=enable_memories, into_ended=True)
        made = resolve(tx, caller, made.number)
    return made


def changed(conversation: Conversation, change: Change, now: int) -> Conversation:
    """The conversation after the change. *Raises* ``Invalid`` naming the field."""
    given = {name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not msgspec.UNSET}
    if (title := given.get("title")) is not None:
        checks.text(title, "title", maximum=limits.TITLE_CHARACTERS)
    if (summary := given.get("summary")) is not None:
        checks.text(summary, "summary", maximum=limits.SUMMARY_CHARACTERS)
    if given.get("owner_id") is not None:
        checks.identifier(given["owner_id"], "user_id")
    for name in ("meta_data", "settings"):
        checks.json_value(given.get(name), name)
    if "collections" in given:
        given["collections"] = _collections(given["collections"] or [])
    if "is_public" in given:
        given["is_public"] = bool(given["is_public"])
    status = given.pop("status", None) or None
    if status is not None and status not in STATUSES:
        raise Invalid(f"must be one of {', '.join(STATUSES)}", "status", kind="enum")
    if status == "active" and given.get("ended_us") is not None:
        raise Invalid("an active conversation has no end", "ended_at")
    if status is None and "ended_us" in given and conversation.status != "archived":
        status = "active" if given["ended_us"] is None else "ended"
    if status == "ended" and given.get("ended_us") is None:
        given["ended_us"] = conversation.ended_us or now
    if status in ("active", "archived") and given.get("ended_us") is None:
        given["ended_us"] = None if status == "active" else conversation.ended_us
    return msgspec.structs.replace(
        conversation, **given, status=status or conversation.status, updated_us=max(now, conversation.updated_us)
    )


def _collections(values: list[str]) -> tuple[str, ...]:
    if len(values) > limits.LIST_ITEMS:
        raise Invalid(f"must have at most {limits.LIST_ITEMS} items", "collections", kind="too_long")
    return tuple(dict.fromkeys(checks.identifier(value, "collections", i) for i, value in enumerate(values)))


def change(tx: Tx, caller: Caller, reference: str | int, wanted: Change) -> Conversation:
    """The conversation is changed. With a new owner, everything that was the old one's is the new one's."""
    now = ids.now_us()
    before = resolve(tx, caller, reference, lock_us=now)
    after = changed(before, wanted, now)
    store.set_conversation(tx, after)
    turns.forget_answers(tx, caller.workspace, after.number)
    if after.owner_id != before.owner_id and before.next_seq > 1:
        message_store.set_owner(tx, caller.workspace, after.number, before.owner_id, after.owner_id)
        # A chat of the old owner must not be found to go on here.
        turns.remove_chains(tx, caller.workspace, after.number)
        jobs.set_jobs_owner(tx, caller.workspace, after.number, EXTRACT_MEMORIES, after.owner_id)
        _forget(tx, before)
        add_index_jobs(tx, INDEX_TEXT, after, 1, after.next_seq - 1)
    return after


def end(tx: Tx, caller: Caller, reference: str | int) -> Conversation:
    """The conversation has ended; its first end stays."""
    found = resolve(tx, caller, reference, lock_us=0)
    if found.status == "ended" and found.ended_us is not None:
        return found
    after = changed(found, Change(status="ended"), ids.now_us())
    store.set_conversation(tx, after)
    return after


async def end_anywhere(db: Database, reference: str) -> None:
    """The conversation of whatever workspace has ended, if there is one: for calls that carry no key."""

    def run(tx: Tx) -> None:
        for workspace in workspaces.list_workspaces(tx):
            nobody = Caller(workspace=workspace.workspace, workspace_id=workspace.id, key_id="", kind="anon")
            with contextlib.suppress(NotFound):
                end(tx, nobody, reference)
                return

    await db.write(run)


def remove(tx: Tx, caller: Caller, reference: str | int) -> Conversation:
    """The conversation is gone with everything in it; its text leaves the index by a job."""
    found = resolve(tx, caller, reference, lock_us=ids.now_us())
    store.remove_conversation(tx, caller.workspace, found.number)
    if found.next_seq > 1:
        _forget(tx, found)
    return found


def _forget(tx: Tx, conversation: Conversation) -> None:
    jobs.add_job(tx, conversation.workspace, conversation.owner_id, FORGET_TEXT, {"conversation": conversation.number})


async def get(db: Database, caller: Caller, reference: str | int) -> Conversation:
    """A conversation. *Raises* ``NotFound``."""
    return await db.read(resolve, caller, reference)


async def get_with_participants(
    db: Database, caller: Caller, reference: str | int
) -> tuple[Conversation, list[tuple[str, str]]]:
    """A conversation and its (sender, role) pairs. *Raises* ``NotFound``."""

    def read(tx: Tx) -> tuple[Conversation, list[tuple[str, str]]]:
        found = resolve(tx, caller, reference)
        return found, store.list_participants(tx, caller.workspace, found.number)

    return await db.read(read)


async def list_(
    db: Database,
    caller: Caller,
    wanted: Filter,
    *,
    sort: str = "updated_at",
    descending: bool = True,
    cursor: str | None = None,
    backwards: bool = False,
    skip: int | None = None,
    limit: int = 50,
) -> Page[Conversation]:
    """A page of conversations: by offset when ``skip`` is given (then with ``total``), else behind ``cursor``.

    A cursor tells a place in the order, so the list goes on there when that conversation was changed or removed
    meanwhile; the id of a conversation is taken too. ``backwards`` gives the page in front of it. The page's
    ``next_cursor`` stands behind its last item, ``prev_cursor`` in front of its first; None where nothing follows.
    *Raises* ``Invalid`` for a cursor that is none, or of another order.
    """
    if sort not in SORTS:
        raise Invalid(f"must be one of {', '.join(SORTS)}", "query", "sort_by", kind="enum")

    def read(tx: Tx) -> Page[Conversation]:
        after = _place_of(tx, caller, cursor, sort) if skip is None and cursor is not None else None
        found = store.list_conversations(
            tx,
            caller.workspace,
            wanted,
            sort=sort,
            descending=descending != backwards,
            after=after,
            skip=skip or 0,
            limit=limit + 1,
        )
        total = store.count_conversations(tx, caller.workspace, wanted) if skip is not None else None
        more = len(found) > limit
        items = found[:limit][::-1] if backwards else found[:limit]
        following, leading = (bool(items), more) if backwards else (more, after is not None and bool(items))
        return Page(
            items=items,
            next_cursor=_cursor(items[-1], sort) if following and skip is None else None,
            prev_cursor=_cursor(items[0], sort) if leading and skip is None else None,
            has_more=more,
            total=total,
        )

    return await db.read(read)


def _cursor(at: Conversation, sort: str) -> str:
    """The place of the conversation in a list, as text that says nothing to clients."""
    raw = msgspec.json.encode((sort, store.place(at, sort), at.number))
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _place_of(tx: Tx, caller: Caller, cursor: str, sort: str) -> tuple[str | int, int]:
    """The place that a cursor tells. It names no data of anybody: each list is narrowed to the caller's own."""
    try:
        found = resolve(tx, caller, cursor)
        return store.place(found, sort), found.number
    except NotFound:
        pass
    try:
        raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"==")
        of, place, number = msgspec.json.decode(raw, type=tuple[str, str | int, int])
    except (ValueError, msgspec.DecodeError):
        raise Invalid("is not a cursor of this list", "query", "cursor") from None
    fits = isinstance(place, str) and "\x00" not in place if sort == "title" else isinstance(place, int)
    if of != sort or not fits or not 0 <= number <= ids.NUMBER_MASK:
        raise Invalid("is a cursor of another order", "query", "cursor")
    return place, number
