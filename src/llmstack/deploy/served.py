"""What the engine did after a start, held against the plan. Pure: `observe` looks, this decides.

A failure ends `up` (the previous stack comes back) and makes `status` degraded; a warning is shown and no more.

| what is so                                                              | level                              |
| ----------------------------------------------------------------------- | ---------------------------------- |
| layers planned on a device, and the log shows no weights there           | failure                            |
| the same, and the driver says that the server holds no memory of a card  | failure                            |
| fewer layers or fewer devices than planned, some there                   | warning: the speed decides         |
| a slot smaller than planned                                              | failure: clients count on it       |
| fewer slots than planned; no chat template                               | warning                            |
| an image encoder planned and not loaded                                  | failure                            |
| a rate below a tenth of the plan, on a device whose speed is known       | failure; of an unknown one warning |

What nobody says is not held against the engine: a log that was rotated away, a driver without figures by process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import msgspec

from llmstack.commands import command_line
from llmstack.deploy.load_log import LoadLog
from llmstack.findings import Finding, Level
from llmstack.hardware import Device
from llmstack.judge import BUSY, SPILLS
from llmstack.sizes import mib_text
from llmstack.stackfile import StackRecord

NAME = "served"
TENTH = 0.1  # of the planned rate: no error of a speed model is as large, a card that computes nothing is
LEAST_TOKENS = {"prefill": 128, "decode": 4}  # fewer say nothing of a rate
READ_MIB = 64  # read from disk meanwhile: then that is what a rate says
SHARE = 0.5  # of the planned weights: with so much on cards the engine does use them, whatever its log looks like


class Served(msgspec.Struct, frozen=True):
    """What one start of the engine came to. n_ctx_slot, n_slots, vision, template: of /props. vram_mib: of cards that
    the server's processes hold; None of any: nobody says. layers, buffers_mib, devices, trained_ctx: see LoadLog.

    log_tells: the log would list the buffers of a device if there were any.
    """

    n_ctx_slot: int | None = None
    n_slots: int | None = None
    vision: bool | None = None
    template: bool | None = None
    layers: tuple[int, int] | None = None
    buffers_mib: dict[str, float] = {}
    devices: tuple[str, ...] = ()
    trained_ctx: int | None = None
    log_tells: bool = False
    vram_mib: int | None = None

    def text(self) -> str:
        """In a few words; empty where nothing is known."""
        parts = []
        if self.layers is not None and self.buffers_mib:
            parts.append(f"{self.layers[0]} of {self.layers[1]} layers")
        parts += [f"{mib_text(mib)} of weights on {name}" for name, mib in self.buffers_mib.items()]
        if self.vram_mib:
            parts.append(f"{mib_text(self.vram_mib)} of cards held")
        if self.n_ctx_slot:
            parts.append(f"{self.n_ctx_slot:,} tokens for each conversation")
        return ", ".join(parts)

    def to_json(self) -> dict[str, object]:
        """As `status --json` shows it."""
        return {
            "n_ctx_slot": self.n_ctx_slot,
            "n_slots": self.n_slots,
            "vision": self.vision,
            "layers": self.layers[0] if self.layers else None,
            "layers_of": self.layers[1] if self.layers else None,
            "buffers_mib": self.buffers_mib,
            "devices": list(self.devices),
            "vram_mib": self.vram_mib,
        }


def served_of(props: Mapping[str, object], log: LoadLog, *, verbose: bool, vram_mib: int | None) -> Served:
    """props: the answer of /props, empty where there was none. verbose: the engine was started so that it lists its
    buffers."""
    settings = props.get("default_generation_settings")
    modalities = props.get("modalities")
    vision = modalities.get("vision") if isinstance(modalities, dict) else None
    return Served(
        n_ctx_slot=_count(settings.get("n_ctx") if isinstance(settings, dict) else None),
        n_slots=_count(props.get("total_slots")),
        vision=vision if isinstance(vision, bool) else None,
        template=bool(props["chat_template"]) if "chat_template" in props else None,
        layers=log.layers,
        buffers_mib=log.buffers_mib,
        devices=log.devices,
        trained_ctx=log.trained_ctx,
        log_tells=log.buffers or (log.loads and verbose),
        vram_mib=vram_mib,
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


@dataclass(frozen=True, slots=True)
class Intended:
    """The same of the plan. layers: 0 where it puts none on a device. device_mib: of weights, on all devices together.

    speed_known: the devices' speed was measured or is that of a known card. driver_tells: where the driver says 0 MiB
    for a process, it is so: not of memory shared with the processor, nor of what Vulkan holds. wsl: the machine is one.
    """

    model: str
    n_ctx_slot: int
    n_slots: int = 1
    vision: bool = False
    layers: int = 0
    layers_of: int = 0
    devices: tuple[str, ...] = ()
    device_mib: float = 0.0
    speed_known: bool = False
    driver_tells: bool = False
    wsl: bool = False


def intended(stack: StackRecord, *, wsl: bool = False) -> Intended:
    vision = stack.capabilities.get("vision", False)
    plan, model = stack.plan, _name_for_up(stack)
    if plan is None:
        return Intended(model, stack.n_ctx_slot, stack.n_parallel, vision, wsl=wsl)
    a, cards = plan.assignment, plan.hardware.devices
    most = plan.facts.n_layer_all + 1
    layers = min(a.ngl, most) if cards else 0
    used = [(card, use) for card, use in zip(cards, plan.memory.devices, strict=False) if use.weights > 0]
    return Intended(
        model=model,
        n_ctx_slot=plan.n_ctx_slot,
        n_slots=a.parallel,
        vision=vision,
        layers=layers if used else 0,
        layers_of=most,
        devices=tuple(card.name for card, _ in used),
        device_mib=sum(use.weights for _, use in used),
        driver_tells=all(_tells_by_process(card) for card, _ in used),
        speed_known=all(card.bandwidth_gbps is not None for card, _ in used),
        wsl=wsl,
    )


def _tells_by_process(card: Device) -> bool:
    return card.backend.upper() in ("CUDA", "ROCM", "HIP") and not card.unified and not card.integrated


def _name_for_up(stack: StackRecord) -> str:
    """What `up` takes when this stack is gone again: a model that is called after its file is found by its path."""
    path = stack.model.path
    return path if PurePath(path).name.startswith(stack.model.name) else stack.model.name


def compare(plan: Intended, served: Served) -> tuple[Finding, ...]:
    """The failures first."""
    checks = (_placement, _context, _vision, _slots, _template)
    findings = [finding for check in checks if (finding := check(plan, served)) is not None]
    return tuple(sorted(findings, key=lambda finding: finding.status is not Level.FAIL))


def failure(findings: tuple[Finding, ...]) -> Finding | None:
    return next((finding for finding in findings if finding.status is Level.FAIL), None)


def computes_on_processor(plan: Intended, served: Served) -> bool:
    """The plan puts layers on a device, and what is seen speaks against it."""
    if not plan.layers:
        return False
    held = served.vram_mib
    if held == 0 and plan.driver_tells:
        return True
    if served.buffers_mib or not (served.log_tells or (served.layers is not None and served.layers[0] == 0)):
        return False
    return held is None or held < plan.device_mib * SHARE


def _placement(plan: Intended, served: Served) -> Finding | None:
    cards = ", ".join(plan.devices)
    planned = f"the plan puts {plan.layers} of {plan.layers_of} layers on {cards}"
    if computes_on_processor(plan, served):
        seen = "its log shows no weights there" if not served.buffers_mib else "the driver says that it holds no memory"
        return Finding(
            NAME,
            Level.FAIL,
            f"the engine lists the card and computes on the processor: {planned}, and {seen}",
            "a driver or a library is missing where the service runs, or this build cannot use the card",
            f"{command_line('engine', 'list')}   shows what the engine sees; {on_the_processor(plan)}",
        )
    if not plan.layers or not served.buffers_mib:
        return None
    if served.layers is not None and served.layers[0] < plan.layers:
        return Finding(
            NAME, Level.WARN, f"{planned}, and the engine put {served.layers[0]} there",
            "the others are computed on the processor", command_line("logs", "server", "--raw"),
        )  # fmt: skip
    if len(plan.devices) > len(served.buffers_mib) and _one_buffer_each(served):
        have = ", ".join(served.buffers_mib)
        return Finding(
            NAME, Level.WARN, f"{planned}, and the engine put weights on {have} only",
            "it does not use all the devices that were planned", command_line("engine", "list"),
        )  # fmt: skip
    return None


def _one_buffer_each(served: Served) -> bool:
    """Split by tensor or row, one buffer (Meta(), CUDA0_Split) stands for several devices."""
    return not any("Meta" in name or "Split" in name for name in served.buffers_mib)


def on_the_processor(plan: Intended) -> str:
    return f"{command_line('up', plan.model, '--set', 'ngl=0')}   plans for the processor"


def _context(plan: Intended, served: Served) -> Finding | None:
    have = served.n_ctx_slot
    if have is None or have >= plan.n_ctx_slot:
        return None
    cause = "it made the context smaller while it loaded the model"
    if served.trained_ctx is not None:
        cause = f"the model was trained on {served.trained_ctx:,} tokens, and the engine serves no more"
    return Finding(
        NAME, Level.FAIL, f"the engine serves {have:,} tokens for each conversation, planned {plan.n_ctx_slot:,}",
        cause, command_line("up", plan.model, "--ctx", have),
    )  # fmt: skip


def _vision(plan: Intended, served: Served) -> Finding | None:
    if not plan.vision or served.vision is not False:
        return None
    return Finding(
        NAME, Level.FAIL, "images were planned, and the engine takes none",
        "it did not load the image encoder (-mm)", command_line("logs", "server", "--raw"),
    )  # fmt: skip


def _slots(plan: Intended, served: Served) -> Finding | None:
    if served.n_slots is None or served.n_slots >= plan.n_slots:
        return None
    return Finding(
        NAME, Level.WARN, f"the engine has {served.n_slots} slots, planned {plan.n_slots}",
        "conversations wait for each other", command_line("up", plan.model, "--parallel", served.n_slots),
    )  # fmt: skip


def _template(plan: Intended, served: Served) -> Finding | None:
    if served.template is not False:
        return None
    return Finding(
        NAME, Level.WARN, f"{plan.model} has no chat template",
        "the engine puts messages together by a general one, and answers may be poor",
        command_line("models", "list"),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MeasuredRate:
    """tokens/s, measured and planned for exactly this work; name: prefill or decode."""

    name: str
    measured: float
    planned: float
    tokens: int


def compare_rates(
    plan: Intended, served: Served, rates: tuple[MeasuredRate, ...], *, load: float, disk_mib: float
) -> tuple[Finding, ...]:
    """Rates below a tenth of the plan, where layers are planned on a device: a processor's plan is a matter of degree
    (a container may have half a core), a card that computes is not.

    load: the share of all processors that other programs used; disk_mib: read by the server meanwhile.
    """
    if not plan.layers or load > BUSY or disk_mib > READ_MIB:
        return ()
    level = Level.FAIL if plan.speed_known else Level.WARN
    return tuple(
        Finding(
            NAME,
            level,
            f"{rate.name} {rate.measured:,.1f} tokens/s, planned {rate.planned:,.0f}: less than a tenth",
            _slow_because(plan, served),
            f"{command_line('doctor')}   looks at the card; {on_the_processor(plan)}",
        )
        for rate in rates
        if rate.tokens >= LEAST_TOKENS[rate.name] and 0 < rate.measured < rate.planned * TENTH
    )


def _slow_because(plan: Intended, served: Served) -> str:
    if plan.wsl:
        return SPILLS
    if not served.buffers_mib and served.vram_mib is None:
        return "the engine most likely computes on the processor: neither its log nor the driver shows a card in use"
    if not plan.speed_known:
        return f"the speed of {', '.join(plan.devices)} is not known, and was assumed"
    held = f", and {mib_text(served.vram_mib)} are held there" if served.vram_mib else ""
    return f"the weights are on {', '.join(plan.devices)}{held}: the card is throttled, or works over a slow link"
