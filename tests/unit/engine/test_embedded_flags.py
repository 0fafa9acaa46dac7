"""The embedded engine's command line: llama-server's names, real parameters, refusals by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.engine.embedded import SETTERS, FlagError, help_text, parse, to_params
from llmstack.engine.flags import parse_help
from llmstack.llama_server.flags import FLAGS, Flag

SAMPLE = {
    "P": "0.5",
    "N": "3", "FNAME": "model.gguf", "STRING": "name", "[on|off|auto]": "on", "[on|off]": "off", "TYPE": "q4_0",
    "MODE": "none", "{none,layer,row,tensor}": "layer", "N0,N1,N2,...": "3,1", "INDEX": "0",
    "<tensor name pattern>=<buffer type>,...": "x=CPU",
    "SIMILARITY": "0.5", "FORMAT": "deepseek", "TYPE,...": "draft-mtp", "SEED": "42", "HOST": "127.0.0.1", "PORT": "9",
    "PATH": "/tmp/slots", "ORIGINS": "http://x", "JINJA_TEMPLATE": "{{ x }}", "FILE": "v.gguf",
    "JINJA_TEMPLATE_FILE": __file__, "<dev1,dev2,..>": "none", "{none,linear,yarn}": "yarn",
}  # fmt: skip


def test_the_plan_s_own_flags_arrive_in_the_engine(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# comment\nsecret\n\n")
    argv = (
        "-m m.gguf -c 65536 -ngl all -ctk q4_0 -ctv q8_0 -fa on -np 2 -b 1024 -ub 256 --fit off -nkvo -n 8192 -rea off"
    )
    params = to_params([*argv.split(), "--api-key-file", str(keys), "-t", "5", "--load-mode", "none", "-cram", "0"])
    assert (params.model.path, params.n_ctx, params.n_gpu_layers, params.n_parallel) == ("m.gguf", 65536, -2, 2)
    assert (params.cache_type_k.name, params.cache_type_v.name) == ("GGML_TYPE_Q4_0", "GGML_TYPE_Q8_0")
    assert (params.n_batch, params.n_ubatch, params.n_predict, params.cpuparams.n_threads) == (1024, 256, 8192, 5)
    assert params.no_kv_offload and not params.fit_params and params.cache_ram_mib == 0
    assert params.enable_reasoning == 0
    assert params.default_template_kwargs == {"enable_thinking": "false"}
    assert list(params.api_keys) == ["secret"]
    assert params.load_mode.name == "LLAMA_LOAD_MODE_NONE"


TAKEN = [flag for flag in FLAGS if flag.name in SETTERS]


@pytest.mark.parametrize("flag", TAKEN, ids=lambda flag: flag.name)
def test_every_flag_it_takes_is_accepted_by_the_library(flag: Flag) -> None:
    samples = {"--chat-template-kwargs": '{"a": 1}', "--api-key-file": __file__}
    value = [samples.get(flag.name) or SAMPLE[flag.kind.hint]] if flag.takes_value else []
    for name in (*flag.names, *flag.negation):
        to_params(["-m", "model.gguf", name, *value])


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["-m", "m.gguf", "--rpc", "x"], "unknown argument: --rpc"),
        (["-m"], "-m needs a value: FNAME"),
        (["-c", "64"], "-m FNAME is needed"),
        (["-m", "m", "-c", "lots"], "-c: invalid literal"),
        (["-m", "m", "-ctk", "q3_0"], "'q3_0' is not one of f32, f16"),
        (["-m", "m", "-fa", "maybe"], "'maybe' is not one of auto, on, off"),
        (["-m", "m", "--api-key-file", "/nowhere"], "--api-key-file:"),
    ],
)
def test_what_it_cannot_use_is_refused_by_name(argv: list[str], told: str) -> None:
    with pytest.raises(FlagError, match=told.replace("(", r"\(")):
        to_params(argv)


def test_experts_of_the_first_blocks_stay_on_the_cpu() -> None:
    params = to_params(["-m", "m.gguf", "-ncmoe", "2"])
    assert params.tensor_buft_overrides.count("=CPU") == 2
    assert r"blk\.1\.ffn_(up|down|gate|gate_up)_(ch|)exps" in params.tensor_buft_overrides


def test_its_help_reads_like_llama_server_s() -> None:
    flags = parse_help(help_text())
    for name in ("-m", "--model", "-ctk", "--cache-type-k", "--slot-save-path", "--no-ui"):
        assert name in flags
    ctx, ui = flags.find("-c"), flags.find("--no-ui")
    assert ctx is not None and ctx.takes_value
    assert ui is not None and not ui.takes_value


def test_a_flag_without_value_takes_none() -> None:
    words = ["--jinja", "-c", "5", "--ui"]
    assert [(flag.name, value) for flag, value in parse(words)] == [("--jinja", "on"), ("-c", "5"), ("--no-ui", "off")]


def test_a_switch_and_the_name_that_undoes_it_set_the_same_parameter() -> None:
    for argv, ui, repacks in ((["--no-ui", "-nr"], False, True), (["--ui", "--repack"], True, False)):
        params = to_params(["-m", "m.gguf", *argv])
        assert (params.ui, params.no_extra_bufts) == (ui, repacks)
