"""`models find` on a hub on loopback: what it finds, plans, keeps, and says of each fault."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from llmstack.catalog.models import Model
from llmstack.cli.main import run
from llmstack.errors import BadInput, MissingPart
from llmstack.fetch.discover import FoundRepo, search
from llmstack.fetch.found import FoundRow, plan_all, ranked
from llmstack.fetch.model_ref import parse
from llmstack.gguf import GgmlType
from llmstack.gguf.writer import header
from llmstack.hardware import Hardware
from llmstack.paths import Home
from support.planner import companions, shapes
from support.planner.draws import machine
from support.search_hub import HubFile, HubRepo, SearchHub, search_hub

CARD = machine(12, 64)
MODELS = {"qwen3-coder-30b": Model(repo="unsloth/Qwen3-Coder-30B-GGUF", quality=4)}


def hub_file(shape: shapes.Shape) -> HubFile:
    data, size = header(shape.metadata, shape.tensors)
    return HubFile(data, size)


LLAMA, LARGE_MOE = hub_file(shapes.llama_8b()), hub_file(shapes.qwen3moe_30b())
SMALLER, EAGLE = hub_file(shapes.llama_8b(q=GgmlType.IQ3_S)), hub_file(companions.eagle3())


@pytest.fixture
def repos() -> dict[str, HubRepo]:
    return {
        "unsloth/Qwen3-Coder-30B-GGUF": HubRepo({"Qwen3-Coder-30B-Q4_K_M.gguf": LARGE_MOE}, downloads=500),
        "bartowski/coder-8b-GGUF": HubRepo(
            {"coder-8b-Q4_K_M.gguf": LLAMA, "coder-8b-Q3_K_S.gguf": SMALLER}, downloads=900
        ),
        "somebody/coder-huge-GGUF": HubRepo({"coder-huge-Q4_K_M.gguf": hub_file(shapes.gpt_oss_120b())}, downloads=70),
        "google/coder-gated-GGUF": HubRepo(
            {"coder-gated-Q4_K_M.gguf": LLAMA}, gated=True, license="gemma", downloads=60
        ),
        "other/coder-notes": HubRepo({"README.md": HubFile(b"text", 4)}, downloads=50),
        "draft/coder-eagle-GGUF": HubRepo(
            {
                "eagle3-coder-Q8_0.gguf": hub_file(companions.eagle3()),
                "coder-x-Q8_0.gguf": hub_file(companions.eagle3()),
            },
            downloads=40,
        ),
    }


@pytest.fixture
def hub(home: Home, repos: dict[str, HubRepo], monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchHub]:
    with search_hub(repos) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def found(home: Home, query: str = "coder", *, hardware: Hardware = CARD, **more: object) -> dict[str, FoundRow]:
    rows = plan_all(list(search(query)), hardware, home.cache, MODELS, **more)  # type: ignore[arg-type]
    return {row.repo: row for row in ranked(list(rows))}


def test_each_repository_is_planned_from_its_header_and_ranked(home: Home, hub: SearchHub) -> None:
    rows = found(home)
    first, second = list(rows)[:2]
    assert (first, second) == ("unsloth/Qwen3-Coder-30B-GGUF", "bartowski/coder-8b-GGUF")
    best = rows["unsloth/Qwen3-Coder-30B-GGUF"]
    assert best.fits and best.rank == 4 and best.arch == "qwen3moe" and best.params > 25e9
    assert best.decode_tps > 10 and best.context >= 32768
    reference = parse(best.ref)
    assert (reference.repo, reference.file, reference.revision) == (
        "unsloth/Qwen3-Coder-30B-GGUF", "Qwen3-Coder-30B-Q4_K_M.gguf", "a" * 40,
    )  # fmt: skip
    assert not rows["somebody/coder-huge-GGUF"].known and rows["bartowski/coder-8b-GGUF"].known


def test_what_cannot_run_says_why(home: Home, hub: SearchHub) -> None:
    rows = found(home, hardware=machine(0, 8))
    assert "does not fit this machine" in rows["somebody/coder-huge-GGUF"].reason
    assert "licence to be accepted" in rows["google/coder-gated-GGUF"].reason
    assert rows["other/coder-notes"].reason == "no whole GGUF model in it"
    assert "only guesses ahead" in rows["draft/coder-eagle-GGUF"].reason


def test_a_second_look_asks_the_hub_for_the_list_only(home: Home, hub: SearchHub) -> None:
    before = found(home)
    hub.requests.clear()
    assert found(home)["bartowski/coder-8b-GGUF"] == before["bartowski/coder-8b-GGUF"]
    asked = [path for path in hub.requests if "/resolve/" in path]
    assert all("gated" in path for path in asked)  # the one that could not be read is asked for again


def test_a_file_that_was_replaced_under_its_name_is_planned_anew(home: Home, hub: SearchHub) -> None:
    before = found(home)["bartowski/coder-8b-GGUF"]
    repo = hub.repos["bartowski/coder-8b-GGUF"]
    repo.files["coder-8b-Q4_K_M.gguf"], repo.commit = LARGE_MOE, "b" * 40
    after = found(home)["bartowski/coder-8b-GGUF"]
    assert after.sha256 != before.sha256 and after.ref.endswith("@" + "b" * 40)
    assert after.arch == "qwen3moe"


def test_every_size_is_a_row_when_asked_for(home: Home, hub: SearchHub) -> None:
    rows = list(plan_all(list(search("coder-8b")), CARD, home.cache, MODELS, every=True))
    assert {row.quant for row in rows} == {"Q4_K_M", "Q3_K_S"}


def test_a_context_that_is_wanted_is_planned(home: Home, hub: SearchHub) -> None:
    assert found(home, ctx=131072)["bartowski/coder-8b-GGUF"].context == 131072
    assert found(home, ctx=8192)["bartowski/coder-8b-GGUF"].context == 8192


def test_pages_are_followed_as_far_as_the_limit(home: Home, hub: SearchHub) -> None:
    for number in range(60):
        hub.repos[f"many/model-{number:02}-GGUF"] = HubRepo({f"model-{number:02}-Q4_K_M.gguf": LLAMA})
    assert len(list(search("model", limit=45))) == 45
    assert sum(path == "/api/models" for path in hub.requests) == 3


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (429, {"RateLimit": '"api";r=0;t=112'}, "takes no more questions for now"),
        (401, {}, "needs permission"),
        (503, {}, "does not answer"),
    ],
)
def test_a_hub_that_refuses_is_told_apart(
    home: Home, hub: SearchHub, status: int, headers: dict[str, str], says: str
) -> None:
    hub.status, hub.headers = status, headers
    with pytest.raises(MissingPart, match=says) as error:
        list(search("coder"))
    if status == 429:
        assert "again in 112 s" in error.value.why


@pytest.mark.parametrize("query", ["", "   ", "x" * 201, "a\nb"])
def test_a_query_that_is_none_is_refused(query: str) -> None:
    with pytest.raises(BadInput, match="nothing to look for"):
        list(search(query))


def test_a_shard_that_is_missing_makes_a_size_no_size(home: Home, hub: SearchHub) -> None:
    hub.repos["x/shards-GGUF"] = HubRepo({"m-Q8_0-00001-of-00003.gguf": LLAMA, "m-Q8_0-00003-of-00003.gguf": LLAMA})
    [repo] = search("shards")
    assert repo.files == () and isinstance(repo, FoundRepo)


def test_two_hundred_files_are_planned_and_kept(home: Home, hub: SearchHub) -> None:
    """Every one has a digest of its own; the second look reads none of them."""
    one = shapes.llama_8b()
    for number in range(50):
        files = {}
        for quant in ("Q3_K_S", "Q4_K_M", "Q5_K_M", "Q6_K"):
            named = replace(one, metadata={**one.metadata, "general.name": f"m{number} {quant}"})
            files[f"large-{number:02}-{quant}.gguf"] = hub_file(named)
        hub.repos[f"many/large-{number:02}-GGUF"] = HubRepo(files)
    repos = list(search("large", limit=50))
    first = list(plan_all(repos, CARD, home.cache, MODELS, every=True))
    assert len(first) == 200 and all(row.fits for row in first)
    hub.requests.clear()
    began = time.monotonic()
    again = list(plan_all(repos, CARD, home.cache, MODELS, every=True))
    print(f"again: {time.monotonic() - began:.2f} s")
    assert msgspec.to_builtins(again) == msgspec.to_builtins(first) and hub.requests == []


def test_the_command_prints_what_fits_and_what_plan_takes(
    home: Home, hub: SearchHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine_file = tmp_path / "card.json"
    machine_file.write_text(json.dumps(CARD.to_json()))
    assert run(["models", "find", "coder", "--hardware", str(machine_file)]) == 0
    shown = capsys.readouterr().out
    assert shown.index("bartowski/coder-8b") < shown.index("does not fit") < shown.index("google/coder-gated")
    assert "plan hf:bartowski/coder-8b-GGUF/coder-8b-Q4_K_M.gguf@aaaa" in shown
    assert run(["models", "find", "coder", "--fits", "--json", "--hardware", str(machine_file)]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert rows and all(row["fits"] for row in rows)
    assert run(["models", "find", "nothing-of-this-name", "--hardware", str(machine_file)]) == 1
    assert "nothing on the hub has this name" in capsys.readouterr().out
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(["models", "find", "coder", "--hardware", str(machine_file)]) == 3
    assert "offline mode" in capsys.readouterr().err
