"""What the user wants: the context, the cache, pinned flags, and the work that speed is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from llmstack.plan.facts import ModelFacts
from llmstack.plan.kv_quality import KvHarm
from llmstack.plan.projector import ProjectorFacts

DEFAULT_CONTEXT = 65536
DEFAULT_KV = "q4_0"
DEFAULT_OUTPUT = 8192


@dataclass(frozen=True, slots=True)
class Workload:
    """What Claude Code does, in tokens: a cold prompt once, then turns at some depth, and one restart."""

    cold_tokens: int = 20_000
    turn_tokens: int = 2_000
    output_tokens: int = 500
    depth: int = 30_000
    turns: int = 20

    def within(self, ctx: int) -> Workload:
        """The same work in a conversation of `ctx` tokens: prompts and depth are shortened to fit."""
        output = min(self.output_tokens, max(ctx // 4, 1))
        cold = max(min(self.cold_tokens, ctx - output), 1)
        turn = max(min(self.turn_tokens, (ctx - output) // 2), 1)
        return replace(
            self,
            cold_tokens=cold,
            turn_tokens=turn,
            output_tokens=output,
            depth=max(min(self.depth, ctx - turn - output), 0),
        )


@dataclass(frozen=True, slots=True)
class Goal:
    """ctx (of one conversation), kv_type, parallel: None leaves it to the planner, which starts at 64k, q4_0, one.

    pins: `--set FLAG=VALUE`, flag names with or without dashes. vram_margin_mib, ram_margin_mib: left free on
    top of the plan. keep_free_mib: of each card for other programs; the larger of it and the margin counts. vision:
    whether images are read; None takes an image encoder where it costs little (plan.vision).
    projector: the encoder, mmproj_path its file; None and "" without one. chat_template_file: instead of the file's own
    template. draft: the draft model, a small one with the same vocabulary; None where there is none. keeps_checkpoints:
    the engine's slot files hold context checkpoints (`engine.find.CHECKPOINTS_IN_FILES`).
    accepts_block, accepts_model: how likely each guess of the file's prediction block, and of a draft model, was seen
    to hold; None where nobody looked. kv_measured: what cache types were measured to cost this model's answers
    (`bench --quality`).
    """

    ctx: int | None = None
    kv_type: str | None = None
    parallel: int | None = None
    pins: Mapping[str, str] = field(default_factory=dict)
    n_predict: int = DEFAULT_OUTPUT
    reasoning: str = "off"
    workload: Workload = field(default_factory=Workload)
    vram_margin_mib: int | None = None
    keep_free_mib: int | None = None
    ram_margin_mib: int | None = None
    alias: str = ""
    vision: bool | None = None
    mmproj_path: str = ""
    projector: ProjectorFacts | None = None
    chat_template_file: str = ""
    draft: ModelFacts | None = None
    extra: tuple[str, ...] = ()
    keeps_checkpoints: bool = False
    accepts_block: float | None = None
    accepts_model: float | None = None
    kv_measured: Mapping[str, KvHarm] = field(default_factory=dict)
