"""`llmstack models` on the command line: exit statuses, JSON, what is printed and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmstack.cli.main import run
from llmstack.demo import build_model
from llmstack.fetch import resolve
from llmstack.fetch.find_local import entry_of_file
from llmstack.hardware import Cpu, Device, Hardware, Ram
from llmstack.paths import Home
from support.hub import HubServer
from support.paths import DOCS

from .test_pull import CATALOG


@pytest.fixture
def tiny(home: Home, hub: HubServer) -> Home:
    home.catalog.write_text(CATALOG.format(sha=hub.digest("Tiny-Q4_K_M.gguf")))
    return home


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    card = Device("H100", "CUDA", 81559, 80900, 3350.0, 990.0, 50.0)
    path = tmp_path / "hardware.json"
    path.write_text(json.dumps(Hardware(Ram(131072, 120000), Cpu(8, 16, ("avx2",)), (card,)).to_json()))
    return path


def answer(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_list_says_what_fits_a_machine_before_any_download(
    tiny: Home, machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "list", "--json", "--hardware", str(machine)]) == 0
    listed = {item["name"]: item for item in answer(capsys)["models"]}
    assert listed["qwen3.8-27b"]["fits"] and listed["qwen3.8-27b"]["decode_tps"] > 20
    assert listed["qwen3.8-27b"]["quality"] == 2 and listed["qwen3.8-flash-next"]["planned"] is False
    assert "tiny" in listed, "an entry of one's own without dimensions is listed, not planned"
    assert run(["models", "list", "--hardware", str(machine)]) == 0
    printed = capsys.readouterr().out
    assert printed.index("qwen3.8-27b") < printed.index("qwen3-1.7b")
    assert "H100" in printed


def test_names_are_listed_without_planning(tiny: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list", "--names"]) == 0
    assert "tiny" in capsys.readouterr().out


def test_pull_show_verify_disk_and_remove_follow_one_model(
    tiny: Home, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "pull", "tiny", "--json"]) == 0
    pulled = answer(capsys)["models"][0]
    assert pulled["already"] is False and pulled["mmproj"]
    path = Path(pulled["paths"][0])
    assert run(["models", "pull", "tiny"]) == 0
    assert "already here" in capsys.readouterr().out

    assert run(["models", "show", "tiny", "--json"]) == 0
    shown = answer(capsys)
    assert shown["template"]["change"].startswith("used as it is")
    assert [item["path"] is not None for item in shown["sizes"]] == [True, False, False]
    assert run(["models", "show", "tiny", "--template"]) == 0
    assert "{% for m in messages %}" in capsys.readouterr().out

    assert run(["models", "verify", "--json"]) == 0
    assert [item["ok"] for item in answer(capsys)["files"]] == [True, True]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert run(["models", "verify", "tiny", "--json"]) == 1
    assert answer(capsys)["ok"] is False

    assert run(["models", "disk", "--json"]) == 0
    assert answer(capsys)["size_bytes"] > 300_000
    assert run(["models", "remove", "tiny", "--yes", "--json"]) == 0
    assert len(answer(capsys)["removed"]) == 2
    assert not path.exists()
    assert run(["models", "remove", "tiny", "--yes"]) == 1


def test_removing_one_size_keeps_the_others_and_their_image_encoder(
    tiny: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "pull", "tiny:Q4_K_M", "tiny:Q8_0"]) == 0
    assert run(["models", "remove", "tiny:Q8_0", "-y"]) == 0
    left = sorted(path.name for path in tiny.models.rglob("*.gguf"))
    assert left == ["Tiny-Q4_K_M.gguf", "mmproj-F16.gguf"]
    capsys.readouterr()


def test_offline_and_unknown_names_have_their_exit_status(tiny: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "pull", "tiny", "--offline"]) == 3
    assert run(["models", "pull", "nothing-like-it"]) == 2
    assert run(["models", "show", "tinny", "--json"]) == 2
    assert "no model named tinny" in capsys.readouterr().out


def test_a_mistake_in_ones_own_catalog_names_file_and_line(tiny: Home, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.catalog.write_text("[models.tiny]\nrepo = 'a/b'\nfle = 'x.gguf'\n")
    assert run(["models", "list"]) == 2
    assert f"{tiny.catalog}:3: unknown key models.tiny.fle" in capsys.readouterr().err


def test_progress_goes_to_stderr_and_the_token_nowhere(
    tiny: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert run(["models", "pull", "tiny:Q8_0", "--json", "--no-mmproj"]) == 0
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert "Tiny-Q8_0.gguf" in captured.err and "checked" in captured.err
    assert "hf_secret" not in captured.out + captured.err


def test_the_table_of_cards_names_every_model(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    documented = (DOCS / "models.md").read_text()
    from llmstack.fetch import read_catalog

    rows = [line for line in documented.splitlines() if line.startswith("| ") and "k, " in line]
    shaped = [name for name, model in read_catalog(home).models.items() if model.shape]
    assert len(rows) == len(shaped)
    for name in shaped:
        assert any(f"| {name} |" in row for row in rows), name


def test_plan_reads_a_repositorys_model_from_its_server_and_downloads_nothing(
    tiny: Home, hub: HubServer, machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files["Demo-F16.gguf"] = b"".join(build_model("one two three four five six seven\n" * 40))
    assert run(["plan", "hf:maker/tiny/Demo-F16.gguf", "--hardware", str(machine), "--json"]) == 0
    assert answer(capsys)["feasible"] is True
    assert not list(tiny.models.rglob("*.gguf"))


def test_the_makers_sampling_is_part_of_the_plan(machine: Path, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "qwen3-coder-30b", "--hardware", str(machine), "--json"]) == 0
    argv = answer(capsys)["argv"]
    assert argv[argv.index("--temp") :] == [
        "--temp",
        "0.7",
        "--top-p",
        "0.8",
        "--top-k",
        "20",
        "--repeat-penalty",
        "1.05",
    ]


def test_a_file_here_is_known_again_as_its_catalog_entry(tiny: Home) -> None:
    found = resolve(tiny, "tiny:Q8_0", projector=False)
    assert found.path is not None
    known = entry_of_file(tiny, found.path)
    assert known is not None and (known[0], known[2]) == ("tiny", "Q8_0")
    assert entry_of_file(tiny, found.path.with_name("other.gguf")) is None


def test_entries_whose_facts_are_old_are_named(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    old = '[models.old]\nrepo = "maker/old"\nfile = "Old-Q4_K_M.gguf"\nchecked = "2020-01-31"\n'
    home.catalog.write_text(old + old.replace("old", "undated").replace('checked = "2020-01-31"\n', ""))
    assert run(["models", "list", "--older", "1000", "--json"]) == 0
    ages = {row["name"]: row["days"] for row in answer(capsys)["models"]}
    assert set(ages) == {"old", "undated"} and ages["old"] > 2000 and ages["undated"] is None
    assert run(["models", "list", "--older", "1000"]) == 0
    assert "it does not say when" in capsys.readouterr().out
    home.catalog.write_text(old.replace("2020-01-31", "last spring"))
    assert run(["models", "list", "--older", "1000"]) == 2
    assert "models.old.checked: 'last spring' is no day" in capsys.readouterr().err
