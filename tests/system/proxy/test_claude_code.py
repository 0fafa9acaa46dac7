"""The real Claude Code client through the proxy: each test looks at what the client did."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path

import pytest

from llmstack.protocol.loaded_tools import CALLER
from support.claude_code import VERSIONS, Claude, program
from support.claude_turns import call, conversation, is_main, results, turn
from support.proxy_stand import ProxyStand, standing
from support.streams import text
from support.upstream import Asked, Upstream, Wire, aside, say


@pytest.fixture
def claude(claude_code: Path, tmp_path: Path) -> Claude:
    return Claude(claude_code, tmp_path / "home", tmp_path / "work")


@pytest.fixture(params=VERSIONS)
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Claude:
    return Claude(program(request.param), tmp_path / "home", tmp_path / "work")


def mains(upstream: Upstream) -> list[Asked]:
    return [a for a in upstream.completions if is_main(a)]


def test_text(stand: ProxyStand, upstream: Upstream, claude: Claude) -> None:
    upstream.script = conversation(say("Good morning ", "from the scripted model."))
    done = claude.run(stand, "greet me")
    assert done.status == 0 and "Good morning from the scripted model." in done.out
    sent = mains(upstream)[0].json
    assert "x-anthropic-billing-header" not in json.dumps(sent)
    assert [m["role"] for m in sent["messages"]].count("system") == 1
    assert sent["messages"][0]["role"] == "system"


def test_three_tools_in_a_row(stand: ProxyStand, upstream: Upstream, either: Claude) -> None:
    either.work.mkdir()
    source, target = either.work / "in.txt", either.work / "out.txt"
    source.write_text("the answer is 42\n")
    upstream.script = conversation(
        turn(text("Reading."), call("Read", json.dumps({"file_path": str(source)}))),
        turn(call("Write", json.dumps({"file_path": str(target), "content": "copied: 42\n"}))),
        turn(call("Bash", json.dumps({"command": f"wc -c < {target}", "description": "count"}))),
        lambda asked: say("finished: " + results(asked)[-1].strip()),
    )
    done = either.run(stand, "copy the answer")
    assert done.status == 0, done.err
    assert target.read_text() == "copied: 42\n"
    assert "finished: 11" in done.out
    seen = results(mains(upstream)[-1])
    assert "the answer is 42" in seen[0] and len(seen) == 3


def test_the_next_turn_continues_the_last_one_byte_for_byte(
    stand: ProxyStand, upstream: Upstream, either: Claude
) -> None:
    """The client rewrites arguments; upstream sees what the model wrote, so its prompt is only ever extended."""
    either.work.mkdir()
    raw = '{"description": "say \\u00e9", "command": "cd ' + str(either.work) + ' && echo \\u00e9", "timeout": 5000}'
    upstream.script = conversation(turn(call("Bash", raw)), turn(call("Bash", raw)), say("done"))
    assert either.run(stand, "say it twice").status == 0
    first, second, third = (a.json["messages"] for a in mains(upstream)[:3])
    assert second[: len(first)] == first and third[: len(second)] == second
    assert second[len(first)]["tool_calls"][0]["function"]["arguments"] == raw


def test_a_tool_that_it_loads_changes_nothing_of_what_was_read(
    stand: ProxyStand, upstream: Upstream, claude: Claude
) -> None:
    search = json.dumps({"query": "select:WebSearch", "max_results": 5})
    by_name = json.dumps({"name": "WebSearch", "arguments": {"query": "llama news"}})
    upstream.script = conversation(
        turn(call("ToolSearch", search)),
        turn(call(CALLER, by_name)),
        lambda asked: say("search said: " + results(asked)[-1]),
    )
    done = claude.run(stand, "search the web")
    assert done.status == 0 and "not available" in done.out, "the client ran the tool that was named"
    first, second, third = (asked.json for asked in mains(upstream))
    assert first["tools"] == second["tools"] == third["tools"]
    for before, after in ((first, second), (second, third)):
        assert after["messages"][: len(before["messages"])] == before["messages"]
    introduction = results(mains(upstream)[1])[0]
    assert CALLER in introduction and '"allowed_domains"' in introduction, "with the schema of its arguments"
    assert third["messages"][-2]["tool_calls"][0]["function"] == {"name": CALLER, "arguments": by_name}


READING = b"".join(
    b'data: {"choices":[{"index":0,"delta":{"content":null}}],"prompt_progress":{"total":20000,"cache":0,'
    b'"processed":%d,"time_ms":%d}}\n\n' % (done, done)
    for done in range(2000, 20001, 2000)
)


def test_it_shows_how_far_its_prompt_is_read_and_the_model_never_sees_that(
    tmp_path: Path, upstream: Upstream, claude: Claude
) -> None:
    bash = call("Bash", json.dumps({"command": "echo hi", "description": "d"}))
    upstream.script = conversation(READING + turn(bash), READING + say("done"))
    shown = "[upstreams.local]\nshow_reading = true\n"
    with standing(tmp_path / "h", upstream.port, models=shown) as stand:
        done = claude.run(stand, "say hi", "--output-format", "stream-json", "--verbose")
    assert done.status == 0, done.err
    assert "reading the prompt: 40% of 20,000 tokens" in done.out and "done" in done.out
    first, second = (asked.json["messages"] for asked in mains(upstream))
    assert "reading the prompt" not in json.dumps(second) and second[: len(first)] == first


def test_parallel_tools(stand: ProxyStand, upstream: Upstream, claude: Claude) -> None:
    upstream.script = conversation(
        turn(*[call("Bash", json.dumps({"command": f"echo part-{n}", "description": "p"}), n) for n in range(3)]),
        lambda asked: say("got " + " ".join(r.strip() for r in results(asked))),
    )
    done = claude.run(stand, "do three things at once")
    assert done.status == 0 and "got part-0 part-1 part-2" in done.out


def test_a_sub_agent(stand: ProxyStand, upstream: Upstream, claude: Claude) -> None:
    def delegate(asked: Asked) -> bytes:
        names = {t["function"]["name"] for t in asked.json["tools"]}
        name = "Agent" if "Agent" in names else "Task"
        arguments = {
            "description": "count words",
            "prompt": "SUBAGENT: how many words?",
            "subagent_type": "general-purpose",
        }
        return turn(call(name, json.dumps(arguments)))

    async def script(asked: Asked, wire: Wire) -> None:
        if asked.path == "/v1/chat/completions" and "SUBAGENT: how many" in str(asked.json["messages"][1]["content"]):
            await wire.stream(say("seven words, says the agent"))
        else:
            await main(asked, wire)

    main = conversation(delegate, lambda asked: say("the agent said: " + results(asked)[-1][:300]))
    upstream.script = script
    done = claude.run(stand, "let an agent count")
    assert done.status == 0, done.err
    agents = [a for a in upstream.completions if "SUBAGENT: how many" in str(a.json["messages"][1]["content"])]
    assert agents
    last = mains(upstream)[-1]
    assert "seven words, says the agent" in json.dumps(last.json["messages"])


def test_continue(stand: ProxyStand, upstream: Upstream, claude: Claude) -> None:
    upstream.script = conversation(say("I will remember violet."))
    assert claude.run(stand, "remember the colour violet").status == 0
    upstream.asked.clear()
    upstream.script = conversation(say("It was violet."))
    done = claude.run(stand, "which colour?", "--continue")
    assert done.status == 0 and "It was violet." in done.out
    told = json.dumps(mains(upstream)[0].json["messages"])
    assert "remember the colour violet" in told and "I will remember violet." in told


def test_overflow_makes_it_compact_and_go_on(stand: ProxyStand, upstream: Upstream, claude: Claude) -> None:
    overflowed: list[Asked] = []

    async def script(asked: Asked, wire: Wire) -> None:
        if asked.path != "/v1/chat/completions":
            await aside(asked, wire)
            return
        told = json.dumps(asked.json["messages"])
        if "BIG-RESULT" in told and "summary" not in told.lower().split("big-result")[-1] and not overflowed:
            overflowed.append(asked)
            error = {"code": 400, "message": "request (70000 tokens) exceeds the available context size (65536 tokens)"}
            await wire.json({"error": {**error, "type": "exceed_context_size_error"}}, 400)
        elif overflowed and "BIG-RESULT" in told:
            await wire.stream(say("<summary>The user asked to print something; it was printed.</summary>"))
        elif overflowed:
            await wire.stream(say("went on after compacting"))
        else:
            await wire.stream(turn(call("Bash", json.dumps({"command": "echo BIG-RESULT", "description": "p"}))))

    upstream.script = script
    done = claude.run(stand, "print something big", timeout_s=120)
    assert overflowed
    assert done.status == 0 and "went on after compacting" in done.out, (done.out, done.err)
    assert len(upstream.completions) >= 4


def test_overloaded_then_success(stand: ProxyStand, upstream: Upstream, claude: Claude) -> None:
    refused = 0

    async def script(asked: Asked, wire: Wire) -> None:
        nonlocal refused
        if is_main(asked) and refused < 2:
            refused += 1
            await wire.json({"error": {"message": "busy"}}, 503)
        else:
            await conversation(say("third time lucky"))(asked, wire)

    upstream.script = script
    done = claude.run(stand, "try hard")
    assert done.status == 0 and "third time lucky" in done.out and refused == 2


def test_death_in_the_stream_then_its_retry_without_streaming(
    stand: ProxyStand, upstream: Upstream, claude: Claude
) -> None:
    died: list[Asked] = []

    async def script(asked: Asked, wire: Wire) -> None:
        if is_main(asked) and not died:
            died.append(asked)
            await wire.begin()
            await wire.send(text("half an ans"))
            wire.cut()
        else:
            await conversation(say("whole answer"))(asked, wire)

    upstream.script = script
    done = claude.run(stand, "answer me")
    assert done.status == 0 and "whole answer" in done.out
    lines = [line for line in stand.requests() if line["path"] == "/v1/messages" and line.get("tokens_out") == 2]
    assert any("stream" not in line for line in lines), "its second request does not stream"


def test_an_image_reaches_a_model_that_sees(tmp_path: Path, upstream: Upstream, claude: Claude) -> None:
    claude.work.mkdir()
    picture = claude.work / "dot.png"
    picture.write_bytes(_png())
    upstream.script = conversation(turn(call("Read", json.dumps({"file_path": str(picture)}))), say("a dot"))
    with standing(tmp_path / "stand", upstream.port, capabilities={"vision": True}) as stand:
        done = claude.run(stand, "look at dot.png")
    assert done.status == 0 and "a dot" in done.out
    parts = [p for m in mains(upstream)[-1].json["messages"] if isinstance(m["content"], list) for p in m["content"]]
    urls = [p["image_url"]["url"] for p in parts if p["type"] == "image_url"]
    assert len(urls) == 1 and urls[0].startswith("data:image/")


def test_an_image_on_a_text_model_is_named_and_the_session_goes_on(
    stand: ProxyStand, upstream: Upstream, claude: Claude
) -> None:
    """MiMo#62."""
    claude.work.mkdir()
    picture = claude.work / "dot.png"
    picture.write_bytes(_png())
    upstream.script = conversation(turn(call("Read", json.dumps({"file_path": str(picture)}))), say("cannot see it"))
    done = claude.run(stand, "look at dot.png")
    assert done.status == 0 and "cannot see it" in done.out
    told = json.dumps(mains(upstream)[-1].json["messages"])
    assert "this model reads text only" in told and "base64" not in told


def test_a_pdf_is_read_as_text(stand: ProxyStand, upstream: Upstream, claude: Claude) -> None:
    claude.work.mkdir()
    paper = claude.work / "paper.pdf"
    paper.write_bytes(_pdf("Llamas hum when they are content"))
    upstream.script = conversation(turn(call("Read", json.dumps({"file_path": str(paper)}))), say("they hum"))
    done = claude.run(stand, "read paper.pdf")
    assert done.status == 0 and "they hum" in done.out
    assert "Llamas hum when they are content" in json.dumps(mains(upstream)[-1].json["messages"])


def test_a_web_search_is_answered_honestly(stand: ProxyStand, upstream: Upstream, claude: Claude) -> None:
    upstream.script = conversation(
        turn(call("WebSearch", json.dumps({"query": "llama news"}))),
        lambda asked: say("search said: " + results(asked)[-1][:400]),
    )
    done = claude.run(stand, "search the web")
    assert done.status == 0
    assert "not available" in results(mains(upstream)[-1])[-1]
    assert all(t["function"]["parameters"] for a in upstream.completions for t in a.json.get("tools", []))
    assert any(line.get("upstream") == "proxy" for line in stand.requests())


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\xff\x00\x00" * 16 for _ in range(16))
    header = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _pdf(words: str) -> bytes:
    """One page, one font, its content compressed."""
    content = zlib.compress(f"BT /F1 18 Tf 72 700 Td ({words}) Tj ET".encode())
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(content) + content + b"\nendstream",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(out)
    out += b"xref\n0 6\n0000000000 65535 f \n" + table
    return out + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % start


def test_the_pdf_above_is_one() -> None:
    from llmstack.protocol.pdf import text_of_pdf

    assert text_of_pdf(base64.b64encode(_pdf("Llamas (hum)")).decode()) == "Llamas (hum)"
