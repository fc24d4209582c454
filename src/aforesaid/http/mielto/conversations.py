"""Conversations over HTTP."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from aforesaid import limits
from aforesaid.core import checks, conversations, messages
from aforesaid.core.once import Answer, write
from aforesaid.errors import Forbidden, Invalid
from aforesaid.http.endpoint import Call, Endpoint, Parameter, Reply, encode
from aforesaid.http.mielto.messages import OrderQuery, counted, listed
from aforesaid.http.mielto.wire import (
    ConversationCreate,
    ConversationList,
    ConversationRead,
    ConversationUpdate,
    Deleted,
    Limit,
    MessageIn,
    MessageList,
    MessageRead,
    Skip,
    conversation_read,
    message_read,
)
from aforesaid.model import Caller, Conversation, Page, Stored

TAG = "Conversations"
IDEMPOTENCY = Parameter(
    name="Idempotency-Key",
    about="The same key with the same request gives the first answer again, for 24 hours; with another one, 409.",
)
WORKSPACE = Parameter(name="X-Workspace-Id", about="The key's own workspace; another one is refused.")


class ListQuery(msgspec.Struct, kw_only=True):
    """How a list of conversations is asked for: by ``cursor``, or by ``skip`` or ``page``."""

    cursor: str | None = None
    limit: Limit | None = None
    skip: Skip | None = None
    page: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    direction: Literal["next", "prev"] = "next"
    sort_by: Literal["id", "updated_at", "created_at", "title"] = "updated_at"
    sort_order: Literal["asc", "desc"] = "desc"
    status: str | None = None
    search: Annotated[str, Meta(max_length=limits.TITLE_CHARACTERS)] | None = None
    user_id: str | None = None
    owner_id: str | None = None
    collection_id: str | None = None
    is_public: bool | None = None
    workspace_id: str | None = None


def check_workspace(caller: Caller, given: str | None) -> None:
    """A workspace named by the request is the key's own. *Raises* ``Forbidden``, whether or not there is another."""
    if given and given != caller.workspace_id:
        raise Forbidden("the API key does not belong to this workspace", permission="workspace")


def one_user(user_id: str | None, owner_id: str | None) -> str | None:
    """The user that a list is narrowed to. *Raises* ``Invalid`` for a blank one: it never means everybody."""
    for name, value in (("user_id", user_id), ("owner_id", owner_id)):
        if value is not None:
            checks.identifier(value, "query", name)
    if user_id is not None and owner_id is not None and user_id != owner_id:
        raise Invalid("user_id and owner_id are the same thing and differ here", "query", "owner_id")
    return user_id if user_id is not None else owner_id


async def _create(call: Call) -> Reply:
    body: ConversationCreate = call.body
    caller = call.caller
    drafts = [item.draft("body", "messages", i) for i, item in enumerate(body.messages or [])]
    messages.check_batch(drafts, "body", "messages")
    collections = call.headers.get("x-collection-ids")
    change = body.change()
    if body.collections is msgspec.UNSET and collections:
        change = msgspec.structs.replace(change, collections=collection_ids(collections))

    def render(made: Conversation) -> Answer:
        shown = conversation_read(made, caller.workspace_id)
        return Answer(status=201, headers={"content-type": "application/json"}, body=encode(shown))

    return Reply.of(
        await write(
            call.services.db,
            caller,
            call.once(),
            lambda tx: conversations.add_with_messages(
                tx, caller, change, drafts, session_id=body.session_id, enable_memories=bool(body.enable_memories)
            ),
            render,
        )
    )


def collection_ids(header: str) -> list[str]:
    """The ids of an ``x-collection-ids`` header: a JSON array, or names with commas. *Raises* ``Invalid``."""
    if not header.lstrip().startswith("["):
        return [name.strip() for name in header.split(",") if name.strip()]
    try:
        return msgspec.json.decode(header.encode(), type=list[str])
    except msgspec.DecodeError:
        raise Invalid("must be a JSON array of strings", "header", "x-collection-ids") from None


async def _list(call: Call) -> Reply:
    query: ListQuery = call.query
    check_workspace(call.caller, query.workspace_id)
    by_offset = query.skip is not None or query.page is not None
    limit = query.limit or (100 if by_offset else 50)
    skip = query.skip if query.skip is not None else (query.page - 1) * limit if query.page is not None else None
    page = await conversations.list_(
        call.services.db,
        call.caller,
        conversations.Filter(
            status=query.status,
            search=query.search,
            owner_id=one_user(query.user_id, query.owner_id),
            collection_id=query.collection_id,
            is_public=query.is_public,
        ),
        sort=query.sort_by,
        descending=query.sort_order == "desc",
        cursor=query.cursor,
        backwards=query.direction == "prev" and query.cursor is not None,
        skip=skip,
        limit=limit,
    )
    return Reply.json(_page(call, page, limit, skip))


def _page(call: Call, page: Page[Conversation], limit: int, skip: int | None) -> ConversationList:
    shown = [conversation_read(item, call.caller.workspace_id) for item in page.items]
    number = None if skip is None else skip // limit + 1
    return ConversationList(
        data=shown,
        conversations=shown,
        total_count=page.total if page.total is not None else len(shown),
        page=number,
        limit=limit,
        next_page=number + 1 if number is not None and page.has_more else None,
        next_cursor=page.next_cursor,
        prev_cursor=page.prev_cursor,
        has_more=page.has_more,
    )


async def _get(call: Call) -> Reply:
    found, people = await conversations.get_with_participants(
        call.services.db, call.caller, call.path["conversation_id"]
    )
    return Reply.json(conversation_read(found, call.caller.workspace_id, people))


async def _update(call: Call) -> Reply:
    body: ConversationUpdate = call.body
    caller, reference = call.caller, call.path["conversation_id"]
    change = body.change()

    def render(after: Conversation) -> Answer:
        shown = conversation_read(after, caller.workspace_id)
        return Answer(status=200, headers={"content-type": "application/json"}, body=encode(shown))

    done = await write(
        call.services.db, caller, call.once(), lambda tx: conversations.change(tx, caller, reference, change), render
    )
    return Reply.of(done)


async def _delete(call: Call) -> Reply:
    caller, reference = call.caller, call.path["conversation_id"]

    def render(gone: Conversation) -> Answer:
        shown = Deleted(id=gone.id, message="Conversation deleted")
        return Answer(status=200, headers={"content-type": "application/json"}, body=encode(shown))

    done = await write(
        call.services.db, caller, call.once(), lambda tx: conversations.remove(tx, caller, reference), render
    )
    return Reply.of(done)


async def _messages(call: Call) -> Reply:
    return await listed(call, call.path["conversation_id"], messages.Filter(), call.query)


async def _add_message(call: Call) -> Reply:
    body: MessageIn = call.body
    caller, reference = call.caller, call.path["conversation_id"]
    if body.conversation_id is not None and body.conversation_id != reference:
        raise Invalid("names another conversation than the address", "body", "conversation_id")
    draft = body.draft("body")
    messages.check_draft(draft, "body")

    def render(stored: Stored) -> Answer:
        shown = message_read(stored.messages[0], caller.workspace_id)
        return Answer(status=201, headers=counted(stored), body=encode(shown))

    done = await write(
        call.services.db, caller, call.once(), lambda tx: messages.add(tx, caller, reference, [draft]), render
    )
    return Reply.of(done)


ENDPOINTS = (
    Endpoint(
        method="POST", path="/conversations", run=_create, name="create_conversation", tag=TAG, access="write",
        summary="Create a conversation",
        about="With `messages`, they are stored in the same transaction. `user_id` and `owner_id` are the same thing.",
        body=ConversationCreate, gives=ConversationRead, status=201, headers=(IDEMPOTENCY,),
        errors=(404, 409), body_limit=limits.IMPORT_BODY_BYTES,
        example={"user_id": "your-user-id", "title": "Onboarding conversation"},
    ),
    Endpoint(
        method="GET", path="/conversations", run=_list, name="list_conversations", tag=TAG,
        summary="List conversations",
        about="By cursor (newest change first) or, with `skip` or `page`, by offset; only then is `total_count` the "
        "number of all. The list stands under `data` and under `conversations`.",
        query=ListQuery, gives=ConversationList, errors=(403,),
    ),
    Endpoint(
        method="GET", path="/conversations/{conversation_id}", run=_get, name="get_conversation", tag=TAG,
        summary="Read a conversation", gives=ConversationRead, errors=(404,),
    ),
    Endpoint(
        method="PUT", path="/conversations/{conversation_id}", run=_update, name="update_conversation", tag=TAG,
        access="write", summary="Change a conversation", about="Fields that are not given stay as they are.",
        body=ConversationUpdate, gives=ConversationRead, headers=(IDEMPOTENCY,), errors=(404, 409),
        example={"title": "Renamed", "status": "ended"},
    ),
    Endpoint(
        method="PATCH", path="/conversations/{conversation_id}", run=_update, name="patch_conversation", tag=TAG,
        access="write", summary="Change a conversation", about="The same as PUT.",
        body=ConversationUpdate, gives=ConversationRead, headers=(IDEMPOTENCY,), errors=(404, 409),
    ),
    Endpoint(
        method="DELETE", path="/conversations/{conversation_id}", run=_delete, name="delete_conversation", tag=TAG,
        access="write", summary="Delete a conversation", about="Its messages go with it and leave the index soon.",
        gives=Deleted, headers=(IDEMPOTENCY,), errors=(404, 409),
    ),
    Endpoint(
        method="GET", path="/conversations/{conversation_id}/messages", run=_messages, tag=TAG,
        name="list_conversation_messages", summary="Messages of a conversation, in its order",
        query=OrderQuery, gives=MessageList, errors=(404,),
    ),
    Endpoint(
        method="POST", path="/conversations/{conversation_id}/messages", run=_add_message, tag=TAG, access="write",
        name="add_conversation_message", summary="Add one message", body=MessageIn, gives=MessageRead, status=201,
        headers=(IDEMPOTENCY,), errors=(404, 409), example={"role": "user", "content": "Hello, how are you?"},
    ),
)  # fmt: skip
