"""Speaking the Mendable API to a server under test, with the key in the body or wherever the test puts it."""

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.support.chats import Answered, Connection
from tests.support.server import RunningServer

MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}")


@dataclass
class Mendable:
    """A caller with one key, under one prefix. ``key`` of None sends none."""

    server: RunningServer
    key: str | None
    prefix: str = "/v1"
    field: str = "api_key"

    def open(self, path: str, body: Any, headers: dict[str, str] | None = None, method: str = "POST") -> Connection:
        """A connection on which the request was sent. Texts and bytes are sent as they are."""
        if isinstance(body, dict) and self.key is not None:
            body = {self.field: self.key, **body}
        raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        connection = Connection(self.server)
        connection.send(method, f"{self.prefix}/{path}", raw, {"Authorization": "", **(headers or {})})
        return connection

    def post(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str = "POST"
    ) -> Answered:
        """The answer to one request."""
        with self.open(path, {} if body is None else body, headers, method) as connection:
            status, given = connection.head()
            return Answered(status, given, connection.body(given))

    def begin(self, **fields: Any) -> int:
        """The number of a new conversation."""
        answer = self.post("newConversation", fields)
        assert answer.status == 200, answer.body
        number: int = answer.json["conversation_id"]
        return number

    def ask(self, question: str, conversation: Any = None, **fields: Any) -> Any:
        """The whole answer to a question."""
        body = {"question": question, "conversation_id": conversation, "shouldStream": False, "history": [], **fields}
        answer = self.post("mendableChat", body)
        assert answer.status == 200, answer.body
        return answer.json

    def messages(self, conversation: Any) -> list[Any]:
        """What was said in the conversation."""
        answer = self.post("messages/byConversationId", {"conversation_id": conversation})
        assert answer.status == 200, answer.body
        found: list[Any] = answer.json
        return found
