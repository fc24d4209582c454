"""The description is the truth: generated requests, right and wrong, get the answers that it promises."""

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.hooks import unregister_all

from aforesaid.http.openapi_texts import LINKS
from tests.support.inside import API_KEY, Answer, Inside, inside

SEED = 20250610
LEAST_CASES = 1_500
EXAMPLES = 12
SCENARIOS, STEPS = 60, 20

# What a schema can't say: rules between fields, or that go by what is stored. 2.0 is an integer to JSON schema only.
UNSAYABLE = re.compile(
    "the conversation has ended|only anon keys have origins|are the same thing and differ|an active conversation has no"
    "|the conversation that the message belongs to|cursor|names another conversation|got 'float'"
)

CONFIG: dict[str, Any] = {
    "seed": SEED,
    "workers": 1,
    "headers": {"Authorization": f"Bearer {API_KEY}"},
    "continue-on-failure": True,
    "cache": {"enabled": False},
    "request-timeout": 60.0,
    # NUL and U+FFFD have tests of their own: no schema can say for every free text that they are refused.
    "generation": {
        "mode": "all",
        "max-examples": EXAMPLES,
        "no-shrink": True,
        "deterministic": True,
        "database": "none",
        "allow-x00": False,
        "with-security-parameters": False,
    },
    "checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 408, 409, 413, 415, 422]}},
    "phases": {"stateful": {"max-steps": STEPS, "generation": {"max-examples": SCENARIOS}}},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with inside(tmp_path_factory.mktemp("schemathesis"), jobs=True) as server:
        yield server


class Findings:
    """What the run has shown."""

    def __init__(self) -> None:
        self.cases = 0
        self.phases: Counter[str] = Counter()
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.failures: dict[str, str] = {}

    def take(self, event: events.ScenarioFinished) -> None:
        """The scenario counts."""
        recorder = event.recorder
        self.cases += len(recorder.interactions)
        self.phases[event.phase.value] += len(recorder.interactions)
        for id, interaction in recorder.interactions.items():
            if interaction.response is not None and id in recorder.cases:
                label = recorder.cases[id].value.operation.label
                self.statuses[label, interaction.response.status_code] += 1
        for id, checks in recorder.checks.items():
            for check in checks:
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    label = recorder.cases[id].value.operation.label
                    response = recorder.interactions[id].response
                    if check.name == "positive_data_acceptance" and response and UNSAYABLE.search(response.text):
                        continue
                    answer = "" if response is None else f"{response.status_code} {response.content[:500]!r}"
                    told = f"{label}: {failure.title}\n{failure.message}\n{check.failure_info.code_sample}\n{answer}"
                    self.failures.setdefault(f"{label} {check.name}", told)


@pytest.fixture
def own_key(running: Inside) -> Iterator[str]:
    """The id of the key that requests are sent with. They carry it in bodies that have one, and never end it."""
    own: str = running.ask("GET", "/api/v1/auth/session").json()["user"]["id"]

    def before_call(context: Any, case: Any, kwargs: Any) -> None:
        if isinstance(case.body, dict):
            for name in ("api_key", "anon_key"):
                if isinstance(case.body.get(name), str):
                    case.body[name] = API_KEY
        if case.path_parameters and case.path_parameters.get("key_id") == own:
            case.path_parameters["key_id"] = "key_01JXCR3K3K0Z7T1C5R8X9Y2ABE"

    schemathesis.hook(before_call)
    yield own
    unregister_all()


@pytest.mark.fuzz
@pytest.mark.timeout(600)
def test_every_answer_is_one_that_the_description_promises(running: Inside, own_key: str) -> None:
    schema = schemathesis.openapi.from_url(
        running.base_url + "/openapi.json", config=SchemathesisConfig.from_dict(CONFIG)
    )
    found = Findings()
    lock = threading.Lock()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            with lock:
                found.take(event)
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.failures[f"error {event.id}"] = str(event)
    print(f"{found.cases} generated cases: {dict(found.phases)}")
    assert not found.failures, f"{len(found.failures)} failures\n\n" + "\n\n".join(found.failures.values())
    assert found.cases >= LEAST_CASES
    assert running.ask("GET", "/api/v1/auth/session").json()["user"]["id"] == own_key
    assert not {label: status for label, status in found.statuses if status >= 500}


def test_every_link_leads_on(running: Inside) -> None:
    """What one answer names, the operation that is linked takes: each link of the description is followed once."""
    schema = schemathesis.openapi.from_url(
        running.base_url + "/openapi.json", config=SchemathesisConfig.from_dict(CONFIG)
    )
    drawn: Any = schema.raw_schema
    by_name = {
        operation["operationId"]: (path, method, operation)
        for path, methods in drawn["paths"].items()
        for method, operation in methods.items()
    }
    followed = 0
    for name, (path, method, operation) in by_name.items():
        for status, response in operation["responses"].items():
            for link in response.get("links", {}).values():
                home = running.ask("POST", "/api/v1/conversations", {}).json()["id"]
                body = request_example(operation)
                if body and "conversation_id" in body:
                    body["conversation_id"] = home
                if body and "api_key" in body:
                    body["api_key"] = API_KEY
                from_path = path.replace("{conversation_id}", home)
                first = running.ask(method.upper(), from_path, body, {"x-user-id": "linked"})
                assert str(first.status) == status, f"{name}: {first}"
                target_path, target_method, target = by_name[link["operationId"]]
                for parameter, expression in link.get("parameters", {}).items():
                    target_path = target_path.replace(f"{{{parameter}}}", resolved(expression, first))
                sent = request_example(target)
                for field, value in link.get("requestBody", {}).items():
                    sent[field] = resolved(value, first) if str(value).startswith("$") else value
                answer = requests.request(
                    target_method,
                    running.base_url + target_path,
                    json=sent,
                    headers={"Authorization": f"Bearer {API_KEY}"},
                    timeout=60,
                )
                assert answer.status_code in (200, 201), f"{name} -> {link['operationId']}: {answer.text}"
                schema[by_name[link["operationId"]][0]][target_method.upper()].validate_response(answer)
                followed += 1
    assert followed == sum(len(links) for links in LINKS.values())


def request_example(operation: Any) -> Any:
    """The body of the operation's own example, a copy; None where it takes none."""
    body = operation.get("requestBody")
    return None if body is None else json.loads(json.dumps(body["content"]["application/json"]["example"]))


def resolved(expression: str, answer: Answer) -> str:
    """The value that a runtime expression of a link names in an answer."""
    if expression.startswith("$response.header."):
        return str(answer.headers[expression.removeprefix("$response.header.")])
    value = answer.json()
    for step in expression.removeprefix("$response.body#/").split("/"):
        value = value[int(step) if isinstance(value, list) else step]
    return str(value)
