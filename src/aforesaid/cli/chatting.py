"""``chat``: a conversation in the terminal, as a given user."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from aforesaid.cli.options import Data, InWorkspace

if TYPE_CHECKING:
    from aforesaid.app import App
    from aforesaid.core.completion import Completion
    from aforesaid.model import Caller, Json

HISTORY_MESSAGES = 40
"""Messages of the conversation that go with each question."""
REMEMBERED_SHOWN = 5
"""Remembered messages that are shown under an answer, the best ones; the receipt has all."""
REMEMBERED_CHARACTERS = 100
"""Of each remembered message that is shown under an answer."""
LEAVE = ("/quit", "/exit", "/q")
HELP = ("/help", "/h", "/?", "?", "help")


def chat(
    user_id: Annotated[str, typer.Option("--user-id", metavar="U", help="Who you are.")],
    model: Annotated[str | None, typer.Option(help="The model to ask. [default: the server's]")] = None,
    conversation: Annotated[
        str | None, typer.Option("--conversation", metavar="ID", help="Go on with this one.")
    ] = None,
    workspace: InWorkspace = None,
    data: Data = None,
) -> None:
    """Talk in the terminal as a user, with that user's memory. What is said is stored.

    Under each answer stands what was remembered for it. /quit or Ctrl-D leaves, Ctrl-C stops an answer. Without a
    terminal, each line of standard input is a question, and only the answers are printed.

    \b
      aforesaid chat --user-id ada
      echo "What is my starter called?" | aforesaid chat --user-id ada
    """
    from aforesaid.cli import embedded, terminal
    from aforesaid.errors import UpstreamFailed

    person = sys.stdin.isatty()
    with asyncio.Runner() as runner, contextlib.ExitStack() as closing:
        opening = contextlib.AsyncExitStack()
        closing.callback(lambda: runner.run(opening.aclose()))
        running = runner.run(opening.enter_async_context(embedded.opened(data, make=True)))
        talk = runner.run(_begun(running, workspace, user_id, model, conversation))
        opening.push_async_callback(talk.end)
        if person:
            terminal.note(f"{talk.told}\n/quit leaves.")
        while (question := _asked(user_id, person)) is not None:
            try:
                if not runner.run(talk.ask(question)):
                    terminal.note("(stopped)")
            except KeyboardInterrupt:
                terminal.note("(stopped)")
            except UpstreamFailed as error:
                terminal.note(f"no answer: {error.message}")
                if not person:
                    raise typer.Exit(1) from None
    if person and talk.conversation_id:
        terminal.note(f"go on later with: aforesaid chat --user-id {user_id} --conversation {talk.conversation_id}")


def _asked(user_id: str, person: bool) -> str | None:
    """The next question, or None at the end."""
    from aforesaid.cli import terminal

    while True:
        try:
            line = input(f"\n{user_id}> ") if person else sys.stdin.readline()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return None
        if not person and not line:
            return None
        line = line.strip()
        if line in LEAVE:
            return None
        if person and line in HELP:
            terminal.note("/quit leaves; everything else is said.")
        elif line:
            return line


async def _begun(
    running: "App", workspace: str | None, user_id: str, model: str | None, conversation: str | None
) -> "Talk":
    """A talk that may go on with a stored conversation. *Raises* ``NotFound`` for one that is not there."""
    from aforesaid.cli import embedded
    from aforesaid.core import checks, conversations, messages
    from aforesaid.errors import NotFound

    checks.identifier(user_id, "user_id")
    caller = await embedded.operator(running, workspace)
    history: list[Json] = []
    if conversation is not None:
        found = await conversations.get(running.db, caller, conversation)
        if found.owner_id not in (None, user_id):
            raise NotFound("Conversation")
        conversation = found.id
        skip = max(0, found.message_count - HISTORY_MESSAGES)
        page = await messages.list_(
            running.db, caller, messages.Filter(), conversation=found.id, skip=skip, limit=HISTORY_MESSAGES
        )
        history = [{"role": m.role, "content": m.content} for m in page.items if m.role in ("user", "assistant")]
    await running.chat.start()
    model = model or running.services.options.default_model
    if model is None:
        listed = await running.chat.models()
        model = str(listed[0]["id"]) if listed else "default"
    return Talk(running, caller, user_id, model, conversation, history)


class Talk:
    """A conversation under way, as a chat client holds it."""

    def __init__(
        self,
        running: "App",
        caller: "Caller",
        user_id: str,
        model: str,
        conversation_id: str | None,
        history: "list[Json]",
    ) -> None:
        self._running = running
        self._caller = caller
        self._user_id = user_id
        self._model = model
        self._history = history
        self.conversation_id = conversation_id

    @property
    def told(self) -> str:
        """Who answers."""
        return f"{self._running.chat.describe()}; model {self._model}"

    async def ask(self, question: str) -> bool:
        """The answer is printed as it comes, and stored; then what was remembered for it. False: it was stopped."""
        from aforesaid.core import asking, completion
        from aforesaid.errors import UpstreamFailed

        turn = {"role": "user", "content": question}
        body = {"model": self._model, "messages": [*self._history, turn], "stream": True}
        given = {"user_id": self._user_id, "conversation_id": self.conversation_id}
        asked = asking.understood(msgspec.json.encode(body), given)
        answer = await completion.complete(self._running.services, self._caller, asked)
        self.conversation_id = answer.conversation_id
        said: list[str] = []
        whole = True
        try:
            async with contextlib.aclosing(_words(answer)) as words:
                async for word in words:
                    said.append(word)
                    print(word, end="", flush=True)
        except UpstreamFailed:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # else Ctrl-C broke it off: what was said is stored
                raise
            whole = False
        finally:
            print(flush=True)
        self._history = [*self._history, turn, {"role": "assistant", "content": "".join(said)}][-HISTORY_MESSAGES:]
        if sys.stderr.isatty() and whole:
            await self._show_remembered(answer)
        await self._running.runner.drain()  # so that the next answer can remember this one
        return whole

    async def end(self) -> None:
        """What was said is stored, and nothing is asked any more."""
        from aforesaid.core import completion

        await completion.settle()
        await self._running.chat.stop()

    async def _show_remembered(self, answer: "Completion") -> None:
        from aforesaid.cli import terminal
        from aforesaid.core import completion
        from aforesaid.errors import NotFound
        from aforesaid.times import iso

        out = terminal.console(stderr=True)
        if answer.receipt.skipped:
            out.print(f"[dim]  nothing was recalled: {answer.receipt.skipped}[/]")
            return
        try:
            shown = await completion.get_receipt(self._running.db, self._caller, answer.receipt.id)
        except NotFound:
            return
        best = [shown.messages.get(id) for item in answer.receipt.items for id in item["message_ids"]]
        known = [message for message in best if message is not None]
        for message in known[:REMEMBERED_SHOWN]:
            text = " ".join(message.content.split())
            text = text if len(text) <= REMEMBERED_CHARACTERS else text[:REMEMBERED_CHARACTERS] + "…"
            day = iso(message.created_us)[:10]
            out.print(f"[dim]  remembered {day} {terminal.escaped(f'{message.sender_id}: {text}')}[/]")
        if len(known) > REMEMBERED_SHOWN:
            out.print(f"[dim]  and {len(known) - REMEMBERED_SHOWN} more: receipt {answer.receipt.id}[/]")


async def _words(answer: "Completion") -> AsyncGenerator[str, None]:
    """The text of the first choice as it comes. *Raises* ``UpstreamFailed`` when the answer broke off."""
    from aforesaid.errors import UpstreamFailed

    if not answer.streaming:
        whole = msgspec.json.decode(await answer.body())
        yield whole["choices"][0]["message"].get("content") or ""
        return
    async with contextlib.aclosing(answer.events()) as events:
        async for piece in events:
            for line in piece.splitlines():
                data = line.removeprefix(b"data:").strip()
                if not line.startswith(b"data:") or not data.startswith(b"{"):
                    continue
                event = msgspec.json.decode(data)
                if event.get("error"):
                    raise UpstreamFailed(str(event["error"].get("message", "the answer broke off")))
                for choice in event.get("choices") or ():
                    if choice.get("index", 0) == 0:
                        yield (choice.get("delta") or {}).get("content") or ""


def add_to(app: typer.Typer) -> None:
    """The command is part of the line."""
    app.command()(chat)
