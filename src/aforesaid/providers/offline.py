"""The answerer that needs nothing: it quotes what was said before, and speaks OpenAI's protocol while doing so."""

import asyncio
from typing import Any

import msgspec

from aforesaid.model import Json
from aforesaid.providers.completions import Asked, WholeAnswer, answer_of, asked
from aforesaid.providers.exchange import ChatAnswer, ChatRequest, refused
from aforesaid.providers.quotes import Reply, day, reply

EXTRACTIVE_MODEL = "aforesaid-extractive"

_TEXT_NAMES = ("answer", "text", "response", "reply", "content", "message", "summary", "result", "output")
_FOUND_NAMES = ("found", "known", "has_answer")
_TEXT_LIMITS = ("enum", "const", "pattern", "format", "maxLength")
_ARRAY_LIMITS = ("minItems", "maxItems", "prefixItems", "contains")


class ExtractiveAnswerer:
    """Answers from what was recalled and from the request itself, in the words that were said. No model is involved."""

    async def start(self) -> None:
        """Nothing has to be started."""

    async def stop(self) -> None:
        """Nothing has to be stopped."""

    def describe(self) -> str:
        return f"no model server is configured: {EXTRACTIVE_MODEL} answers by quoting what it remembers"

    async def models(self) -> list[dict[str, Any]]:
        return [model_row(EXTRACTIVE_MODEL)]

    async def open(self, request: ChatRequest) -> ChatAnswer:
        return await asyncio.to_thread(extract, request)


def model_row(name: str) -> dict[str, Any]:
    """An embedded model as ``GET /models`` lists it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "aforesaid"}


def extract(request: ChatRequest) -> WholeAnswer:
    """The extractive answer. *Raises*: UpstreamFailed (400) for what it can't do. *Cost*: milliseconds of CPU."""
    wanted = asked(request.body)
    return given(reply(request.context), wanted, model=EXTRACTIVE_MODEL, stream=request.stream)


def given(said: Reply, wanted: Asked, *, model: str, stream: bool) -> WholeAnswer:
    """A reply in the form that was asked for: text, or JSON."""
    return answer_of(formed(said, wanted), wanted, model=model, stream=stream)


def formed(said: Reply, wanted: Asked) -> str:
    """The text of the answer. *Raises*: UpstreamFailed (400) when a schema asks for more than quotations."""
    form = wanted.response_format
    if form is None or form.type == "text":
        return said.text
    if form.type == "json_object":
        quotes = [
            {
                "text": quote.text,
                "said_by": quote.speaker,
                "id": quote.id or None,
                "date": day(quote.created_us) if quote.created_us is not None else None,
            }
            for quote in said.quotes
        ]
        return msgspec.json.encode({"answer": said.text, "quotes": quotes}).decode()
    schema = (form.json_schema or {}).get("schema")
    if not isinstance(schema, dict):
        raise refused("response_format.json_schema.schema must be an object.", "response_format.json_schema.schema")
    return msgspec.json.encode(_filled(schema, said)).decode()


def _filled(schema: Json, said: Reply) -> Json:
    """An object the schema allows, made of the answer and its quotations."""
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    kind = schema.get("type", "object")
    beyond = [word for word in ("anyOf", "oneOf", "allOf", "not", "$ref", "minProperties", "if") if word in schema]
    if kind != "object" or not isinstance(properties, dict) or not isinstance(required, list) or beyond:
        raise _beyond("only a plain object schema can be met")
    texts = [name for name, part in properties.items() if isinstance(part, dict) and _is_text(part)]
    main = next((name for name in _TEXT_NAMES if name in texts), texts[0] if len(texts) == 1 else None)
    filled: Json = {}
    for name, part in properties.items():
        part = part if isinstance(part, dict) else {}
        if name == main:
            filled[name] = said.text
        elif _is_texts(part):
            filled[name] = [quote.text for quote in said.quotes]
        elif name in _FOUND_NAMES and part.get("type") == "boolean":
            filled[name] = said.kind not in ("nothing", "nearest")
        elif name in required and _may_be_null(part):
            filled[name] = None
        elif name in required:
            raise _beyond(f"it has nothing to put into {name!r}")
    unknown = [str(name) for name in required if name not in filled]
    if unknown:
        raise _beyond(f"it has nothing to put into {unknown[0]!r}")
    if not filled:
        raise _beyond("there is no place for an answer")
    return filled


def _is_text(part: Json) -> bool:
    kind = part.get("type")
    return (kind == "string" or (isinstance(kind, list) and "string" in kind)) and not any(
        limit in part for limit in _TEXT_LIMITS
    )


def _is_texts(part: Json) -> bool:
    items = part.get("items")
    return (
        part.get("type") == "array"
        and isinstance(items, dict)
        and items.get("type") == "string"
        and not any(limit in items for limit in _TEXT_LIMITS)
        and not any(limit in part for limit in _ARRAY_LIMITS)
    )


def _may_be_null(part: Json) -> bool:
    kind = part.get("type")
    return kind == "null" or (isinstance(kind, list) and "null" in kind)


def _beyond(why: str) -> Exception:
    return refused(
        f"The embedded answerer gives quotations and can't meet this schema: {why}.", "response_format.json_schema"
    )
