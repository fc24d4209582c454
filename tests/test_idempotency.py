"""A request under an Idempotency-Key is done once, and answered the same however often it comes."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from aforesaid import limits
from aforesaid.core import conversations, messages, once, upkeep
from aforesaid.core.conversations import Change
from aforesaid.errors import Conflict, Invalid
from aforesaid.ids import now_us
from aforesaid.model import Caller, Stored
from aforesaid.store.database import Database
from tests.support.served import ENGINES, served
from tests.support.server import RunningServer
from tests.support.stores import add_caller, add_conversation, all_messages, draft, in_store
from tests.support.web import Answer, Web

MESSAGES = "/api/v1/messages"
pytestmark = pytest.mark.xdist_group("idempotency")  # one worker starts the servers, once


def rendered(stored: Stored) -> once.Answer:
    return once.Answer(
        status=201, headers={"x-n": str(stored.created)}, body=repr([m.content for m in stored.messages]).encode()
    )


async def post(
    db: Database, caller: Caller, home: int, key: str | None, text: str, digest: bytes = b"d"
) -> once.Answer:
    asked = None if key is None else once.Once(key=key, digest=digest)
    return await once.write(db, caller, asked, lambda tx: messages.add(tx, caller, home, [draft(text)]), rendered)


def test_a_known_key_gives_the_first_answer_and_does_nothing(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = (await add_conversation(db, caller)).number
        first = await post(db, caller, home, "k", "ok")
        for _ in range(3):
            again = await post(db, caller, home, "k", "ok")
            assert again.replayed
            assert (again.status, again.headers, again.body) == (first.status, first.headers, first.body)
        assert not first.replayed
        assert len(await all_messages(db, caller, home)) == 1
        await post(db, caller, home, "k2", "ok")
        await post(db, caller, home, None, "ok")
        assert len(await all_messages(db, caller, home)) == 3

    in_store(database_url, run)


def test_another_request_under_a_known_key_is_a_conflict(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = (await add_conversation(db, caller)).number
        await post(db, caller, home, "k", "ok")
        with pytest.raises(Conflict):
            await post(db, caller, home, "k", "other", b"e")
        assert len(await all_messages(db, caller, home)) == 1

    in_store(database_url, run)


def test_workspaces_have_keys_of_their_own(database_url: str) -> None:
    async def run(db: Database) -> None:
        for name in ("one", "two"):
            caller = await add_caller(db, name)
            home = (await add_conversation(db, caller)).number
            answer = await post(db, caller, home, "k", name, name.encode())
            assert not answer.replayed
            assert [m.content for m in await all_messages(db, caller, home)] == [name]

    in_store(database_url, run)


def test_twins_at_once_are_done_once(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = (await add_conversation(db, caller)).number
        for k in range(5):
            answers = await asyncio.gather(*(post(db, caller, home, f"k{k}", "ok") for _ in range(8)))
            assert [answer.replayed for answer in answers].count(False) == 1
            assert len({answer.body for answer in answers}) == 1
        assert len(await all_messages(db, caller, home)) == 5

    in_store(database_url, run)


def test_a_refused_request_keeps_no_answer(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = await add_conversation(db, caller)
        await db.write(conversations.end, caller, home.id)
        with pytest.raises(Invalid):
            await post(db, caller, home.number, "k", "ok")
        await db.write(conversations.change, caller, home.id, Change(status="active"))
        assert not (await post(db, caller, home.number, "k", "ok")).replayed

    in_store(database_url, run)


def test_answers_are_kept_for_a_day(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        home = (await add_conversation(db, caller)).number
        await post(db, caller, home, "old", "ok")
        await post(db, caller, home, "young", "ok")

        async def aged(key: str, seconds: int) -> None:
            when = now_us() - seconds * 1_000_000
            await db.write(lambda tx: tx.run("update idempotency set created_us = ? where key = ?", when, key))

        await aged("old", limits.IDEMPOTENCY_KEEP_S + 5)
        await aged("young", limits.IDEMPOTENCY_KEEP_S - 60)
        assert await upkeep.age_out(db) == 1
        assert await upkeep.age_out(db) == 0
        assert (await post(db, caller, home, "young", "ok")).replayed
        assert not (await post(db, caller, home, "old", "ok")).replayed
        links = await db.read(lambda tx: tx.rows("select key from idempotency_conversation order by key"))
        assert [row[0] for row in links] == ["old", "young"]

    in_store(database_url, run)


def test_what_was_changed_or_removed_is_not_given_again_and_not_done_again(database_url: str) -> None:
    async def run(db: Database) -> None:
        caller = await add_caller(db, "one")
        homes = [await add_conversation(db, caller) for _ in range(3)]
        for i, home in enumerate(homes):
            await post(db, caller, home.number, f"k{i}", "the secret word")
        (said,) = await all_messages(db, caller, homes[0].number)
        await db.write(messages.change, caller, said.id, messages.Change(content="harmless"))
        await db.write(conversations.remove, caller, homes[1].id)
        for i in range(2):
            with pytest.raises(Conflict, match="changed or removed"):
                await post(db, caller, homes[i].number, f"k{i}", "the secret word")
        assert (await post(db, caller, homes[2].number, "k2", "the secret word")).replayed
        assert len(await all_messages(db, caller, homes[0].number)) == 1

    in_store(database_url, run)


# -- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Two workers on one store."""
    with served(request, request.param, tmp_path_factory.mktemp("once"), "--workers", "2") as running:
        yield running


@pytest.fixture
def web(server: RunningServer) -> Iterator[Web]:
    client = Web(server.base_url, server.api_key)
    yield client
    client.close()


def same(one: Answer, two: Answer) -> bool:
    dropped = {"date", "x-request-id", "idempotency-replayed"}
    return (one.status, one.body) == (two.status, two.body) and {
        name: value for name, value in one.headers.items() if name not in dropped
    } == {name: value for name, value in two.headers.items() if name not in dropped}


def test_every_write_of_a_conversations_life_can_be_repeated(web: Web) -> None:
    def twice(key: str, method: str, path: str, body: Any = None) -> Answer:
        first = web(method, path, body, headers={"Idempotency-Key": key})
        assert 200 <= first.status < 300, first.body
        assert "idempotency-replayed" not in first.headers
        second = web(method, path, body, headers={"Idempotency-Key": key})
        assert second.headers["idempotency-replayed"] == "true"
        assert same(first, second)
        return first

    made = twice("create", "POST", "/api/v1/conversations", {"user_id": "u", "messages": [{"content": "a"}]})
    home = made.json["id"]
    path = f"/api/v1/conversations/{home}"
    twice("patch", "PATCH", path, {"title": "t"})
    twice("put", "PUT", path, {"summary": "s"})
    (said,) = twice("add", "POST", MESSAGES, {"conversation_id": home, "content": "ok"}).json
    twice("add one", "POST", f"{path}/messages", {"content": "ok"})
    assert web.ok("GET", path)["message_count"] == 3
    twice("edit", "PUT", f"{MESSAGES}/{said['id']}", {"content": "fine"})
    twice("drop", "DELETE", f"{MESSAGES}/{said['id']}")
    twice("delete", "DELETE", path)
    assert web("GET", path).status == 404
    # The conversation that a late retry tells of is gone: it is not made a second time.
    late = web("POST", "/api/v1/conversations", {"user_id": "u", "messages": [{"content": "a"}]},
               headers={"Idempotency-Key": "create"})  # fmt: skip
    assert late.status == 409


def test_another_body_path_or_method_under_a_key_is_409(web: Web) -> None:
    home = web.ok("POST", "/api/v1/conversations", {"user_id": "u"})["id"]
    key = {"Idempotency-Key": "one"}
    assert web("POST", MESSAGES, {"conversation_id": home, "content": "a"}, headers=key).status == 201
    for method, path, body in (
        ("POST", MESSAGES, {"conversation_id": home, "content": "b"}),
        ("POST", f"{MESSAGES}?x=1", {"conversation_id": home, "content": "a"}),
        ("POST", f"/api/v1/conversations/{home}/messages", {"conversation_id": home, "content": "a"}),
        ("DELETE", f"/api/v1/conversations/{home}", None),
    ):
        assert web(method, path, body, headers=key).status == 409, (method, path)
    assert web.ok("GET", f"/api/v1/conversations/{home}")["message_count"] == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 256])
def test_a_key_that_is_none_is_refused(web: Web, key: str) -> None:
    answer = web("POST", "/api/v1/conversations", {"user_id": "u"}, headers={"Idempotency-Key": key})
    assert answer.status == 422
    assert answer.json["detail"][0]["loc"] == ["header", "Idempotency-Key"]
    longest = web("POST", "/api/v1/conversations", {"user_id": "u"}, headers={"Idempotency-Key": "y" * 255})
    assert longest.status == 201


def test_twins_sent_to_two_workers_at_once_are_done_once(server: RunningServer, web: Web) -> None:
    home = web.ok("POST", "/api/v1/conversations", {"user_id": "u"})["id"]
    answers: list[Answer] = []

    def client(k: int) -> None:
        mine = Web(server.base_url, server.api_key)
        body = {"conversation_id": home, "content": "ok"}
        answers.extend(mine("POST", MESSAGES, body, headers={"Idempotency-Key": f"twin {i}"}) for i in range(5))
        mine.close()

    threads = [threading.Thread(target=client, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {201}
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 5
    assert len({answer.body for answer in answers}) == 5
    assert web.ok("GET", f"/api/v1/conversations/{home}")["message_count"] == 5
