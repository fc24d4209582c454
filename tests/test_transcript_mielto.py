"""The vendor's quickstart for conversations, request by request, as its readers copy it: only the address is ours.

Once in the test's own process, once over a socket, and its snippets by the clients that they name.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aforesaid.app import App, asgi
from aforesaid.settings import Settings
from tests.support.chats import Answered, Client, asgi_request
from tests.support.server import RunningServer, clean_environment, server_factory
from tests.support.tools import run_node

pytestmark = pytest.mark.xdist_group("transcript")

KEY = "YOUR_API_KEY"
IMPORT = [
    {"role": "user", "created_at": "2025-06-10T10:28:06.658Z", "sender_id": "326166736", "content": "message"},
    {"role": "assistant", "created_at": "2025-06-10T10:28:11.64Z", "sender_id": "326166736", "content": "message body"},
]
Ask = Callable[..., Awaitable[Answered]]


async def quickstart(ask: Ask) -> None:
    """Every request of the page, in its order, and what a reader may expect of each."""
    bearer = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    by_key = {"x-api-key": KEY, "Content-Type": "application/json"}

    # 1) Create a conversation for a user
    made = await ask(
        "POST", "/api/v1/conversations", bearer,
        b'{\n    "user_id": "your-user-id",\n    "title": "Onboarding conversation"\n  }',
    )  # fmt: skip
    assert made.status == 201
    conversation = made.json["id"]
    assert conversation.startswith("conv_")
    assert made.json["title"] == "Onboarding conversation"
    assert made.json["owner_id"] == made.json["user_id"] == "your-user-id"
    assert made.json["status"] == "active"

    # 2) One message in the wrapper
    one = await ask(
        "POST", "/api/v1/messages", bearer,
        b'{\n    "conversation_id": "%s",\n    "content": {\n      "content": "Hello, how are you?",\n'
        b'      "role": "user",\n      "message_type": "text"\n    },\n    "enable_memories": false\n  }'
        % conversation.encode(),
    )  # fmt: skip
    assert one.status == 201
    (message,) = one.json
    assert message["content"] == "Hello, how are you?"
    assert message["conversation_id"] == conversation
    assert message["sender_id"] == "your-user-id"
    assert message["message_type"] == "text"

    # Several, with memories wanted.
    several = {
        "conversation_id": conversation,
        "content": [
            {"content": "Hello, how are you?", "role": "user", "message_type": "text",
             "sender_id": "your_applications_id_of_user_who_sent_message"},
            {"content": "I'm doing well, thank you!", "role": "assistant", "message_type": "text",
             "sender_id": "user_or_agent_id"},
        ],
        "enable_memories": True,
    }  # fmt: skip
    two = await ask("POST", "/api/v1/messages", bearer, json.dumps(several).encode())
    assert two.status == 201
    assert [row["content"] for row in two.json] == ["Hello, how are you?", "I'm doing well, thank you!"]
    assert two.json[1]["sender_id"] == "user_or_agent_id"

    # The same with the other header, and the apostrophe as the page prints it for a shell
    printed = json.dumps({**several, "enable_memories": False}).replace("I'm", "I\\'m").encode()
    other = await ask("POST", "/api/v1/messages", by_key, printed)
    assert other.status == 201
    assert other.json[1]["content"] == "I'm doing well, thank you!"

    # The import, in the content field, twice
    history = await ask("POST", "/api/v1/conversations", bearer, b'{"user_id":"your-user-id","title":"History"}')
    wrapped = json.dumps({"conversation_id": history.json["id"], "content": IMPORT}).encode()
    first = await ask("POST", "/api/v1/messages", bearer, wrapped)
    second = await ask("POST", "/api/v1/messages", by_key, wrapped)
    assert (first.status, second.status) == (201, 201)
    assert [row["id"] for row in first.json] == [row["id"] for row in second.json]
    assert [row["content"] for row in first.json] == ["message", "message body"]
    assert [row["sender_id"] for row in first.json] == ["326166736"] * 2
    assert first.json[0]["created_at"].startswith("2025-06-10T10:28:06.658")
    assert first.json[1]["created_at"].startswith("2025-06-10T10:28:11.64")
    held = await ask("GET", f"/api/v1/conversations/{history.json['id']}/messages", bearer, b"")
    assert len(held.json["data"]) == 2

    # The same as a bare array, each row with its conversation, twice
    bare = json.dumps([{**row, "conversation_id": history.json["id"]} for row in IMPORT]).encode()
    for _ in range(2):
        again = await ask("POST", "/api/v1/messages", bearer, bare)
        assert again.status == 201
        assert [row["id"] for row in again.json] == [row["id"] for row in first.json]
    held = await ask("GET", f"/api/v1/conversations/{history.json['id']}/messages", bearer, b"")
    assert len(held.json["data"]) == 2
    without = await ask("POST", "/api/v1/messages", bearer, json.dumps(IMPORT).encode())
    assert without.status == 422

    # 3) Call the completions endpoint with a user
    done = await ask(
        "POST", "/api/v1/chat/completions", {**bearer, "x-user-id": "your-user-id"},
        b'{\n    "model": "gpt-4",\n    "messages": [\n'
        b'      {"role": "user", "content": "Summarize this conversation."}\n    ]\n  }',
    )  # fmt: skip
    assert done.status == 200
    assert done.json["object"] == "chat.completion"
    assert done.json["model"] == "aforesaid-extractive"
    assert "message" in done.said
    assert "10 June 2025" in done.said
    assert int(done.headers["x-aforesaid-memories"]) == 7


def test_in_process(tmp_path: Path) -> None:
    async def run() -> None:
        app = App(Settings(data=str(tmp_path), api_key=KEY))
        await app.open()
        served = asgi(app)
        await app.start()

        async def ask(method: str, path: str, headers: dict[str, str], body: bytes) -> Answered:
            return await asgi_request(served, method, path, body, headers)

        try:
            await quickstart(ask)
        finally:
            await app.stop()

    asyncio.run(run())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with server_factory(tmp_path_factory.mktemp("quickstart")) as start:
        yield start(api_key=KEY, env={"AFORESAID_RECALL_BUDGET_MS": "5000"})


def test_over_a_socket(running: RunningServer) -> None:
    bare = Client(running)

    async def ask(method: str, path: str, headers: dict[str, str], body: bytes) -> Answered:
        given: dict[str, Any] = {"Authorization": None, **headers}
        return await asyncio.to_thread(bare.request, method, path, body, given)

    asyncio.run(quickstart(ask))


PYTHON = """
from openai import OpenAI

client = OpenAI(
    api_key="YOUR_API_KEY",
    base_url="BASE_URL",
    default_headers={
        "x-user-id": "your-user-id",
    },
)

resp = client.chat.completions.create(
    model="gpt-4",
    messages=[{"role": "user", "content": "Summarize this conversation."}],
)
print(resp.choices[0].message.content)
"""
JAVASCRIPT = """
import OpenAI from 'openai';

const client = new OpenAI({
  apiKey: process.env.MIELTO_API_KEY!,
  baseURL: 'BASE_URL',
  defaultHeaders: {
    'x-user-id': 'your-user-id',
  },
});

const resp = await client.chat.completions.create({
  model: 'gpt-4',
  messages: [{ role: 'user', content: 'Summarize this conversation.' }],
});
console.log(resp.choices[0].message?.content);
"""


@pytest.mark.sdk
@pytest.mark.parametrize("language", ["python", "javascript"])
def test_the_snippets_by_the_clients_they_name(running: RunningServer, language: str, tmp_path: Path) -> None:
    client = Client(running, user="your-user-id")
    client.bring("The onboarding went well: the team met in Lisbon.")
    address = f"{running.base_url}/api/v1"
    if language == "python":
        done = subprocess.run(
            [sys.executable, "-c", PYTHON.replace("BASE_URL", address)],
            env=clean_environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    else:
        # The page's snippet is TypeScript: one mark of it is none of JavaScript's.
        text = JAVASCRIPT.replace("BASE_URL", address).replace("MIELTO_API_KEY!", "MIELTO_API_KEY")
        printed = run_node("--input-type=module", "--eval", text, env={"MIELTO_API_KEY": KEY})
    assert "Lisbon" in printed
