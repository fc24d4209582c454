"""Examples for shapes that have none of their own: each field's sample value is told by its name."""

from collections.abc import Mapping
from typing import Any

TIME = "2025-06-10T10:28:06.658000Z"
CONVERSATION_ID = "conv_01JXCR3K0G7W4Q8Z2N5T6V9XYB"
MESSAGE_ID = "msg_01JXCR3K1H8X5R9A3P6V7W0YZC"

VALUES: dict[str, Any] = {
    "answer_message_id": MESSAGE_ID,
    "auth_type": "api_key",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "In Lisbon."}, "finish_reason": "stop"}],
    "content": "I moved to Lisbon in May.",
    "conversation_id": CONVERSATION_ID,
    "created": 1749551286,
    "email": None,
    "execution_time_ms": 1.7,
    "explain": {"words": 7.91, "recency": 0.31},
    "id": MESSAGE_ID,
    "jobs": {},
    "key": "mk_4b1f9c07d2e86a35",
    "kind": "message",
    "kinds": {},
    "label": "Back end",
    "limit": 100,
    "message": "Where does she live?",
    "message_ids": [MESSAGE_ID],
    "message_type": "text",
    "model": "aforesaid-extractive",
    "name": "default",
    "object": "chat.completion",
    "owned_by": "aforesaid",
    "owner_id": "your-user-id",
    "permissions": ["read", "write"],
    "query": "When did she move to Lisbon?",
    "recall_ms": 2.1,
    "role": "user",
    "roles": ["user"],
    "score": 1.6,
    "secret": "sk_4Zt9Qm0x",
    "sender": "Human",
    "sender_id": "your-user-id",
    "signals": {"own": 0.5, "window": 0.1, "who": 1.0},
    "status": "active",
    "store": "sqlite",
    "timestamp": "2025-06-10T10:28:06.658",
    "title": "Onboarding conversation",
    "tokens": 210,
    "total_count": 1,
    "usage": {"prompt_tokens": 214, "completion_tokens": 4, "total_tokens": 218},
    "user_id": "your-user-id",
    "version": "1.0.0",
    "workspace_id": "wsp_01JXCR3JZF6V3P7Y1M4S5T8WXA",
}
"""Sample values by field name."""

BY_SHAPE: dict[str, dict[str, Any]] = {
    "ConversationRead": {"id": CONVERSATION_ID, "message_count": 2},
    "Deleted": {"id": CONVERSATION_ID, "message": "Conversation deleted", "deleted": True},
    "Health": {"status": "ok", "store_ok": True, "model": "aforesaid-extractive answers", "jobs": {"queued": 0}},
    "KeyRead": {"id": "key_01JXCR3K3K0Z7T1C5R8X9Y2ABE", "kind": "secret"},
    "ModelRead": {"id": "aforesaid-extractive", "object": "model"},
    "ModelList": {"object": "list"},
    "ReceiptRead": {"id": "rcp_01JXCR3K2J9Y6S0B4Q7W8X1ZAD"},
    "ReceiptItem": {"rank": 1},
    "SessionUser": {"id": "key_01JXCR3K3K0Z7T1C5R8X9Y2ABE"},
    "SessionWorkspace": {"id": "wsp_01JXCR3JZF6V3P7Y1M4S5T8WXA"},
    "MieltoChatOut": {"id": "chatcmpl-01JXCR3K4M"},
    "MendableMessageRead": {"conversation_id": 1720329, "message_id": 1720331},
    "ExchangeRead": {"conversation_id": 1720329, "message_id": 1720331, "project_id": 1,
                     "human_query": "How do I create a new project?", "ai_response": "To create a new project..."},
    "MessageStatus": {"stored": True, "searchable": True},
    "Told": {"message": "Logged out"},
}  # fmt: skip
"""What is different in some shapes."""


class Samples:
    """Examples drawn from the components of one description."""

    def __init__(self, components: Mapping[str, Any]) -> None:
        self._components = components

    def of(self, schema: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
        """An example that fits the schema."""
        if "$ref" in schema:
            return self._shape(str(schema["$ref"]).rpartition("/")[2], depth)
        if "anyOf" in schema:
            if any(kind.get("type") == "null" for kind in schema["anyOf"]) and name not in VALUES:
                return self._time(name)
            return self.of(next(kind for kind in schema["anyOf"] if kind.get("type") != "null"), name, depth)
        if "enum" in schema:
            return schema["enum"][0]
        if schema.get("type") == "array":
            if name in VALUES and isinstance(VALUES[name], list):
                return VALUES[name]
            return [self.of(schema["items"], "", depth + 1)] if "$ref" in schema.get("items", {}) else []
        if schema.get("type") == "object":
            return VALUES[name] if isinstance(VALUES.get(name), dict) else {}
        return self._scalar(schema, name)

    def _shape(self, shape: str, depth: int) -> Any:
        schema = self._components[shape]
        own = BY_SHAPE.get(shape, {})
        wanted = schema.get("required", ()) if depth else schema["properties"]
        return {
            name: own[name] if name in own else self.of(schema["properties"][name], name, depth + 1) for name in wanted
        }

    def _time(self, name: str) -> str | None:
        return TIME if name in ("created_at", "sent_at", "last_message_at", "last_used_at") else None

    def _scalar(self, schema: Mapping[str, Any], name: str) -> Any:
        kind = schema.get("type")
        if kind == "string" and name.endswith("_at"):
            return TIME
        if name in VALUES and _fits(VALUES[name], kind):
            return VALUES[name]
        return {"string": "text", "integer": schema.get("minimum", 0), "number": 0.0, "boolean": False}.get(str(kind))


def _fits(value: Any, kind: Any) -> bool:
    kinds: dict[Any, Any] = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
    return isinstance(value, kinds.get(kind, ()))
