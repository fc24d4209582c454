"""Rules of values that types don't say: what ``core.checks`` and ``times`` refuse, as JSON schema, by field name.

Only requests are drawn with them. Sizes in bytes can't be said in JSON schema; the description's text has them.
"""

from collections.abc import Mapping
from typing import Any

from aforesaid import limits
from aforesaid.times import MAX_US

Schema = dict[str, Any]

# JSON schema's white space is not quite ours.
_NOT_BLANK = r"[^\s\u001c-\u001f\u0085]|\ufeff"
_IDENTIFIER: Schema = {"minLength": 1, "maxLength": limits.ID_CHARACTERS, "pattern": _NOT_BLANK}
_WORD: Schema = {"minLength": 1, "maxLength": 64, "pattern": _NOT_BLANK}
_MONTH_AND_DAY = r"((0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
_DATE = rf"(19[7-9]\d|2\d{{3}})-{_MONTH_AND_DAY}"
_TIME: Schema = {
    "pattern": rf"^{_DATE}T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{{1,6}})?Z$",
    "examples": ["2025-06-10T10:28:06.658Z"],
}
_TIME_OR_NOTHING: Schema = _TIME | {"pattern": f"^({_TIME['pattern'][1:-1]})?$"}
_DAY: Schema = {"pattern": rf"^{_DATE}$", "examples": ["2025-06-10"]}
_SINCE_1970: Schema = {"minimum": 0, "maximum": MAX_US}
# What survives a header: printable, not blank, no space at the ends. Leaving it empty is leaving it out.
_PRINTABLE = "!-~\u00a1-\u00ac\u00ae-\u00ff"
_HEADER: Schema = {"pattern": f"^[{_PRINTABLE}]([ {_PRINTABLE}]*[{_PRINTABLE}])?$"}

_ITEMS: Schema = {"maxItems": limits.LIST_ITEMS}
_SWITCH: Schema = {"enum": ["true", "false", "1", "0", "on", "off", "yes", "no"]}

STRINGS: Mapping[str, Schema] = {
    **dict.fromkeys(("user_id", "owner_id", "sender_id", "session_id", "checksum", "parent_message_id"), _IDENTIFIER),
    **dict.fromkeys(("user", "collections", "id"), _IDENTIFIER),
    "role": _WORD,
    "message_type": {"maxLength": 64, "pattern": f"^$|{_NOT_BLANK}"},
    **dict.fromkeys(("created_at", "sent_at", "ended_at", "expires_at", "asked_at"), _TIME),
    **dict.fromkeys(("since", "until"), _TIME),
    **dict.fromkeys(("start_date", "end_date"), _DAY),
    "content": {"maxLength": limits.MESSAGE_BYTES},
    "ip_whitelist": {"format": "ipv4", "pattern": r"^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$"},
    "label": {"pattern": _NOT_BLANK},
    "model": _IDENTIFIER,
    "origins": {"pattern": r"^https?://[a-z0-9-]+(\.[a-z0-9-]+)*(:[1-9]\d{0,3})?$", "maxLength": limits.ID_CHARACTERS},
    "permissions": {"enum": ["read", "write"]},
    "query": {"pattern": _NOT_BLANK},
    "question": {"minLength": 1, "maxLength": limits.MESSAGE_BYTES, "pattern": _NOT_BLANK},
    "summary": {"maxLength": limits.SUMMARY_CHARACTERS},
    "tags": {"maxLength": limits.ID_CHARACTERS},
}
"""What a text under this name must be, also as an item of a list."""

NUMBERS: Mapping[str, Schema] = dict.fromkeys(
    ("created_at", "sent_at", "ended_at", "expires_at", "asked_at", "since", "until"), _SINCE_1970
)
"""What a number under this name must be."""

LISTS: Mapping[str, Schema] = {
    **dict.fromkeys(("collections", "permissions", "ip_whitelist", "origins"), _ITEMS),
    "tags": {"maxItems": limits.TAGS},
    "messages": {"maxItems": limits.REQUEST_MESSAGES},
    "content": {"minItems": 1, "maxItems": limits.REQUEST_MESSAGES},
}
"""How long a list under this name may be."""

SHAPES: Mapping[str, Schema] = {
    "SearchIn": {
        "anyOf": [
            {"required": ["user_id"], "properties": {"user_id": {"type": "string"}}},
            {"required": ["conversation_id"], "properties": {"conversation_id": {"type": "string"}}},
        ]
    },
    "MessageUpdate": {"properties": {"message_type": _WORD}},
    "MieltoChatIn": {"properties": {"messages": {"minItems": 1}, "conversation_id": _IDENTIFIER}},
}
"""What holds for a whole object."""

HEADERS: Mapping[str, Schema] = {
    "idempotency-key": _HEADER | {"maxLength": limits.IDEMPOTENCY_KEY_CHARACTERS},
    "x-user-id": _IDENTIFIER,
    "x-session-id": {"maxLength": limits.ID_CHARACTERS},
    "x-memories-enabled": _SWITCH,
    "x-aforesaid-store": _SWITCH,
}
"""What the text of a request's header must be."""


QUERY: Mapping[str, Schema] = {
    **dict.fromkeys(("user_id", "owner_id", "sender_id"), _IDENTIFIER),
    **dict.fromkeys(("since", "until"), _TIME_OR_NOTHING),
    "conversation_id": {"minLength": 1, "pattern": _NOT_BLANK},
    "cursor": {"minLength": 1},
}
"""What the text of a query parameter must be: ``since=`` is the same as no ``since``."""


def ruled(schema: Schema, name: str) -> Schema:
    """The schema of the field called ``name`` with the rules of its values."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [ruled(kind, name) for kind in schema["anyOf"]]}
    kind = schema.get("type")
    if kind == "array":
        return {**schema, **LISTS.get(name, {}), "items": ruled(schema.get("items", {}), name)}
    if kind == "string" and "enum" not in schema:
        return {**schema, **STRINGS.get(name, {})}
    if kind in ("integer", "number"):
        return {**schema, **NUMBERS.get(name, {})}
    return schema


def ruled_shape(schema: Schema, name: str) -> Schema:
    """The object with the rules of its fields and its own."""
    fields = {field: ruled(kind, field) for field, kind in schema.get("properties", {}).items()}
    own = dict(SHAPES.get(name, {}))
    for field, more in own.pop("properties", {}).items():
        fields[field] = {**fields[field], **more}
    return {**schema, "properties": fields, **own}
