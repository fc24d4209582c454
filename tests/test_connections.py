"""Connections: slow and hostile clients, bodies that nobody wanted, answers in the right order."""

import contextlib
import http.client
import re
import socket
import time
from collections.abc import Iterator

import pytest

from aforesaid import limits
from aforesaid.http import body as bodies
from aforesaid.http import server as http_server
from tests.support.inside import ANON_KEY, API_KEY, Inside, inside, read_all

AUTHORIZED = b"authorization: Bearer " + API_KEY.encode() + b"\r\n"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with inside(tmp_path_factory.mktemp("connections")) as server:
        yield server


@contextlib.contextmanager
def connected(server: Inside) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        yield client


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(answer)]


def post(path: str, headers: bytes, body: bytes = b"") -> bytes:
    return b"POST " + path.encode() + b" HTTP/1.1\r\nhost: x\r\n" + headers + b"\r\n" + body


# Sizes


@pytest.mark.parametrize("length", [4 << 30, 10**14, 10**15, 10**18, limits.BODY_BYTES + 1])
def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(running: Inside, length: int) -> None:
    before = running.counts()
    for path in ("/api/v1/search", "/api/v1/chat/completions", "/v1/newConversation"):
        with connected(running) as client:
            client.sendall(post(path, AUTHORIZED + b"content-length: %d\r\n" % length))
            answer = client.recv(65536)  # comes although not one byte of the body was sent
            assert statuses(answer) == [413], answer
            assert b"connection: close" in answer
    assert running.counts() == before


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"0x10", b"1,2", b"+5", b"\xb2", b"9" * 30])
def test_a_length_that_is_none_is_refused(running: Inside, length: bytes) -> None:
    answer = running.talk(post("/api/v1/search", AUTHORIZED + b"content-length: " + length + b"\r\n", b"{}"))
    assert statuses(answer) in ([400], [413]), answer


def test_a_chunked_body_is_cut_at_the_limit(running: Inside) -> None:
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    with connected(running) as client:
        client.sendall(post("/api/v1/search", AUTHORIZED + b"transfer-encoding: chunked\r\n"))
        for _ in range(limits.BODY_BYTES // (1 << 20) + 1):
            client.sendall(chunk)
        answer = client.recv(65536)
        assert statuses(answer) == [413], answer
        assert b"connection: close" in answer


def test_import_routes_take_more_and_then_no_more(running: Inside) -> None:
    made = running.ask("POST", "/api/v1/conversations", {}).json()["id"]
    text = "x" * (limits.MESSAGE_BYTES - 1)
    rows = [{"content": text}] * 12
    assert running.ask("POST", "/api/v1/messages", {"conversation_id": made, "content": rows}).status == 201
    assert running.ask("POST", "/api/v1/search", {"query": "q", "user_id": "u", "x": rows}).status == 413
    with connected(running) as client:
        client.sendall(
            post("/api/v1/messages", AUTHORIZED + b"content-length: %d\r\n" % (limits.IMPORT_BODY_BYTES + 1))
        )
        assert statuses(client.recv(65536)) == [413]


def test_a_head_that_is_too_large_is_refused(running: Inside) -> None:
    for head in (
        b"GET /health?" + b"x" * http_server.HEAD_BYTES + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * http_server.HEAD_BYTES + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * http_server.HEAD_BYTES + b"\r\n",
    ):
        with connected(running) as client:
            client.sendall(head)
            assert statuses(client.recv(65536)) == [431]


def test_a_header_without_an_end_is_cut_off(running: Inside) -> None:
    with connected(running) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nx-endless: ")
        answer = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                client.sendall(b"x" * 1000)
                client.settimeout(0.001)
                with contextlib.suppress(TimeoutError):
                    answer = client.recv(65536)
                    break
        assert statuses(answer) == [431]


# Time


def test_a_body_that_drips_is_refused(running: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.3)
    for path, headers in (
        ("/api/v1/search", b"content-length: 1000\r\n"),
        ("/api/v1/chat/completions", b"transfer-encoding: chunked\r\n"),
        ("/v1/mendableChat", b"content-length: 1000\r\n"),
    ):
        with connected(running) as client:
            client.sendall(post(path, AUTHORIZED + headers))
            client.settimeout(0.05)
            answer = b""
            while not answer:
                client.sendall(b"1\r\n{\r\n" if b"chunked" in headers else b" ")
                try:
                    answer = client.recv(65536)
                except TimeoutError:
                    continue
            assert statuses(answer) == [408], answer
            assert b"connection: close" in answer


def test_a_body_that_comes_steadily_is_taken_however_long_it_takes(
    running: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.4)
    body = b'{"query": "q", "user_id": "u", "x": "' + b"x" * 60_000 + b'"}'
    with connected(running) as client:
        client.sendall(post("/api/v1/search", AUTHORIZED + b"content-length: %d\r\n" % len(body)))
        begun = time.monotonic()
        for start in range(0, len(body), 6_000):
            client.sendall(body[start : start + 6_000])
            time.sleep(0.1)
        assert time.monotonic() - begun > 0.4
        assert statuses(client.recv(65536)) == [200]


@pytest.mark.parametrize("dripped", [b"G", b"\r\n", b"GET /health HTTP/1.1\r\nx: "])
def test_a_head_that_drips_is_cut_off(running: Inside, monkeypatch: pytest.MonkeyPatch, dripped: bytes) -> None:
    monkeypatch.setattr(running.protocol, "head_s", 0.3)
    with connected(running) as client:
        client.sendall(dripped)
        client.settimeout(0.05)
        while True:
            try:
                client.sendall(b"\r\n" if dripped == b"\r\n" else b"x")
                answer = client.recv(65536)
                break
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                answer = b""
                break
        assert statuses(answer) in ([], [408], [400])


def test_blank_lines_between_requests_do_not_hold_a_connection(
    running: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running.protocol, "head_s", 0.3)
    with connected(running) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert statuses(client.recv(65536)) == [200]
        client.settimeout(0.05)
        for _ in range(200):
            try:
                client.sendall(b"\r\n")
                if client.recv(65536) == b"":
                    return
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return
    pytest.fail("the connection is still there")


def test_a_client_that_does_not_read_is_let_go(running: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.protocol, "read_s", 0.3)
    made = running.ask("POST", "/api/v1/conversations", {}).json()["id"]
    rows = [{"content": "x" * 500_000}] * 40
    assert running.ask("POST", "/api/v1/messages", {"conversation_id": made, "content": rows}).status == 201
    with connected(running) as client:
        head = b"GET /api/v1/conversations/%s/messages?limit=40 HTTP/1.1\r\nhost: x\r\n" % made.encode()
        client.sendall(head + AUTHORIZED + b"\r\n")
        time.sleep(1.5)
        got = read_all(client)
    assert statuses(got) in ([], [200])
    assert len(got) < 20_000_000


# What is not read


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/v1/messages", b"", 401),
        ("/api/v1/messages", b"authorization: Bearer wrong\r\n", 401),
        ("/api/v1/messages", b"authorization: Bearer " + ANON_KEY.encode() + b"\r\n", 403),
        ("/api/v1/chat/completions", b"", 401),
        ("/api/v1/nothing", AUTHORIZED, 404),
        ("/nothing", b"", 404),
        ("/health", b"", 405),
        ("/api/v1/messages", AUTHORIZED + b"content-type: text/html\r\n", 415),
        ("/api/v1/messages", AUTHORIZED + b"content-encoding: gzip\r\n", 415),
        ("/v1/newConversation", b"content-encoding: gzip\r\n", 415),
    ],
)
def test_a_refusal_comes_before_the_body(running: Inside, path: str, headers: bytes, status: int) -> None:
    """Nothing of the body was sent, and the client is answered; what it sends after that is thrown away."""
    size = 32 << 20
    with connected(running) as client:
        client.sendall(post(path, headers + b"content-length: %d\r\n" % size))
        head = client.recv(65536)
        assert statuses(head) == [status], head
        assert b"connection: close" in head
        client.sendall(b"x" * (1 << 20))
        client.shutdown(socket.SHUT_WR)
        assert statuses(read_all(client)) == []


def test_a_client_that_sends_first_and_reads_later_sees_why_it_is_refused(running: Inside) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    for path, body in (("/api/v1/messages", b"x" * (30 << 20)), ("/api/v1/search", b"x" * (limits.BODY_BYTES + 1))):
        key = {"authorization": f"Bearer {API_KEY}"} if path.endswith("search") else {}
        connection.request("POST", path, body, key | {"content-type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == (413 if key else 401)
        assert answer.read()
    connection.close()


def test_a_short_body_that_nobody_wants_keeps_the_connection(running: Inside) -> None:
    with connected(running) as client:
        for _ in range(3):
            client.sendall(post("/api/v1/messages", b"content-length: 100\r\n", b"x" * 100))
            answer = client.recv(65536)
            assert statuses(answer) == [401]
            assert b"connection: close" not in answer
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello")
        assert statuses(client.recv(65536)) == [200]
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert statuses(read_all(client)) == [200]


def test_a_client_that_asks_before_it_sends_is_told_at_once(running: Inside) -> None:
    expecting = b"expect: 100-continue\r\n"
    with connected(running) as client:
        client.sendall(post("/api/v1/messages", expecting + b"content-length: 100\r\n"))
        assert statuses(read_all(client)) == [401]
    body = b'{"query": "q", "user_id": "u"}'
    with connected(running) as client:
        client.sendall(post("/api/v1/search", AUTHORIZED + expecting + b"content-length: %d\r\n" % len(body)))
        assert statuses(client.recv(65536)) == [100]
        client.sendall(body)
        assert statuses(client.recv(65536)) == [200]


# What is sent in two readings


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        post("/health", b"content-length: 5\r\ncontent-length: 6\r\n", b"hello"),
        post("/health", b"content-length: 5\r\ntransfer-encoding: chunked\r\n", b"0\r\n\r\n"),
        post("/health", b"transfer-encoding: chunked\r\ncontent-length: 5\r\n", b"0\r\n\r\n"),
        post("/health", b"transfer-encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
        post("/health", b"transfer-encoding: xchunked\r\n", b"0\r\n\r\n"),
        post("/health", b"transfer-encoding: chunked, identity\r\n", b"0\r\n\r\n"),
        post("/health", b"transfer-encoding : chunked\r\n", b"0\r\n\r\n"),
        post("/health", b"transfer-encoding: chunked\r\n", b"0x5\r\nhello\r\n0\r\n\r\n"),
        post("/health", b"transfer-encoding: chunked\r\n", b"-5\r\nhello\r\n0\r\n\r\n"),
        post("/health", b"x: y\r\n folded: z\r\n"),
        post("/health", b"x\x00y: z\r\n"),
        post("/health", b": nameless\r\n"),
        post("/health", b"x: a\x00b\r\n"),
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET \x00/health HTTP/1.1\r\nhost: x\r\n\r\n",
        b"get /health HTTP/1.1\r\nhost: x\r\n\r\n",
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_requests_that_two_servers_would_read_differently_are_refused(running: Inside, request_: bytes) -> None:
    """The connection is closed, and nothing that stands behind the request is ever taken for another one."""
    answer = running.talk(request_ + SMUGGLED)
    found = statuses(answer)
    assert len(found) <= 1, answer
    assert not found or found[0] in (400, 501), answer


def test_requests_that_come_together_are_answered_in_order(running: Inside) -> None:
    requests = b"".join(b"GET /api/v1/r%d HTTP/1.1\r\nhost: x\r\nx-request-id: r%d\r\n\r\n" % (i, i) for i in range(20))
    answer = running.talk(requests + b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert statuses(answer) == [404] * 20 + [200]
    assert re.findall(rb"x-request-id: r(\d+)", answer) == [b"%d" % i for i in range(20)]


def test_a_large_head_behind_an_answer_in_progress_is_not_written_into_it(running: Inside) -> None:
    chat = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "c"}]}'
    first = post("/api/v1/chat/completions", AUTHORIZED + b"content-length: %d\r\n" % len(chat), chat)
    answer = running.talk(first + b"GET /health HTTP/1.1\r\nx: " + b"x" * http_server.HEAD_BYTES + b"\r\n\r\n")
    assert len(statuses(answer)) <= 1, answer


# Manners


def test_head_is_get_without_the_body(running: Inside) -> None:
    for path in ("/health", "/openapi.json", "/docs", "/api/v1/conversations"):
        asked, whole = running.ask("HEAD", path), running.ask("GET", path)
        assert (asked.status, asked.body) == (200, b"")
        assert whole.body
        if path in ("/openapi.json", "/docs"):
            assert asked.headers["content-length"] == whole.headers["content-length"]


def test_other_methods_are_told_which_ones_there_are(running: Inside) -> None:
    for method, path, allowed in (
        ("PUT", "/api/v1/messages", "GET, HEAD, OPTIONS, POST"),
        ("PATCH", "/api/v1/messages/x", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("TRACE", "/health", "GET, HEAD, OPTIONS"),
        ("GET", "/api/v1/chat/completions", "OPTIONS, POST"),
        ("GET", "/v1/mendableChat", "OPTIONS, POST"),
    ):
        answer = running.ask(method, path)
        assert answer.status == 405, answer
        assert answer.headers["allow"] == allowed
        preflight = running.ask("OPTIONS", path, headers={"origin": "https://a.example"}, key=None)
        assert (preflight.status, preflight.body) == (204, b"")
        assert preflight.headers["allow"] == allowed
        assert preflight.headers["access-control-allow-origin"] == "*"


def test_what_is_not_there_has_the_form_of_its_dialect(running: Inside) -> None:
    assert running.ask("GET", "/api/v1/nothing").json() == {"detail": "Route not found"}
    assert running.ask("GET", "/nothing").json() == {"detail": "Route not found"}
    assert running.ask("GET", "/api/v1/chat/nothing").json()["error"]["message"] == "Route not found"
    mendable = running.ask("POST", "/v1/nothing", {})
    assert (mendable.status, mendable.body) == (404, b"Route not found")
    assert mendable.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_slash_at_the_end_leads_nowhere_else(running: Inside) -> None:
    """A redirect would turn a POST into a GET, or lose its body."""
    for method, path in (
        ("POST", "/api/v1/messages/"), ("GET", "/api/v1/conversations/"), ("POST", "/v1/mendableChat/"),
        ("GET", "/docs/"), ("GET", "//api/v1/conversations"), ("GET", "/health//"),
    ):  # fmt: skip
        answer = running.ask(method, path, {} if method == "POST" else None)
        assert answer.status in (404, 405), f"{path}: {answer}"
        assert "location" not in answer.headers


def test_a_request_id_is_echoed_when_it_is_sane(running: Inside) -> None:
    for sane in ("a", "req_0-9.A:z", "x" * 128):
        assert running.ask("GET", "/health", headers={"x-request-id": sane}).headers["x-request-id"] == sane
    for odd in ("", "x" * 129, "a b", "a\tb", "<x>", "\xe9"):
        shown = running.ask("GET", "/health", headers={"x-request-id": odd.encode("latin-1")}).headers["x-request-id"]
        assert shown.startswith("req_")
        assert shown != odd
    for path in ("/nothing", "/api/v1/messages", "/v1/mendableChat"):
        assert running.ask("DELETE", path).headers["x-request-id"].startswith("req_")


def test_every_refusal_of_a_key_says_how_to_give_one(running: Inside) -> None:
    for key in (None, "wrong", "", "\xe9"):
        headers = {} if key is None else {"authorization": f"Bearer {key}".encode("latin-1")}
        answer = running.ask("GET", "/api/v1/conversations", headers=headers, key=None)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    both = {"authorization": f"Bearer {API_KEY}", "x-api-key": API_KEY}
    assert running.ask("GET", "/api/v1/conversations", headers=both, key=None).status == 200
    both["x-api-key"] = "another"
    assert running.ask("GET", "/api/v1/conversations", headers=both, key=None).status == 401


def test_every_answer_says_that_its_kind_is_not_to_be_guessed(running: Inside) -> None:
    for method, path in (("GET", "/health"), ("GET", "/docs"), ("GET", "/nothing"), ("POST", "/v1/mendableChat")):
        assert (
            running.ask(method, path, {} if method == "POST" else None).headers["x-content-type-options"] == "nosniff"
        )
