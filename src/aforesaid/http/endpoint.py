"""An endpoint says once what it takes and gives: requests are decoded by it, and the description is drawn from it.

A dialect is a list of endpoints, a way to find the key in a request, and a table of errors. Handlers are short: they
call one use case and render.
"""

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl

import msgspec
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from aforesaid import limits
from aforesaid.core.once import Answer, Once
from aforesaid.core.services import Services
from aforesaid.errors import AforesaidError, Invalid, Refused
from aforesaid.http import body as bodies
from aforesaid.model import Caller, Frozen

Access = Literal["public", "anon", "read", "write"]
"""``public`` needs no key, ``anon`` any key, ``read`` and ``write`` a secret key with that permission."""

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
_NO_BODY = b""


class Reply:
    """An answer that is whole: status, headers, bytes."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = _NO_BODY,
        *,
        media: str | None = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = dict(headers or {})
        if media is not None and (body or status != 204):
            self.headers.setdefault("content-type", media)

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> "Reply":
        """The value as JSON."""
        return cls(status, encode(value), headers=headers)

    @classmethod
    def text(cls, value: str, status: int = 200, headers: Mapping[str, str] | None = None) -> "Reply":
        """The text as it is."""
        return cls(status, value.encode(), media="text/plain; charset=utf-8", headers=headers)

    @classmethod
    def of(cls, answer: Answer) -> "Reply":
        """A rendered answer of a use case, new or given again."""
        headers = {**answer.headers, "idempotency-replayed": "true"} if answer.replayed else answer.headers
        return cls(answer.status, answer.body, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in self.headers.items()]
        if self.status not in (204, 304):
            raw.append((b"content-length", b"%d" % len(self.body)))
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": self.body})


class Streamed(Protocol):
    """An answer that writes itself, piece by piece."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The answer was sent."""


class Call:
    """One request on its way to a use case."""

    __slots__ = ("body", "caller", "headers", "path", "query", "raw", "receive", "scope", "services")

    def __init__(self, services: Services, scope: Scope, receive: Receive) -> None:
        self.services = services
        self.scope = scope
        self.receive = receive
        self.headers = Headers(scope=scope)
        self.path: dict[str, str] = scope.get("path_params", {})
        self.caller: Caller = NOBODY
        self.body: Any = None
        self.raw: bytes = _NO_BODY
        self.query: Any = None

    def told(self, name: str) -> str | None:
        """The header's text: UTF-8 when it is, as most clients send it, else Latin-1, as the standard has it."""
        value = self.headers.get(name)
        if value is None or value.isascii():
            return value
        try:
            return value.encode("latin-1").decode()
        except UnicodeDecodeError:
            return value

    def once(self) -> Once | None:
        """What the ``Idempotency-Key`` header asks for. *Raises* ``Invalid`` for a blank or long one."""
        key = self.headers.get("idempotency-key")
        if key is None:
            return None
        if not key.strip() or len(key) > limits.IDEMPOTENCY_KEY_CHARACTERS or not key.isprintable():
            raise Invalid(
                f"must be 1 to {limits.IDEMPOTENCY_KEY_CHARACTERS} printable characters", "header", "Idempotency-Key"
            )
        asked = f"{self.scope['method']} {self.scope['path']}?{self.scope['query_string'].decode('latin-1')}\n"
        return Once(key=key, digest=hashlib.sha256(asked.encode() + self.raw).digest()[:16])


NOBODY = Caller(workspace=-1, workspace_id="", key_id="", kind="anon", permissions=())
"""The caller of a public route: it owns nothing."""

Handler = Callable[[Call], Awaitable[Reply | Streamed]]


class Parameter(Frozen, frozen=True, kw_only=True):
    """A header that an endpoint understands, for its description."""

    name: str
    about: str
    example: str | None = None


class Endpoint(Frozen, frozen=True, kw_only=True):
    """One route: everything that is decoded, checked and described about it."""

    method: str
    path: str
    run: Handler
    name: str
    summary: str
    tag: str
    about: str = ""
    access: Access = "read"
    body: Any = None
    """The msgspec type of the JSON body."""
    parse: bool = True
    """False: the handler decodes ``call.raw`` by itself."""
    query: Any = None
    """The msgspec type of the query parameters."""
    headers: tuple[Parameter, ...] = ()
    gives: Any = None
    """The msgspec type of the JSON answer; ``str`` with ``media`` for plain text; None for no body."""
    status: int = 200
    media: str = "application/json"
    streams: Any = None
    """The msgspec type of the JSON in the events of a streamed answer."""
    gives_headers: tuple[Parameter, ...] = ()
    gives_also: tuple[tuple[int, Any], ...] = ()
    """Further statuses whose body is no error's, each with its msgspec type."""
    errors: tuple[int, ...] = ()
    """Statuses of the dialect's error table that this route can answer besides those of its access and body."""
    body_limit: int = limits.BODY_BYTES
    example: Any = None
    gives_example: Any = None
    listed: bool = True


class Dialect(Protocol):
    """What tells one foreign API from another, besides its routes."""

    name: str
    lenient_json: bool

    def secret(self, call: Call) -> str | None:
        """The key that the request carries."""

    def refuse(self, error: AforesaidError, call: Call | None) -> Reply:
        """The error in the dialect's form."""

    def shape(self, status: int) -> Any:
        """The msgspec type of an error's JSON body with this status; ``str`` where it is plain text."""


class WrongMethod(Refused):
    """The address is there, but not for this method."""

    code = "method_not_allowed"


class Route:
    """An endpoint as an ASGI application."""

    def __init__(self, endpoint: Endpoint, dialect: Dialect, services: Services) -> None:
        self.endpoint = endpoint
        self._dialect = dialect
        self._services = services
        self._decoder = msgspec.json.Decoder(endpoint.body) if endpoint.body is not None and endpoint.parse else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(self._services, scope, receive)
        begun = time.perf_counter()
        try:
            reply = await self._answer(call)
        except AforesaidError as error:
            scope["state"]["error"] = error.code
            reply = self._dialect.refuse(error, call)
        except RecursionError:
            reply = self._dialect.refuse(bodies.MalformedJson("the body is nested too deeply"), call)
        scope["state"]["caller"] = call.caller
        scope["state"]["handled_s"] = time.perf_counter() - begun
        await reply(scope, receive, send)

    async def _answer(self, call: Call) -> Reply | Streamed:
        endpoint, dialect = self.endpoint, self._dialect
        # A key in a header is looked at before the body, and so is that there is none: strangers can't make us read.
        secret = dialect.secret(call)
        in_body = secret is None and dialect.lenient_json
        if endpoint.access != "public" and not in_body:
            call.caller = await self._caller(call, secret)
        if endpoint.body is not None:
            bodies.check_content_type(call.scope, "" if dialect.lenient_json else "json")
            call.raw = await bodies.read_body(call.scope, call.receive, endpoint.body_limit)
            if self._decoder is not None:
                call.body = bodies.decode(call.raw, self._decoder, lenient=dialect.lenient_json)
        if endpoint.access != "public" and in_body:
            call.caller = await self._caller(call, dialect.secret(call))
        if endpoint.query is not None:
            call.query = decode_query(call.scope["query_string"], endpoint.query)
        return await endpoint.run(call)

    async def _caller(self, call: Call, secret: str | None) -> Caller:
        client = call.scope.get("client")
        caller = await self._services.keyring.caller(
            secret, address=client[0] if client else None, origin=_page(call.headers)
        )
        if self.endpoint.access in ("read", "write"):
            self._services.require(caller, self.endpoint.access)
        return caller


def _page(headers: Headers) -> str | None:
    """The origin of the page that asks: what the browser says it is, else that of the page it comes from."""
    origin = headers.get("origin")
    if origin is None and (scheme_host := headers.get("referer", "").split("/", 3)[:3])[1:2] == [""]:
        origin = "//".join(scheme_host[::2])
    return origin


def decode_query(raw: bytes, wanted: Any) -> Any:
    """The query parameters as the struct. One that it knows, given twice, is refused. *Raises* ``Invalid``."""
    try:
        given = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS)
    except UnicodeDecodeError:
        raise Invalid("must be UTF-8", "query") from None
    except ValueError:
        raise Invalid(f"must have at most {QUERY_FIELDS} parameters", "query") from None
    names = wanted.__struct_encode_fields__
    values: dict[str, str] = {}
    for name, value in given:
        if name not in names:
            continue
        if values.get(name, value) != value:
            raise Invalid("is given twice", "query", name)
        if "\x00" in value:
            raise Invalid("must not contain the NUL character", "query", name)
        values[name] = value
    # "limit=" means the same as no limit at all: forms and clients send it so.
    known = {name: value for name, value in values.items() if value != "" or name in _KEEP_EMPTY}
    try:
        query = msgspec.convert(known, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise bodies.refusal(str(error), "query") from None
    for name, value in known.items():
        # The converter takes the word "null" for nothing; a client that writes it has made a mistake.
        if value.lower() == "null" and getattr(query, name) is None:
            raise Invalid("must not be null: leave it out", "query", name, kind="type_error")
    return query


QUERY_FIELDS = 100
"""Parameters of one query."""
_KEEP_EMPTY = frozenset({"user_id", "owner_id", "sender_id", "conversation_id", "cursor"})
"""Parameters that narrow what is seen: empty, they must be refused, never dropped."""
