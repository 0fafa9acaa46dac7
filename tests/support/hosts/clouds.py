"""Hosts that speak Anthropic's API: Anthropic itself, Amazon Bedrock and Google Vertex AI.

Anthropic: docs.anthropic.com (api/messages, api/messages-streaming). Bedrock: docs.aws.amazon.com
(API_runtime_InvokeModelWithResponseStream, and the event stream encoding of Amazon Transcribe's guide). Vertex:
cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude.
"""

from __future__ import annotations

import base64
import json
import struct
import urllib.parse
import zlib
from typing import Any

from support.hosts import brain
from support.upstream import Asked, Wire


def message_events(body: dict[str, Any], model: str) -> list[dict[str, Any]]:
    turn = brain.of_messages(body)
    usage = {"input_tokens": len(brain.dump(body)) // 4, "output_tokens": 1}
    message = {"id": "msg_cloud", "type": "message", "role": "assistant", "model": model, "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    if turn.call is not None:
        block: dict[str, Any] = {"type": "tool_use", "id": "toolu_cloud_1", "name": turn.call.name, "input": {}}
        piece = {"type": "input_json_delta", "partial_json": brain.dump(turn.call.arguments)}
    else:
        block, piece = {"type": "text", "text": ""}, {"type": "text_delta", "text": turn.text}
    events.append({"type": "content_block_start", "index": 0, "content_block": block})
    events.append({"type": "content_block_delta", "index": 0, "delta": piece})
    events.append({"type": "content_block_stop", "index": 0})
    reason = "tool_use" if turn.call else "end_turn"
    delta = {"stop_reason": reason, "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}})
    return [*events, {"type": "message_stop"}]


def as_sse(events: list[dict[str, Any]]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def as_message(events: list[dict[str, Any]]) -> dict[str, Any]:
    message = dict(events[0]["message"])
    block, piece = dict(events[1]["content_block"]), events[2]["delta"]
    if block["type"] == "text":
        block["text"] = piece["text"]
    else:
        block["input"] = json.loads(piece["partial_json"])
    return {**message, "content": [block], "stop_reason": events[4]["delta"]["stop_reason"]}


def aws_frame(event: dict[str, Any]) -> bytes:
    """One message of AWS's event stream: lengths and their CRC, headers, the payload, and the CRC of it all."""
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode()}).encode()
    headers = b""
    fields = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    for name, value in fields.items():
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


class Anthropic:
    """KEY in x-api-key, anthropic-version required; 401 otherwise."""

    KEY = "sk-ant-of-the-tests"

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        path = asked.path.partition("?")[0]
        if asked.headers.get("x-api-key") != self.KEY:
            await self._error(wire, 401, "authentication_error", "invalid x-api-key")
        elif "anthropic-version" not in asked.headers:
            await self._error(wire, 400, "invalid_request_error", "anthropic-version: header is required")
        elif path == "/v1/models":
            await wire.json({"data": [{"type": "model", "id": "claude-opus-4-8"}], "has_more": False})
        elif path == "/v1/messages/count_tokens":
            await wire.json({"input_tokens": len(asked.body) // 4})
        else:
            events = message_events(asked.json, asked.json["model"])
            if asked.json.get("stream"):
                await wire.begin("text/event-stream; charset=utf-8", request_id="req_cloud")
                await wire.send(as_sse(events))
                await wire.end()
            else:
                await wire.json(as_message(events), request_id="req_cloud")

    async def _error(self, wire: Wire, status: int, kind: str, message: str) -> None:
        await wire.json({"type": "error", "error": {"type": kind, "message": message}}, status)


class Bedrock:
    """/model/ID/invoke-with-response-stream, frames of AWS's event stream; the model stands in the path alone."""

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        path = urllib.parse.unquote(asked.path.partition("?")[0])
        if "/model/" not in path:
            await wire.json({"inferenceProfileSummaries": []})
            return
        body = asked.json
        if "model" in body or body.get("anthropic_version") != "bedrock-2023-05-31":
            await wire.json({"message": "anthropic_version: bedrock-2023-05-31 is required, model is not allowed"}, 400)
            return
        model = path.partition("/model/")[2].rpartition("/")[0]
        events = message_events(body, model)
        if path.endswith("/invoke-with-response-stream"):
            await wire.begin("application/vnd.amazon.eventstream")
            for event in events:
                await wire.send(aws_frame(event))
            await wire.end()
        else:
            await wire.json(as_message(events))


class Vertex:
    """…/publishers/anthropic/models/MODEL:streamRawPredict, Anthropic's own events; anthropic_version in the body."""

    async def __call__(self, asked: Asked, wire: Wire) -> None:
        path = urllib.parse.unquote(asked.path.partition("?")[0])
        body = asked.json
        if "model" in body or body.get("anthropic_version") != "vertex-2023-10-16":
            await wire.json(
                {"error": {"code": 400, "message": "anthropic_version: vertex-2023-10-16 is required"}}, 400
            )
            return
        model, _, verb = path.rpartition("/")[2].partition(":")
        events = message_events(body, model)
        if verb == "streamRawPredict" and body.get("stream"):
            await wire.begin("text/event-stream")
            await wire.send(as_sse(events))
            await wire.end()
        else:
            await wire.json(as_message(events))
