"""The words of the interface's description that no single endpoint has: tags, parameters, errors, keys, links."""

from typing import Any

import msgspec

from aforesaid import limits
from aforesaid.http.endpoint import Access, Dialect, Endpoint

SUMMARY = "Conversations, and completions that remember them."

ABOUT = f"""\
One server, two dialects over one store. Under `/api/v1` stands the Mielto API: conversations, messages and
OpenAI-compatible chat completions; under `/v1`, `/v0` and without a prefix the Mendable API, whose ids are integers.
A conversation made in one is the same conversation in the other.

**Keys.** `Authorization: Bearer <key>` or `x-api-key: <key>`; the Mendable API also takes `api_key` or
`anon_key` in the body. Secret keys are for servers, anon keys for browsers.

**Errors** come in the form of their dialect: a `detail` under `/api/v1`, OpenAI's `error` object for completions and
models, one line of text in the Mendable API. What is not there and what is not yours look the same: 404.
A request that is refused has changed nothing.

**Limits.** Message {limits.MESSAGE_BYTES >> 20} MiB, {limits.REQUEST_MESSAGES:,} messages a request, body
{limits.IMPORT_BODY_BYTES >> 20} MiB where messages come in and {limits.BODY_BYTES >> 20} MiB elsewhere, page
{limits.PAGE:,} items, metadata {limits.METADATA_BYTES >> 10} KiB. Bodies are JSON, uncompressed; a key that stands
twice in one object is refused.

**Times** are ISO 8601 in UTC; requests may also use seconds or milliseconds since 1970. Unknown fields are ignored.
Every answer has an `x-request-id`: yours, if you sent a sane one."""

TAGS = {
    "Chat": "OpenAI's endpoints, for OpenAI's SDKs, with the memory of a user.",
    "Messages": "Stored once however often they are sent, in order, by whoever said them.",
    "Conversations": "Made, changed, ended, listed, removed.",
    "Search": "What a user's conversations hold, whether it is searchable yet, and what stood before an answer.",
    "API keys": "Keys of the workspace, and who asks.",
    "Server": "Is it up?",
    "Mendable": "Conversations with integer ids, grounded chat, ratings and the export, under `/v1`, `/v0` and no "
    "prefix.",
}

ACCESS: dict[Access, str] = {
    "public": "No key is needed.",
    "anon": "Any key will do, also one for browsers.",
    "read": "Takes a secret key with the permission `read`.",
    "write": "Takes a secret key with the permission `write`.",
}

SECURITY_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <key>`"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key in a header."},
}

REQUEST_ID = {
    "description": "The request's id: the caller's own `x-request-id` if it is a sane one, else a new one.",
    "schema": {"type": "string"},
}

ERROR_HEADERS = {
    "www-authenticate": {"description": "How to say who asks.", "schema": {"const": "Bearer"}},
    "retry-after": {"description": "Seconds until it is worth trying again.", "schema": {"type": "string"}},
}

PHRASES = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    507: "Insufficient Storage",
}
"""Status names as RFC 9110 has them; the standard library's differ from version to version."""

ERRORS = {
    "unauthenticated": "No key, or one that is not known, not active, expired, or not for this address.",
    "forbidden": "The key is good, but not for this: it lacks the permission, or is another workspace's.",
    "invalid": "A field is wrong; the answer names it.",
    "too_large": "A named limit is exceeded.",
    "request_timeout": "The body came too slowly.",
    "unsupported_media_type": "The body is no JSON, or is compressed.",
    "not_found": "It is not there, or is not yours.",
    "method_not_allowed": "The address is there, but not for this method; `allow` tells for which.",
    "conflict": "The Idempotency-Key was used for another request.",
    "too_many": "Slow down.",
    "unavailable": "A part can't answer now; nothing was changed.",
    "storage_full": "The disk is full: nothing was stored, reads go on.",
    "upstream_failed": "The model server refused or broke before its answer began.",
    "stream_broken": "The model server broke off in the middle of its answer; a stream ends with an error event.",
    "internal_error": "Something went wrong on our side; the log has it under the request id.",
    "refused": "The request can't be done as it stands.",
    "misconfigured": "The settings can't work as given: the server does not start.",
}
"""What each code of the error tree means to a client."""

PATH = {
    "conversation_id": ("Its id, or its integer spelling.", "conv_01JXCR3K0G7W4Q8Z2N5T6V9XYB"),
    "message_id": ("Its id, or its integer spelling.", "msg_01JXCR3K1H8X5R9A3P6V7W0YZC"),
    "key_id": ("The key's id.", "key_01JXCR3K3K0Z7T1C5R8X9Y2ABE"),
    "receipt_id": ("The id in the `x-aforesaid-receipt-id` header.", "rcp_01JXCR3K2J9Y6S0B4Q7W8X1ZAD"),
    "model": ("The model's name; slashes may stand in it.", "gpt-4"),
}
"""Path parameters: what they are, and an example."""

THINGS = {
    "conversation_id": "Conversation",
    "message_id": "Message",
    "key_id": "API key",
    "receipt_id": "Receipt",
    "model": "Model 'gpt-4'",
}

QUERY = {
    "collection_id": "Only conversations in this collection.",
    "conversation_id": "Only messages of this conversation.",
    "cursor": "The id of the last conversation of the page before: `next_cursor` or `prev_cursor` of its answer.",
    "direction": "Which way: `next` or `prev` of the cursor, or `asc` or `desc`.",
    "is_public": "Only those with this setting.",
    "limit": "How many at most.",
    "message_type": "Only messages of this type.",
    "order": "`asc` or `desc`.",
    "order_by": "The same as `sort_by`.",
    "owner_id": "The same as `user_id`.",
    "page": "Which page, from 1: another way to say `skip`.",
    "role": "Only messages of this role.",
    "search": "Only those that contain this text.",
    "sender_id": "Only messages of this sender.",
    "since": "Not before this time.",
    "skip": "How many to leave out from the start.",
    "sort_by": "What the order goes by.",
    "sort_order": "`asc` or `desc`.",
    "status": "Only conversations with this status.",
    "tags": "Only messages with all of these tags, separated by commas.",
    "until": "Before this time.",
    "user_id": "Only this user's. Compared exactly; blank is refused, and nothing means everybody but leaving it out.",
    "workspace_id": "The key's own workspace; another one is refused.",
}
"""Query parameters: what they do."""


def _link(operation: str, about: str, **parameters: str) -> dict[str, Any]:
    return {"operationId": operation, "description": about, "parameters": parameters}


def _conversation_links() -> dict[str, Any]:
    at = "$response.body#/id"
    names = (
        "get_conversation update_conversation patch_conversation list_conversation_messages add_conversation_message "
        "delete_conversation"
    ).split()
    links = {name: _link(name, "The conversation that was made.", conversation_id=at) for name in names}
    links["create_messages"] = {
        "operationId": "create_messages",
        "description": "Messages for the conversation that was made.",
        "requestBody": {"conversation_id": at, "content": {"role": "user", "content": "I moved to Lisbon in May."}},
    }
    return links


def _message_links(at: str) -> dict[str, Any]:
    names = "get_message get_message_status update_message delete_message".split()
    return {name: _link(name, "The message that was stored.", message_id=at) for name in names}


def _key_links() -> dict[str, Any]:
    at = "$response.body#/id"
    return {name: _link(name, "The key that was made.", key_id=at) for name in ("get_api_key", "delete_api_key")}


LINKS: dict[str, dict[str, Any]] = {
    "create_conversation": _conversation_links(),
    "create_messages": _message_links("$response.body#/0/id"),
    "add_conversation_message": _message_links("$response.body#/id"),
    "create_api_key": _key_links(),
    "list_models": {"get_model": _link("get_model", "A model of the list.", model="$response.body#/data/0/id")},
    "create_chat_completion": {
        "get_receipt": _link(
            "get_receipt", "What stood before the answer.", receipt_id="$response.header.x-aforesaid-receipt-id"
        ),
        "get_conversation": _link(
            "get_conversation", "Where it is stored.", conversation_id="$response.header.x-aforesaid-conversation-id"
        ),
    },
    "new_conversation": {
        "get_conversation": _link(
            "get_conversation", "The same conversation.", conversation_id="$response.body#/conversation_id"
        ),
    },
}
"""What an answer leads on to, by the name of the operation that gives it."""


def security(endpoint: Endpoint, dialect: Dialect) -> list[dict[str, list[str]]]:
    """How a caller says who it is. Where the key may stand in the body, that can't be said otherwise than by none."""
    if endpoint.access == "public":
        return []
    ways: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]
    return [*ways, {}] if dialect.lenient_json else ways


def example_field(endpoint: Endpoint) -> str:
    """A field of the body that is required, else any."""
    kinds = getattr(endpoint.body, "__args__", (endpoint.body,))
    fields = msgspec.structs.fields(kinds[0])
    return next((field.encode_name for field in fields if field.required), fields[0].encode_name)
