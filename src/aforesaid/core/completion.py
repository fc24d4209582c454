"""A completion that remembers: recall within a budget, one block of data, the answer relayed, the turn stored.

Memory may fail or be late; the answer goes on without it and says so. What the caller saw is what is stored.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator

import msgspec

from aforesaid import ids
from aforesaid.core import recollection, threads
from aforesaid.core.asking import Asked, Block, block_of, composed, stored_text
from aforesaid.core.conversations import resolve
from aforesaid.core.once import again
from aforesaid.core.services import Services
from aforesaid.core.threads import Located, Spoken
from aforesaid.errors import AforesaidError, NotFound, Unavailable
from aforesaid.model import Caller, Draft, Hit, Json, Message, Receipt
from aforesaid.providers.chat import AnswerContext, ChatAnswer, ChatRequest, RecalledItem, StreamBroken
from aforesaid.providers.sse import Collector
from aforesaid.store import messages as message_store
from aforesaid.store import turns as turn_store
from aforesaid.store.database import Database, Tx

log = logging.getLogger("aforesaid.completion")

RECENT_ITEMS = 12
"""Messages recalled when a question asks for an overview rather than for something."""
DONE = b"[DONE]"

_OVERVIEW = re.compile(
    r"^\W*(?:(?:please|can you|could you|would you)\W+)*(?:summari[sz]e|sum up|recap|give me (?:a )?(?:summary|recap)|"
    r"what (?:do you (?:know|remember)|have we (?:talked|discussed|spoken)|did we (?:talk|discuss))|"
    r"who am i|tell me (?:what you know|about (?:me|myself))|where (?:were|did) we (?:leave|stop|left))",
    re.IGNORECASE,
)
_ABOUT_SOMETHING = re.compile(
    r"\b(?:about|of|on) (?!me\b|myself\b|this\b|our\b|us\b|the conversation\b)\w+", re.IGNORECASE
)


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """What recall gave within its budget. ``skipped`` says why there is nothing: ``off``, ``no_user``, ``timeout``,
    ``failed``, else None."""

    hits: list[Hit]
    located: Located | None
    skipped: str | None
    ms: float


class Completion:
    """An answer under way, its memory already in it."""

    def __init__(
        self, services: Services, caller: Caller, asked: Asked, recalled: Recalled, block: Block, answer: ChatAnswer
    ) -> None:
        self._services = services
        self._caller = caller
        self._asked = asked
        self._answer = answer
        self._collector = Collector()
        located = recalled.located.conversation if recalled.located else None
        self.conversation_id = located.id if located else ids.new_id(ids.CONVERSATION)
        self._known = located is not None
        self.receipt = Receipt(
            id=ids.new_id(ids.RECEIPT),
            workspace=caller.workspace,
            user_id=asked.user_id,
            conversation=None,
            answer=None,
            model=asked.model,
            items=[_item(hit, place) for place, hit in enumerate(block.hits)],
            tokens=block.tokens,
            recall_ms=round(recalled.ms, 3),
            skipped=recalled.skipped,
            created_us=ids.now_us(),
        )
        self.status = answer.status
        self.streaming = answer.streaming

    @property
    def headers(self) -> dict[str, str]:
        """What the answer's headers tell: the model server's own hints, and what memory did."""
        ours = {
            "x-aforesaid-memories": str(len(self.receipt.items)),
            "x-aforesaid-tokens": str(self.receipt.tokens),
            "x-aforesaid-recall-ms": f"{self.receipt.recall_ms:.1f}",
            "x-aforesaid-recall": f"skipped; {self.receipt.skipped}" if self.receipt.skipped else "done",
        }
        if self._asked.store:
            ours["x-aforesaid-conversation-id"] = self.conversation_id
            ours["x-aforesaid-receipt-id"] = self.receipt.id
        return {**self._answer.headers, **ours}

    async def body(self) -> bytes:
        """The whole answer, stored. *Raises* ``UpstreamFailed`` when it broke off."""
        try:
            body = await self._answer.body()
        finally:
            await self._answer.close()
        self._collector.feed_body(body)
        await self._store(complete=True)
        return body

    async def events(self) -> AsyncIterator[bytes]:
        """The answer's events as they come. The last one comes after the turn is stored.

        Ends with an error event when the stream broke. Closed early, it closes the model server's connection and
        stores what was sent so far as incomplete.
        """
        stored = False
        try:
            broken: StreamBroken | None = None
            last = b""
            try:
                async for events in self._answer.events():
                    self._collector.feed(events)
                    if DONE in events:  # held back until what was said is stored
                        cut = events.rfind(b"data:", 0, events.rfind(DONE))
                        if events[cut:].strip().removeprefix(b"data:").strip() == DONE:
                            if cut > 0:
                                yield events[:cut]
                            last = events[cut:]
                            break
                    yield events
            except StreamBroken as error:
                broken = error
            stored = True
            await self._store(complete=broken is None)
            if broken is not None and not broken.reported:
                yield broken_event(broken)
            elif last:
                yield last
        finally:
            await self._answer.close()
            if not stored:
                # The caller has left; the storing goes on without it.
                task = asyncio.ensure_future(self._store(complete=False))
                _pending.add(task)
                task.add_done_callback(_pending.discard)

    async def _store(self, *, complete: bool) -> None:
        """The turn is stored, unless the caller wants none of it. A failure is logged: the answer is worth more."""
        if not self._asked.store:
            return
        said = self._collector.answer()
        whole = complete and said.complete
        drafts = []
        many = len(said.choices) > 1
        for choice in said.choices:
            meta: Json = {"model": said.model or self._asked.model, "receipt_id": self.receipt.id}
            if choice.finish_reason:
                meta["finish_reason"] = choice.finish_reason
            if many:
                meta["choice"] = choice.index
            text = choice.content or choice.refusal or ""
            if text or choice.tool_calls:
                drafts.append(
                    Draft(
                        role="assistant",
                        content=stored_text(text),
                        tool_calls=choice.tool_calls,
                        meta_data=meta,
                        incomplete=not whole,
                    )
                )
        receipt = msgspec.structs.replace(self.receipt, model=said.model or self._asked.model)

        def write(tx: Tx) -> None:
            threads.store_turn(tx, self._caller, self._asked, Spoken(answers=drafts), self.conversation_id, receipt)

        try:
            await again(self._services.db, write)
        except NotFound:
            log.warning("the conversation of a completion is gone: its turn is not stored")
        except AforesaidError as error:
            log.warning("a turn could not be stored: %s", error)


_pending: set[asyncio.Future[None]] = set()


async def settle() -> None:
    """Turns of callers who left are stored."""
    while _pending:
        await asyncio.gather(*_pending, return_exceptions=True)


def broken_event(error: StreamBroken) -> bytes:
    """The event that ends a stream which broke: an error, in the form that OpenAI's clients raise."""
    told = {"error": {"message": error.message, "type": "upstream_error", "param": None, "code": error.code}}
    return b"data: " + msgspec.json.encode(told) + b"\n\n"


def _item(hit: Hit, place: int) -> Json:
    return {
        "kind": hit.kind,
        "id": hit.id,
        "message_ids": list(hit.message_ids),
        "rank": place + 1,
        "score": round(hit.score, 6),
        "signals": {name: round(value, 6) for name, value in hit.signals.items()},
    }


async def complete(
    services: Services, caller: Caller, asked: Asked, headers: tuple[tuple[str, str], ...] = ()
) -> Completion:
    """The answer to a request, begun, with the user's memory put before the question.

    *Raises* ``NotFound`` for a conversation that is not there; ``UpstreamFailed`` when no answer could be begun.
    """
    recalled = await recall(services, caller, asked)
    options = services.options
    block = block_of(recalled.hits, asked.question, options.recall_tokens, options.recall_items)
    request = ChatRequest(
        body=composed(asked, block),
        model=asked.model,
        stream=asked.stream,
        headers=headers,
        context=AnswerContext(
            question=asked.question,
            user_id=asked.user_id,
            turns=tuple((turn.role, turn.text) for turn in asked.turns),
            items=tuple(_recalled_item(hit) for hit in block.hits),
        ),
    )
    answer = await services.chat.open(request)
    return Completion(services, caller, asked, recalled, block, answer)


def _recalled_item(hit: Hit) -> RecalledItem:
    message = hit.message
    assert message is not None
    return RecalledItem(
        id=message.id,
        text=message.content,
        sender=message.sender_id,
        role=message.role,
        created_us=message.created_us,
        score=hit.score,
    )


async def recall(services: Services, caller: Caller, asked: Asked) -> Recalled:
    """What the user's store holds on the question, and which conversation this is, within the budget.

    *Raises* ``NotFound`` for a given conversation; nothing else.
    """
    begun = time.perf_counter()
    wanted = asked.memories and asked.user_id is not None
    skipped = None if wanted else "off" if not asked.memories else "no_user"
    located: Located | None = None
    hits: list[Hit] = []
    try:
        read = services.db.read(_recall, services, caller, asked, wanted)
        located, hits = await asyncio.wait_for(read, services.options.recall_budget_s if wanted else None)
    except TimeoutError:
        skipped = "timeout"
        if asked.conversation_id is not None:
            # A conversation that is not there is an error, however busy the store.
            await services.db.read(resolve, caller, asked.conversation_id)
    except NotFound:
        raise
    except Unavailable as error:
        log.warning("recall is not available: %s", error)
        skipped = "failed"
    except Exception:
        log.exception("recall failed")
        skipped = "failed"
    return Recalled(hits=hits, located=located, skipped=skipped, ms=(time.perf_counter() - begun) * 1000)


def _recall(tx: Tx, services: Services, caller: Caller, asked: Asked, wanted: bool) -> tuple[Located, list[Hit]]:
    located = threads.locate(tx, caller, asked)
    question = asked.question.strip()
    if not wanted or not question:
        return located, []
    assert asked.user_id is not None
    search = recollection.Search(
        query=question, user_id=asked.user_id, limit=services.options.recall_items * 2, asked_us=ids.now_us()
    )
    overview = _OVERVIEW.search(question) and not _ABOUT_SOMETHING.search(question)
    hits = [] if overview else services.recollection.hits(tx, caller, search)
    if overview:
        hits = recollection.recent(tx, caller.workspace, asked.user_id, RECENT_ITEMS)
    spoken = {turn.text.strip() for turn in asked.turns}
    return located, [hit for hit in hits if hit.message is not None and hit.message.content.strip() not in spoken]


class ShownReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt with what it names: the messages that are still there, by id."""

    receipt: Receipt
    conversation_id: str | None
    answer: Message | None
    messages: dict[str, Message]


async def get_receipt(db: Database, caller: Caller, id: str) -> ShownReceipt:
    """What was put before an answer. *Raises* ``NotFound``."""

    def read(tx: Tx) -> ShownReceipt:
        receipt = turn_store.get_receipt(tx, caller.workspace, id)
        if receipt is None:
            raise NotFound("Receipt")
        wanted = [ids.number_of(m, ids.MESSAGE) for item in receipt.items for m in item["message_ids"]]
        numbers = [number for number in wanted if number is not None]
        if receipt.answer is not None:
            numbers.append(receipt.answer)
        found = message_store.get_messages_by_number(tx, caller.workspace, numbers)
        conversation = None
        if receipt.conversation is not None:
            conversation = resolve(tx, caller, receipt.conversation).id
        return ShownReceipt(
            receipt=receipt,
            conversation_id=conversation,
            answer=found.get(receipt.answer) if receipt.answer is not None else None,
            messages={message.id: message for message in found.values()},
        )

    return await db.read(read)
