"""Questions and answers over HTTP: streamed in frames that this API's clients take apart by their own means.

A frame is ``data: ``, one JSON object, an empty line, LF only; each is sent on its own, because a client parses each
piece of the network as one frame. There are no comments and no end mark: clients parse every frame as JSON, and one
repeats the whole request when it can't. So silence, not a ping, is what a slow model sounds like.
"""

from collections.abc import AsyncGenerator

from aforesaid.core import grounded
from aforesaid.core.grounded import Answering
from aforesaid.errors import AforesaidError
from aforesaid.http.endpoint import Call, Endpoint, Reply, encode
from aforesaid.http.mendable.conversations import TAG, reference, writing
from aforesaid.http.mendable.wire import AnswerText, BrokenFrame, ChatFrame, ChatIn, ChatOut, Source
from aforesaid.http.stream import Stream, unless_left

SOURCES = "<|source|>"
MESSAGE_ID = "<|message_id|>"
MARKS = frozenset(
    {
        SOURCES,
        MESSAGE_ID,
        "<|loading_tools|>",
        "<|taking_action|>",
        "<|tool_called|>",
        "<|tool_output|>",
        "<|tool_error|>",
        "<|confidence_score|>",
    }
)
"""What a chunk means when it is nothing else."""
STREAMED = {"content-type": "text/event-stream", "cache-control": "no-cache", "x-accel-buffering": "no"}


def frame(value: ChatFrame | BrokenFrame) -> bytes:
    """The value as one event."""
    return b"data: " + encode(value) + b"\n\n"


def text_frames(text: str) -> list[bytes]:
    """The piece of text as a frame; as two when the model happens to say one of the marks."""
    parts = [text[:1], text[1:]] if text in MARKS else [text]
    return [frame(ChatFrame(chunk=part)) for part in parts]


async def frames(answering: Answering, sources: list[Source]) -> AsyncGenerator[bytes, None]:
    """The frames of an answer: sources, an empty one, the text, and last the id of the stored answer."""
    yield frame(ChatFrame(chunk=SOURCES, metadata=sources))
    yield frame(ChatFrame(chunk=""))
    pieces = answering.pieces()
    try:
        async for piece in pieces:
            for one in text_frames(piece):
                yield one
        yield frame(ChatFrame(chunk=MESSAGE_ID, metadata=answering.message))
    except AforesaidError:
        yield frame(BrokenFrame(status=500, chunk=""))
    finally:
        await pieces.aclose()


async def _chat(call: Call) -> Reply | Stream:
    body: ChatIn = call.body
    writing(call)
    question = grounded.Question(
        text=body.question,
        history=tuple((turn.prompt or "", turn.response or "") for turn in body.history or ()),
        conversation=None if body.conversation_id is None else reference(body.conversation_id),
        context=body.additional_context or "",
        temperature=body.temperature,
        stream=body.should_stream is not False,
        meta_data=body.kept(),
    )
    return await unless_left(call.receive, _answered(call, question))


async def _answered(call: Call, question: grounded.Question) -> Reply | Stream:
    answering = await grounded.answer(call.services, call.caller, question)
    sources: list[Source] = []
    if question.stream:
        return Stream(frames(answering, sources), headers=STREAMED)
    text = await answering.whole()
    assert answering.message is not None
    answer = ChatOut(answer=AnswerText(text=text), message_id=answering.message, sources=sources, tools_used=[])
    return Reply.json(answer)


ENDPOINTS = (
    Endpoint(
        method="POST", path="/mendableChat", run=_chat, name="mendable_chat", tag=TAG, access="anon",
        summary="Ask a question",
        about="Streamed unless `shouldStream` is false. The caller sends the `history`, oldest first: stored turns are "
        "not sent to the model. Without a `conversation_id`, or with one that is not there, the turn begins a new "
        "conversation.",
        body=ChatIn, gives=ChatOut, streams=ChatFrame, errors=(400, 403, 429, 500, 503),
        example={
            "api_key": "YOUR_API_KEY",
            "question": "How do I create a new project?",
            "history": [{"prompt": "Hi", "response": "Hello! What can I do for you?"}],
            "conversation_id": 1234567890,
            "shouldStream": False,
        },
        gives_example={
            "answer": {"text": "To create a new project..."}, "message_id": 12344321, "sources": [], "tools_used": [],
        },
    ),
)  # fmt: skip
