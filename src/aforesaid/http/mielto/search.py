"""Search, the state of later work, and receipts over HTTP: our own, in the same style."""

import time

import msgspec
from msgspec import UNSET

from aforesaid import limits
from aforesaid.core import checks, completion, overview, recollection
from aforesaid.http.endpoint import Call, Endpoint, Reply
from aforesaid.http.mielto.wire import (
    HitRead,
    Indexing,
    ReceiptItem,
    ReceiptRead,
    SearchFilters,
    SearchIn,
    SearchResults,
    message_read,
)
from aforesaid.model import Hit
from aforesaid.times import iso, parse_time

TAG = "Search"


class IndexingQuery(msgspec.Struct, kw_only=True):
    """Whose work is asked for; everybody's of the workspace without."""

    user_id: str | None = None


def _hit(hit: Hit, workspace_id: str, explain: bool) -> HitRead:
    return HitRead(
        kind=hit.kind,
        id=hit.id,
        score=hit.score,
        message_ids=list(hit.message_ids),
        message=message_read(hit.message, workspace_id) if hit.message else UNSET,
        explain=hit.signals if explain else UNSET,
    )


async def _search(call: Call) -> Reply:
    body: SearchIn = call.body
    filters = body.filters or SearchFilters()
    checks.json_value(filters.metadata, "body", "filters", "metadata")
    for name, value in (("role", filters.role), ("sender_id", filters.sender_id)):
        if value is not None:
            checks.identifier(value, "body", "filters", name)
            checks.text(value, "body", "filters", name, maximum=64 if name == "role" else None)
    for i, tag in enumerate(filters.tags or ()):
        checks.text(tag, "body", "filters", "tags", i, maximum=limits.ID_CHARACTERS)
    begun = time.perf_counter()
    hits: list[Hit] = []
    wanted = recollection.Search(
        query=body.query,
        user_id=body.user_id,
        conversation_id=body.conversation_id,
        limit=body.limit or 10,
        asked_us=None if body.asked_at is None else parse_time(body.asked_at, "body", "asked_at"),
        since_us=None if filters.since is None else parse_time(filters.since, "body", "filters", "since"),
        until_us=None if filters.until is None else parse_time(filters.until, "body", "filters", "until"),
        role=filters.role,
        sender_id=filters.sender_id,
        tags=tuple(filters.tags or ()),
        meta_data=filters.metadata,
    )
    recollection.check_search(wanted, "body")
    if body.kinds is None or "message" in body.kinds:
        hits = await recollection.search(call.services.db, call.services.recollection, call.caller, wanted)
    return Reply.json(
        SearchResults(
            data=[_hit(hit, call.caller.workspace_id, bool(body.explain)) for hit in hits],
            total_results=len(hits),
            query=body.query,
            execution_time_ms=round((time.perf_counter() - begun) * 1000, 3),
        )
    )


async def _indexing(call: Call) -> Reply:
    query: IndexingQuery = call.query
    if query.user_id is not None:
        checks.identifier(query.user_id, "query", "user_id")
    state = await overview.get_indexing(call.services.db, call.caller, query.user_id)
    return Reply.json(
        Indexing(
            user_id=query.user_id,
            pending=state.pending,
            running=state.running,
            failed=state.failed,
            parked=state.parked,
            kinds=state.kinds,
        )
    )


async def _receipt(call: Call) -> Reply:
    shown = await completion.get_receipt(call.services.db, call.caller, call.path["receipt_id"])
    receipt = shown.receipt
    items = []
    for item in receipt.items:
        message = shown.messages.get(item["message_ids"][0]) if item["message_ids"] else None
        read = None if message is None else message_read(message, call.caller.workspace_id)
        items.append(ReceiptItem(**item, message=read))
    return Reply.json(
        ReceiptRead(
            id=receipt.id,
            user_id=receipt.user_id,
            conversation_id=shown.conversation_id,
            answer_message_id=shown.answer.id if shown.answer else None,
            model=receipt.model,
            items=items,
            tokens=receipt.tokens,
            recall_ms=receipt.recall_ms,
            skipped=receipt.skipped,
            created_at=iso(receipt.created_us),
        )
    )


ENDPOINTS = (
    Endpoint(
        method="POST", path="/search", run=_search, name="search", tag=TAG,
        summary="Search what a user's conversations hold",
        about="Narrowed to `user_id`, to `conversation_id`, or both. With `explain`, each hit shows what every signal "
        "added to its score.",
        body=SearchIn, gives=SearchResults, errors=(404,),
        example={"query": "When did she move to Lisbon?", "user_id": "your-user-id", "limit": 10},
    ),
    Endpoint(
        method="GET", path="/indexing", run=_indexing, name="get_indexing", tag=TAG,
        summary="Work that waits", about="With 0 `pending`, everything that was acknowledged is searchable.",
        query=IndexingQuery, gives=Indexing,
    ),
    Endpoint(
        method="GET", path="/receipts/{receipt_id}", run=_receipt, name="get_receipt", tag=TAG,
        summary="What was put before an answer",
        about="The records of a completion by the id in its `x-aforesaid-receipt-id` header: each with its score by "
        "signal and the message that it came from.",
        gives=ReceiptRead, errors=(404,),
    ),
)  # fmt: skip
