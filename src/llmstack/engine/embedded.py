"""The embedded engine: llama.cpp's own HTTP server from the `xllamacpp` wheel, behind llama-server's command line.

    python -m llmstack.engine.embedded -m model.gguf -c 65536 --port 8080

takes the flags of SETTERS with the names and meanings of llama.cpp's common/arg.cpp, so that whoever starts an engine
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
from pathlib import Path
from typing import Any

from llmstack import started_from
from llmstack.llama_server.flags import DENSE_TENSORS, EXPERT_TENSORS, Flag, flag_named
from llmstack.llama_server.values import KV_TYPES, LOAD_MODES

Params = Any  # xllamacpp.CommonParams has no type stubs


class FlagError(ValueError):
    """The command line cannot be used; the message names the flag."""


Setter = Callable[[Params, str], None]
"""Applies a flag's value to the parameters; a switch's value is `on`, or `off` for the name that undoes it."""


def _attribute(path: str, convert: Callable[[str], Any]) -> Setter:
    """Assigns a converted value to a dotted attribute; wrapped structs hand out views, so nested ones work."""
    *parents, last = path.split(".")

    def apply(params: Params, value: str) -> None:
        for parent in parents:
            params = getattr(params, parent)
        setattr(params, last, convert(value))

    return apply


def _switch(path: str, *, means: bool = True) -> Setter:
    """means: what the attribute becomes when the flag is given by its own name."""
    return _attribute(path, lambda word: (word == "on") is means)


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


def _cpu_blocks(regex: str) -> Setter:
    """-ncmoe and -ncffn: the weights of the first N blocks that match stay on the CPU (arg.cpp)."""

    def apply(params: Params, value: str) -> None:
        overrides = [rf"blk\.{block}{regex}=CPU" for block in range(int(value))]
        if overrides:
            params.tensor_buft_overrides = ",".join(filter(None, [params.tensor_buft_overrides, *overrides]))

    return apply


_kv_type = _choice("ggml_type", {name: f"GGML_TYPE_{name.upper()}" for name in KV_TYPES})
_load_mode = _choice(
    "llama_load_mode",
    {
        word: f"LLAMA_LOAD_MODE_{word.upper().replace('+', '_').replace('DIO', 'DIRECT_IO')}"
        for word in ("auto", *LOAD_MODES)
    },
)
_flash = _choice(
    "llama_flash_attn_type",
    {
        word: f"LLAMA_FLASH_ATTN_TYPE_{name}"
        for word, name in (("auto", "AUTO"), ("on", "ENABLED"), ("off", "DISABLED"))
    },
)
_rope_scaling = _choice(
    "llama_rope_scaling_type", {w: f"LLAMA_ROPE_SCALING_TYPE_{w.upper()}" for w in ("none", "linear", "yarn")}
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

# By the flag's name in the table (llama_server.flags).
SETTERS: dict[str, Setter] = {
    "-m": _attribute("model.path", str),
    "-a": _attribute("model_alias", lambda value: set(_words(value))),
    "-mm": _attribute("mmproj.path", str),
    "--no-mmproj": _switch("no_mmproj"),
    "-c": _attribute("n_ctx", int),
    "-n": _attribute("n_predict", int),
    "-b": _attribute("n_batch", int),
    "-ub": _attribute("n_ubatch", int),
    "-np": _attribute("n_parallel", int),
    "-kvu": _switch("kv_unified"),
    "--rope-scaling": _attribute("rope_scaling_type", _rope_scaling),
    "--rope-scale": _attribute("rope_freq_scale", lambda text: 1 / float(text)),
    "--yarn-orig-ctx": _attribute("yarn_orig_ctx", int),
    "-fa": _attribute("flash_attn_type", _flash),
    "-ctk": _attribute("cache_type_k", _kv_type),
    "-ctv": _attribute("cache_type_v", _kv_type),
    "-ngl": _attribute("n_gpu_layers", _layers),
    "-ncmoe": _cpu_blocks(EXPERT_TENSORS),
    "--moe-cache-mib": _attribute("moe_cache_size", lambda text: int(text) << 20),
    "-ncffn": _cpu_blocks(DENSE_TENSORS),
    "-ot": _attribute("tensor_buft_overrides", str),
    "-nkvo": _switch("no_kv_offload"),
    "-sm": _attribute("split_mode", _split_mode),
    "-ts": _attribute("tensor_split", _tensor_split),
    "-mg": _attribute("main_gpu", int),
    "-dev": _devices,
    "--no-repack": _switch("no_extra_bufts"),
    "-lm": _attribute("load_mode", _load_mode),
    "-t": _attribute("cpuparams.n_threads", int),
    "-tb": _attribute("cpuparams_batch.n_threads", int),
    "--fit": _attribute("fit_params", _on_off),
    "-cram": _attribute("cache_ram_mib", int),
    "-ctxcp": _attribute("n_ctx_checkpoints", int),
    "-cms": _attribute("checkpoint_min_step", int),
    "--cache-idle-slots": _switch("cache_idle_slots"),
    "--cache-reuse": _attribute("n_cache_reuse", int),
    "--swa-full": _switch("swa_full"),
    "-sps": _attribute("slot_prompt_similarity", float),
    "-rea": _reasoning,
    "--reasoning-budget": _attribute("sampling.reasoning_budget_tokens", int),
    "--reasoning-format": _attribute("reasoning_format", _reasoning_format),
    "--jinja": _switch("use_jinja"),
    "--chat-template": _attribute("chat_template", str),
    "--chat-template-file": _attribute("chat_template", lambda value: Path(value).read_text()),
    "--chat-template-kwargs": _template_kwargs,
    "--spec-type": _attribute("speculative.types", _spec_types),
    "--spec-draft-n-max": _attribute("speculative.draft.n_max", int),
    "--spec-draft-n-min": _attribute("speculative.draft.n_min", int),
    "--spec-draft-p-min": _attribute("speculative.draft.p_min", float),
    "--spec-ngram-mod-n-max": _attribute("speculative.ngram_mod.n_max", int),
    "--spec-ngram-mod-n-min": _attribute("speculative.ngram_mod.n_min", int),
    "--spec-ngram-mod-n-match": _attribute("speculative.ngram_mod.n_match", int),
    "-ngld": _attribute("speculative.draft.n_gpu_layers", _layers),
    "-ctkd": _attribute("speculative.draft.cache_type_k", _kv_type),
    "-ctvd": _attribute("speculative.draft.cache_type_v", _kv_type),
    "-md": _attribute("speculative.draft.mparams.path", str),
    "-s": _attribute("sampling.seed", int),
    "--temp": _attribute("sampling.temp", float),
    "--top-k": _attribute("sampling.top_k", int),
    "--top-p": _attribute("sampling.top_p", float),
    "--min-p": _attribute("sampling.min_p", float),
    "--repeat-penalty": _attribute("sampling.penalty_repeat", float),
    "--presence-penalty": _attribute("sampling.penalty_present", float),
    "--warmup": _switch("warmup"),
    "--host": _attribute("hostnames", _words),
    "--port": _attribute("port", int),
    "--api-key-file": _api_key_file,
    "-to": lambda params, value: _timeouts(params, int(value)),
    "--threads-http": _attribute("n_threads_http", int),
    "--sse-ping-interval": _attribute("sse_ping_interval", int),
    "--slot-save-path": _attribute("slot_save_path", lambda value: value.rstrip("/") + "/"),
    "--slots": _switch("endpoint_slots"),
    "--metrics": _switch("endpoint_metrics"),
    "--cors-origins": _attribute("cors_origins", str),
    "--no-ui": _switch("ui", means=False),
    "-lv": _attribute("verbosity", int),
}


def _timeouts(params: Params, seconds: int) -> None:
    params.timeout_read = seconds
    params.timeout_write = seconds


def _taken(name: str) -> Flag | None:
    flag = flag_named(name)
    return flag if flag is not None and flag.name in SETTERS else None


def parse(argv: Sequence[str]) -> Iterator[tuple[Flag, str]]:
    """Each flag with its value, on or off for a switch. Raises FlagError for an unknown or unfinished one."""
    words = iter(argv)
    for word in words:
        flag = _taken(word)
        if flag is None:
            raise FlagError(f"unknown argument: {word}")
        if not flag.takes_value:
            yield flag, "off" if word in flag.negation else "on"
            continue
        value = next(words, None)
        if value is None:
            raise FlagError(f"{word} needs a value: {flag.kind.hint}")
        yield flag, value


def to_params(argv: Sequence[str]) -> Params:
    """llama.cpp's parameters for this command line. Raises FlagError."""
    parsed = list(parse(argv))
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.n_parallel = -1  # llama-server's own default, not the library's
    for flag, value in parsed:
        try:
            SETTERS[flag.name](params, value)
        except (ValueError, TypeError, AssertionError, OSError, AttributeError) as error:
            raise FlagError(f"{flag.name}: {error}") from error
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
    for flag in filter(None, map(flag_named, SETTERS)):
        lines += [f"{', '.join(names)} {flag.kind.hint}".rstrip() for names in (flag.names, flag.negation) if names]
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
    if "--api-key-file" in argv[:-1]:  # a service's: it lies in the state of its home
        started_from.note(Path(argv[list(argv).index("--api-key-file") + 1]).parent, "server")
    return _serve(params)


def _serve(params: Params) -> int:
    """Loads the model and serves until SIGTERM or SIGINT. Status 1 when the model does not load."""
    import xllamacpp

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        server = xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    while not stopping.wait(0.2):  # a bare wait() would keep the main thread from running the handlers
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
