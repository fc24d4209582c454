"""A question with its history, answered and stored as one turn: the caller keeps the history, we keep the record.

It is a completion like any other; what differs is who remembers. Stored turns are never sent to the model, because
the caller sends what it wants remembered. A conversation that belongs to a user recalls from that user's store.
"""

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from aforesaid import ids, limits
from aforesaid.core import asking, checks, completion, conversations
from aforesaid.core.asking import Asked
from aforesaid.core.completion import Completion
from aforesaid.core.services import Services
from aforesaid.errors import Invalid, NotFound, Unavailable, UpstreamFailed
from aforesaid.model import Caller, Conversation, Frozen, Json
from aforesaid.providers.sse import payloads
from aforesaid.store.database import Tx


class Question(Frozen, frozen=True, kw_only=True):
    """What is asked. ``history`` holds (prompt, response) pairs, oldest first; either may be empty.

    ``conversation`` is where the turn is to stand, in either spelling; what is not there is taken for nothing.
    ``context`` is text of the caller's own to answer from; ``meta_data`` is kept with the question.
    """

    text: str
    history: tuple[tuple[str, str], ...] = ()
    conversation: int | str | None = None
    context: str = ""
    temperature: float | None = None
    stream: bool = True
    meta_data: Json | None = None


class Answering:
    """An answer under way. ``message`` is the number of the stored answer, once it is whole."""

    def __init__(self, running: Completion) -> None:
        self._running = running
        self.message: int | None = None

    async def whole(self) -> str:
        """The text of the answer; the turn is stored. *Raises* ``UpstreamFailed``, ``Unavailable``."""
        if self._running.streaming:
            return "".join([piece async for piece in self.pieces()])
        await self._running.body()
        text = next((choice.content or choice.refusal or "" for choice in self._running.said().choices), "")
        self._settle(bool(text))
        return text

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The text piece by piece; after the last one the turn is stored.

        Closed early, what was given so far is stored as incomplete. *Raises* ``UpstreamFailed`` when the answer broke
        off (what came of it is stored), ``Unavailable`` when the turn could not be stored.
        """
        if not self._running.streaming:
            yield await self.whole()
            return
        events = self._running.events()
        spoken = False
        try:
            async for several in events:
                for payload in payloads(several):
                    text = _text(payload)
                    if text:
                        spoken = True
                        yield text
        finally:
            await events.aclose()
        self._settle(spoken)

    def _settle(self, spoken: bool) -> None:
        if self._running.broken:
            raise UpstreamFailed("the model server broke off its answer")
        if not spoken:
            raise UpstreamFailed("the model server answered without a word")
        if not self._running.answers:
            raise Unavailable("the answer could not be stored")
        self.message = ids.number_of(self._running.answers[0], ids.MESSAGE)


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None


_decode = msgspec.json.Decoder(_Event).decode


def _text(payload: bytes) -> str:
    """What an event adds to the answer: nothing, for most kinds."""
    try:
        event = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    deltas = (choice.delta for choice in event.choices or () if choice.index == 0 and choice.delta is not None)
    return "".join(delta.content or delta.refusal or "" for delta in deltas)


def check_question(wanted: Question) -> None:
    """The question can be asked and stored. *Raises* ``Invalid``, ``TooLarge``."""
    if not wanted.text.strip():
        raise Invalid("must not be empty or blank", "question", kind="string_too_short")
    checks.content(wanted.text, "question")
    if len(wanted.history) * 2 + 2 > limits.REQUEST_MESSAGES:
        raise Invalid(f"must hold at most {limits.REQUEST_MESSAGES // 2 - 1} turns", "history", kind="too_long")
    checks.json_value(wanted.meta_data, "metadata")


async def answer(services: Services, caller: Caller, wanted: Question) -> Answering:
    """The answer to a question, begun.

    *Raises* ``Invalid``, ``TooLarge``; ``UpstreamFailed`` when no answer could be begun. Nothing is stored then.
    """
    check_question(wanted)
    found = None
    if wanted.conversation is not None:
        found = await services.db.read(_conversation, caller, wanted.conversation)
    asked = _asked(wanted, await _model(services), found)
    try:
        running = await completion.complete(services, caller, asked)
    except NotFound:  # removed since it was looked for
        asked = _asked(wanted, asked.model, None)
        running = await completion.complete(services, caller, asked)
    return Answering(running)


def _conversation(tx: Tx, caller: Caller, reference: int | str) -> Conversation | None:
    try:
        return conversations.resolve(tx, caller, reference)
    except NotFound:
        return None


async def _model(services: Services) -> str:
    """The model that answers when the request can't name one."""
    if services.options.default_model is not None:
        return services.options.default_model
    listed = await services.chat.models()
    if not listed:
        raise UpstreamFailed("no model is known: name one as default_model in the settings")
    return str(listed[0]["id"])


def _asked(wanted: Question, model: str, conversation: Conversation | None) -> Asked:
    """The question as a completion request."""
    messages: list[Json] = [{"role": "system", "content": wanted.context}] if wanted.context.strip() else []
    for prompt, response in wanted.history:
        messages += [{"role": "user", "content": prompt}] if prompt.strip() else []
        messages += [{"role": "assistant", "content": response}] if response.strip() else []
    messages.append({"role": "user", "content": wanted.text})
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": wanted.stream}
    if wanted.temperature is not None:
        body["temperature"] = wanted.temperature
    asked = asking.understood(msgspec.json.encode(body), {})
    last = msgspec.structs.replace(asked.turns[-1], meta=wanted.meta_data or None, created_us=ids.now_us())
    return msgspec.structs.replace(
        asked,
        turns=(*asked.turns[:-1], last),
        user_id=conversation.owner_id if conversation else None,
        conversation_id=conversation.id if conversation else None,
        into_ended=True,
        resent=False,
        notes=(wanted.context,) if wanted.context.strip() else (),
    )
