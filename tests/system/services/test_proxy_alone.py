"""The proxy without a model: started by itself, for a profile of a cloud, beside a stack that is stopped."""

from __future__ import annotations

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmstack.started_from import read_note
from support import certificates
from support.hosts.chat import Cerebras
from support.stack import Stack
from support.upstream import Upstream
from support.wait import free_port

CLAUDE = f"#!{sys.executable}\nimport json, os\nprint(json.dumps(dict(os.environ)))\n"


@pytest.fixture
def cloud(stack: Stack) -> Iterator[Upstream]:
    """An upstream elsewhere, by its documented name, with its key."""
    host = Upstream(Cerebras())
    config = stack.root / "config"
    (config / "keys").mkdir(parents=True, mode=0o700)
    (config / "models.toml").write_text(f'[upstreams.cerebras]\nbase_url = "{host.url}/v1"\n')
    (config / "keys" / "cerebras").touch(mode=0o600)
    (config / "keys" / "cerebras").write_text(Cerebras.KEY)
    yield host
    host.close()


def status(stack: Stack) -> Any:
    return stack.run("status", "--json").json


def ask(stack: Stack, model: str, host: str | None = None) -> tuple[int, Any]:
    body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"x-api-key": stack.token, "content-type": "application/json"} | ({"Host": host} if host else {})
    try:
        request = urllib.request.Request(f"{stack.url}/v1/messages", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def claude(stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch, profile: str) -> dict[str, str]:
    """The environment that Claude Code is started with."""
    program = folder / "bin" / "claude"
    program.parent.mkdir(exist_ok=True)
    program.write_text(CLAUDE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    ran = stack.run("claude", "--profile", profile)
    assert ran.status == 0, ran.err
    environment: dict[str, str] = ran.json
    return environment


@pytest.mark.usefixtures("cloud")
def test_a_proxy_alone_is_started_stopped_and_started_again_where_it_was(stack: Stack, kind: str) -> None:
    ran = stack.run("up", "--proxy-only", "--port", str(stack.proxy_port), "--allow-host", "LLM.office.lan", "--json")
    assert ran.status == 0, ran.err
    seen = ran.json
    assert (seen["state"], seen["model"], seen["proxy_only"], seen["supervisor"]) == ("ready", None, True, kind)
    assert seen["url"] == stack.url and set(seen["services"]) == {"proxy"}
    assert ask(stack, "cerebras/qwen-3-coder-480b")[0] == 200
    assert ask(stack, "cerebras/qwen-3-coder-480b", host="llm.office.lan")[0] == 200
    assert ask(stack, "cerebras/qwen-3-coder-480b", host="evil.example")[0] == 403
    assert read_note(stack.root / "state", "proxy") is not None and status(stack)["outdated"] == []
    code, answer = ask(stack, "here")
    assert code == 529 and "no model is running" in answer["error"]["message"]
    assert stack.run("restart").status == 0 and stack.run("restart", "server").status == 1
    assert stack.run("down").status == 0 and status(stack)["state"] == "stopped"
    assert stack.run("up").status == 0
    again = status(stack)
    assert (again["state"], again["url"], again["listens"]["allow_hosts"]) == ("ready", stack.url, ["llm.office.lan"])
    doctor = stack.run("doctor", "--json").json
    assert any("the proxy alone" in check["finding"] for check in doctor["checks"])


def test_a_cloud_s_profile_starts_the_proxy_and_nothing_else(
    stack: Stack, cloud: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a fresh home: nothing was ever deployed. The default port may be another one's, so it is said once."""
    refused = stack.run("env", "--profile", "cerebras")
    assert refused.status == 1 and "up --proxy-only" in refused.err
    assert stack.run("claude", "--profile", "cerebras", "--no-start").status != 0
    assert stack.run("up", "--proxy-only", "--port", str(stack.proxy_port)).status == 0
    stack.do("down")
    tested = stack.run("upstream", "test", "cerebras")
    assert tested.status == 0 and "claude --profile cerebras" in tested.out
    environment = claude(stack, tmp_path, monkeypatch, "cerebras")
    assert environment["ANTHROPIC_BASE_URL"] == stack.url
    assert set(status(stack)["services"]) == {"proxy"}
    assert ask(stack, environment["ANTHROPIC_MODEL"])[0] == 200


@pytest.mark.usefixtures("cloud")
def test_beside_a_stopped_stack_a_cloud_s_profile_loads_no_model(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.up("--ctx", "8192")
    stack.do("down")
    environment = claude(stack, tmp_path, monkeypatch, "cerebras")
    assert environment["ANTHROPIC_MODEL"] == "cerebras/qwen-3-coder-480b"
    alone = status(stack)
    assert (alone["state"], alone["proxy_only"]) == ("ready", True)
    assert "server" not in alone["services"] or alone["services"]["server"]["pid"] is None
    local = claude(stack, tmp_path, monkeypatch, "local")
    assert local["ANTHROPIC_MODEL"] == stack.model.stem if stack.model else "demo"
    whole = status(stack)
    assert (whole["state"], whole["proxy_only"]) == ("ready", False) and whole["services"]["server"]["pid"]
    assert "8192" in stack.record()["server"]["argv"], "what was deployed is what comes back"
    assert stack.run("up", "--proxy-only").status == 0
    assert status(stack)["proxy_only"] is True


def test_an_up_that_fails_puts_the_proxy_alone_back(stack: Stack, tmp_path: Path) -> None:
    assert stack.run("up", "--proxy-only", "--port", str(stack.proxy_port)).status == 0
    assert stack.model is not None
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(stack.model.read_bytes().replace(b"blk.0.attn_q.weight", b"blk.0.attn_x.weight"))
    assert stack.run("up", str(broken), *stack.ports).status == 1
    seen = status(stack)
    assert (seen["state"], seen["proxy_only"]) == ("ready", True)


def test_where_other_machines_reach_it_is_said_everywhere_and_ends_by_one_command(stack: Stack) -> None:
    words = ("up", "--proxy-only", "--port", str(stack.proxy_port), "--listen", "0.0.0.0")
    refused = stack.run(*words)
    assert refused.status == 2 and "key add NAME" in refused.err, "nobody else has a key yet"
    stack.do("key", "add", "kim")
    ran = stack.run(*words)
    assert ran.status == 0 and "plain text" in ran.err and "--listen 127.0.0.1" in ran.err
    again = stack.run("up", "--proxy-only")
    assert "plain text" in again.err, "what is kept is said again"
    assert "0.0.0.0" in stack.run("status").out
    assert status(stack)["listens"]["open"] is True
    warned = [check for check in stack.run("doctor", "--json").json["checks"] if check["name"] == "reach"]
    assert [check["status"] for check in warned] == ["warn"]
    assert stack.run("up", "--proxy-only", "--listen", "127.0.0.1").status == 0
    assert status(stack)["listens"]["open"] is False and "plain text" not in stack.run("status").out


def test_with_a_certificate_others_get_tls_and_this_machine_s_clients_stay_as_they_were(
    stack: Stack, tmp_path: Path
) -> None:
    pair, port = certificates.make(tmp_path / "certificate"), free_port()
    key = stack.run("key", "add", "kim", "--json").json["key"]
    tls = ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key), "--tls-port", str(port))
    ran = stack.run("up", "--proxy-only", "--port", str(stack.proxy_port), "--listen", "0.0.0.0", *tls)
    assert ran.status == 0 and "plain text" not in ran.err and f"https://llm.lan:{port}" in ran.out
    listens = status(stack)["listens"]
    assert listens["open"] and listens["tls"]["port"] == port and listens["urls"] == [f"https://llm.lan:{port}"]
    trusted = ssl.create_default_context(cafile=str(pair.cert))
    request = urllib.request.Request(f"https://127.0.0.1:{port}/v1/models", headers={"x-api-key": key})
    with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
        assert answer.status == 200
    assert status(stack)["state"] == "ready" and ask(stack, "here")[0] == 529
    stack.do("restart")
    assert status(stack)["listens"] == listens
    assert next(row for row in status(stack)["keys"] if row["name"] == "kim")["requests_today"] == 1
    (pair.cert).write_text("no certificate any more")
    refused = stack.run("up", "--proxy-only")
    assert refused.status == 2 and "no certificate" in refused.err and status(stack)["state"] == "ready"
    assert any("no certificate" in sentence for sentence in status(stack)["warnings"])


@pytest.mark.parametrize(
    "words",
    [
        ("--proxy-only", "--demo"), ("--proxy-only", "m"), ("--proxy-only", "--ctx", "4096"),
        ("--proxy-only", "--set", "ub=1"), ("--proxy-only", "--allow-host", "http://x"),
        ("--proxy-only", "--allow-host", "x:5000"), ("--proxy-only", "--listen", "nonsense"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_with_it_is_refused(stack_home: Stack, words: tuple[str, ...]) -> None:
    assert stack_home.run("up", *words).status == 2


def test_a_damaged_record_of_a_running_stack_is_not_called_stopped(stack: Stack) -> None:
    stack.up()
    (stack.root / "state" / "stack.json").write_text("garbage")
    ran = stack.run("status")
    assert ran.status == 1 and "damaged" in ran.out and "nothing is deployed" not in ran.out
    assert status(stack)["state"] == "degraded" and "up MODEL" in status(stack)["next"]
    checks = stack.run("doctor", "--json").json["checks"]
    assert any(check["status"] == "fail" and "damaged" in check["finding"] for check in checks)
    stack.up()
    assert status(stack)["state"] == "ready"


def test_a_wrong_models_toml_is_told_by_up_and_status(stack: Stack) -> None:
    (stack.root / "config").mkdir(parents=True, exist_ok=True)
    (stack.root / "config" / "models.toml").write_text("[upstreams.x]\nkind = 'openai'\nfle = 1\n")
    warned = stack.run("up", "--proxy-only", "--port", str(stack.proxy_port))
    assert warned.status == 0
    assert "models.toml:3" in stack.run("status").out
    assert any("models.toml:3" in sentence for sentence in status(stack)["warnings"])
