"""Catalog entries on the command line: licences, successors, entries without dimensions, dimensions that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmstack.cli.main import run
from llmstack.demo import build_model
from llmstack.fetch import locate
from llmstack.fetch.header_cache import header_read_before, identity_of
from llmstack.fetch.model import Source
from llmstack.fetch.remote import remote_header
from llmstack.hardware import Cpu, Device, Hardware, Ram
from llmstack.paths import Home
from llmstack.render.catalog_page import facts_markdown
from support.hub import COMMIT, HubServer

ENTRY = """
[models.plain]
repo = "maker/plain"
revision = "{commit}"
file = "Plain-F16.gguf"
sha256 = "{sha}"
license = "{license}"
{more}
"""


@pytest.fixture
def plain(home: Home, hub: HubServer) -> str:
    """A small real model in the catalog; returns its digest."""
    hub.files["Plain-F16.gguf"] = b"".join(build_model("one two three four five six seven\n" * 40))
    return hub.digest("Plain-F16.gguf")


@pytest.fixture
def machine(tmp_path: Path) -> str:
    card = Device("H100", "CUDA", 81559, 80900, 3350.0, 990.0, 50.0)
    path = tmp_path / "hardware.json"
    path.write_text(json.dumps(Hardware(Ram(131072, 120000), Cpu(8, 16, ("avx2",)), (card,)).to_json()))
    return str(path)


def write(home: Home, sha: str, license_name: str = "mit", more: str = "") -> None:
    home.catalog.write_text(ENTRY.format(commit=COMMIT, sha=sha, license=license_name, more=more))


def listed(capsys: pytest.CaptureFixture[str], machine: str) -> dict[str, dict[str, Any]]:
    assert run(["models", "list", "--hardware", machine, "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}


def test_a_licence_with_conditions_is_said_on_stderr_before_the_first_byte(
    home: Home, hub: HubServer, plain: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(home, plain, "gemma", 'license_url = "https://ai.google.dev/gemma/terms"')
    assert run(["models", "pull", "plain", "--json"]) == 0
    captured = capsys.readouterr()
    sentence = (
        "plain comes under gemma, which sets conditions of its own: read them at https://ai.google.dev/gemma/terms"
    )
    assert sentence in captured.err
    assert captured.err.index(sentence) < captured.err.index("Plain-F16.gguf")
    assert json.loads(captured.out)["models"][0]["license"] == "gemma"
    assert run(["models", "pull", "plain"]) == 0
    assert "conditions" not in capsys.readouterr().err, "nothing is downloaded, so nothing is said"


def test_of_an_open_licence_nothing_is_said(home: Home, plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, plain)
    assert run(["models", "pull", "plain"]) == 0
    assert "conditions" not in capsys.readouterr().err


def test_for_a_repository_that_the_catalog_does_not_know_its_own_word_counts(
    home: Home, hub: HubServer, plain: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.license = "llama3.3"
    assert run(["models", "pull", "hf:maker/other/Plain-F16.gguf"]) == 0
    assert f"comes under llama3.3, which sets conditions of its own: read them at {hub.url}/maker/other" in (
        capsys.readouterr().err
    )


def test_json_has_licence_successor_figures_and_where_each_fact_is_from(
    home: Home, capsys: pytest.CaptureFixture[str], machine: str
) -> None:
    rows = listed(capsys, machine)
    assert rows["qwen3.6-27b"]["superseded_by"] == "qwen3.8-27b" and rows["qwen3.8-27b"]["superseded_by"] is None
    assert rows["qwen3.8-flash-next"]["license_is_open"] is False
    assert rows["qwen3.8-flash-next"]["license_url"].endswith("/LICENSE")
    assert rows["qwen3.8-27b"]["license_is_open"] is True
    assert rows["qwen3.8-27b"]["scores"][0]["name"] == "SWE-bench Pro"
    assert rows["qwen3.8-27b"]["facts_from"]["sampling"] and rows["qwen3.8-27b"]["checked"]
    assert set(rows["qwen3.8-27b"]["facts_from"]["sampling"]) <= set(rows["qwen3.8-27b"]["sources"])
    assert list(rows)[-4:] == ["qwen3.6-27b", "qwen3-coder-30b", "nemotron-3-nano", "qwen2.5-coder-14b"]


def test_what_is_superseded_is_listed_last_and_marked_and_never_recommended(
    home: Home, capsys: pytest.CaptureFixture[str], machine: str
) -> None:
    assert run(["models", "list", "--hardware", machine]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert next(line for line in lines if "qwen3.6-27b " in line).split()[0] == "old"
    assert printed.index(" qwen3-1.7b ") < printed.index(" qwen3.6-27b ")
    assert "qwen3.6-27b by qwen3.8-27b" in printed
    assert "*qwen3.8-flash-next" in printed and "*: its licence sets conditions of its own" in printed
    assert run(["plan", "--hardware", machine]) == 0
    ranked = capsys.readouterr().out
    assert "superseded by qwen3.8-27b" in ranked and ranked.index("qwen3-1.7b") < ranked.index("qwen3.6-27b ")
    assert "not planned: its header was not read yet" in ranked


def test_an_entry_without_dimensions_is_planned_once_its_header_was_read(
    home: Home, hub: HubServer, plain: str, capsys: pytest.CaptureFixture[str], machine: str
) -> None:
    write(home, plain)
    row = listed(capsys, machine)["plain"]
    assert row["planned"] is False and row["fits"] is False and "its header was not read yet" in row["reason"]
    assert run(["models", "list", "--hardware", machine]) == 0
    shown = capsys.readouterr().out.replace("./stack", "llmstack")
    assert "not planned before its header is read, as llmstack plan MODEL does" in shown
    assert run(["plan", "plain", "--hardware", machine, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["feasible"] is True
    hub.requests.clear()
    row = listed(capsys, machine)["plain"]
    assert row["planned"] and row["fits"] and row["decode_tps"] > 0
    assert run(["plan", "plain", "--hardware", machine, "--json"]) == 0
    assert hub.requests == [], "the header was kept: nothing is asked again"
    assert not list(home.models.rglob("*.gguf"))


SHAPE = """
arch = "llama"
[models.plain.shape]
block_count = 7
embedding_length = 64
vocab_size = 100
context_length = 512
feed_forward_length = 64
"attention.head_count" = 2
"attention.head_count_kv" = 2
"attention.key_length" = 32
"attention.value_length" = 32
"""


def test_dimensions_that_are_not_the_files_are_told_and_the_file_counts(
    home: Home, plain: str, capsys: pytest.CaptureFixture[str], machine: str
) -> None:
    write(home, plain, more=SHAPE)
    assert run(["plan", "plain", "--hardware", machine]) == 0
    assert "not those of its file" not in capsys.readouterr().err, "nothing was seen of the file yet"
    assert run(["models", "pull", "plain"]) == 0
    capsys.readouterr()
    for command in (["models", "list"], ["plan", "plain"]):
        assert run([*command, "--hardware", machine]) == 0
        assert "the catalog's dimensions of plain:F16 are not those of its file: " in capsys.readouterr().err
    assert run(["models", "show", "plain", "--json"]) == 0
    assert "not 7" in json.loads(capsys.readouterr().out)["difference"]
    assert run(["models", "show", "plain"]) == 0
    assert "differs" in capsys.readouterr().out


def test_a_header_is_kept_for_what_the_file_is_never_for_a_branch(home: Home, hub: HubServer, plain: str) -> None:
    pinned = Source("x.gguf", "a/b", "x.gguf", COMMIT)
    assert identity_of(pinned) == f"a/b@{COMMIT}/x.gguf"
    assert identity_of(Source("x.gguf", "a/b", "x.gguf", "main")) == ""
    assert identity_of(Source("x.gguf", "a/b", "x.gguf", "main", sha256="5" * 64)) == "5" * 64
    write(home, plain)
    model, header = remote_header(locate(home, "plain"), cache=home.cache)
    assert header_read_before(home.cache, model.sources) == header
    assert header_read_before(home.cache, (*model.sources, pinned)) is None, "a shard is missing"
    assert header_read_before(home.cache, ()) is None


def test_the_table_of_sources_is_made_of_the_entries(home: Home) -> None:
    from llmstack.fetch import read_catalog

    home.catalog.write_text(
        '[models."qwen3-1.7b"]\nchecked = "2027-01-02"\n[models."qwen3-1.7b".facts_from]\nlicense = ["https://x.example/y"]\n'
    )
    row = next(line for line in facts_markdown(read_catalog(home).models).splitlines() if "| qwen3-1.7b |" in line)
    assert "| 2027-01-02 | apache-2.0 [x.example](https://x.example/y) |" in row
    assert "[llama.cpp](" in row and row.endswith("| size and age |")
