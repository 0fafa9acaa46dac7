"""Says why: one decision per flag, the trades worth knowing, and what the reader should be told."""

from __future__ import annotations

from dataclasses import replace

from llmstack.plan.argv import flags
from llmstack.plan.assignment import DRAFT_KV, Assignment, of_drafter
from llmstack.plan.facts import Facts, Kind
from llmstack.plan.goal import DEFAULT_CONTEXT, DEFAULT_KV
from llmstack.plan.memory import MIB
from llmstack.plan.pins import find_pin
from llmstack.plan.result import Alternative, Decision
from llmstack.plan.search import WORTH, Found, Search
from llmstack.plan.speed import IN_TILES, on_threads
from llmstack.sizes import mib_text


def _change(search: Search, found: Found, **fields: object) -> str:
    """What one other value would do to the session's time; empty when it makes no difference worth a word."""
    other = search.score(replace(found.assignment, **fields))  # type: ignore[arg-type]
    part = other.cost / found.cost - 1
    return f"{abs(part):.0%} {'slower' if part > 0 else 'faster'}" if abs(part) >= 0.005 else ""


def _window_history_mib(search: Search, a: Assignment) -> float:
    """What --swa-full costs on all devices together: the cells of window blocks for the whole context."""
    with_it, without = (search.estimator.estimate(replace(a, swa_full=full)) for full in (True, False))
    return sum(use.context for use in (*with_it.devices, with_it.host)) - sum(
        use.context for use in (*without.devices, without.host)
    )


def decisions(search: Search, found: Found, wanted: int) -> tuple[Decision, ...]:
    a = found.assignment
    pinned = {pin.flag for name in search.goal.pins if (pin := find_pin(name)) is not None}
    pinned |= {"-c"} if search.goal.ctx is not None else set()
    pinned |= {"-np"} if search.goal.parallel is not None else set()
    pinned |= {"-ctk", "-ctv"} if search.goal.kv_type is not None else set()
    made = [
        _context(search, found, wanted),
        *_placement(search, found),
        *_cache(search, found),
        *_batch(search, found),
        *_ram(search, found),
        *_drafting(search, found),
        Decision("-np", str(a.parallel), _slots(a)),
        *_unified(search, found),
        Decision("-fa", "on", "flash attention: a quantised cache needs it, and its buffers are small"),
        Decision("-n", str(search.goal.n_predict), "an answer ends here at the latest"),
        _thinking(search),
        Decision("--fit", "off", "the flags above are the fit; nothing is changed at the start"),
    ]
    if a.no_repack:
        why = "llama.cpp 11434 stops at an assertion when AMX packs this model's latent attention matrices"
        made.append(Decision("--no-repack", "", why, "prefill on the CPU is slower"))
    if a.threads:
        made.append(Decision("-t", str(a.threads), "one thread per physical core; more wait for memory"))
    return tuple(replace(d, pinned=True, reason=f"pinned by you; {d.reason}") if d.flag in pinned else d for d in made)


def _context(search: Search, found: Found, wanted: int) -> Decision:
    facts, a = search.facts, found.assignment
    mib = sum(use.context for use in found.memory.devices) + found.memory.host.context
    cost = f"{mib_text(mib)} of cache"
    if a.ctx < wanted:
        reason = f"CUT from {wanted}: that does not fit this machine; --ctx {wanted} says what is missing"
    elif search.goal.ctx is None and facts.n_ctx_train and facts.n_ctx_train < DEFAULT_CONTEXT:
        reason = f"the model was trained on {facts.n_ctx_train} tokens, less than the {DEFAULT_CONTEXT} we start from"
    elif facts.n_ctx_train and a.ctx // a.parallel > facts.n_ctx_train:
        reason = f"asked for; the model was trained on {facts.n_ctx_train} and may lose the thread beyond"
    else:
        reason = "what Claude Code works well with" if search.goal.ctx is None else "asked for"
    return Decision("-c", str(a.ctx), reason, cost)


def _placement(search: Search, found: Found) -> list[Decision]:
    a, facts = found.assignment, search.facts
    if not search.hardware.devices:
        return [Decision("-ngl", "0", "no GPU was found: everything runs on the CPU")]
    gpu = sum(use.weights for use in found.memory.devices)
    made = []
    if a.ngl == 0:
        made.append(Decision("-ngl", "0", "no layer fits the GPU's free memory: it is left alone (-dev none)"))
    elif a.ngl >= search.top:
        made.append(
            Decision("-ngl", str(a.ngl), "every block and the output are on the GPU", f"{mib_text(gpu)} of VRAM")
        )
    else:
        made.append(
            Decision(
                "-ngl",
                str(a.ngl),
                f"the output and the last {max(a.ngl - 1, 0)} of {facts.n_layer_all} blocks fit",
                f"{mib_text(gpu)} of VRAM",
            )
        )
    if a.ncmoe:
        start = max(search.top - a.ngl, 0)
        moved = sum(b.experts for b in facts.blocks[start : a.ncmoe]) / MIB
        made.append(
            Decision(
                "-ncmoe",
                str(a.ncmoe),
                f"the experts of the first {a.ncmoe} blocks stay in RAM: one token reads only "
                f"{facts.n_expert_used} of {facts.n_expert} of them",
                f"{mib_text(moved)} of RAM instead of VRAM",
            )
        )
    if a.ncffn:
        moved = sum(b.dense for b in facts.blocks[: a.ncffn]) / MIB
        reason = f"the feed-forward weights of the first {a.ncffn} blocks stay in RAM, attention and cache on the GPU"
        made.append(Decision("-ncffn", str(a.ncffn), reason, f"{mib_text(moved)} of RAM instead of VRAM"))
    if a.nkvo:
        made.append(
            Decision(
                "-nkvo", "", "the cache stays in RAM, which leaves VRAM for weights", _change(search, found, nkvo=False)
            )
        )
    if a.split:
        shares = ",".join(f"{share:.4g}" for share in a.split)
        made.append(Decision("-ts", shares, "fills each GPU to its own budget"))
    return made


def _cache(search: Search, found: Found) -> list[Decision]:
    a, other = found.assignment, ""
    if a.type_k == DEFAULT_KV:
        reason = "a quarter of f16's size: 64k of context in what 16k would take"
    elif not a.ngl and on_threads(a) is IN_TILES:
        change = _change(search, found, type_k=DEFAULT_KV, type_v=DEFAULT_KV)
        reason = f"threads read it in tiles, a {DEFAULT_KV} cache row by row"
        other = f"with {DEFAULT_KV}: {change}" if change else ""
    else:
        reason = f"finer than {DEFAULT_KV} and, on this machine, as fast: it fits anyway"
    made = [Decision("-ctk", a.type_k, reason, other)]
    made.append(Decision("-ctv", a.type_v, "as -ctk: mixed pairs have no fast kernel"))
    if a.swa_full:
        change = _change(search, found, swa_full=False)
        mib = _window_history_mib(search, a)
        reason = f"{mib:,.0f} MiB more cache, so that a snapshot still answers warm after a restart"
        made.append(Decision("--swa-full", "", reason, f"without it: {change}" if change else ""))
    return made


def _batch(search: Search, found: Found) -> list[Decision]:
    a = found.assignment
    if a.ubatch == 512:
        reason = "llama.cpp's own; a larger one gains nothing here"
    else:
        other = search.score(replace(a, ubatch=512)).predicted.prefill_tps
        gain = found.predicted.prefill_tps / other - 1
        reason = f"weights in RAM cross to the GPU once per {a.ubatch} tokens instead of once per 512"
        if not (a.ncmoe or a.ncffn or a.ngl < search.top):
            reason = f"reads the prompt in pieces of {a.ubatch}"
        return [
            Decision("-ub", str(a.ubatch), reason, f"prefill {gain:+.0%} against 512"),
            Decision("-b", str(a.batch), "at least -ub"),
        ]
    return [Decision("-ub", "512", reason), Decision("-b", str(a.batch), "llama.cpp's own")]


def _ram(search: Search, found: Found) -> list[Decision]:
    a, memory = found.assignment, found.memory
    if a.load_mode == "none":
        lm = "weights in RAM are pinned: they cross to the GPU 1.8 times faster than from a memory map"
    else:
        lm = "a memory map: fast start, and the pages can be dropped"
    made = [Decision("-lm", a.load_mode, lm)]
    cram = "prompts of other conversations, kept to switch back without reading them again"
    made.append(Decision("-cram", str(a.cache_ram_mib), cram, f"{mib_text(memory.cache_ram)} of RAM at most"))
    if a.checkpoints:
        what = "recurrent state" if search.facts.recurrent else "window"
        reason = f"points to return to when a prompt changes: the {what} cannot be rolled back otherwise"
        made.append(Decision("-ctxcp", str(a.checkpoints), reason, f"{mib_text(memory.checkpoints)} of RAM at most"))
    else:
        made.append(Decision("-ctxcp", "0", "a full cache can be rolled back by itself"))
    return made


def _drafting(search: Search, found: Found) -> list[Decision]:
    a, second = found.assignment, search.goal.draft
    if a.model_guesses and second is not None:
        return _second_model(search, found, second)
    if second is not None and not a.draft_max:
        return [Decision("--spec-type", "none", f"{second.name} does not guess ahead: {_why_alone(search, found)}")]
    if not search.facts.n_draft:
        return []
    if not a.draft_max:
        return [Decision("--spec-type", "none", "the file's prediction block would gain nothing here")]
    gain = found.predicted.decode_tps / search.score(replace(a, draft_max=0)).predicted.decode_tps - 1
    reason = "the file's own prediction block guesses tokens that one pass then checks; the answer is the same"
    return [
        Decision("--spec-type", "draft-mtp", reason, f"decode {gain:+.0%}, if 7 of 10 guesses hold"),
        Decision("--spec-draft-n-max", str(a.draft_max), "more guesses would cost more than they bring"),
    ]


def _second_model(search: Search, found: Found, second: Facts) -> list[Decision]:
    a = found.assignment
    alone = search.score(replace(a, draft_max=0, drafter=False)).predicted
    decode, prefill = found.predicted.decode_tps / alone.decode_tps - 1, found.predicted.prefill_tps / alone.prefill_tps
    memory = search.estimator.of_drafter(a)
    uses = memory.devices if a.ngl else (memory.host,)
    cost = f"{mib_text(sum(use.weights + use.context + use.compute for use in uses))} of {'VRAM' if a.ngl else 'RAM'}"
    reason = f"{second.name} guesses tokens that one pass then checks: the answer is drawn as without it"
    held = f"decode {decode:+.0%}, prefill {prefill - 1:+.0%}, if 6 of 10 guesses hold"
    return [
        Decision("--spec-type", "draft-simple", reason, held),
        Decision("-md", second.path.rpartition("/")[2], "the smaller sibling with the same vocabulary", cost),
        Decision("-ngld", str(of_drafter(a, layers=second.n_layer_all + 1).ngl), "whole, where the large one is"),
        Decision("-ctkd", DRAFT_KV, "its cache is small: guesses are better unrounded"),
        Decision("-ctvd", DRAFT_KV, "as -ctkd"),
        Decision("--spec-draft-n-max", str(a.draft_max), "more guesses would cost more than they bring"),
    ]


def _why_alone(search: Search, found: Found) -> str:
    """Why a second model that is known is left out."""
    if search.no_drafter:
        return search.no_drafter
    if search.fixed.get("drafter") is False or search.fixed.get("draft_max") == 0:
        return "pinned by you"
    if not search.hardware.devices:
        return "on the processor alone the two models' threads wait for each other"
    a = found.assignment
    fixed = {**search.fixed, "drafter": True}
    with_it = Search(search.facts, search.hardware, search.goal, fixed).best(a.ctx, a.type_k, a.type_v)
    if with_it is None:
        return "there is no room beside the model"
    part = with_it.cost / found.cost - 1
    if part > 0:
        return f"the same work would take {part:.0%} longer"
    if part > 1 / WORTH - 1:
        return f"the same work would be {-part:.0%} shorter, too little for an assumption about how many guesses hold"
    return f"parts of the model would make room for it and prompts be read slower, for {-part:.0%} less time in all"


def _slots(a: Assignment) -> str:
    if a.parallel == 1:
        return "one conversation at a time gets the whole context and all the speed"
    return f"{a.parallel} conversations at a time, {a.ctx // a.parallel} tokens each"


def _unified(search: Search, found: Found) -> list[Decision]:
    if not found.assignment.kv_unified:
        return []
    apart = search.estimator.estimate(replace(found.assignment, kv_unified=False))
    less = sum(use.total for use in apart.devices) - sum(use.total for use in found.memory.devices)
    return [Decision("-kvu", "", "the slots' sliding windows share their spare cells", f"{less:.0f} MiB less")]


def _thinking(search: Search) -> Decision:
    if search.goal.reasoning != "off":
        return Decision("-rea", search.goal.reasoning, "as you asked")
    if search.facts.template_ignores_switch:
        reason = "answers start at once; this template has no switch, so the thinking budget is 0 as well"
        return Decision("-rea", "off", reason)
    return Decision("-rea", "off", "answers start at once: tools matter more than thinking aloud")


def alternatives(search: Search, found: Found) -> tuple[Alternative, ...]:
    """The trades worth knowing: the article's own way, the finer cache, twice the context."""
    a, made = found.assignment, []

    def add(why: str, other: Found | None) -> None:
        if other is not None and other.assignment != a:
            made.append(Alternative(why, flags(search.facts, other.assignment, search.goal), other.predicted))

    if "ctx" not in search.fixed and search.facts.n_ctx_train >= 2 * a.ctx:
        add(f"twice the context ({2 * a.ctx})", search.best(2 * a.ctx, a.type_k, a.type_v))
    if "type_k" not in search.fixed and a.type_k == DEFAULT_KV:
        add("a finer cache (q8_0)", search.best(a.ctx, "q8_0", "q8_0"))
    if search.facts.has_window and "swa_full" not in search.fixed:
        mib = f"{_window_history_mib(search, a):,.0f} MiB"
        if a.swa_full:
            shorter = search.score(replace(a, swa_full=False))
            add(f"without --swa-full ({mib} less cache): a restart reads the prompt again", shorter)
        else:
            fixed = {**search.fixed, "swa_full": True}
            fitted = Search(search.facts, search.hardware, search.goal, fixed).best(a.ctx, a.type_k, a.type_v)
            add(f"with --swa-full ({mib} more cache): no restart reads the prompt again", fitted)
    if search.facts.moe and a.ncmoe and "ngl" not in search.fixed and "nkvo" not in search.fixed:
        fixed = {**search.fixed, "nkvo": True, "ncmoe": 0}
        other = Search(search.facts, search.hardware, search.goal, fixed)
        add("whole blocks and the cache in RAM (-ngl N -nkvo)", other.best(a.ctx, a.type_k, a.type_v))
    return tuple(made)


def notes(search: Search, found: Found, wanted: int) -> tuple[str, ...]:
    facts, made = search.facts, []
    if not facts.known:
        made.append(
            f"{facts.arch} is not an architecture whose figures were checked: it is planned from its tensors, "
            f"and its cache is an upper estimate"
        )
    for card, device in zip(search.speed.cards, search.hardware.devices, strict=True):
        if not card.known:
            made.append(
                f"unknown card {device.name}: assumed {card.bandwidth_gbps:.0f} GB/s and "
                f"{card.compute_tflops:.0f} TFLOP/s; `llmstack bench` measures the real ones"
            )
    measured = search.hardware.measured
    if measured is not None and measured.error is not None:
        made.append(
            f"speeds rest on rates measured on this machine with {measured.engine}, within {measured.error:.0%}"
        )
    elif search.hardware.ram.bandwidth_gbps is not None:
        made.append(
            f"RAM reads {search.speed.ram_gbps:.0f} GB/s, measured; compute is assumed: llmstack bench measures it"
        )
    else:
        made.append(f"RAM bandwidth unknown: assumed {search.speed.ram_gbps:.0f} GB/s")
    if found.assignment.ctx < wanted:
        made.append(f"the context was cut from {wanted} to {found.assignment.ctx} tokens to fit")
    if not facts.has_template:
        made.append("the file has no chat template: tool calls need one (--chat-template-file)")
    if found.assignment.model_guesses:
        made.append(
            "the second model does not know a prompt that was restored from disk (llama.cpp#28619): its guesses are "
            "worse there"
        )
    if any(b.kind is Kind.WINDOW for b in facts.blocks) and not found.assignment.swa_full:
        made.append("sliding window without --swa-full: the first answer after a restart reads its prompt again")
    return tuple(made)
