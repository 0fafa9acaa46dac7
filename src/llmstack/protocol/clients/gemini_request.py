"""A request of the Gemini API (generateContent) as the body of a Messages request.

Source: Google's reference of models.generateContent, v1beta. The API has snake and camel names for each member; clients
send camel. A call goes out with its tool_use id, as its id and as its thought signature: some clients keep the one,
some the other. Where neither comes back, a result belongs to the oldest open call of its function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from llmstack.protocol.clients import neutral
from llmstack.protocol.clients.asked import WRONG_SHAPE, Asked, Stamp
from llmstack.protocol.clients.gemini_answer import SIGNATURE, GeminiSide
from llmstack.protocol.errors import Refused, invalid, unsupported
from llmstack.protocol.request import bounded_value, checked

# Anthropic's names of what Google's servers would run.
_SERVER_TOOLS = {
    "googleSearch": ("web_search_20250305", "web_search"),
    "googleSearchRetrieval": ("web_search_20250305", "web_search"),
    "urlContext": ("web_fetch_20250910", "web_fetch"),
    "codeExecution": ("code_execution_20250825", "code_execution"),
}
# Members whose answers no neutral stream has a place for.
_BEYOND = ("responseLogprobs", "logprobs", "speechConfig", "imageConfig")
# Read here, or of no account for an answer.
_READ = frozenset(
    {
        "contents", "systemInstruction", "system_instruction", "tools", "toolConfig", "generationConfig", "model",
        "labels", "cachedContent",
    }
)  # fmt: skip
_MODES = {"AUTO": "auto", "VALIDATED": "auto", "ANY": "any", "NONE": "none"}
_EFFORTS = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high"}
# The chat completion's names of members that have no neutral one.
_EXTRA = {"seed": "seed", "presencePenalty": "presence_penalty", "frequencyPenalty": "frequency_penalty"}


def asked(body: bytes, stamp: Stamp, *, model: str, stream: bool, array: bool = False) -> Asked:
    """model, stream: from the path. array: a stream without server-sent events is one, of responses. Raises Refused."""
    value = bounded_value(body)
    if isinstance(value, dict) and isinstance(value.get("generateContentRequest"), dict):  # as countTokens wraps it
        value = value["generateContentRequest"]
    payload = to_messages(value, model, stream=stream)
    config = _config(value)
    thoughts = _thinking(config).get("includeThoughts") is True
    request = checked(payload)
    request.ignored = tuple(name for name in value if name not in _READ)
    return Asked(
        request,
        partial(GeminiSide, model, stamp.new_id("resp"), thoughts=thoughts, array=array),
        body=partial(neutral.for_anthropic, payload),
        extra={name: config[member] for member, name in _EXTRA.items() if config.get(member) is not None},
    )


def to_messages(value: Any, model: str, *, stream: bool) -> dict[str, Any]:
    """Raises Refused for another shape, and for what cannot be said."""
    try:
        return _to_messages(value, model, stream=stream)
    except WRONG_SHAPE as error:
        text = f"the request is none of generateContent: {type(error).__name__}: {error}"
        raise Refused(invalid(text[:300])) from None


def _to_messages(value: Any, model: str, *, stream: bool) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("contents"), list | dict):
        raise Refused(invalid("contents: a list is required"))
    if value.get("cachedContent"):
        raise Refused(unsupported("cachedContent: this stack keeps its prompts by itself; send the contents"))
    contents = value["contents"]
    body: dict[str, Any] = {"model": model, "stream": stream, "messages": _Turns().of(contents)}
    system = value.get("systemInstruction") or value.get("system_instruction")
    if system:
        text = system if isinstance(system, str) else "\n\n".join(p["text"] for p in _parts(system) if p.get("text"))
        body["messages"].insert(0, {"role": "system", "content": text})
    _settings(body, _config(value))
    _tools(body, value)
    return body


def _config(value: Any) -> dict[str, Any]:
    config = value.get("generationConfig") or {}
    return config if isinstance(config, dict) else {}


def _thinking(config: Mapping[str, Any]) -> dict[str, Any]:
    thinking = config.get("thinkingConfig")
    return thinking if isinstance(thinking, dict) else {}


def _settings(body: dict[str, Any], config: Mapping[str, Any]) -> None:
    if (config.get("candidateCount") or 1) != 1:
        raise Refused(unsupported("candidateCount: one answer at a time"))
    if [kind for kind in config.get("responseModalities") or () if kind != "TEXT"]:
        raise Refused(unsupported("responseModalities: answers are text here"))
    for name in _BEYOND:
        if config.get(name):
            raise Refused(unsupported(f"generationConfig.{name}: nothing of the kind is answered here"))
    for member, name in (("temperature", "temperature"), ("topP", "top_p"), ("topK", "top_k")):
        if config.get(member) is not None:
            body[name] = int(config[member]) if name == "top_k" else config[member]
    if config.get("maxOutputTokens"):
        body["max_tokens"] = config["maxOutputTokens"]
    if config.get("stopSequences"):
        body["stop_sequences"] = config["stopSequences"]
    thinking = _thinking(config)
    budget, level = thinking.get("thinkingBudget"), str(thinking.get("thinkingLevel", "")).upper()
    if budget == 0:
        body["thinking"] = {"type": "disabled"}
    elif isinstance(budget, int) and budget > 0:
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    elif level in _EFFORTS:
        neutral.add_effort(body, _EFFORTS[level])
    elif thinking:
        body["thinking"] = {"type": "adaptive"}
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if config.get("responseMimeType") == "application/json" and isinstance(schema, dict):
        neutral.add_shape(body, plain_schema(schema))


def _tools(body: dict[str, Any], value: Mapping[str, Any]) -> None:
    tools: list[dict[str, Any]] = []
    for tool in value.get("tools") or ():
        for function in tool.get("functionDeclarations") or tool.get("function_declarations") or ():
            schema = function.get("parametersJsonSchema") or plain_schema(function.get("parameters") or {})
            description = function.get("description") or ""
            tools.append({"name": function["name"], "description": description, "input_schema": schema})
        tools += [{"type": kind, "name": name} for member, (kind, name) in _SERVER_TOOLS.items() if member in tool]
    if not tools:
        return
    body["tools"] = tools
    calling = (value.get("toolConfig") or {}).get("functionCallingConfig") or {}
    mode = _MODES.get(calling.get("mode", "AUTO"), "auto")
    allowed = calling.get("allowedFunctionNames") or []
    if mode == "any" and len(allowed) == 1:
        body["tool_choice"] = {"type": "tool", "name": allowed[0]}
    elif mode != "auto":
        body["tool_choice"] = {"type": mode}


def plain_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Google's dialect of OpenAPI as a JSON schema: types in capitals, `nullable`, numbers of keywords in quotes."""
    plain: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "type" and isinstance(value, str):
            plain["type"] = value.lower()
        elif name in ("properties", "$defs") and isinstance(value, dict):
            plain[name] = {key: plain_schema(part) for key, part in value.items()}
        elif name in ("items", "additionalProperties") and isinstance(value, dict):
            plain[name] = plain_schema(value)
        elif name in ("anyOf", "oneOf", "allOf") and isinstance(value, list):
            plain[name] = [plain_schema(part) for part in value]
        elif name.startswith(("min", "max")) and isinstance(value, str) and value.isdigit():
            plain[name] = int(value)
        elif name not in ("nullable", "propertyOrdering", "example"):
            plain[name] = value
    if schema.get("nullable") is True and isinstance(plain.get("type"), str):
        plain["type"] = [plain["type"], "null"]
    return plain


def _parts(content: Any) -> list[dict[str, Any]]:
    """Of a content, or of a list of parts, or of a text."""
    parts = content.get("parts") or [] if isinstance(content, dict) else content
    parts = parts if isinstance(parts, list) else [parts]
    return [{"text": part} if isinstance(part, str) else part for part in parts]


class _Turns:
    """Contents, one after the other; it knows which calls still wait for a result."""

    def __init__(self) -> None:
        self._turns: list[dict[str, Any]] = []
        self._open: list[tuple[str, str, str]] = []  # function, the client's id, ours
        self._calls = 0

    def of(self, contents: Any) -> list[dict[str, Any]]:
        for content in contents if isinstance(contents, list) else [contents]:
            role = content.get("role") or "user"
            if role not in ("user", "model", "function"):
                raise Refused(invalid(f"contents.role: {role!r} is no role"))
            speaker = "assistant" if role == "model" else "user"
            blocks = [block for part in _parts(content) for block in self._blocks(part)]
            if blocks:
                neutral.add_blocks(self._turns, speaker, blocks)
        return self._turns

    def _blocks(self, part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if part.get("functionCall"):
            yield self._call(part["functionCall"], part.get("thoughtSignature"))
        elif part.get("functionResponse"):
            yield self._result(part["functionResponse"])
        elif part.get("inlineData"):
            yield _file(part["inlineData"])
        elif part.get("fileData"):
            raise Refused(unsupported("fileData: this stack has no files of its own; send the bytes as inlineData"))
        elif part.get("executableCode"):
            yield {"type": "text", "text": f"```\n{part['executableCode'].get('code', '')}\n```"}
        elif part.get("codeExecutionResult"):
            yield {"type": "text", "text": f"[its output]\n{part['codeExecutionResult'].get('output', '')}"}
        elif part.get("text"):
            if part.get("thought") is True:
                yield {"type": "thinking", "thinking": part["text"], "signature": ""}
            else:
                yield {"type": "text", "text": part["text"]}

    def _call(self, call: dict[str, Any], signature: Any) -> dict[str, Any]:
        self._calls += 1
        given = str(call.get("id") or "")
        own = (
            signature.removeprefix(SIGNATURE) if isinstance(signature, str) and signature.startswith(SIGNATURE) else ""
        )
        name = call["name"]
        call_id = own or given or f"call_{self._calls}"
        self._open.append((name, given, call_id))
        return {"type": "tool_use", "id": call_id, "name": name, "input": neutral.arguments_of(call.get("args"))}

    def _result(self, response: dict[str, Any]) -> dict[str, Any]:
        given, name = str(response.get("id") or ""), response.get("name") or ""
        place = next((n for n, call in enumerate(self._open) if given and given in call[1:]), None)
        if place is None:
            place = next((n for n, call in enumerate(self._open) if call[0] == name), None)
        call_id = self._open.pop(place)[2] if place is not None else given
        value = response.get("response")
        failed = isinstance(value, dict) and list(value) == ["error"]
        blocks: list[dict[str, Any]] = [{"type": "text", "text": _text_of(value)}]
        blocks += [_file(part["inlineData"]) for part in response.get("parts") or () if part.get("inlineData")]
        return {"type": "tool_result", "tool_use_id": call_id, "content": blocks, "is_error": failed}


def _text_of(value: Any) -> str:
    """A result with one text in it is that text."""
    if isinstance(value, dict) and list(value) in (["output"], ["result"], ["error"]):
        (value,) = value.values()
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _file(data: dict[str, Any]) -> dict[str, Any]:
    media = data.get("mimeType") or data.get("mime_type") or ""
    kind = "image" if media.startswith("image/") else "document"
    return {"type": kind, "source": {"type": "base64", "media_type": media, "data": data.get("data") or ""}}
