"""stack.json: what `up` writes is read back as it was, and a file of an older llmstack keeps its stack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from llmstack import stackfile
from llmstack.deploy import transaction
from llmstack.hardware import Measured
from llmstack.paths import Home
from llmstack.plan import Goal, Infeasible, Plan, make_plan, projector_of_size
from llmstack.plan.result import to_json
from llmstack.stackfile import HealthRecord, ModelEntry, ProxyEntry, ServerEntry, StackRecord
from llmstack.supervisor import Service
from support.planner.draws import draws, facts, machine

OLD = Path(__file__).parent / "golden" / "stack-format-1.json"  # made by `up --demo` of commit 5e4d12e


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "config", tmp_path / "state", tmp_path / "data", tmp_path / "cache")


def record_of(plan: Plan | None, argv: tuple[str, ...] = ()) -> StackRecord:
    return StackRecord(
        ModelEntry("qwen", "/m/q.gguf"),
        ServerEntry("127.0.0.1", 8081, "cuda-11434", argv),
        ProxyEntry("0.0.0.0", 5001),
        n_ctx=131072,
        n_ctx_slot=65536,
        n_parallel=2,
        n_predict=8192,
        supervisor="systemd",
        services=(Service("server", "llama-server", argv, {"A": "b"}, memory_max_mib=2048), Service("proxy", "p", ())),
        capabilities={"vision": True},
        stored_plan=stackfile.stored(plan) if plan is not None else msgspec.Raw(b"null"),
        pins={"-ub": "1024"},
        inputs="digest",
        health=HealthRecord(100.5, 9.1, 10, 9, 0.99, 0.1, 0.01, "hello", 1.5, {"prefill": 90.0}, ("slow",), 0.1),
    )


def test_plans_of_many_models_and_machines_are_read_back_as_they_were(home: Home) -> None:
    plans = 0
    for draw in draws(60, seed=5):
        try:
            plan = make_plan(draw.facts, draw.hardware, Goal(ctx=draw.ctx, alias="x", extra=("--temp", "0.7")))
        except Infeasible:
            continue
        plans += 1
        stackfile.write(home, record_of(plan))
        back = stackfile.read(home)
        assert back == record_of(plan), draw.number
        assert back is not None
        assert back.plan == plan, draw.number
        assert to_json(back.plan) == to_json(plan)
    assert plans > 30


def test_pins_a_second_model_and_measured_rates_are_read_back_too(home: Home) -> None:
    measured = Measured(40.0, 30.0, 20.0, 100.0, 90.0, 80.0, 2.0, 2e-5, 1e-5, 0.1, "embedded")
    hardware = replace(machine(16, 64), measured=measured)
    goal = Goal(pins={"ub": "1024", "spec-draft-n-max": "3"}, draft=facts("llama-8b"))
    plan = make_plan(facts("llama-8b"), hardware, goal)
    stackfile.write(home, record_of(plan))
    back = stackfile.read(home)
    assert back is not None
    assert back.plan == plan
    assert any(decision.pinned for decision in plan.decisions)
    assert home.stack.stat().st_size < 48 * 1024


def test_a_plan_that_reads_images_is_read_back_with_its_encoder(home: Home) -> None:
    encoder = projector_of_size(1 << 29, 4096, "/m/mmproj.gguf")
    plan = make_plan(facts("llama-8b"), machine(16, 64), Goal(mmproj_path=encoder.path, projector=encoder))
    stackfile.write(home, record_of(plan))
    back = stackfile.read(home)
    assert back is not None and back.plan is not None
    assert back.plan == plan and back.plan.goal.projector == encoder


def test_the_format_is_in_the_file_and_without_a_plan_the_rest_is_read(home: Home) -> None:
    stackfile.write(home, record_of(None))
    data = msgspec.json.decode(home.stack.read_bytes())
    assert data["format"] == stackfile.FORMAT
    assert data["plan"] is None
    back = stackfile.read(home)
    assert back is not None
    assert back.plan is None


def test_a_plan_with_fields_of_another_release_loses_the_plan_and_not_the_stack(home: Home) -> None:
    plan = make_plan(facts("llama-8b"), machine(8, 32), Goal())
    stackfile.write(home, record_of(plan))
    data = msgspec.json.decode(home.stack.read_bytes())
    del data["plan"]["budget"]
    home.stack.write_bytes(msgspec.json.encode(data))
    back = stackfile.read(home)
    assert back is not None
    assert back.plan is None
    assert back.proxy == ProxyEntry("0.0.0.0", 5001)


def test_a_file_of_the_format_before_keeps_its_stack(home: Home) -> None:
    home.stack.parent.mkdir()
    home.stack.write_bytes(OLD.read_bytes())
    old = stackfile.read(home)
    assert old is not None
    assert old.plan is None
    assert (old.model.name, old.supervisor) == ("demo", "process")
    assert (old.server.url, old.proxy.url) == ("http://127.0.0.1:8510", "http://127.0.0.1:5510")
    assert [service.name for service in old.services] == ["server", "proxy"]
    assert old.services[0].argv == old.server.argv
    assert old.services[0].memory_max_mib == 20224
    assert old.health is not None
    assert old.health.hit_ratio > 0.9
    server = old.running_server()
    assert (server.n_ctx, server.n_ctx_slot, server.n_parallel, server.n_predict) == (65536, 65536, 1, 8192)
    assert (server.vision, server.recurrent, server.sliding_window, server.cache_ram_mib) == (False, False, False, 8192)
    assert server.states_folder == Path("/home/kim/stack/cache/slots/bb2b41a8e0191123")
    assert server.rolls_back
    stackfile.write(home, old)
    assert stackfile.read(home) == old  # what is put back after a failed `up` is of the new format


@pytest.mark.parametrize(
    ("model", "argv", "rolls_back", "window"),
    [
        ({"recurrent": True, "sliding_window": 0}, (), False, False),
        ({"recurrent": False, "sliding_window": 1024}, (), False, True),
        ({"recurrent": False, "sliding_window": 1024}, ("--swa-full",), True, False),
    ],
    ids=["recurrent", "window", "full window"],
)
def test_of_the_format_before_the_kind_of_cache_and_the_pins_are_used(
    model: dict[str, object], argv: tuple[str, ...], rolls_back: bool, window: bool
) -> None:
    data = msgspec.json.decode(OLD.read_bytes())
    data["plan"]["model"] |= model
    data["plan"]["decisions"][0]["pinned"] = True
    data["server"]["argv"] += argv
    old = stackfile.decode(msgspec.json.encode(data))
    server = old.running_server()
    assert (server.rolls_back, server.sliding_window) == (rolls_back, window)
    assert old.pins == {data["plan"]["decisions"][0]["flag"]: data["plan"]["decisions"][0]["value"]}


def test_a_transaction_of_the_format_before_is_taken_up(home: Home) -> None:
    home.state.mkdir()
    home.transaction.write_bytes(b'{"stack": %b, "ran": true, "units": {}}' % OLD.read_bytes())
    previous = transaction.begin(home)
    assert previous.ran
    assert previous.stack == stackfile.decode(OLD.read_bytes())


def test_what_was_running_before_is_read_back_from_a_transaction(home: Home) -> None:
    stackfile.write(home, record_of(make_plan(facts("llama-8b"), machine(8, 32), Goal())))
    assert transaction.begin(home).stack == stackfile.read(home)
    assert transaction.pending(home) == transaction.begin(home)


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b'{"model": 1}', b"{", b'{"model": {"name": "\xff"}}'])
def test_a_file_that_is_none_is_no_stack(home: Home, data: bytes) -> None:
    home.stack.parent.mkdir()
    home.stack.write_bytes(data)
    assert stackfile.read(home) is None


def test_the_kind_of_cache_comes_from_the_plan() -> None:
    argv = ("/bin/llama-server", "-cram", "2048", "--slot-save-path", "/c/slots/abc")
    server = record_of(None, argv).running_server()
    assert (server.cache_ram_mib, server.states_folder) == (2048, Path("/c/slots/abc"))
    assert (server.vision, server.url) == (True, "http://127.0.0.1:8081")
    bare = record_of(None).running_server()
    assert (bare.cache_ram_mib, bare.states_folder) == (8192, None)
    assert ServerEntry("::1", 80).url == "http://[::1]:80"
    assert ProxyEntry("::", 80).url == "http://[::1]:80"


def test_a_folder_in_the_place_of_the_file_is_no_stack(home: Home) -> None:
    home.stack.mkdir(parents=True)
    assert stackfile.read(home) is None


@pytest.mark.parametrize("value", ["--5", "²", "", "all"])
def test_a_strange_size_of_the_prompt_cache_counts_as_the_default(value: str) -> None:
    assert record_of(None, ("/bin/llama-server", "-cram", value)).running_server().cache_ram_mib == 8192
