"""What a user of Mielto's own Python client does with completions. Run alone, where that client is installed.

Prints one line of JSON. The address, the key and the user come from the environment.
"""

import asyncio
import json
import os
from typing import Any

from mielto import AsyncMielto, Mielto  # type: ignore[import-not-found, unused-ignore]
from mielto.types.chat import ChatMessage  # type: ignore[import-not-found, unused-ignore]

SETTINGS = {"api_key": os.environ["MIELTO_API_KEY"], "base_url": os.environ["BASE_URL"]}
USER = os.environ["USER_ID"]
ASKED: list[Any] = [{"role": "user", "content": "Where is the kettle?"}]


def raised(call: Any) -> list[Any]:
    """The class and status of what a call raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - which one it is is the question
        return [type(error).__name__, getattr(error, "status_code", None)]
    return []


def plainly() -> dict[str, Any]:
    """The synchronous client."""
    client = Mielto(**SETTINGS)
    create = client.chat.completions.create
    whole = create(model="gpt-4", messages=ASKED, user_id=USER, session_id="sync")
    typed = [ChatMessage(role="user", content="And the teapot?")]
    more = create(
        model="gpt-4", messages=typed, user_id=USER, session_id="sync", collection_ids=[], temperature=0.5, n=2
    )
    chunks = list(create(model="gpt-4", messages=ASKED, user_id=USER, stream=True))
    wrong = Mielto(api_key="wrong", base_url=SETTINGS["base_url"])

    def broken(**fields: Any) -> None:
        list(create(model="gpt-4?die_after=3", messages=ASKED, stream=True, **fields))

    return {
        "text": whole.choices[0].message.content,
        "usage": whole.usage.total_tokens,
        "model": whole.model,
        "choices": len(more.choices),
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
        "errors": {
            "key": raised(lambda: wrong.chat.completions.create(model="gpt-4", messages=ASKED)),
            "conversation": raised(lambda: create(model="gpt-4", messages=ASKED, conversation_id="nothing")),
            "limit": raised(lambda: create(model="gpt-4?status=429", messages=ASKED)),
            "server": raised(lambda: create(model="gpt-4?status=500", messages=ASKED)),
            "stream": raised(broken),
        },
    }


async def without_waiting() -> dict[str, Any]:
    """The asynchronous client."""
    async with AsyncMielto(**SETTINGS) as client:
        create = client.chat.completions.create
        whole = await create(model="gpt-4", messages=ASKED, user_id=USER, session_id="async")
        stream = await create(model="gpt-4", messages=ASKED, user_id=USER, stream=True)
        chunks = [chunk async for chunk in stream]
        return {
            "text": whole.choices[0].message.content,
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
        }


if __name__ == "__main__":
    print(json.dumps({"sync": plainly(), "async": asyncio.run(without_waiting())}))
