"""The answerer without a model: what it says, and that it says it in OpenAI's protocol."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from aforesaid.errors import UpstreamFailed
from aforesaid.providers.chat import AnswerContext, ChatAnswer, ChatRequest, RecalledItem
from aforesaid.providers.exchange import MAX_CHOICES
from aforesaid.providers.offline import EXTRACTIVE_MODEL, ExtractiveAnswerer
from aforesaid.providers.quotes import Reply, reply
from aforesaid.providers.sse import Collector, payloads
from aforesaid.providers.tokens import count_tokens
from aforesaid.providers.words import kind_of, sentences

DAY_US = 86_400_000_000
MAY_8_US = 1_683_547_200_000_000  # 8 May 2023, noon UTC


def item(text: str, days: int | None = 0, role: str = "user", sender: str | None = "u1") -> RecalledItem:
    created_us = None if days is None else MAY_8_US + days * DAY_US
    return RecalledItem(id=f"msg_{text[:8]}", text=text, sender=sender, role=role, created_us=created_us)


def said(question: str, *items: RecalledItem, turns: tuple[tuple[str, str], ...] = ()) -> Reply:
    context = AnswerContext(question=question, user_id="u1", turns=(*turns, ("user", question)), items=items)
    return reply(context)


BIKE = item("I keep my bike in the cellar.")
BERLIN = item("I moved to Berlin last week.", 25)
TEA = item("Tea is what I drink in the morning.", 3)


# -- what it says -----------------------------------------------------------------------------------------------------


def test_a_question_is_answered_with_words_date_and_speaker() -> None:
    answer = said("Where do I keep my bike?", TEA, BIKE)
    assert answer.text == "On 8 May 2023 you said: “I keep my bike in the cellar.”"
    assert (answer.kind, [quote.id for quote in answer.quotes]) == ("answer", [BIKE.id])


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Where do I live?", "moved to Berlin"),
        ("what do I drink in the mornings", "Tea is what"),
        ("Remind me where the bicycle is, I mean my bike", "cellar"),
        ("And Berlin? When was that?", "last week"),
    ],
)
def test_questions_in_other_words(question: str, words: str) -> None:
    assert words in said(question, BIKE, TEA, BERLIN).text.split("”")[0]


def test_speakers_are_named() -> None:
    assert "Caroline said: “My dog" in said("Whose dog is old?", item("My dog is old.", sender="Caroline")).text
    assert "the assistant said" in said("Is rust slow?", item("Rust is not slow.", role="assistant", sender="a1")).text
    assert "you said" in said("Is my dog old?", item("My dog is old.", sender="user_8812345")).text
    undated = said("Is my dog old?", item("My dog is old.", None)).text
    assert undated == "Earlier in this conversation you said: “My dog is old.”"


def test_of_two_that_say_as_much_the_newest_comes_first_unless_the_past_is_asked_for() -> None:
    old, new = item("My favourite colour is red.", 0), item("My favourite colour is teal.", 30)
    for items in ((old, new), (new, old)):
        text = said("What is my favourite colour?", *items).text
        assert text.startswith("On 7 June 2023 you said: “My favourite colour is teal.” Earlier, on 8 May 2023,")
        past = said("What was my favourite colour originally?", *items)
        assert "red" in past.quotes[0].text


def test_the_sentence_that_bears_on_the_question_is_quoted_out_of_a_long_message() -> None:
    filler = "The weather was mild and we walked along the river for hours. " * 30
    text = said("How much did the violin cost?", item(f"{filler}The violin cost 900 euros at Meyer. {filler}")).text
    assert text == "On 8 May 2023 you said: “The violin cost 900 euros at Meyer.”"
    unbroken = "word " * 300 + "violin " + "word " * 300
    assert "violin" in said("Where is the violin?", item(unbroken)).text
    leaning = f"{filler}We adopted a cat called Mishka. She sleeps on the radiator all winter. {filler}"
    assert "called Mishka. She sleeps" in said("Who sleeps on the radiator?", item(leaning)).text


def test_questions_of_the_past_are_no_answers() -> None:
    answer = said("Where is my passport?", item("Where is my passport?", 1), item("The passport lies in a drawer.", 0))
    assert answer.quotes[0].text == "The passport lies in a drawer."


def test_finding_nothing_is_said_plainly_with_the_words_looked_for() -> None:
    nothing = said("What is my sister's shoe size?", BIKE, TEA)
    assert nothing.kind == "nothing"
    assert nothing.text == "I looked for “sister”, “shoe” or “size” in what I remember and found nothing on that."
    assert said("Why?").text == "I looked for “Why?” in what I remember and found nothing on that."
    near = said("What does my sister's violin weigh?", item("I own a violin.", 0))
    assert near.kind == "nearest"
    assert near.text.startswith("Nothing I remember mentions “sister”")
    assert near.text.endswith("The nearest: On 8 May 2023 you said: “I own a violin.”")


def test_turns_of_the_request_count_too_and_a_short_question_leans_on_the_one_before() -> None:
    turns = (("user", "My cat is called Mishka."), ("assistant", "A lovely name."))
    assert said("What is my cat called?", turns=turns).text == (
        "Earlier in this conversation you said: “My cat is called Mishka.”"
    )
    earlier = (("user", "Where is my bike?"), ("assistant", "Let me see."))
    assert "cellar" in said("And now?", BIKE, turns=earlier).text


def test_its_own_quotations_are_never_quoted() -> None:
    first = said("Where do I keep my bike?", BIKE)
    for own in (first.text, said("I keep my bike outside.").text, said("Where is my boat?").text):
        echo = item(own, 2, role="assistant", sender="assistant")
        again = said("Where do I keep my bike?", echo, BIKE)
        assert [quote.id for quote in again.quotes] == [BIKE.id]
        assert said("Where do I keep my bike?", echo).kind == "nothing"


def test_a_statement_is_said_back_with_what_it_fits() -> None:
    assert said("I bought a lamp.").text == "Noted: “I bought a lamp.”"
    fits = said("I sold my bike.", TEA, BIKE)
    assert fits.text == (
        "Noted: “I sold my bike.” It goes with this: On 8 May 2023 you said: “I keep my bike in the cellar.”"
    )
    hello = said("Hello!", BIKE, BERLIN).text
    assert hello.startswith("Noted: “Hello!” The last I remember: On 2 June 2023 you said: “I moved to Berlin")


def test_a_task_is_declined_with_what_is_known() -> None:
    text = said("Write a poem about my bike", BIKE).text
    assert text.startswith("I can only quote what was said before. ")
    assert "cellar" in text


def test_summaries() -> None:
    turns = (("user", "We fly to Lisbon on Friday."), ("assistant", "Noted."), ("user", "Pack the blue suitcase."))
    conversation = said("Summarize this conversation.", BIKE, turns=turns).text
    assert conversation.startswith("This is what was said:\n- you: “We fly to Lisbon on Friday.”")
    assert "blue suitcase" in conversation
    assert "cellar" not in conversation
    about = said("What do you know about me?", BERLIN, BIKE, TEA)
    assert about.text.splitlines() == [
        "This is what I remember about you:",
        "- 8 May 2023, you: “I keep my bike in the cellar.”",
        "- 11 May 2023, you: “Tea is what I drink in the morning.”",
        "- 2 June 2023, you: “I moved to Berlin last week.”",
    ]
    assert said("Summarize this conversation.").kind == "nothing"


def test_a_short_conversation_is_summed_up_whole() -> None:
    turns = (("user", "message"), ("assistant", "message body"), ("user", "How are you?"), ("assistant", "Fine!"))
    told = said("Summarize this conversation.", turns=turns).text
    assert told.splitlines() == [
        "This is what was said:",
        "- you: “message”",
        "- the assistant: “message body”",
        "- you: “How are you?”",
        "- the assistant: “Fine!”",
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Where is it?", "question"),
        ("你住在哪里？", "question"),
        ("Tell me about Rome", "question"),
        ("I live in Rome.", "statement"),
        ("When I was young I lived in Rome.", "statement"),
        ("Translate this into French", "task"),
        ("What did we talk about last time?", "summary"),
        ("", "statement"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert kind_of(text) == kind


def test_sentences() -> None:
    assert sentences("Dr. Who came at 3.5 p.m. today! Really?\n- one\n2. two") == [
        "Dr. Who came at 3.5 p.m. today!",
        "Really?",
        "one",
        "two",
    ]
    assert sentences("我去了海边。天气很好。") == ["我去了海边。", "天气很好。"]


def test_scripts_without_spaces_are_matched() -> None:
    answer = said("冰淇淋在哪里吃的？", item("天气很好。", 1), item("我们在海边吃了冰淇淋。", 0))
    assert answer.quotes[0].text == "我们在海边吃了冰淇淋。"


@pytest.mark.parametrize("text", ["x" * 300_000, "a. " * 100_000, "？" * 1_000, "\n" * 5_000, "\ud800 bike", "“”" * 50])
def test_odd_texts_are_endured(text: str) -> None:
    assert said("Where is my bike?", item(text), BIKE).text
    assert said(text[:2_000], BIKE).text


# -- the protocol -----------------------------------------------------------------------------------------------------


def opened(stream: bool = False, question: str = "Where do I keep my bike?", **fields: Any) -> ChatAnswer:
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": question}], "stream": stream, **fields}
    context = AnswerContext(question=question, user_id="u1", turns=(("user", question),), items=(BIKE,))
    request = ChatRequest(body=msgspec.json.encode(body), model="gpt-4", stream=stream, context=context)
    return asyncio.run(ExtractiveAnswerer().open(request))


def answered(**fields: Any) -> Any:
    return json.loads(asyncio.run(opened(**fields).body()))


def streamed(**fields: Any) -> list[bytes]:
    async def run(answer: ChatAnswer) -> list[bytes]:
        return [event async for event in answer.events()]

    return asyncio.run(run(opened(stream=True, **fields)))


def test_a_completion() -> None:
    answer = answered()
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}
    assert (answer["object"], answer["model"]) == ("chat.completion", EXTRACTIVE_MODEL)
    (choice,) = answer["choices"]
    text = "On 8 May 2023 you said: “I keep my bike in the cellar.”"
    assert choice["message"] == {"role": "assistant", "content": text, "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    usage = answer["usage"]
    assert usage["prompt_tokens"] == count_tokens("Where do I keep my bike?", EXTRACTIVE_MODEL) == 7
    assert usage["completion_tokens"] == count_tokens(text, EXTRACTIVE_MODEL)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_says_the_same() -> None:
    events = streamed(n=2, stream_options={"include_usage": True})
    assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") and event.count(b"\n") == 2 for event in events)
    assert events[-1] == b"data: [DONE]\n\n"
    chunks = [json.loads(payload) for payload in payloads(b"".join(events[:-1]))]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:2]] == [{"role": "assistant", "content": ""}] * 2
    assert chunks[-1]["choices"] == []
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["usage"] == answered(n=2)["usage"]
    collector = Collector()
    for event in events:
        collector.feed(event)
    got = collector.answer()
    text = answered()["choices"][0]["message"]["content"]
    assert [(choice.content, choice.finish_reason) for choice in got.choices] == [(text, "stop")] * 2
    assert (got.complete, got.model) == (True, EXTRACTIVE_MODEL)
    assert not any(b'"usage"' in event for event in streamed())


def test_limits_and_stops() -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        cut = answered(**{name: 4})
        assert cut["choices"][0]["finish_reason"] == "length"
        assert cut["choices"][0]["message"]["content"] == "On 8 May 2023"
        assert cut["usage"]["completion_tokens"] == 4
    stopped = answered(stop=["cellar", " said"])["choices"][0]
    assert (stopped["message"]["content"], stopped["finish_reason"]) == ("On 8 May 2023 you", "stop")
    assert answered(stop="zebra")["choices"][0]["message"]["content"].endswith("”")
    assert len(answered(n=3)["choices"]) == 3


def test_tools_are_never_called_and_can_not_be_required() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    for choice in ("auto", "none", None):
        assert answered(tools=tools, tool_choice=choice)["choices"][0]["finish_reason"] == "stop"
    for required in ("required", {"type": "function", "function": {"name": "f"}}):
        with pytest.raises(UpstreamFailed) as failed:
            opened(tools=tools, tool_choice=required)
        assert failed.value.status == 400
        error = json.loads(failed.value.body)["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", "tool_choice")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": MAX_CHOICES + 1}, "n"),
        ({"n": "x"}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": 5}, "stop"),
        ({"messages": "hello"}, "messages"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
    ],
)
def test_what_can_not_be_done_is_a_clear_400(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UpstreamFailed) as failed:
        opened(**fields)
    error = json.loads(failed.value.body)["error"]
    assert (failed.value.status, error["param"]) == (400, param)
    assert error["message"]


def test_json() -> None:
    content = answered(response_format={"type": "json_object"})["choices"][0]["message"]["content"]
    assert json.loads(content) == {
        "answer": "On 8 May 2023 you said: “I keep my bike in the cellar.”",
        "quotes": [{"text": BIKE.text, "said_by": "you", "id": BIKE.id, "date": "8 May 2023"}],
    }


def schema(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    inner = {"type": "object", "properties": properties, "required": list(properties), **more}
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": inner}}


TEXT = {"type": "string"}


def test_json_by_a_schema_that_can_be_met() -> None:
    form = schema(
        {
            "thoughts": {"type": ["string", "null"], "enum": ["a", None]},
            "answer": TEXT,
            "evidence": {"type": "array", "items": TEXT},
            "found": {"type": "boolean"},
            "place": {"type": ["number", "null"]},
        }
    )
    content = json.loads(answered(response_format=form)["choices"][0]["message"]["content"])
    text = "On 8 May 2023 you said: “I keep my bike in the cellar.”"
    expected = {"thoughts": None, "answer": text, "evidence": [BIKE.text], "found": True, "place": None}
    assert content == expected


@pytest.mark.parametrize(
    "form",
    [
        schema({"city": TEXT, "country": TEXT}),
        schema({"answer": TEXT, "score": {"type": "number"}}),
        schema({"answer": {"type": "string", "enum": ["yes", "no"]}}),
        schema({"answer": {"type": "string", "pattern": "^a"}}),
        schema({"answers": {"type": "array", "items": TEXT, "minItems": 3}}),
        schema({"answer": TEXT}, anyOf=[{}]),
        schema({"answer": TEXT}, required=["answer", "other"]),
        schema({}),
        schema({}, type="array"),
    ],
)
def test_json_by_a_schema_that_can_not_be_met_is_a_clear_400(form: dict[str, Any]) -> None:
    with pytest.raises(UpstreamFailed, match="can't meet this schema") as failed:
        opened(response_format=form)
    assert failed.value.status == 400
