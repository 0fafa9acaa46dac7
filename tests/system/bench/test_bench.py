"""The bench on a real stack: the contract's JSON, history, comparison, the report, an interrupt, and tuning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmstack.bench.probe_model import ProbeShape, write_probe
from llmstack.bench.scratch import scratch
from llmstack.engine.find import find
from llmstack.errors import NotSo
from llmstack.paths import Home

CONTRACT = {
    "prefill_tps",
    "decode_tps",
    "ttft_cold_s",
    "ttft_warm_s",
    "ttft_restart_s",
    "cache_hit_ratio",
    "proxy_ttft_overhead_ms",
    "predicted",
    "verdict",
}

TINY = ProbeShape("tiny", layers=2, d=256, heads=4, kv_heads=2, n_ff=512, vocab=512)


@pytest.fixture(scope="module")
def measured(demo_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """One quick run of the shared demo stack, and its report."""
    report = tmp_path_factory.mktemp("report") / "report.html"
    return demo_stack.run("bench", "--quick", "--json", "--report", str(report)), report


def test_the_json_holds_what_the_contract_names(measured: tuple[Any, Path]) -> None:
    ran, _ = measured
    found = ran.json
    assert found.keys() >= CONTRACT
    assert found["verdict"].keys() >= {"ok", "findings"}
    assert ran.status == (0 if found["verdict"]["ok"] else 1), ran.err
    for key in ("prefill_tps", "decode_tps", "ttft_cold_s", "ttft_warm_s"):
        assert found[key] > 0


def test_a_repeated_prompt_comes_from_the_cache(measured: tuple[Any, Path]) -> None:
    assert measured[0].json["cache_hit_ratio"] > 0.9


def test_each_figure_says_how_much_other_programs_used(measured: tuple[Any, Path]) -> None:
    metrics = measured[0].json["metrics"]
    assert {"prefill at 0", "decode at 0"} <= metrics.keys()
    assert all(0 <= m["load"] <= 1 and m["low"] <= m["median"] <= m["high"] for m in metrics.values())


def test_each_speed_says_how_fast_the_machine_itself_was_beside_it(measured: tuple[Any, Path]) -> None:
    metrics = measured[0].json["metrics"]
    assert all(m["pace"] > 0 for name, m in metrics.items() if name.startswith(("prefill", "decode", "first token")))


def test_progress_goes_to_stderr_with_the_time_left(measured: tuple[Any, Path]) -> None:
    assert "left" in measured[0].err and "%" in measured[0].err


def test_the_report_is_one_page_with_charts(measured: tuple[Any, Path]) -> None:
    page = measured[1].read_text()
    assert page.startswith("<!doctype html>") and page.count("<svg") >= 3
    assert "<script" not in page


def test_history_lists_the_run_and_comparing_it_with_itself_finds_nothing(
    demo_stack: Any, measured: tuple[Any, Path]
) -> None:
    name = measured[0].json["id"]
    history = demo_stack.run("bench", "history", "--json")
    assert name in [run["id"] for run in history.json["runs"]]
    same = demo_stack.run("bench", "compare", name, name, "--json")
    assert same.status == 0 and same.json["ok"] and same.json["rows"]
    assert all(row["change"] == "same" for row in same.json["rows"])


def test_ctrl_c_keeps_what_was_measured(demo_stack: Any) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "llmstack", "bench", "--no-restart", "--json"],
        env=demo_stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "decode at a depth" in line:  # prefill at the first depth is measured
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    assert json.loads(out)["complete"] is False
    kept = demo_stack.run("bench", "history", "--json").json["runs"][-1]
    assert not kept["complete"] and "prefill at 0" in kept["metrics"]
    assert "Traceback" not in out + err


def test_without_a_stack_it_says_what_to_run(stack_home: Any) -> None:
    for command in (("bench",), ("tune",)):
        ran = stack_home.run(*command)
        assert ran.status == 1 and "llmstack up" in ran.err


def test_comparing_needs_two_runs_that_exist(stack_home: Any) -> None:
    assert stack_home.run("bench", "compare", "last").status == 2
    assert stack_home.run("bench", "compare", "last", "last~1").status == 1


def test_tune_measures_candidates_and_changes_nothing_without_yes(demo_stack: Any) -> None:
    before = (demo_stack.root / "state" / "stack.json").read_bytes()
    ran = demo_stack.run("tune", "--minutes", "0.1", "--json", timeout_s=170)
    assert ran.status == 0, ran.err
    assert len(ran.json["trials"]) >= 1 and ran.json["applied"] is False
    assert {"-ub", "-t", "-ctk"} <= ran.json["best"]["flags"].keys()
    assert (demo_stack.root / "state" / "stack.json").read_bytes() == before
    assert not (demo_stack.root / "state" / "tuned.json").exists()


def test_tune_stopped_by_ctrl_c_shows_the_best_so_far_changes_nothing_and_leaves_no_engine(demo_stack: Any) -> None:
    before = (demo_stack.root / "state" / "stack.json").read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "llmstack", "tune", "--yes", "--json"],
        env=demo_stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "tried;" in line:
            break
    time.sleep(0.5)  # the next trial's engine runs
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    found = json.loads(out)
    assert found["trials"] and not found["complete"] and not found["applied"]
    assert (demo_stack.root / "state" / "stack.json").read_bytes() == before
    assert not (demo_stack.root / "state" / "tuned.json").exists()
    engines = [p for p in psutil.process_iter(["cmdline"]) if str(demo_stack.root) in " ".join(p.info["cmdline"] or ())]
    assert not [p for p in engines if "--no-ui" in p.info["cmdline"] and "--slot-save-path" not in p.info["cmdline"]]


def test_what_was_tuned_is_taken_up_by_the_next_plan_with_its_evidence(stack_home: Any, tmp_path: Path) -> None:
    model = str(write_probe(TINY, tmp_path / "tiny.gguf"))
    ran = stack_home.run("up", model, *stack_home.ports, "--ctx", "8192")
    assert ran.status == 0, ran.err
    script = (
        "import time; from llmstack.bench.tune import Aim, Result, Trial, keep;"
        "from llmstack import stackfile; from llmstack.deploy.expected_speed import expected_speed;"
        "from llmstack.paths import home; from dataclasses import replace;"
        "a = expected_speed(stackfile.read(home())).assignment;"
        "t = Trial(a, 1.0, 1.0, 100.0); b = Trial(replace(a, ubatch=1024), 2.0, 1.0, 50.0);"
        "keep(home(), Result(t, b, [t, b], {'-ub': '1024'}, 0.5, Aim.SESSION, 3.0))"
    )
    subprocess.run([sys.executable, "-c", script], env=stack_home.environment, check=True, timeout=60)
    assert stack_home.run("up", model, "--ctx", "8192", "--json").status == 0
    record = (stack_home.root / "state" / "stack.json").read_text()
    assert '"-ub","1024"' in record
    assert "llmstack tune" in record and "50% faster" in record
    assert stack_home.run("tune", "--forget", "--json").json == {"forgotten": True}
    assert '"-ub","1024"' not in (stack_home.root / "state" / "stack.json").read_text()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache")


def _argv(model: Path) -> tuple[str, ...]:
    return ("-m", str(model), "-c", "1024", "-np", "1")


def test_a_scratch_engine_answers_and_ends_with_its_block(home: Home, tmp_path: Path) -> None:
    model = write_probe(TINY, tmp_path / "tiny.gguf")
    with scratch(home, find(home), _argv(model)) as (client, pid):
        done = client.complete(client.tokens("hello there"), n_predict=3)
        assert (done.prompt_n, done.predicted_n) == (13, 3)  # a space is three bytes
    assert not psutil.pid_exists(pid)


def test_a_scratch_engine_ends_when_its_block_is_interrupted(home: Home, tmp_path: Path) -> None:
    model = write_probe(TINY, tmp_path / "tiny.gguf")
    pids = []
    with pytest.raises(KeyboardInterrupt), scratch(home, find(home), _argv(model)) as (_, pid):
        pids.append(pid)
        raise KeyboardInterrupt
    assert not psutil.pid_exists(pids[0])


def test_a_scratch_engine_dies_with_a_killed_bench(home: Home, tmp_path: Path) -> None:
    model = write_probe(TINY, tmp_path / "tiny.gguf")
    script = (
        "import sys, time; from pathlib import Path; from llmstack.bench.scratch import scratch;"
        "from llmstack.engine.find import find; from llmstack.paths import home\n"
        "with scratch(home(), find(home()), sys.argv[1:]) as (_, pid):\n    print(pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "LLMSTACK_HOME": str(tmp_path / "home")}
    bench = subprocess.Popen(
        [sys.executable, "-c", script, *_argv(model)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert bench.stdout is not None
    pid = int(bench.stdout.readline())
    bench.kill()
    bench.communicate()
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_model_that_does_not_load_is_told_at_once_with_the_log(home: Home, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + os.urandom(64))
    began = time.monotonic()
    with pytest.raises(NotSo) as caught, scratch(home, find(home), _argv(broken)):
        pass
    assert "scratch.log" in caught.value.why
    assert time.monotonic() - began < 60


def test_an_engine_that_this_processor_cannot_run_is_named_with_the_way_out(home: Home, tmp_path: Path) -> None:
    model = write_probe(TINY, tmp_path / "tiny.gguf")
    unfit = replace(find(home), command=("/bin/sh", "-c", "kill -ILL $$"))  # what a build for another processor does
    with pytest.raises(NotSo) as caught, scratch(home, unfit, _argv(model)):
        pass
    assert "SIGILL" in str(caught.value) and "this processor does not execute" in caught.value.why
    assert "llmstack engine use embedded" in caught.value.next


def test_a_stack_with_two_slots_is_measured_with_two_streams(stack_home: Any, tmp_path: Path) -> None:
    model = str(write_probe(TINY, tmp_path / "tiny.gguf"))
    ran = stack_home.run("up", model, *stack_home.ports, "--ctx", "8192", "--parallel", "2")
    assert ran.status == 0, ran.err
    ran = stack_home.run("bench", "--quick", "--json")
    assert ran.status in (0, 1), ran.err
    assert ran.json["metrics"]["decode, 2 streams"]["median"] > 0
    assert ran.json["seconds"] < 60
