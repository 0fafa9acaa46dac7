"""What a service wrote before it died becomes a sentence and a command."""

from __future__ import annotations

import pytest

from llmstack.deploy.failure_causes import explain

SMALLER = "llmstack up qwen --ctx 32768"


@pytest.mark.parametrize(
    ("line", "what", "remedy"),
    [
        ("ggml_backend_cuda_buffer_type_alloc_buffer: allocating 900 MiB on device 0: cudaMalloc failed: out of memory",
         "the GPU ran out of memory", SMALLER),
        ("E srv load_model: unable to allocate CUDA0 buffer", "the GPU ran out of memory", SMALLER),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "it ran out of memory", SMALLER),
        ("ggml_cuda_init: failed to initialize CUDA: driver version is insufficient", "the GPU driver does not work",
         "llmstack doctor"),
        ("E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1", "its port is taken", "llmstack doctor"),
        ("E gguf_init_from_file: failed to open GGUF file '/m.gguf' (No such file or directory)",
         "the model file is missing", "llmstack models list"),
        ("E llama_model_load: error loading model: check_tensor_dims: tensor 'blk.0.attn_q.weight' not found",
         "cannot be loaded", "llmstack models verify"),
        ("E error loading model architecture: unknown model architecture: 'new'",
         "does not know the model's architecture", "engine install"),
        ("error: unknown argument: --no-such", "does not take one of the plan's flags", "engine list"),
        ('error while handling argument "-dev": invalid device: CUDA0', "has no device CUDA0", "MODEL --set dev=none"),
        ("Unable to determine the device handle for GPU0000:01:00.0: GPU is lost.", "the card was lost", "doctor"),
        ("NVRM: GPU at PCI:0000:01:00: GPU has fallen off the bus.", "the card was lost", "restart the machine"),
        ("terminate called after throwing an instance of 'vk::DeviceLostError'", "the card was lost", "doctor"),
        ("  what():  vk::Queue::submit: ErrorDeviceLost", "the card was lost", "doctor"),
        ("ggml_cuda_error: CUDA error: device not ready", "the card was lost", "doctor"),
        ("ROCm error: hipErrorNoDevice", "the card was lost", "doctor"),
        ("E ggml_cuda_error: CUDA error: unspecified launch failure", "stopped in the middle of its work", "doctor"),
        ("CUDA error: an illegal memory access was encountered", "stopped in the middle of its work", "engine install"),
        ("ModuleNotFoundError: No module named 'uvicorn'", "a Python package is missing", "./stack"),
    ],
)  # fmt: skip
def test_a_line_of_the_log_is_explained(line: str, what: str, remedy: str) -> None:
    cause = explain(["I srv init: initializing", line, "I bye"], "exit status 1", smaller=SMALLER)
    assert cause is not None
    assert what in cause.what
    assert remedy in cause.next
    assert cause.line == line


def test_the_kernels_word_counts_more_than_the_log() -> None:
    cause = explain(["couldn't bind"], "out of memory: the kernel killed it", smaller=SMALLER)
    assert cause is not None
    assert (cause.what, cause.next) == ("it ran out of memory and was killed", SMALLER)


def test_a_kill_that_may_be_memory_is_said_to_be_likely() -> None:
    cause = explain([], "killed (SIGKILL): out of memory, or a kill -9", smaller=SMALLER)
    assert cause is not None
    assert "most likely" in cause.what


@pytest.mark.parametrize("last_exit", ["killed (SIGILL)", "killed by SIGILL"])
def test_an_illegal_instruction_is_the_build_not_the_model_whatever_the_log_says(last_exit: str) -> None:
    cause = explain(["E failed to load model"], last_exit, smaller=SMALLER)
    assert cause is not None
    assert "this processor does not execute" in cause.what
    assert "engine use embedded" in cause.next and "engine install" in cause.next


def test_what_is_not_known_is_not_guessed() -> None:
    assert explain(["I all is well"], "exit status 1", smaller=SMALLER) is None
