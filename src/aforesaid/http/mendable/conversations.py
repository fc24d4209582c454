"""Conversations, ratings and the export over HTTP."""

from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from aforesaid.core import checks, conversations, exchanges, messages
from aforesaid.core.once import again
from aforesaid.errors import Forbidden, Invalid
from aforesaid.http.endpoint import Call, Endpoint, Reply, encode
from aforesaid.http.mendable.wire import (
    ConversationIn,
    ExchangeRead,
    ExportIn,
    MessageRead,
    NewConversation,
    NewConversationIn,
    RatingIn,
    Reference,
    exchange_read,
    message_read,
)
from aforesaid.http.stream import Stream
from aforesaid.times import parse_time

T = TypeVar("T")

TAG = "Mendable"
TEXT = "text/plain; charset=utf-8"
ENDED = "Conversation has ended."
RATED = "Message rating updated"
DAY_US = 24 * 3600 * 1_000_000


def writing(call: Call) -> None:
    """The key may write: an anon key always may where it is let in. *Raises* ``Forbidden``."""
    if call.caller.kind == "secret":
        call.services.require(call.caller, "write")


def reference(given: Reference) -> Reference:
    """The id without the spaces that clients paste with it."""
    return given.strip() if isinstance(given, str) else given


async def _begin(call: Call) -> Reply:
    body: NewConversationIn = call.body
    writing(call)
    if body.user_id is not None:
        if call.caller.kind != "secret":
            raise Forbidden("only a secret key can say whose conversation it is", permission="secret")
        checks.identifier(body.user_id, "user_id")
    change = conversations.Change(owner_id=body.user_id)
    made = await again(call.services.db, lambda tx: conversations.add(tx, call.caller, change))
    return Reply.json(NewConversation(conversation_id=made.number))


async def _end(call: Call) -> Reply:
    body: ConversationIn = call.body
    await call.services.db.write(conversations.end, call.caller, reference(body.conversation_id))
    return Reply.text(ENDED)


async def _end_legacy(call: Call) -> Reply:
    if not call.services.options.legacy_unauthenticated:
        raise Forbidden("calls without a key are switched off here", permission="legacy_unauthenticated")
    await conversations.end_anywhere(call.services.db, call.path["conversation_id"])
    return Reply.text(ENDED)


async def _messages(call: Call) -> Reply | Stream:
    body: ConversationIn = call.body
    pages = exchanges.list_spoken(call.services.db, call.caller, reference(body.conversation_id))
    return await array(pages, message_read)


async def _rate(call: Call) -> Reply:
    body: RatingIn = call.body
    writing(call)
    rated = reference(body.message_id)
    await call.services.db.write(messages.rate, call.caller, rated, body.rating_value)
    return Reply.text(RATED)


async def _export(call: Call) -> Reply | Stream:
    body: ExportIn = call.body
    workspace = call.caller.workspace
    wanted = exchanges.Filter(
        rating=body.rating_value,
        since_us=_day(body.start_date, "start_date"),
        until_us=None if body.end_date is None else _day(body.end_date, "end_date", 1),
    )
    pages = exchanges.list_exchanges(call.services.db, call.caller, wanted)
    return await array(pages, lambda exchange: exchange_read(exchange, workspace))


def _day(text: str | None, field: str, after: int = 0) -> int | None:
    """The beginning of a day, or of the one ``after`` it. A moment means its day. *Raises* ``Invalid``."""
    if text is None:
        return None
    if text.strip().isdigit():
        raise Invalid("must be a day: YYYY-MM-DD", field, kind="time")
    us = parse_time(text, field)
    return us - us % DAY_US + after * DAY_US


async def array(pages: AsyncGenerator[list[T], None], render: Callable[[T], Any]) -> Reply | Stream:
    """The pages as one JSON array, written while they are read. What the first page raises is raised here."""
    first: list[T] = await anext(pages, [])
    second: list[T] | None = await anext(pages, None)
    if second is None:
        return Reply.json([render(item) for item in first])

    async def written() -> AsyncGenerator[bytes, None]:
        mark = b"["
        try:
            for page in (first, second):
                for part in _part(page):
                    yield mark + part
                    mark = b","
            async for page in pages:
                for part in _part(page):
                    yield mark + part
                    mark = b","
            yield b"[]" if mark == b"[" else b"]"
        finally:
            await pages.aclose()

    def _part(page: list[T]) -> list[bytes]:
        return [encode([render(item) for item in page])[1:-1]] if page else []

    return Stream(written(), headers={"content-type": "application/json"})


ENDPOINTS = (
    Endpoint(
        method="POST", path="/newConversation", run=_begin, name="new_conversation", tag=TAG, access="anon",
        summary="Begin a conversation", about="To reset a conversation, begin a new one and send no history.",
        body=NewConversationIn, gives=NewConversation, errors=(400, 403), example={"api_key": "YOUR_API_KEY"},
        gives_example={"conversation_id": 1234567890},
    ),
    Endpoint(
        method="POST", path="/endConversation", run=_end, name="end_conversation", tag=TAG, access="write",
        summary="End a conversation", about="The first end stays. Questions may still be asked in it.",
        body=ConversationIn, gives=str, media=TEXT, errors=(400, 403, 404),
        example={"api_key": "YOUR_API_KEY", "conversation_id": 123}, gives_example=ENDED,
    ),
    Endpoint(
        method="PATCH", path="/endConversation/{conversation_id}", run=_end_legacy, name="end_conversation_legacy",
        tag=TAG, access="public", summary="End a conversation, as old widgets do",
        about="Without a key, so it is switched off unless `legacy_unauthenticated` is set. Whether there was such a "
        "conversation is not told.",
        gives=str, media=TEXT, errors=(403,), gives_example=ENDED,
    ),
    Endpoint(
        method="POST", path="/messages/byConversationId", run=_messages, name="messages_by_conversation_id", tag=TAG,
        summary="Messages of a conversation", about="What the user and the assistant said, in order: all of it.",
        body=ConversationIn, gives=list[MessageRead], errors=(400, 403, 404),
        example={"api_key": "YOUR_SERVER_SIDE_API_KEY", "conversation_id": 1720329},
    ),
    Endpoint(
        method="POST", path="/rateMessage", run=_rate, name="rate_message", tag=TAG, access="anon",
        summary="Rate an answer", about="1 is good, -1 is bad, 0 takes the rating back. The last one counts.",
        body=RatingIn, gives=str, media=TEXT, errors=(400, 403, 404),
        example={"api_key": "YOUR_API_KEY", "message_id": 123, "rating_value": 1}, gives_example=RATED,
    ),
    Endpoint(
        method="POST", path="/getMessagesData", run=_export, name="get_messages_data", tag=TAG,
        summary="Export turns", about="One row for each answer, with what was asked before it, oldest first.",
        body=ExportIn, gives=list[ExchangeRead], errors=(400, 403),
        example={"api_key": "YOUR_API_KEY", "rating_value": 1, "start_date": "2025-01-01", "end_date": "2025-01-31"},
    ),
)  # fmt: skip
