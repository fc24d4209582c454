"""What requests and answers look like in the Mendable API. Fields that are not named here are ignored."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from aforesaid.core.exchanges import Exchange
from aforesaid.model import Message
from aforesaid.times import iso_millis_naive

Reference = int | str
"""A conversation or message: its number, as a number or as text."""


class Keyed(msgspec.Struct, kw_only=True):
    """Any request: the key stands in its body. ``Authorization: Bearer`` is looked at when it doesn't."""

    api_key: str | None = None
    anon_key: str | None = None


class NewConversationIn(Keyed, kw_only=True):
    """A conversation to begin. ``user_id``, our own, is the user whose memory it shares; it takes a secret key."""

    user_id: str | None = None


class ConversationIn(Keyed, kw_only=True):
    """A conversation that is meant."""

    conversation_id: Reference


class RatingIn(Keyed, kw_only=True):
    """A rating of an answer: 1 good, -1 bad, 0 none."""

    message_id: Reference
    rating_value: Annotated[int, Meta(ge=-1, le=1)]


class TurnIn(msgspec.Struct, kw_only=True):
    """An earlier turn, as the caller kept it."""

    prompt: str | None = None
    response: str | None = None


class ChatIn(Keyed, kw_only=True):
    """A question."""

    question: str
    history: list[TurnIn] | None = None
    conversation_id: Reference | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    additional_context: str | None = None
    should_stream: bool | None = msgspec.field(default=None, name="shouldStream")
    tracking: Any = None
    url: Any = None
    timezone: Any = None
    component_version: Any = None
    metadata: Any = None

    def kept(self) -> dict[str, Any] | None:
        """What is stored with the question for later reports."""
        names = ("tracking", "url", "timezone", "component_version", "metadata")
        return {name: value for name in names if (value := getattr(self, name)) not in (None, "", {})} or None


class ExportIn(Keyed, kw_only=True):
    """Which turns are asked for. Dates are days in UTC; the end day is included."""

    rating_value: Annotated[int, Meta(ge=-1, le=1)] | None = None
    start_date: str | None = None
    end_date: str | None = None


class NewConversation(msgspec.Struct, kw_only=True):
    """The conversation that was begun."""

    conversation_id: int


class MessageRead(msgspec.Struct, kw_only=True):
    """A message of a conversation. ``sender`` is ``Human`` or ``AI``; ``timestamp`` is UTC without saying so."""

    message_id: int
    conversation_id: int
    sender: str
    timestamp: str
    message: str
    rating_value: int


class Source(msgspec.Struct, kw_only=True):
    """A piece of a document that the answer rests on."""

    id: int
    content: str
    link: str
    relevance_score: float


class AnswerText(msgspec.Struct, kw_only=True):
    """The words of an answer."""

    text: str


class ChatOut(msgspec.Struct, kw_only=True):
    """A whole answer. ``message_id`` is what a rating names."""

    answer: AnswerText
    message_id: int
    sources: list[Source]
    tools_used: list[dict[str, Any]]


class ChatFrame(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One event of a streamed answer: a piece of text, or one of the marks and what belongs to it."""

    chunk: str = msgspec.field()
    metadata: Any = msgspec.UNSET


class BrokenFrame(msgspec.Struct, kw_only=True):
    """The last event of an answer that broke off."""

    status: int
    chunk: str


class ExchangeRead(msgspec.Struct, kw_only=True):
    """A turn: what was asked and what was answered. ``message_id`` and ``timestamp`` are the answer's."""

    project_id: int
    message_id: int
    conversation_id: int
    timestamp: str
    human_query: str
    ai_response: str


SENDERS = {"user": "Human", "assistant": "AI"}


def message_read(m: Message) -> MessageRead:
    """The message as this API shows it."""
    return MessageRead(
        message_id=m.number,
        conversation_id=m.conversation,
        sender=SENDERS[m.role],
        timestamp=iso_millis_naive(m.created_us),
        message=m.content,
        rating_value=m.rating,
    )


def exchange_read(e: Exchange, workspace: int) -> ExchangeRead:
    """The turn as this API exports it."""
    return ExchangeRead(
        project_id=workspace,
        message_id=e.number,
        conversation_id=e.conversation,
        timestamp=iso_millis_naive(e.created_us),
        human_query=e.question,
        ai_response=e.answer,
    )
