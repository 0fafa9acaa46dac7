"""What the engine's log of a start says: lines of build 11434 at verbosity 4, and what its source prints for a card."""

from __future__ import annotations

import pytest

from llmstack.deploy.load_log import LoadLog, lists_buffers, read_load

BEGIN = "0.00.020.747 I srv    load_model: loading model '/m/q.gguf'"
OFFLOADED = "0.00.017.545 I load_tensors: offloaded 25/25 layers to GPU"
ON_CPU = "0.00.017.547 I load_tensors:   CPU_Mapped model buffer size =     2.44 MiB"
ON_CARD = "0.00.017.548 I load_tensors:        CUDA0 model buffer size =  8192.50 MiB"
PINNED = "0.00.017.549 I load_tensors:    CUDA_Host model buffer size =   300.00 MiB"
USING = "0.00.010 I llama_prepare_model_devices: using device CUDA0 (NVIDIA RTX 4090) (0000:01:00.0) - 23900 MiB free"
CAPPED = (
    "0.00.2 W srv    load_model: the slot context (32768) exceeds the training context of the model (8192) - capping"
)


def test_weights_on_a_card_are_seen_with_the_card_and_their_size() -> None:
    log = read_load([BEGIN, USING, OFFLOADED, ON_CPU, ON_CARD, PINNED])
    assert log == LoadLog((25, 25), {"CUDA0": 8192.5}, ("CUDA0",), None, True, True)


def test_layers_that_are_counted_as_offloaded_into_memory_of_the_host_are_on_no_device() -> None:
    log = read_load([BEGIN, OFFLOADED, ON_CPU])
    assert (log.layers, log.buffers_mib, log.buffers) == ((25, 25), {}, True)


@pytest.mark.parametrize("name", ["CPU", "CPU_Mapped", "CPU_REPACK", "AMX", "CUDA_Host", "ROCm_Host", "Vulkan_Host"])
def test_memory_of_the_host_is_no_device(name: str) -> None:
    assert read_load([f"load_tensors: {name:>12} model buffer size = 10.00 MiB"]).buffers_mib == {}


@pytest.mark.parametrize(
    "name", ["CUDA0", "ROCm1", "Vulkan0", "SYCL0", "MTL0_Mapped", "RPC0[127.0.0.1:50052]", "Meta()"]
)
def test_memory_of_a_device_is_one(name: str) -> None:
    assert read_load([f"load_tensors: {name:>12} model buffer size = 10.00 MiB"]).buffers_mib == {name: 10.0}


def test_only_the_last_start_counts() -> None:
    assert read_load([BEGIN, OFFLOADED, ON_CARD, "died", BEGIN, ON_CPU]).buffers_mib == {}


def test_of_two_models_the_first_one_s_layers_and_both_one_s_weights_count() -> None:
    draft = [
        "I load_tensors: offloaded 5/5 layers to GPU",
        "I load_tensors:        CUDA0 model buffer size =   100.00 MiB",
    ]
    log = read_load([BEGIN, OFFLOADED, ON_CARD, *draft])
    assert (log.layers, log.buffers_mib) == ((25, 25), {"CUDA0": 8292.5})


def test_a_context_that_was_capped_names_what_the_model_was_trained_on() -> None:
    assert read_load([BEGIN, CAPPED]).trained_ctx == 8192


def test_a_log_without_a_start_says_so() -> None:
    assert read_load(["0.1 I slot release: id 0 | task 1 | stop processing"]) == LoadLog()


@pytest.mark.parametrize(
    ("argv", "lists"),
    [(("-lv", "4"), True), (("-lv", "5"), True), (("-lv", "3"), False), (("-ngl", "99"), False), (("-lv",), False)],
)
def test_buffers_are_listed_from_verbosity_four_on(argv: tuple[str, ...], lists: bool) -> None:
    assert lists_buffers(argv) is lists
