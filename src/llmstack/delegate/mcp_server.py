"""What another agent sees of this stack: two tools over stdin and stdout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from llmstack import __version__
from llmstack.delegate.files import MOST_BYTES, MOST_FILES, read_files
from llmstack.delegate.question import DelegatedQuestion, ask
from llmstack.errors import StackError
from llmstack.launch.agents import PointFacts

REPORT_S = 1.0  # the least time between two signs of progress
MAX_TOKENS = 4096
_INSTRUCTIONS = (
    "A language model on the user's own machine: free, private, smaller than you. Hand over to it what needs much "
    "reading and little judgement: summaries, searching long files, first drafts, format changes. Check what it says."
)


class LocalModel:
    """facts: how the stack is reached now; it is asked before each question, so a rotated token is taken. root: the
    folder whose files may be named."""

    def __init__(self, facts: Callable[[], PointFacts], root: Path) -> None:
        self._facts = facts
        self._root = root

    async def ask(
        self,
        prompt: Annotated[str, Field(description="The whole task: it sees nothing of your conversation")],
        context: Context,
        files: Annotated[
            list[str],
            Field(description=f"Text files to read for it, below the working folder: {MOST_FILES}, {MOST_BYTES} bytes"),
        ] = [],  # noqa: B006  # its schema shows the default, and nobody changes it
        max_tokens: Annotated[int, Field(ge=1, le=65536, description="Of the answer")] = MAX_TOKENS,
        think: Annotated[bool, Field(description="Let it think before it answers; slower")] = False,
    ) -> str:
        began = last = time.monotonic()

        async def tell(size: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= REPORT_S:
                last = now
                await context.report_progress(now - began, message=f"{size} characters" if size else "it reads")

        try:
            texts = await asyncio.to_thread(read_files, self._root, files)
            facts = await asyncio.to_thread(self._facts)  # it may start the stack
            answer = await ask(
                facts.url, facts.token, facts.model, DelegatedQuestion(prompt, texts, max_tokens, think), tell
            )
        except StackError as error:
            raise ToolError(_in_words(error)) from None
        return answer.text + ("\n[cut: it reached max_tokens]" if answer.cut else "")

    async def describe(self) -> dict[str, Any]:
        try:
            facts = await asyncio.to_thread(self._facts)
        except StackError as error:
            raise ToolError(_in_words(error)) from None
        return {"model": facts.model, "context_tokens": facts.context, "max_answer_tokens": facts.max_output}


def serve(facts: Callable[[], PointFacts], root: Path) -> None:
    """Until the other side closes stdin."""
    server: MCPServer[Any] = MCPServer("llmstack", instructions=_INSTRUCTIONS, version=__version__, log_level="WARNING")
    model, reads = LocalModel(facts, root), ToolAnnotations(read_only_hint=True, open_world_hint=False)
    server.tool("ask_local_model", description=f"Asks it one question. {_INSTRUCTIONS}", annotations=reads)(model.ask)
    server.tool("describe_local_model", description="Its name, context and answer length.", annotations=reads)(
        model.describe
    )
    server.run("stdio")


def _in_words(error: StackError) -> str:
    return "; ".join(part for part in (str(error), error.why, error.next and f"next: {error.next}") if part)
