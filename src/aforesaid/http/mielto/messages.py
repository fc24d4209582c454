"""Messages over HTTP."""

import json
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from aforesaid import limits
from aforesaid.core import checks, messages
from aforesaid.core.once import Answer, write
from aforesaid.errors import Invalid
from aforesaid.http.endpoint import Call, Endpoint, Parameter, Reply, encode
from aforesaid.http.mielto.wire import (
    Deleted,
    Limit,
    MessageIn,
    MessageList,
    MessageRead,
    MessagesIn,
    MessageStatus,
    MessageUpdate,
    Skip,
    message_read,
)
from aforesaid.model import Draft, Message, Stored
from aforesaid.times import parse_time

TAG = "Messages"
IDEMPOTENCY = Parameter(
    name="Idempotency-Key",
    about="The same key with the same request gives the first answer again, for 24 hours; with another one, 409.",
)
COUNTS = (
    Parameter(name="x-aforesaid-created", about="How many messages are new.", example="2"),
    Parameter(name="x-aforesaid-duplicates", about="How many were stored before.", example="0"),
    Parameter(name="x-aforesaid-notes", about="Rows whose sender changed role, as JSON; at most 20."),
)
Sort = Literal["id", "created_at", "updated_at", "sent_at"]
Order = Literal["asc", "desc"]
NOTES_SHOWN = 20
NOTES_BYTES = 4096
"""Clients refuse long headers: fewer rows are shown where their names are long."""


class OrderQuery(msgspec.Struct, kw_only=True):
    """Which part of a conversation is asked for, and how it is ordered."""

    skip: Skip = 0
    limit: Limit = 100
    sort_by: Sort | None = None
    order_by: Sort | None = None
    sort_order: Order | None = None
    order: Order | None = None
    direction: Order | None = None


class ListQuery(OrderQuery, kw_only=True):
    """Which messages of the workspace are asked for."""

    conversation_id: str | None = None
    sender_id: str | None = None
    role: str | None = None
    message_type: str | None = None
    search: Annotated[str, Meta(max_length=1000)] | None = None
    tags: str | None = None
    user_id: str | None = None
    owner_id: str | None = None
    since: str | None = None
    until: str | None = None


def counted(stored: Stored) -> dict[str, str]:
    """The headers that tell what became of a batch."""
    headers = {
        "content-type": "application/json",
        "x-aforesaid-created": str(stored.created),
        "x-aforesaid-duplicates": str(stored.duplicates),
    }
    if stored.notes:
        shown = stored.notes[:NOTES_SHOWN]
        while len(told := json.dumps(shown, separators=(",", ":"))) > NOTES_BYTES:
            shown = shown[:-1]
        headers["x-aforesaid-notes"] = told
    return headers


async def _create(call: Call) -> Reply:
    given: MessagesIn | list[MessageIn] = call.body
    wrapped = not isinstance(given, list)
    where: tuple[str, ...] = ("body", "content") if wrapped else ("body",)
    items = given if isinstance(given, list) else given.items()
    if len(items) > limits.REQUEST_MESSAGES:
        messages.check_batch([Draft(content="")] * len(items), *where)
    if not items:
        raise Invalid("must hold at least one message", *where, kind="too_short")
    single = not isinstance(given, list) and not isinstance(given.content, list)
    batch: list[tuple[str, Draft]] = []
    for i, item in enumerate(items):
        place: tuple[str | int, ...] = where if single else (*where, i)
        conversation = None if isinstance(given, list) else given.conversation_id
        reference = conversation if conversation is not None else item.conversation_id
        if reference is None:
            asked: tuple[str | int, ...] = ("body",) if wrapped else place
            raise Invalid(
                "Field required: the conversation that the message belongs to",
                *asked,
                "conversation_id",
                kind="missing",
            )
        if item.conversation_id not in (None, reference):
            raise Invalid("names another conversation than the request", *place, "conversation_id")
        draft = item.draft(*place)
        bare = not isinstance(given, list) and isinstance(given.content, str)
        messages.check_draft(draft, *(("body",) if bare else place))
        batch.append((reference, draft))
    enable = not isinstance(given, list) and bool(given.enable_memories)
    policy = None if isinstance(given, list) else given.sender_policy
    caller = call.caller

    def render(stored: Stored) -> Answer:
        shown = [message_read(message, caller.workspace_id) for message in stored.messages]
        return Answer(status=201, headers=counted(stored), body=encode(shown))

    done = await write(
        call.services.db,
        caller,
        call.once(),
        lambda tx: messages.add_batch(tx, caller, batch, enable_memories=enable, sender_policy=policy),
        render,
    )
    return Reply.of(done)


async def _list(call: Call) -> Reply:
    query: ListQuery = call.query
    for name in ("user_id", "owner_id", "sender_id"):
        if (value := getattr(query, name)) is not None:
            checks.identifier(value, "query", name)
    if query.conversation_id is not None and not query.conversation_id.strip():
        raise Invalid("must not be empty or blank", "query", "conversation_id")
    wanted = messages.Filter(
        sender_id=query.sender_id,
        role=query.role,
        message_type=query.message_type,
        search=query.search,
        tags=tuple(tag.strip() for tag in (query.tags or "").split(",") if tag.strip()),
        owner_id=query.user_id if query.user_id is not None else query.owner_id,
        since_us=None if query.since is None else parse_time(query.since, "query", "since"),
        until_us=None if query.until is None else parse_time(query.until, "query", "until"),
    )
    return await listed(call, query.conversation_id, wanted, query)


async def listed(call: Call, conversation: str | None, wanted: messages.Filter, query: OrderQuery) -> Reply:
    """A page of messages as an answer."""
    page = await messages.list_(
        call.services.db,
        call.caller,
        wanted,
        conversation=conversation,
        sort=query.sort_by or query.order_by,
        descending=(query.sort_order or query.order or query.direction) == "desc",
        skip=query.skip,
        limit=query.limit,
    )
    shown = [message_read(item, call.caller.workspace_id) for item in page.items]
    number = query.skip // query.limit + 1
    return Reply.json(
        MessageList(
            data=shown,
            messages=shown,
            total_count=page.total or 0,
            page=number,
            limit=query.limit,
            next_page=number + 1 if page.has_more else None,
            has_more=page.has_more,
        )
    )


async def _get(call: Call) -> Reply:
    found = await messages.get(call.services.db, call.caller, call.path["message_id"])
    return Reply.json(message_read(found, call.caller.workspace_id))


async def _status(call: Call) -> Reply:
    found, jobs = await messages.get_status(call.services.db, call.caller, call.path["message_id"])
    return Reply.json(
        MessageStatus(
            id=found.id,
            conversation_id=found.conversation_id,
            stored=True,
            searchable=not messages.unsearchable(jobs),
            jobs=jobs,
        )
    )


async def _update(call: Call) -> Reply:
    body: MessageUpdate = call.body
    caller, reference = call.caller, call.path["message_id"]
    change = body.change()

    def render(after: Message) -> Answer:
        shown = message_read(after, caller.workspace_id)
        return Answer(status=200, headers={"content-type": "application/json"}, body=encode(shown))

    done = await write(
        call.services.db, caller, call.once(), lambda tx: messages.change(tx, caller, reference, change), render
    )
    return Reply.of(done)


async def _delete(call: Call) -> Reply:
    caller, reference = call.caller, call.path["message_id"]

    def render(gone: Message) -> Answer:
        shown = Deleted(id=gone.id, message="Message deleted")
        return Answer(status=200, headers={"content-type": "application/json"}, body=encode(shown))

    done = await write(call.services.db, caller, call.once(), lambda tx: messages.remove(tx, caller, reference), render)
    return Reply.of(done)


ENDPOINTS = (
    Endpoint(
        method="POST", path="/messages", run=_create, name="create_messages", tag=TAG, access="write",
        summary="Store one message or many",
        about="The messages stand in `content`, one or an array; a bare message and a bare array are taken too. The "
        "answer is always an array, in the order of the request. A message that was stored before (same `id`, same "
        "`checksum`, or same sender, role, text and `created_at`) is not stored again: its first copy stands at its "
        "place. All of a request is stored, or nothing.",
        body=MessagesIn | list[MessageIn], gives=list[MessageRead], status=201, headers=(IDEMPOTENCY,),
        gives_headers=COUNTS, errors=(404, 409), body_limit=limits.IMPORT_BODY_BYTES,
        example={
            "conversation_id": "conv_01234567890ABCDEFGHJKMNPQR",
            "content": [{"role": "user", "content": "Hello, how are you?", "created_at": "2025-06-10T10:28:06.658Z"}],
            "enable_memories": False,
        },
    ),
    Endpoint(
        method="GET", path="/messages", run=_list, name="list_messages", tag=TAG, summary="List messages",
        about="Of one conversation in its order; otherwise oldest first.", query=ListQuery, gives=MessageList,
        errors=(404,),
    ),
    Endpoint(
        method="GET", path="/messages/{message_id}", run=_get, name="get_message", tag=TAG,
        summary="Read a message", gives=MessageRead, errors=(404,),
    ),
    Endpoint(
        method="GET", path="/messages/{message_id}/status", run=_status, name="get_message_status", tag=TAG,
        summary="Is it searchable yet?", gives=MessageStatus, errors=(404,),
    ),
    Endpoint(
        method="PUT", path="/messages/{message_id}", run=_update, name="update_message", tag=TAG, access="write",
        summary="Change a message", about="Fields that are not given stay as they are.", body=MessageUpdate,
        gives=MessageRead, headers=(IDEMPOTENCY,), errors=(404, 409), example={"content": "Corrected text"},
    ),
    Endpoint(
        method="DELETE", path="/messages/{message_id}", run=_delete, name="delete_message", tag=TAG, access="write",
        summary="Delete a message", gives=Deleted, headers=(IDEMPOTENCY,), errors=(404, 409),
    ),
)  # fmt: skip
