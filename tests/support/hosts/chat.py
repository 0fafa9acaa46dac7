"""Hosts that speak OpenAI's API, each with the quirks its documentation names.

Cerebras: inference-docs.cerebras.ai (resources/openai, capabilities/tool-use). Ollama: docs.ollama.com
(api/openai-compatibility, context-length, api/create, api/ps). OpenRouter: openrouter.ai/docs (api-reference/streaming,
errors). vLLM: docs.vllm.ai (serving/openai_compatible_server, features/tool_calling). LM Studio: lmstudio.ai/docs
(developer/openai-compat), and lmstudio-bug-tracker#2256 and #2322 for how it says that a prompt is too long.
"""

from __future__ import annotations

from typing import Any

from support.hosts import brain
from support.streams import DONE, delta, event, finish, tool
from support.upstream import Asked, Wire


def count(body: dict[str, Any]) -> int:
    return len(brain.dump([body["messages"], body.get("tools")])) // 4


def usage(prompt: int, output: int = 12, **more: Any) -> bytes:
    figures = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    return event({"choices": [], "usage": {**figures, **more}})


def turn_events(turn: brain.Turn, call_id: str, reasoning: str = "reasoning_content") -> bytes:
    data = delta(role="assistant", content="")
    if turn.thinking:
        data += delta(**{reasoning: turn.thinking})
    if turn.call is None:
        half = len(turn.text) // 2
        return data + delta(content=turn.text[:half]) + delta(content=turn.text[half:]) + finish("stop")
    arguments = brain.dump(turn.call.arguments)
    return data + tool(0, call_id, turn.call.name, arguments[:5], arguments[5:]) + finish("tool_calls")


def whole(turn: brain.Turn, body: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if turn.call is not None:
        function = {"name": turn.call.name, "arguments": brain.dump(turn.call.arguments)}
        message["tool_calls"] = [{"id": "call_host00001", "type": "function", "function": function}]
    reason = "tool_calls" if turn.call else "stop"
    figures = {"prompt_tokens": count(body), "completion_tokens": 12, "total_tokens": count(body) + 12}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [choice],
        "usage": figures,
    }


class Cerebras:
    """400 for fields and content it does not take, 401 for a wrong key, 404 for a model it has not."""

    KEY = "csk-of-the-tests"
    MODEL = "qwen-3-coder-480b"
    KNOWN = frozenset(
        {
            "model",
            "messages",
            "max_tokens",
            "max_completion_tokens",
            "response_format",
            "seed",
            "stop",
            "stream",
            "stream_options",
        }
        | {"temperature", "top_p", "tool_choice", "tools", "user", "logprobs", "top_logprobs", "reasoning_effort"}
    )

    def __init__(self, key: str = KEY) -> None:
        self.key = key
        self.refused: list[str] = []

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        if asked.headers.get("authorization") != f"Bearer {self.key}":
            wrong = {
                "message": "Wrong API Key",
                "type": "invalid_request_error",
                "param": "api_key",
                "code": "wrong_api_key",
            }
            await wire.json(wrong, 401)
        elif asked.path == "/v1/models":
            await wire.json({"object": "list", "data": [{"id": self.MODEL, "object": "model"}]})
        else:
            await self._chat(asked, wire)

    async def _chat(self, asked: Asked, wire: Wire) -> None:
        body = asked.json
        problem = self._problem(body)
        if problem:
            self.refused.append(problem)
            said = {"message": problem, "type": "invalid_request_error", "param": "", "code": "wrong_api_format"}
            await wire.json(said, 404 if "does not exist" in problem else 400)
            return
        turn = brain.of_chat(body)
        if body.get("stream"):
            await wire.stream(turn_events(turn, "9c1f0a7b2"), usage(count(body), time_info=1), DONE)
        else:
            await wire.json(whole(turn, body))

    def _problem(self, body: dict[str, Any]) -> str | None:
        unknown = set(body) - self.KNOWN
        if unknown:
            return f"property '{sorted(unknown)[0]}' is unsupported"
        if body["model"] != self.MODEL:
            return f"Model {body['model']} does not exist or you do not have access to it."
        for number, message in enumerate(body["messages"]):
            extra = set(message) - {"role", "content", "name", "tool_calls", "tool_call_id"}
            if extra:
                return f"messages.{number}.{sorted(extra)[0]} is unsupported"
            if not isinstance(message.get("content"), str | None):
                return f"messages.{number}.content must be a string"
        return None


class Ollama:
    """num_ctx comes from the model only, and what is longer is cut in silence; calls come whole, each with index 0
    and the reason `stop`; it thinks unless told `none`; a model that cannot think refuses to be asked to."""

    def __init__(self, models: dict[str, int] | None = None, thinks: bool = True, sees: bool = False) -> None:
        self.models = models or {"qwen3:1.7b": 4096}
        self.thinks = thinks
        self.sees = sees
        self.loaded: set[str] = set()
        self.cut = 0

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        path = asked.path
        if path == "/api/version":
            await wire.json({"version": "0.40.12"})
        elif path == "/v1/models":
            await wire.json({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})
        elif path == "/api/ps":
            entries = [
                {"name": name, "model": name, "context_length": self.models[name]} for name in sorted(self.loaded)
            ]
            await wire.json({"models": entries})
        elif path == "/api/create":
            await self._create(asked, wire)
        elif path == "/v1/chat/completions":
            await self._chat(asked, wire)
        else:
            await wire.whole(b"404 page not found", 404)

    async def _create(self, asked: Asked, wire: Wire) -> None:
        body = asked.json
        if body["from"] not in self.models:
            await wire.json({"error": f"pull model manifest: file does not exist: {body['from']}"}, 500)
            return
        self.models[body["model"]] = body["parameters"]["num_ctx"]
        await wire.json({"status": "success"})

    async def _chat(self, asked: Asked, wire: Wire) -> None:
        body = asked.json
        name, effort = body["model"], body.get("reasoning_effort")
        if name not in self.models:
            await _refused(wire, f'model "{name}" not found, try pulling it first', 404)
            return
        if effort not in (None, "none") and not self.thinks:
            message = f'"{name}" does not support thinking'
            await wire.json(
                {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}, 400
            )
            return
        if not self.sees and any("image_url" in brain.dump(m["content"]) for m in body["messages"]):
            message = f'"{name}" does not support image input'
            await wire.json(
                {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}, 400
            )
            return
        self.loaded.add(name)
        tokens = count(body)
        if tokens > self.models[name]:
            self.cut += 1
            tokens = self.models[name]
        turn = brain.of_chat(body)
        if not body.get("stream"):
            await wire.json(whole(turn, body))
            return
        thought = (
            delta(role="assistant", content="", reasoning="Okay, the user") if self.thinks and effort != "none" else b""
        )
        if turn.call is None:
            data = thought + delta(role="assistant", content=turn.text) + finish("stop")
        else:
            function = {"name": turn.call.name, "arguments": brain.dump(turn.call.arguments)}
            call = {"id": "call_wteop8bt", "index": 0, "type": "function", "function": function}
            data = thought + delta(role="assistant", content="", tool_calls=[call]) + delta("tool_calls", content="")
        await wire.stream(data, usage(tokens), DONE)


async def _refused(wire: Wire, message: str, status: int) -> None:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    await wire.json({"error": error}, status)


class OpenRouter:
    """Comments between events, `reasoning`, cost in usage; 402 without credits; errors inside a stream with 200."""

    KEY = "sk-or-of-the-tests"

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        if asked.path == "/api/v1/models":
            await wire.json({"data": [{"id": "openai/gpt-4o"}, {"id": "broke/model"}, {"id": "flaky/model"}]})
            return
        if asked.headers.get("authorization") != f"Bearer {self.KEY}":
            await wire.json({"error": {"code": 401, "message": "No auth credentials found"}}, 401)
            return
        body = asked.json
        if body["model"] == "broke/model":
            await wire.json({"error": {"code": 402, "message": "Insufficient credits"}}, 402)
        elif body["model"] == "flaky/model":
            error = {"code": 502, "message": "Provider disconnected"}
            choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
            await wire.stream(
                b": OPENROUTER PROCESSING\n\n", delta(content="Once"), event({"error": error, "choices": [choice]})
            )
        elif body.get("stream"):
            events = turn_events(brain.of_chat(body), "call_router_1", reasoning="reasoning")
            await wire.stream(b": OPENROUTER PROCESSING\n\n" * 2, events, usage(count(body), cost=0.0042), DONE)
        else:
            await wire.json(whole(brain.of_chat(body), body))


class Vllm:
    """Says how much it takes in max_model_len, refuses more with OpenAI's words, and thinks in `reasoning`."""

    MODEL = "Qwen/Qwen3-Coder-30B-A3B-Instruct"

    def __init__(self, context: int = 65536, tools: bool = True) -> None:
        self.context = context
        self.tools = tools

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        if asked.path == "/v1/models":
            card = {"id": self.MODEL, "object": "model", "owned_by": "vllm", "max_model_len": self.context}
            await wire.json({"object": "list", "data": [card]})
            return
        body = asked.json
        if body["model"] != self.MODEL:
            await self._refuse(wire, f"The model `{body['model']}` does not exist.", 404, "NotFoundError")
        elif count(body) > self.context:
            said = f"This model's maximum context length is {self.context} tokens. However, your request has"
            await self._refuse(wire, f"{said} {count(body)} input tokens. Please reduce the length of the input.")
        elif body.get("tools") and body.get("tool_choice", "auto") == "auto" and not self.tools:
            flags = "--enable-auto-tool-choice and --tool-call-parser to be set"
            await self._refuse(wire, f'"auto" tool choice requires {flags}')
        elif body.get("stream"):
            await wire.stream(
                turn_events(brain.of_chat(body), "chatcmpl-tool-1", reasoning="reasoning"), usage(count(body)), DONE
            )
        else:
            await wire.json(whole(brain.of_chat(body), body))

    async def _refuse(self, wire: Wire, message: str, status: int = 400, kind: str = "BadRequestError") -> None:
        await wire.json({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


class LmStudio:
    """A prompt that is too long is an error inside a stream that began with 200; its errors are plain strings."""

    MODEL = "qwen/qwen3-coder-30b"

    def __init__(self, context: int = 65536) -> None:
        self.context = context

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        if asked.path == "/v1/models":
            await wire.json({"object": "list", "data": [{"id": self.MODEL, "object": "model"}]})
            return
        body = asked.json
        if count(body) > self.context:
            said = (
                "The number of tokens to keep from the initial prompt is greater than the context length "
                f"(n_keep: {count(body)}>= n_ctx: {self.context})"
            )
            if body.get("stream"):
                await wire.stream(b"event: error\n" + event({"error": said}))
            else:
                await wire.json({"error": said}, 400)
        elif body.get("stream"):
            await wire.stream(turn_events(brain.of_chat(body), "365174485"), usage(count(body)), DONE)
        else:
            await wire.json(whole(brain.of_chat(body), body))
