"""What the speed model owes to llama.cpp's code: a test for each rule, with the function that makes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmstack.hardware import Cpu, Device, Hardware, Ram
from llmstack.plan import Goal, make_plan, to_json
from llmstack.plan.assignment import Assignment
from llmstack.plan.cards import AMPERE, BLACKWELL, OTHER, VOLTA, card_of
from llmstack.plan.memory import Estimator
from llmstack.plan.speed import Speed
from support.planner.draws import facts

GOOD = Device("RTX 4090", "CUDA", 24576, 24000)


def machine(card: Device = GOOD, cores: int = 8) -> Hardware:
    return Hardware(Ram(131072, 120000, None, 60.0), Cpu(cores, cores, ("avx2",)), (card,))


def speed_of(model: str, hardware: Hardware | None = None) -> Speed:
    hardware = hardware or machine()
    found = facts(model)
    return Speed(found, hardware, Estimator(found, hardware.devices))


def on_card(speed: Speed, **other: object) -> Assignment:
    return replace(Assignment(ctx=131072, ngl=speed.facts.n_layer_all + 1, type_k="f16", type_v="f16"), **other)  # type: ignore[arg-type]


def test_without_a_layer_on_it_a_card_still_computes_batches_of_32_tokens() -> None:
    """ggml_backend_cuda_device_offload_op (ggml-cuda.cu): from GGML_OP_OFFLOAD_MIN_BATCH tokens on."""
    speed = speed_of("llama-8b")
    a = on_card(speed, ngl=0)
    with_card, without = (speed.prefill_s(one, 4096, 0) for one in (a, replace(a, has_gpu=True)))
    assert with_card < without / 5  # has_gpu: the plan says -dev none
    few, more = speed.prefill_s(a, 31, 0) / 31, speed.prefill_s(a, 32, 0) / 32
    assert few != pytest.approx(more, rel=0.1)


def test_weights_in_ram_are_copied_once_for_each_ubatch_and_pinned_ones_faster() -> None:
    """ggml_backend_sched_compute_splits (ggml-backend.cpp) copies a split's inputs before it computes."""
    speed = speed_of("llama-8b")
    a = on_card(speed, ngl=17)
    assert speed.prefill_s(replace(a, ubatch=512), 4096, 0) > 1.5 * speed.prefill_s(replace(a, ubatch=2048), 4096, 0)
    assert speed.prefill_s(replace(a, load_mode="none"), 4096, 0) < speed.prefill_s(a, 4096, 0)


def test_a_recurrent_state_in_ram_is_copied_for_each_ubatch_and_each_token_and_computed_on_the_card() -> None:
    """With flash attention only build_attn_mha's other branch names the processor for -nkvo (llama-graph.cpp)."""
    speed = speed_of("qwen35-27b")
    a = on_card(speed, nkvo=True)
    plain = replace(a, nkvo=False)
    assert speed.prefill_s(a, 8192, 0) < 1.6 * speed.prefill_s(plain, 8192, 0)
    state_s = 2 * 4 * 48 * (speed.facts.state_r + speed.facts.state_s) / 31.5e9
    assert speed.token_s(a, 0) - speed.token_s(plain, 0) > state_s


def test_a_quantised_cache_costs_decode_computing_and_more_the_more_heads_share_it() -> None:
    """ggml_cuda_get_best_fattn_kernel (fattn.cu): a vector kernel turns the cache into numbers for each query head."""
    speed = speed_of("qwen35-27b")
    added = {
        kind: speed.token_s(a, 90_000) - speed.token_s(a, 0)
        for kind in ("f16", "q8_0", "q4_0")
        if (a := on_card(speed, type_k=kind, type_v=kind))
    }
    assert added["q4_0"] == pytest.approx(added["q8_0"], rel=0.01)
    assert added["q4_0"] > added["f16"] / 4 * 1.5  # not the quarter that its bytes are


def test_resident_experts_are_read_once_for_each_ubatch() -> None:
    """mul_mat_id (mmid.cu, mmq.cu): nearly every expert gets a few tokens of a ubatch."""
    speed = speed_of("qwen35moe-35b-a3b")
    rates = [2048 / speed.prefill_s(on_card(speed, ubatch=n, batch=2048), 2048, 0) for n in (128, 512, 2048)]
    assert rates[0] < 0.6 * rates[1] and rates[1] < 0.9 * rates[2]


def test_many_small_kernels_keep_a_fast_card_from_its_bandwidth() -> None:
    fast = machine(replace(GOOD, name="RTX 5090"))
    dense, experts = (
        speed.token_s(on_card(speed), 0) * 1792e9 / sum(speed._active)
        for speed in (speed_of("llama-8b", fast), speed_of("qwen35moe-35b-a3b", fast))
    )
    assert experts > 2 * dense  # times what reading alone would take


def test_of_much_ram_bandwidth_threads_reach_less() -> None:
    slow, fast = (
        speed_of("qwen35moe-35b-a3b", replace(machine(), ram=Ram(131072, 120000, None, gbps))).rates.read / gbps
        for gbps in (34.0, 112.0)
    )
    assert slow > 0.7 > 0.6 > fast


def test_a_card_that_the_table_does_not_know_is_what_its_driver_says() -> None:
    unknown = Device("NVIDIA RTX 9999", "CUDA", 24576, 24000, 672.0, 75.0, 63.0, compute_capability=12.0)
    card = card_of(unknown)
    assert (card.bandwidth_gbps, card.compute_tflops, card.family, card.known) == (672.0, 75.0, BLACKWELL, True)
    assert card_of(replace(unknown, compute_capability=8.6)).family is AMPERE
    assert card_of(replace(unknown, compute_capability=None)).family is OTHER


@pytest.mark.parametrize(
    ("name", "bandwidth", "family"),
    [
        ("Tesla V100-SXM2-32GB", 900, VOLTA),
        ("NVIDIA RTX PRO 4000 Blackwell", 672, BLACKWELL),
        ("NVIDIA RTX PRO 4000 Blackwell SFF Edition", 432, BLACKWELL),
        ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", 512, AMPERE),
    ],
)
def test_names_as_drivers_give_them_are_known(name: str, bandwidth: float, family: object) -> None:
    card = card_of(Device(name, "CUDA", 24576, 24000))
    assert (card.bandwidth_gbps, card.family, card.known) == (bandwidth, family, True)


def test_a_plan_states_a_range_for_each_speed_and_a_wider_one_for_a_card_it_guesses_at() -> None:
    known, guessed = (
        to_json(make_plan(facts("llama-8b"), machine(card), Goal()))["predicted"]
        for card in (GOOD, replace(GOOD, name="Some Card 7"))
    )
    for predicted in (known, guessed):
        for speed in ("prefill_tps", "decode_tps"):
            low, high = predicted[f"{speed}_range"]
            assert low < predicted[speed] < high
    width = [p["decode_tps_range"][1] / p["decode_tps_range"][0] for p in (known, guessed)]
    assert width[1] > 1.5 * width[0]
