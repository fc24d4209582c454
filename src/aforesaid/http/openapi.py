"""The description of the interface (OpenAPI 3.1), drawn from the endpoints themselves.

Shapes come from the types that decode requests and encode answers, error answers from the dialects' own refusals: what
is described can't differ from what is done. Source: https://spec.openapis.org/oas/v3.1.1
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from aforesaid.errors import (
    AforesaidError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    StorageFull,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
)
from aforesaid.http import openapi_texts as texts
from aforesaid.http.body import TooSlow, WrongContentType
from aforesaid.http.endpoint import Dialect, Endpoint, Parameter
from aforesaid.http.openapi_fields import about
from aforesaid.http.openapi_rules import HEADERS, QUERY, ruled, ruled_shape
from aforesaid.http.openapi_samples import Samples
from aforesaid.http.server import Mounted

VERSION = "3.1.1"
Json = dict[str, Any]
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

_STEP = re.compile(r"\{(\w+)(?::\w+)?\}")
_REFERENCE = "#/components/schemas/{name}"


def description(mounted: Sequence[Mounted], version: str) -> Json:
    """The whole description. *Cost*: 20 ms; callers keep it."""
    return _Description(mounted).whole(version)


def described(mounted: Sequence[Mounted]) -> Iterator[tuple[Mounted, Endpoint]]:
    """Every endpoint that is described, where it is mounted."""
    for mount in mounted:
        for endpoint in mount.endpoints:
            if endpoint.listed:
                yield mount, endpoint


def path_of(mount: Mounted, endpoint: Endpoint) -> str:
    """The address in OpenAPI's spelling."""
    return mount.prefix + _STEP.sub(r"{\1}", endpoint.path)


def plain(text: str) -> str:
    """A docstring as Markdown on one line for each paragraph."""
    paragraphs = re.split(r"\n\s*\n", text.replace("``", "`").strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


class _Description:
    """One drawing: the types of all endpoints are named together, so that no two share a name."""

    def __init__(self, mounted: Sequence[Mounted]) -> None:
        self._all = list(described(mounted))
        taken: dict[Any, None] = {}
        for mount, endpoint in self._all:
            for kind in _types(mount.dialect, endpoint):
                taken[kind] = None
        drawn, named = msgspec.json.schema_components(list(taken), ref_template=_REFERENCE)
        names = _short_names(named)
        self._schemas: dict[Any, Json] = {
            kind: _renamed(schema, names) for kind, schema in zip(taken, drawn, strict=True)
        }
        self._components: Json = {names[name]: _tidied(_renamed(schema, names)) for name, schema in named.items()}
        self._samples = Samples(self._components)
        self._require_answers()
        for struct in {struct for _, e in self._all if e.body is not None for struct in _structs(e.body)}:
            name = self._schemas_name(struct)
            self._components[name] = ruled_shape(self._components[name], name)
        for shape, schema in self._components.items():
            for field, kind in schema.get("properties", {}).items():
                if told := about(shape, field):
                    schema["properties"][field] = {"description": told, **kind}

    def whole(self, version: str) -> Json:
        paths: dict[str, Json] = {}
        for mount, endpoint in self._all:
            paths.setdefault(path_of(mount, endpoint), {})[endpoint.method.lower()] = self._operation(mount, endpoint)
        tags = dict.fromkeys(endpoint.tag for _, endpoint in self._all)
        return {
            "openapi": VERSION,
            "info": {
                "title": "Aforesaid",
                "version": version,
                "summary": texts.SUMMARY,
                "description": texts.ABOUT,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/", "description": "This server"}],
            "tags": [{"name": tag, "description": texts.TAGS[tag]} for tag in tags],
            "paths": paths,
            "components": {
                "schemas": dict(sorted(self._components.items())),
                "securitySchemes": texts.SECURITY_SCHEMES,
                "headers": {"RequestId": texts.REQUEST_ID},
            },
        }

    def _operation(self, mount: Mounted, endpoint: Endpoint) -> Json:
        told = [plain(endpoint.about)] if endpoint.about else []
        if first := self._twin(mount, endpoint):
            told.append(f"The same as `{endpoint.method} {path_of(*first)}`.")
        told.append(texts.ACCESS[endpoint.access])
        drawn: Json = {
            "operationId": endpoint.name,
            "tags": [endpoint.tag],
            "summary": endpoint.summary,
            "description": "\n\n".join(told),
        }
        if first:
            drawn["x-same-as"] = first[1].name
        if parameters := [*_path_parameters(endpoint), *self._query(endpoint), *map(self._header, endpoint.headers)]:
            drawn["parameters"] = parameters
        if endpoint.body is not None:
            drawn["requestBody"] = self._request_body(endpoint)
        drawn["responses"] = self._responses(mount.dialect, endpoint)
        drawn["security"] = texts.security(endpoint, mount.dialect)
        return drawn

    def _twin(self, mount: Mounted, endpoint: Endpoint) -> tuple[Mounted, Endpoint] | None:
        """The same endpoint under the prefix where it was described first."""
        for other, candidate in self._all:
            if (candidate.run, candidate.method, candidate.path) == (endpoint.run, endpoint.method, endpoint.path):
                return None if other is mount else (other, candidate)
        return None

    def _request_body(self, endpoint: Endpoint) -> Json:
        content: Json = {"schema": ruled(self._schemas[endpoint.body], "content")}
        content["example"] = endpoint.example if endpoint.example is not None else self._samples.of(content["schema"])
        return {
            "required": True,
            "description": f"At most {endpoint.body_limit >> 20} MiB.",
            "content": {"application/json": content},
        }

    def _responses(self, dialect: Dialect, endpoint: Endpoint) -> Json:
        found: dict[int, Json] = {endpoint.status: self._answer(endpoint)}
        for status, kind in endpoint.gives_also:
            content = {"schema": self._schemas[kind], "example": self._samples.of(self._schemas[kind])}
            found[status] = {"description": texts.PHRASES[status], "content": {"application/json": content}}
        for status, errors in refusals(dialect, endpoint).items():
            found.setdefault(status, self._refusal(dialect, status, errors))
        for response in found.values():
            response.setdefault("headers", {})["x-request-id"] = {"$ref": "#/components/headers/RequestId"}
        for name, link in texts.LINKS.get(endpoint.name, {}).items():
            found[endpoint.status].setdefault("links", {})[name] = link
        return {str(status): found[status] for status in sorted(found)}

    def _answer(self, endpoint: Endpoint) -> Json:
        response: Json = {"description": endpoint.summary}
        if endpoint.gives is not None:
            schema = self._schemas[endpoint.gives]
            example = endpoint.gives_example if endpoint.gives_example is not None else self._samples.of(schema)
            response["content"] = {endpoint.media.split(";")[0]: {"schema": schema, "example": example}}
        if endpoint.streams is not None:
            response["description"] += "; streamed, a sequence of events whose data is JSON"
            data = {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": self._schemas[endpoint.streams],
            }
            event = {"type": "object", "properties": {"data": data}, "required": ["data"]}
            response["content"]["text/event-stream"] = {"schema": event}
        if endpoint.gives_headers:
            response["headers"] = {
                header.name: _without_name(self._header(header)) for header in endpoint.gives_headers
            }
        return response

    def _refusal(self, dialect: Dialect, status: int, errors: Sequence[AforesaidError]) -> Json:
        phrase = texts.PHRASES[status]
        told = dict.fromkeys(texts.ERRORS[error.code] for error in errors)
        response: Json = {"description": f"{phrase}. {' '.join(told)}".strip()}
        kind = dialect.shape(status)
        content: Json = {"schema": self._schemas[kind]}
        for error in errors[:1]:
            reply = dialect.refuse(error, None)
            content["example"] = reply.body.decode() if kind is str else msgspec.json.decode(reply.body)
            for name in reply.headers.keys() & texts.ERROR_HEADERS.keys():
                response.setdefault("headers", {})[name] = texts.ERROR_HEADERS[name]
        response["content"] = {"text/plain" if kind is str else "application/json": content}
        return response

    def _query(self, endpoint: Endpoint) -> Iterator[Json]:
        if endpoint.query is None:
            return
        fields = {field.encode_name: field for field in msgspec.structs.fields(endpoint.query)}
        for name, field in fields.items():
            schema = _without_null(_tidied(self._schemas[field.type])) | QUERY.get(name, {})
            if field.default is not msgspec.NODEFAULT and field.default is not None:
                schema["default"] = field.default
            parameter: Json = {"name": name, "in": "query", "required": field.required, "schema": schema}
            parameter["description"] = texts.QUERY[name]
            yield parameter

    @staticmethod
    def _header(header: Parameter) -> Json:
        drawn: Json = {"name": header.name, "in": "header", "description": header.about}
        drawn["schema"] = {"type": "string"} | HEADERS.get(header.name.lower(), {})
        if header.example is not None:
            drawn["example"] = header.example
        return drawn

    def _require_answers(self) -> None:
        """Answers hold all their fields, also those that have a default, unless they are left out on purpose."""
        taken = {kind for _, e in self._all if e.body is not None for kind in _structs(e.body)}
        for _, endpoint in self._all:
            for kind in (endpoint.gives, endpoint.streams, *(kind for _, kind in endpoint.gives_also)):
                for struct in _structs(kind):
                    if struct in taken or struct.__struct_config__.omit_defaults:
                        continue
                    schema = self._components[self._schemas_name(struct)]
                    kept = [f for f in msgspec.structs.fields(struct) if f.default is not msgspec.UNSET]
                    schema["required"] = [field.encode_name for field in kept]

    def _schemas_name(self, struct: Any) -> str:
        schema = self._schemas[struct]
        return str(schema["$ref"]).rpartition("/")[2]


def refusals(dialect: Dialect, endpoint: Endpoint) -> dict[int, list[AforesaidError]]:
    """What the route can refuse with, by status, the most telling first: asked from the dialect itself."""
    errors: list[AforesaidError] = []
    if endpoint.access != "public":
        errors += [Unauthenticated("the API key is not known"), Unavailable("the store can't answer now")]
        errors.append(Forbidden("the API key lacks the permission 'write'", permission="write"))
    named = _STEP.findall(endpoint.path)
    if endpoint.body is not None:
        errors.append(Invalid("Field required", "body", texts.example_field(endpoint), kind="missing"))
        errors.append(WrongContentType("the body must be JSON, with Content-Type: application/json, not text/html"))
        errors.append(TooSlow("the request body came too slowly"))
        most = endpoint.body_limit
        errors.append(TooLarge(f"the request body may have at most {most} bytes", limit="body", maximum=most))
    elif endpoint.query is not None or endpoint.headers:
        errors.append(Invalid("Expected 'int', got 'str'", "query", "limit", kind="type_error"))
    elif named:
        errors.append(Invalid("must be UTF-8 without NUL", "path"))
    if endpoint.access in ("anon", "write") and endpoint.method in WRITING:
        errors.append(StorageFull("the disk is full"))
    if any(header.name.lower() == "idempotency-key" for header in endpoint.headers):
        errors.append(Conflict("this Idempotency-Key was used for another request"))
    found: dict[int, list[AforesaidError]] = {}
    for error in errors:
        found.setdefault(dialect.refuse(error, None).status, []).append(error)
    what = texts.THINGS.get(named[-1], "Conversation") if named else "Conversation"
    further = {
        403: Forbidden("the API key does not belong to this workspace", permission="workspace"),
        404: NotFound(what),
        409: Conflict("this Idempotency-Key was used for another request"),
        429: TooMany("too many requests"),
        500: UpstreamFailed("the model server did not answer"),
        502: UpstreamFailed("the model server did not answer"),
        503: Unavailable("the store can't answer now"),
        504: UpstreamFailed("the model server took too long", status=504),
    }
    for status in endpoint.errors:
        if status not in found:
            found[status] = [further[status]] if status in further else []
    return found


def _types(dialect: Dialect, endpoint: Endpoint) -> Iterator[Any]:
    for kind in (endpoint.body, endpoint.gives, endpoint.streams, *(kind for _, kind in endpoint.gives_also)):
        if kind is not None:
            yield kind
            yield from _structs(kind)
    if endpoint.query is not None:
        yield from (field.type for field in msgspec.structs.fields(endpoint.query))
    for status in refusals(dialect, endpoint):
        yield dialect.shape(status)


def _structs(kind: Any) -> Iterator[Any]:
    """The structs in a type, itself included."""
    seen: set[Any] = set()
    waiting: list[Any] = [kind]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            if one not in seen:
                seen.add(one)
                yield one
                waiting += [field.type for field in msgspec.structs.fields(one)]
        else:
            waiting += getattr(one, "__args__", ())


def _short_names(named: Mapping[str, Any]) -> dict[str, str]:
    """Readable component names: where two types share one, the dialect's name goes before it."""
    found: dict[str, str] = {}
    for name in named:
        steps = name.split(".")
        found[name] = name if len(steps) == 1 else steps[-3].capitalize() + steps[-1]
    assert len(set(found.values())) == len(found), "two shapes of one dialect share a name"
    return found


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, dict):
        return {
            key: _REFERENCE.format(name=names[str(value).removeprefix("#/components/schemas/")])
            if key == "$ref"
            else _renamed(value, names)
            for key, value in schema.items()
        }
    return [_renamed(item, names) for item in schema] if isinstance(schema, list) else schema


def _tidied(schema: Any) -> Any:
    """The schema without noise: no empty lists, no default that only says that there is none."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _tidied(value) for key, value in schema.items()}
    if kept.get("default", ...) is None:
        del kept["default"]
    if kept.get("required") == []:
        del kept["required"]
    if isinstance(kept.get("description"), str):
        kept["description"] = plain(kept["description"])
    return kept


def _without_null(schema: Json) -> Json:
    """The schema of a parameter: it is there or not, never null."""
    if "anyOf" not in schema:
        return dict(schema)
    kinds = [kind for kind in schema["anyOf"] if kind != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**kinds[0], **rest} if len(kinds) == 1 else {**rest, "anyOf": kinds}


def _without_name(header: Json) -> Json:
    return {key: value for key, value in header.items() if key not in ("name", "in")}


def _path_parameters(endpoint: Endpoint) -> Iterator[Json]:
    for name in _STEP.findall(endpoint.path):
        about, example = texts.PATH[name]
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": about,
            "schema": {"type": "string", "minLength": 1, "pattern": "^[^\\u0000\\ufffd]+$"},
            "example": example,
        }
