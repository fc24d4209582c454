"""A completion that remembers: recall within a budget, one block of data, the answer relayed, the turn stored.

Memory may fail or be late; the answer goes on without it and says so. What the caller saw is what is stored.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncGenerator

import msgspec

from aforesaid import ids
from aforesaid.core import recollection, threads
from aforesaid.core.asking import Asked, Block, block_of, composed, stored_text
from aforesaid.core.conversations import resolve
from aforesaid.core.jobs import INDEX_TEXT
from aforesaid.core.once import again
from aforesaid.core.services import Services
from aforesaid.core.threads import Located, Spoken
from aforesaid.errors import AforesaidError, NotFound, Refused, Unavailable
from aforesaid.model import Caller, Draft, Hit, Json, Message, Receipt
from aforesaid.providers.chat import AnswerContext, ChatAnswer, ChatRequest, RecalledItem, StreamBroken
from aforesaid.providers.sse import Answer, Choice, Collector, done_at
from aforesaid.store import messages as message_store
from aforesaid.store import turns as turn_store
from aforesaid.store.database import Database, Tx
from aforesaid.store.jobs import has_jobs

log = logging.getLogger("aforesaid.completion")

CATCH_UP_S = 0.005
"""How often it is looked whether what the user just brought is indexed: for half of the recall budget."""
RECENT_ITEMS = 12
"""Messages recalled when a question asks for an overview rather than for something."""
STORE_WAIT_S = 5.0
"""How long an answer waits for its turn to be stored. After that it is stored behind the caller's back."""
LOCATE_S = 2.0
"""How long a request with a conversation id waits for the store to say whether there is one, when recall was late."""

OVERVIEW_CHARACTERS = 200
"""A longer question brings with it what it is about."""
_OVERVIEW = re.compile(
    r"\b(?:summari[sz]e|summary|sum up|recap|tl;?dr|catch me up|zusammenfass\w*|fass\w* .{0,40}zusammen|résume[rz]?\b|"
    r"resumen\b|resumir\b|resumo\b|riassum\w*|samenvat\w*|who am i|what do you remember|"
    r"what (?:do|did|have) you (?:know|remember|learn(?:ed|t)?) (?:about|of) me|everything you (?:know|remember)|"
    r"what (?:have|did) (?:we|i) (?:talk\w*|discuss\w*|spoken|tell you|told you)|"
    r"tell me (?:what you know|about (?:me|myself)\b)|where (?:were|did|have) we (?:leave|stop|left))",
    re.IGNORECASE,
)
_OF_SOMETHING = re.compile(
    r"\b(?:about|of|on|summari[sz]e|recap|sum up)\s+(?:(?:the|this|that|my|our|your|all)\s+)*"
    r"(?!(?:the|this|that|my|our|your|all|conversations?|chats?|discussions?|talks?|sessions?|messages?|history|me|myself|"
    r"us|it|everything|what|so|for|please|again|we|you)\b)\w+",
    re.IGNORECASE,
)


def is_overview(question: str) -> bool:
    """Whether a question asks for what there is in general: its words then say nothing about what to look for."""
    if len(question) > OVERVIEW_CHARACTERS or not _OVERVIEW.search(question):
        return False
    return not _OF_SOMETHING.search(question)


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
        self._located = recalled.located
        known = recalled.located.conversation if recalled.located else None
        self.conversation_id = known.id if known else ids.new_id(ids.CONVERSATION)
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
        self.broken = False
        """Whether the stream broke off; known after its last event."""
        self.answers: list[str] = []
        """The ids of the stored answers; known after the last event, or with the body."""

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
            ours["x-aforesaid-receipt-id"] = self.receipt.id
            if self._located is not None:  # else the turn finds its place when it is stored: the receipt names it
                ours["x-aforesaid-conversation-id"] = self.conversation_id
        return {**self._answer.headers, **ours}

    async def body(self) -> bytes:
        """The whole answer, stored. *Raises* ``UpstreamFailed`` when it broke off."""
        try:
            body = await self._answer.body()
        finally:
            await self._answer.close()
        self._collector.feed_body(body)
        await self._kept()
        return body

    def said(self) -> Answer:
        """What the answer amounts to so far."""
        return self._collector.answer()

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answer's events as they come. The last one comes after the turn is stored.

        Ends with an error event when the stream broke. Closed early, it closes the model server's connection and
        stores what was sent so far as incomplete.
        """
        broken: StreamBroken | None = None
        last = b""
        ended = storing = False
        try:
            try:
                async with contextlib.aclosing(self._answer.events()) as pieces:
                    async for piece in pieces:
                        self._collector.feed(piece)
                        end = done_at(piece)
                        if end >= 0:  # held back until what was said is stored
                            last, piece, ended = piece[end:], piece[:end], True
                        if piece:
                            yield piece
                        if ended:
                            break
                ended = True
            except StreamBroken as error:
                broken = error
            except asyncio.CancelledError:
                broken = StreamBroken("the server is stopping", status=503)
            except Exception:
                log.exception("a stream failed")
                broken = StreamBroken("something went wrong on our side", status=500)
            self.broken = broken is not None
            if broken is not None:
                await self._answer.close()
            storing = True
            await self._kept()
            if broken is not None and not broken.reported:
                yield broken_event(broken)
            elif last:
                yield last
        finally:
            if not ended:
                await self._answer.close()
            if not storing:
                self._keep()  # the caller has left; the storing goes on without it

    def _keep(self) -> "asyncio.Task[None]":
        """The turn is being stored, whoever leaves."""
        task = asyncio.ensure_future(self._store())
        _pending.add(task)
        task.add_done_callback(_pending.discard)
        return task

    async def _kept(self) -> None:
        """The turn is stored, or takes longer than an answer may wait for it."""
        if self._asked.store:
            _, late = await asyncio.wait((self._keep(),), timeout=STORE_WAIT_S)
            if late:
                log.warning("storing a turn takes longer than %g s: the answer goes on", STORE_WAIT_S)

    async def _store(self) -> None:
        """The turn is stored, unless the caller wants none of it. A failure is logged: the answer is worth more."""
        if not self._asked.store:
            return
        said = self._collector.answer()
        whole = said.complete and not self.broken
        drafts = []
        for choice in said.choices or (Choice(index=0),):
            meta: Json = {"model": said.model or self._asked.model, "receipt_id": self.receipt.id}
            if choice.finish_reason:
                meta["finish_reason"] = choice.finish_reason
            if len(said.choices) > 1:
                meta["choice"] = choice.index
            # An answer without a word is kept too: the conversation goes on from it, and the receipt leads to it.
            draft = Draft(
                role="assistant",
                content=stored_text(choice.content or choice.refusal or ""),
                tool_calls=choice.tool_calls,
                meta_data=meta,
                incomplete=not whole,
            )
            drafts.append(draft)
        receipt = msgspec.structs.replace(self.receipt, model=said.model or self._asked.model)

        def write(tx: Tx) -> list[str]:
            spoken = Spoken(answers=drafts)
            _, made = threads.store_turn(
                tx, self._caller, self._asked, spoken, self.conversation_id, receipt, self._located
            )
            return made

        try:
            self.answers = await again(self._services.db, write)
        except NotFound:
            log.warning("the conversation of a completion is gone: its turn is not stored")
        except AforesaidError as error:
            log.warning("a turn could not be stored: %s", error)
        except Exception:
            log.exception("a turn could not be stored")


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
            items=(
                *(_recalled_item(hit) for hit in block.hits),
                *(RecalledItem(id="", text=note, role="note") for note in asked.notes),
            ),
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

    *Raises* ``NotFound`` or ``Invalid`` for a given conversation, ``Unavailable`` when the store can't even say
    whether there is one.
    """
    begun = time.perf_counter()
    wanted = asked.memories and asked.user_id is not None
    skipped = None if wanted else "off" if not asked.memories else "no_user"
    located: Located | None = None
    hits: list[Hit] = []
    try:
        budget_s = services.options.recall_budget_s
        async with asyncio.timeout(budget_s if wanted else LOCATE_S):
            located, hits = await _found(services, caller, asked, wanted, begun + budget_s / 2)
    except TimeoutError:
        skipped = "timeout"
        located = await _named(services, caller, asked)
    except Refused:
        raise
    except Unavailable as error:
        log.warning("recall is not available: %s", error)
        skipped = "failed"
    except Exception:
        log.exception("recall failed")
        skipped = "failed"
    return Recalled(hits=hits, located=located, skipped=skipped, ms=(time.perf_counter() - begun) * 1000)


async def _found(
    services: Services, caller: Caller, asked: Asked, wanted: bool, until: float
) -> tuple[Located, list[Hit]]:
    """Where the request stands and what fits it. What the user just brought is waited for, but not after ``until``."""
    while True:
        patient = wanted and time.perf_counter() + CATCH_UP_S < until
        found = await services.db.read(_recall, services, caller, asked, wanted, patient)
        if found is not None:
            return found
        await asyncio.sleep(CATCH_UP_S)


async def _named(services: Services, caller: Caller, asked: Asked) -> Located | None:
    """The conversation that the request names: one that is not there is an error, however busy the store."""
    if asked.conversation_id is None:
        return None
    try:
        async with asyncio.timeout(LOCATE_S):
            return await services.db.read(threads.locate, caller, asked)
    except TimeoutError:
        raise Unavailable("the store is too busy to look for the conversation") from None


def _recall(
    tx: Tx, services: Services, caller: Caller, asked: Asked, wanted: bool, patient: bool
) -> tuple[Located, list[Hit]] | None:
    """What was found; with ``patient``, None while messages of the user wait to be indexed."""
    if patient and has_jobs(tx, caller.workspace, asked.user_id or "", INDEX_TEXT):
        return None
    located = threads.locate(tx, caller, asked)
    question = asked.question.strip()
    if not wanted or not question:
        return located, []
    assert asked.user_id is not None
    # What the request itself says may be among the hits and is left out of them again.
    most = services.options.recall_items
    limit = most + min(len(asked.turns), most)
    search = recollection.Search(query=question, user_id=asked.user_id, limit=limit, asked_us=ids.now_us())
    if is_overview(question):
        hits = recollection.recent(tx, caller.workspace, asked.user_id, RECENT_ITEMS)
    else:
        hits = services.recollection.hits(tx, caller, search)
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
