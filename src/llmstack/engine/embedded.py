"""The embedded engine: llama.cpp's own HTTP server from the `xllamacpp` wheel, behind llama-server's command line.

    python -m llmstack.engine.embedded -m model.gguf -c 65536 --port 8080

takes the flags of FLAGS with the names and meanings of llama.cpp's common/arg.cpp, so that whoever starts an engine
need not know which one it is. A flag it does not know is refused by name, with exit status 2, before anything loads.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Params = Any  # xllamacpp.CommonParams has no type stubs


class FlagError(ValueError):
    """The command line cannot be used; the message names the flag."""


@dataclass(frozen=True, slots=True)
class Flag:
    """names as llama-server spells them; metavar None: it takes no value; set(params, value) applies it."""

    names: tuple[str, ...]
    metavar: str | None
    set: Callable[[Params, str], None]


def _attribute(path: str, convert: Callable[[str], Any]) -> Callable[[Params, str], None]:
    """Assigns a converted value to a dotted attribute; wrapped structs hand out views, so nested ones work."""
    *parents, last = path.split(".")

    def apply(params: Params, value: str) -> None:
        for parent in parents:
            params = getattr(params, parent)
        setattr(params, last, convert(value))

    return apply


def _constant(path: str, value: Any) -> Callable[[Params, str], None]:
    return _attribute(path, lambda _: value)


def _choice(enum_name: str, members: dict[str, str]) -> Callable[[str], Any]:
    """A word to a member of one of llama.cpp's enums. Raises FlagError with the words it takes."""

    def convert(word: str) -> Any:
        import xllamacpp

        if word not in members:
            raise FlagError(f"'{word}' is not one of {', '.join(members)}")
        return getattr(getattr(xllamacpp, enum_name), members[word])

    return convert


def _on_off(word: str) -> bool:
    if word in ("on", "enabled", "true", "1"):
        return True
    if word in ("off", "disabled", "false", "0"):
        return False
    raise FlagError(f"'{word}' is neither on nor off")


def _layers(word: str) -> int:
    return {"auto": -1, "all": -2}.get(word) or int(word)


def _words(value: str) -> list[str]:
    return value.split(",")


def _tensor_split(value: str) -> list[float]:
    shares = [float(share) for share in _words(value)]
    return shares + [0.0] * (128 - len(shares))  # llama.h: LLAMA_MAX_DEVICES-sized array


def _devices(params: Params, value: str) -> None:
    """Only `none`: the library has no way to name single devices."""
    if value != "none":
        raise FlagError(f"'{value}' cannot be chosen here, only none")
    params.n_gpu_layers = 0


def _api_key_file(params: Params, value: str) -> None:
    lines = Path(value).read_text().splitlines()
    params.api_keys = [*params.api_keys, *(line for line in lines if line and not line.startswith("#"))]


def _reasoning(params: Params, value: str) -> None:
    if value == "auto":
        params.enable_reasoning = -1
        return
    enabled = _on_off(value)
    params.enable_reasoning = int(enabled)
    _template_kwargs(params, json.dumps({"enable_thinking": enabled}))


def _template_kwargs(params: Params, value: str) -> None:
    given = {key: json.dumps(item) for key, item in json.loads(value).items()}
    params.default_template_kwargs = {**params.default_template_kwargs, **given}


def _spec_types(value: str) -> list[Any]:
    import xllamacpp

    kinds = xllamacpp.common_speculative_type
    try:
        return [getattr(kinds, f"COMMON_SPECULATIVE_TYPE_{word.upper().replace('-', '_')}") for word in _words(value)]
    except AttributeError:
        raise FlagError(f"'{value}' is not a kind of speculative decoding that this engine has") from None


def _cpu_blocks(regex: str) -> Callable[[Params, str], None]:
    """-ncmoe and -ncffn: the weights of the first N blocks that match stay on the CPU (arg.cpp)."""

    def apply(params: Params, value: str) -> None:
        overrides = [rf"blk\.{block}{regex}=CPU" for block in range(int(value))]
        if overrides:
            params.tensor_buft_overrides = ",".join(filter(None, [params.tensor_buft_overrides, *overrides]))

    return apply


_KV_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "IQ4_NL", "Q5_0", "Q5_1")
_LOAD_MODES = {
    "auto": "AUTO",
    "none": "NONE",
    "mmap": "MMAP",
    "mlock": "MLOCK",
    "mmap+mlock": "MMAP_MLOCK",
    "dio": "DIRECT_IO",
}
_kv_type = _choice("ggml_type", {name.lower(): f"GGML_TYPE_{name}" for name in _KV_TYPES})
_load_mode = _choice("llama_load_mode", {word: f"LLAMA_LOAD_MODE_{name}" for word, name in _LOAD_MODES.items()})
_flash = _choice(
    "llama_flash_attn_type",
    {
        word: f"LLAMA_FLASH_ATTN_TYPE_{name}"
        for word, name in (("auto", "AUTO"), ("on", "ENABLED"), ("off", "DISABLED"))
    },
)
_split_mode = _choice(
    "llama_split_mode", {w: f"LLAMA_SPLIT_MODE_{w.upper()}" for w in ("none", "layer", "row", "tensor")}
)
_reasoning_format = _choice(
    "common_reasoning_format",
    {
        w: f"COMMON_REASONING_FORMAT_{w.upper().replace('-', '_')}"
        for w in ("auto", "none", "deepseek", "deepseek-legacy")
    },
)

FLAGS = (
    Flag(("-m", "--model"), "FNAME", _attribute("model.path", str)),
    Flag(("-a", "--alias"), "STRING", _attribute("model_alias", lambda value: set(_words(value)))),
    Flag(("-mm", "--mmproj"), "FILE", _attribute("mmproj.path", str)),
    Flag(("--no-mmproj",), None, _constant("no_mmproj", True)),
    Flag(("-c", "--ctx-size"), "N", _attribute("n_ctx", int)),
    Flag(("-n", "--predict", "--n-predict"), "N", _attribute("n_predict", int)),
    Flag(("-b", "--batch-size"), "N", _attribute("n_batch", int)),
    Flag(("-ub", "--ubatch-size"), "N", _attribute("n_ubatch", int)),
    Flag(("-np", "--parallel"), "N", _attribute("n_parallel", int)),
    Flag(("-kvu", "--kv-unified"), None, _constant("kv_unified", True)),
    Flag(("-no-kvu", "--no-kv-unified"), None, _constant("kv_unified", False)),
    Flag(("-fa", "--flash-attn"), "[on|off|auto]", _attribute("flash_attn_type", _flash)),
    Flag(("-ctk", "--cache-type-k"), "TYPE", _attribute("cache_type_k", _kv_type)),
    Flag(("-ctv", "--cache-type-v"), "TYPE", _attribute("cache_type_v", _kv_type)),
    Flag(("-ngl", "--gpu-layers", "--n-gpu-layers"), "N", _attribute("n_gpu_layers", _layers)),
    Flag(("-ncmoe", "--n-cpu-moe"), "N", _cpu_blocks(r"\.ffn_(up|down|gate|gate_up)_(ch|)exps")),
    Flag(("-ncffn", "--n-cpu-ffn"), "N", _cpu_blocks(r"\.ffn_(up|down|gate)\.")),
    Flag(("-ot", "--override-tensor"), "PATTERN=TYPE,...", _attribute("tensor_buft_overrides", str)),
    Flag(("-nkvo", "--no-kv-offload"), None, _constant("no_kv_offload", True)),
    Flag(("-kvo", "--kv-offload"), None, _constant("no_kv_offload", False)),
    Flag(("-sm", "--split-mode"), "{none,layer,row,tensor}", _attribute("split_mode", _split_mode)),
    Flag(("-ts", "--tensor-split"), "N0,N1,...", _attribute("tensor_split", _tensor_split)),
    Flag(("-mg", "--main-gpu"), "INDEX", _attribute("main_gpu", int)),
    Flag(("-dev", "--device"), "<dev1,dev2,..>", _devices),
    Flag(("--repack",), None, _constant("no_extra_bufts", False)),
    Flag(("-nr", "--no-repack"), None, _constant("no_extra_bufts", True)),
    Flag(("-lm", "--load-mode"), "MODE", _attribute("load_mode", _load_mode)),
    Flag(("-t", "--threads"), "N", _attribute("cpuparams.n_threads", int)),
    Flag(("-tb", "--threads-batch"), "N", _attribute("cpuparams_batch.n_threads", int)),
    Flag(("-fit", "--fit"), "[on|off]", _attribute("fit_params", _on_off)),
    Flag(("-cram", "--cache-ram"), "N", _attribute("cache_ram_mib", int)),
    Flag(("-ctxcp", "--ctx-checkpoints", "--swa-checkpoints"), "N", _attribute("n_ctx_checkpoints", int)),
    Flag(("-cms", "--checkpoint-min-step"), "N", _attribute("checkpoint_min_step", int)),
    Flag(("--cache-idle-slots",), None, _constant("cache_idle_slots", True)),
    Flag(("--no-cache-idle-slots",), None, _constant("cache_idle_slots", False)),
    Flag(("--cache-reuse",), "N", _attribute("n_cache_reuse", int)),
    Flag(("--swa-full",), None, _constant("swa_full", True)),
    Flag(("-sps", "--slot-prompt-similarity"), "SIMILARITY", _attribute("slot_prompt_similarity", float)),
    Flag(("-rea", "--reasoning"), "[on|off|auto]", _reasoning),
    Flag(("--reasoning-budget",), "N", _attribute("sampling.reasoning_budget_tokens", int)),
    Flag(("--reasoning-format",), "FORMAT", _attribute("reasoning_format", _reasoning_format)),
    Flag(("--jinja",), None, _constant("use_jinja", True)),
    Flag(("--no-jinja",), None, _constant("use_jinja", False)),
    Flag(("--chat-template",), "JINJA_TEMPLATE", _attribute("chat_template", str)),
    Flag(("--chat-template-file",), "FILE", _attribute("chat_template", lambda value: Path(value).read_text())),
    Flag(("--chat-template-kwargs",), "STRING", _template_kwargs),
    Flag(("--spec-type",), "TYPE,...", _attribute("speculative.types", _spec_types)),
    Flag(("--spec-draft-n-max",), "N", _attribute("speculative.draft.n_max", int)),
    Flag(("--spec-draft-n-min",), "N", _attribute("speculative.draft.n_min", int)),
    Flag(("--spec-draft-p-min", "--draft-p-min"), "P", _attribute("speculative.draft.p_min", float)),
    Flag(("--spec-draft-ngl", "-ngld"), "N", _attribute("speculative.draft.n_gpu_layers", _layers)),
    Flag(("--spec-draft-type-k", "-ctkd"), "TYPE", _attribute("speculative.draft.cache_type_k", _kv_type)),
    Flag(("--spec-draft-type-v", "-ctvd"), "TYPE", _attribute("speculative.draft.cache_type_v", _kv_type)),
    Flag(("--spec-draft-model", "-md", "--model-draft"), "FNAME", _attribute("speculative.draft.mparams.path", str)),
    Flag(("-s", "--seed"), "SEED", _attribute("sampling.seed", int)),
    Flag(("--temp", "--temperature"), "N", _attribute("sampling.temp", float)),
    Flag(("--top-k",), "N", _attribute("sampling.top_k", int)),
    Flag(("--top-p",), "N", _attribute("sampling.top_p", float)),
    Flag(("--min-p",), "N", _attribute("sampling.min_p", float)),
    Flag(("--repeat-penalty",), "N", _attribute("sampling.penalty_repeat", float)),
    Flag(("--presence-penalty",), "N", _attribute("sampling.penalty_present", float)),
    Flag(("--warmup",), None, _constant("warmup", True)),
    Flag(("--no-warmup",), None, _constant("warmup", False)),
    Flag(("--host",), "HOST", _attribute("hostnames", _words)),
    Flag(("--port",), "PORT", _attribute("port", int)),
    Flag(("--api-key-file",), "FNAME", _api_key_file),
    Flag(("-to", "--timeout"), "N", lambda params, value: _timeouts(params, int(value))),
    Flag(("--threads-http",), "N", _attribute("n_threads_http", int)),
    Flag(("--sse-ping-interval",), "N", _attribute("sse_ping_interval", int)),
    Flag(("--slot-save-path",), "PATH", _attribute("slot_save_path", lambda value: value.rstrip("/") + "/")),
    Flag(("--slots",), None, _constant("endpoint_slots", True)),
    Flag(("--no-slots",), None, _constant("endpoint_slots", False)),
    Flag(("--metrics",), None, _constant("endpoint_metrics", True)),
    Flag(("--cors-origins",), "ORIGINS", _attribute("cors_origins", str)),
    Flag(("--ui",), None, _constant("ui", True)),
    Flag(("--no-ui", "--no-webui"), None, _constant("ui", False)),
    Flag(("-lv", "--verbosity", "--log-verbosity"), "N", _attribute("verbosity", int)),
)  # fmt: skip


def _timeouts(params: Params, seconds: int) -> None:
    params.timeout_read = seconds
    params.timeout_write = seconds


_BY_NAME = {name: flag for flag in FLAGS for name in flag.names}


def parse(argv: Sequence[str]) -> Iterator[tuple[Flag, str]]:
    """Each flag with its value ("" for one that takes none). Raises FlagError for an unknown or unfinished one."""
    words = iter(argv)
    for word in words:
        flag = _BY_NAME.get(word)
        if flag is None:
            raise FlagError(f"unknown argument: {word}")
        if flag.metavar is None:
            yield flag, ""
            continue
        value = next(words, None)
        if value is None:
            raise FlagError(f"{word} needs a value: {flag.metavar}")
        yield flag, value


def to_params(argv: Sequence[str]) -> Params:
    """llama.cpp's parameters for this command line. Raises FlagError."""
    parsed = list(parse(argv))
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.n_parallel = -1  # llama-server's own default, not the library's
    for flag, value in parsed:
        try:
            flag.set(params, value)
        except (ValueError, TypeError, AssertionError, OSError, AttributeError) as error:
            raise FlagError(f"{flag.names[0]}: {error}") from error
    if not params.model.path:
        raise FlagError("-m FNAME is needed: the GGUF to serve")
    return params


def build() -> str:
    """The llama.cpp build inside the wheel: the last part of its version (2026.10.11549 is build 11549)."""
    from importlib.metadata import version

    return version("xllamacpp")


def help_text() -> str:
    """The flags in the layout of `llama-server --help`."""
    lines = ["----- flags of llama-server that the embedded engine takes -----"]
    lines += [f"{', '.join(flag.names)} {flag.metavar or ''}".rstrip() for flag in FLAGS]
    return "\n".join(lines)


def _list_devices() -> str:
    import xllamacpp

    lines = ["Available devices:"]
    for device in xllamacpp.get_device_info():
        if device["type"].name.endswith("_CPU"):
            continue
        total, free = device["memory_total"] >> 20, device["memory_free"] >> 20
        lines.append(f"  {device['name']}: {device['description']} ({total} MiB, {free} MiB free)")
    return "\n".join(lines if len(lines) > 1 else [*lines, "  (none)"])


def main(argv: Sequence[str]) -> int:
    if "--help" in argv or "-h" in argv:
        print(help_text())
        return 0
    if "--version" in argv:
        number = build().rpartition(".")[2]
        print(f"version: {number} (xllamacpp {build()})")
        return 0
    if "--list-devices" in argv:
        print(_list_devices())
        return 0
    try:
        params = to_params(argv)
    except FlagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return _serve(params)


def _serve(params: Params) -> int:
    """Loads the model and serves until SIGTERM or SIGINT. Status 1 when the model does not load."""
    import xllamacpp

    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    try:
        server = xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    while not asked.wait(0.2):  # a bare wait() would keep the main thread from running the handlers
        pass
    # A request in the middle of its prefill would hold the destructor for as long as its batch takes.
    killer = threading.Timer(10, os._exit, args=(0,))
    killer.daemon = True
    killer.start()
    with contextlib.suppress(RuntimeError):
        del server
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
