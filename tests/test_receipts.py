"""A receipt says what was put before an answer: which messages, with which scores, and what of them is still there."""

from collections.abc import Iterator

import pytest

from tests.support.chats import Client, blocks, eventually, other_workspace_key, records, sent, upstream_environment
from tests.support.server import RunningServer, server_factory
from tests.support.upstream import Upstream

pytestmark = pytest.mark.xdist_group("chat_recall")


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def running(model: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with server_factory(tmp_path_factory.mktemp("receipts")) as start:
        yield start(env=upstream_environment(model, AFORESAID_RECALL_BUDGET_MS="5000"))


@pytest.fixture
def client(running: RunningServer, request: pytest.FixtureRequest) -> Client:
    return Client(running, user=f"user of {request.node.name}"[:200])


def test_a_receipt_names_what_was_put_before_the_answer(client: Client, model: Upstream) -> None:
    earlier = client.bring("My sailing boat is called Perelandra.", "I moored the boat in Kiel.")
    answer = client.chat("What is my boat called?")
    receipt = client.receipt(answer)
    shown = records(blocks(sent(model))[0])
    assert receipt["user_id"] == client.user
    assert receipt["conversation_id"] == answer.conversation
    assert receipt["model"] == "gpt-4"
    assert receipt["skipped"] is None
    assert str(receipt["tokens"]) == answer.headers["x-aforesaid-tokens"]
    assert receipt["recall_ms"] > 0
    assert {item["id"] for item in receipt["items"]} == {record["id"] for record in shown}
    assert len(receipt["items"]) == int(answer.headers["x-aforesaid-memories"]) == 2
    for rank, item in enumerate(receipt["items"]):
        assert item["kind"] == "message"
        assert item["rank"] == rank + 1
        assert item["message_ids"] == [item["id"]]
        assert item["message"]["conversation_id"] == earlier
        assert item["message"]["content"] in {record["text"] for record in shown}
        assert item["signals"]
        assert all(isinstance(value, float) for value in item["signals"].values())
    scores = [item["score"] for item in receipt["items"]]
    assert scores == sorted(scores, reverse=True)
    last = client.messages(answer.conversation)[-1]
    assert receipt["answer_message_id"] == last["id"]
    assert last["meta_data"]["receipt_id"] == receipt["id"] == answer.headers["x-aforesaid-receipt-id"]


def test_what_is_gone_since_shows_as_nothing(client: Client, model: Upstream) -> None:
    client.bring("My sailing boat is called Perelandra.", "The boat is moored in Kiel.")
    answer = client.chat("What is my boat called?")
    before = client.receipt(answer)
    gone = before["items"][0]["id"]
    assert client.request("DELETE", f"/api/v1/messages/{gone}").status in (200, 204)
    after = client.receipt(answer)
    assert after["items"][0]["message"] is None
    assert after["items"][0]["id"] == gone
    assert after["items"][1]["message"] is not None
    assert client.request("DELETE", f"/api/v1/messages/{after['answer_message_id']}").status in (200, 204)
    assert client.receipt(answer)["answer_message_id"] is None
    assert client.request("DELETE", f"/api/v1/conversations/{answer.conversation}").status in (200, 204)
    assert client.request("GET", f"/api/v1/receipts/{before['id']}").status == 404


def test_a_deleted_message_is_not_recalled_again(client: Client, model: Upstream) -> None:
    client.bring("The zither stands in the attic.")
    first = client.receipt(client.chat("Where does the zither stand?"))
    client.request("DELETE", f"/api/v1/messages/{first['items'][0]['id']}")
    client.indexed()
    eventually(lambda: client.get("/api/v1/indexing")["pending"] == 0)
    client.chat("In which room does the zither stand?")
    assert not any("attic" in block for block in blocks(sent(model)))


def test_an_answer_without_memory_has_a_receipt_that_says_why(client: Client, model: Upstream) -> None:
    answer = client.chat("Hello", headers={"x-memories-enabled": "false"})
    receipt = client.receipt(answer)
    assert (receipt["items"], receipt["tokens"], receipt["skipped"]) == ([], 0, "off")


@pytest.mark.parametrize("name", ["rcp_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nothing", "%00", "..", "4711"])
def test_a_receipt_that_is_not_there(client: Client, name: str) -> None:
    assert client.request("GET", f"/api/v1/receipts/{name}").status in (404, 422)


def test_another_workspaces_receipt_looks_like_none(client: Client, running: RunningServer) -> None:
    mine = client.chat("Hello").headers["x-aforesaid-receipt-id"]
    other = Client(running, headers={"Authorization": f"Bearer {other_workspace_key(running)}"})
    theirs = other.request("GET", f"/api/v1/receipts/{mine}")
    missing = other.request("GET", "/api/v1/receipts/rcp_01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert (theirs.status, theirs.body) == (missing.status, missing.body) == (404, missing.body)
