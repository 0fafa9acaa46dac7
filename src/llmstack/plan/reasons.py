"""Says why: words for the search's results, one decision per flag, the trades worth knowing, and notes."""

from __future__ import annotations

from dataclasses import replace

from llmstack.commands import command_line
from llmstack.llama_server.flags import FLAGS, flag_of
from llmstack.llama_server.values import YARN
from llmstack.plan.argv import flags
from llmstack.plan.assignment import DRAFT_KV, Assignment, draft_assignment
from llmstack.plan.facts import ModelFacts
from llmstack.plan.goal import DEFAULT_CONTEXT, DEFAULT_KV, Goal
from llmstack.plan.kv_quality import WITH_KERNEL
from llmstack.plan.memory import MIB
from llmstack.plan.pins import pinned_flags
from llmstack.plan.rates import IN_TILES
from llmstack.plan.result import Alternative, Decision
from llmstack.plan.search import WORTH, Candidate, Search
from llmstack.plan.speed import on_threads
from llmstack.plan.trades import Trade, Trades
from llmstack.plan.training_length import ORIGINAL, SCALE, SCALING, cut_from, cut_sentence, stretch_of
from llmstack.sizes import mib_text


def _change(search: Search, chosen: Candidate, **fields: object) -> str:
    """What one other value would do to the session's time; empty when it makes no difference worth a word."""
    other = search.score(replace(chosen.assignment, **fields))  # type: ignore[arg-type]
    part = other.cost / chosen.cost - 1
    return f"{abs(part):.0%} {'slower' if part > 0 else 'faster'}" if abs(part) >= 0.005 else ""


def _window_history_mib(search: Search, a: Assignment) -> float:
    """What --swa-full costs on all devices together: the cells of window blocks for the whole context."""
    with_it, without = (search.estimator.estimate(replace(a, swa_full=full)) for full in (True, False))
    return sum(use.context for use in (*with_it.devices, with_it.host)) - sum(
        use.context for use in (*without.devices, without.host)
    )


def _decision(a: Assignment | Goal, field: str, reason: str, cost: str = "") -> Decision:
    """The decision about the flag of this field, as the command line has it."""
    flag = flag_of(field)
    return Decision(flag.name, flag.kind.write(getattr(a, field)) if flag.takes_value else "", reason, cost)


def decisions(search: Search, chosen: Candidate, trades: Trades, n_ctx: int) -> tuple[Decision, ...]:
    a = chosen.assignment
    pinned = pinned_flags(search.goal)
    rows = [
        _context(search, chosen, n_ctx),
        *_stretching(search, a),
        *_placement(search, chosen),
        *_cache(search, chosen),
        *_batch(search, chosen),
        *_ram(search, chosen),
        *_drafting(search, chosen, trades),
        _decision(a, "parallel", _slots(a)),
        *_unified(search, chosen),
        Decision("-fa", "on", "flash attention: a quantised cache needs it, and its buffers are small"),
        _decision(search.goal, "n_predict", "an answer ends here at the latest"),
        _thinking(search),
        Decision("--fit", "off", "the flags above are the fit; nothing is changed at the start"),
    ]
    if a.no_repack:
        why = "llama.cpp 11434 stops at an assertion when AMX packs this model's latent attention matrices"
        rows.append(_decision(a, "no_repack", why, "prefill on the CPU is slower"))
    if a.threads:
        rows.append(_decision(a, "threads", "one thread per physical core; more wait for memory"))
    if search.goal.chat_template_file:
        rows.append(
            _decision(
                search.goal,
                "chat_template_file",
                "a copy of yours, instead of the one in the file",
            )
        )
    carried = (flag for flag in FLAGS if flag.only_pinned and getattr(a, flag.field))
    rows += [_decision(a, flag.field, flag.about) for flag in carried]
    return tuple(replace(d, pinned=True, reason=f"pinned by you; {d.reason}") if d.flag in pinned else d for d in rows)


def _context(search: Search, chosen: Candidate, n_ctx: int) -> Decision:
    facts, a = search.facts, chosen.assignment
    mib = sum(use.context for use in chosen.memory.devices) + chosen.memory.host.context
    cost = f"{mib_text(mib)} of cache"
    if a.ctx < n_ctx:
        reason = f"CUT from {n_ctx}: that does not fit this machine; --ctx {n_ctx} says what is missing"
    elif wish := cut_from(search.goal, facts, a):
        reason = f"{wish} tokens were asked for; the model was trained on {facts.n_ctx_train}, and a slot gets no more"
    elif stretch_of(facts, a) is not None:
        reason = f"the model was trained on {facts.n_ctx_train} tokens; YaRN stretches that"
    elif search.goal.ctx is None and facts.n_ctx_train and facts.n_ctx_train < DEFAULT_CONTEXT:
        reason = f"the model was trained on {facts.n_ctx_train} tokens, less than the {DEFAULT_CONTEXT} we start from"
    else:
        reason = "what Claude Code works well with" if search.goal.ctx is None else "asked for"
    return _decision(a, "ctx", reason, cost)


def _stretching(search: Search, a: Assignment) -> list[Decision]:
    if a.rope_scaling != YARN:
        return []
    stretch = stretch_of(search.facts, a)
    if stretch is None:
        return [Decision(SCALING, "none", "the context is within what the model was trained on: no need")]
    cost = "short prompts are answered a little worse too; saved prompts are not shared with a stack without it"
    return [
        _decision(a, "rope_scaling", "stretches the context beyond the training length", cost),
        Decision(SCALE, f"{stretch.scale:g}", f"{a.ctx_slot} of {stretch.original} tokens, in quarters"),
        Decision(ORIGINAL, str(stretch.original), "the length that the model was trained on"),
    ]


def _placement(search: Search, chosen: Candidate) -> list[Decision]:
    a, facts = chosen.assignment, search.facts
    if not search.hardware.devices:
        return [_decision(a, "ngl", "no GPU was found: everything runs on the CPU")]
    gpu = sum(use.weights for use in chosen.memory.devices)
    rows = []
    if a.ngl == 0:
        rows.append(_decision(a, "ngl", "no layer fits the GPU's free memory: it is left alone (-dev none)"))
    elif a.ngl >= search.top:
        rows.append(_decision(a, "ngl", "every block and the output are on the GPU", f"{mib_text(gpu)} of VRAM"))
    else:
        rows.append(
            _decision(
                a,
                "ngl",
                f"the output and the last {max(a.ngl - 1, 0)} of {facts.n_layer_all} blocks fit",
                f"{mib_text(gpu)} of VRAM",
            )
        )
    if a.ncmoe:
        start = max(search.top - a.ngl, 0)
        moved = sum(b.experts for b in facts.blocks[start : a.ncmoe]) / MIB
        rows.append(
            _decision(
                a,
                "ncmoe",
                f"the experts of the first {a.ncmoe} blocks stay in RAM: one token reads only "
                f"{facts.n_expert_used} of {facts.n_expert} of them",
                f"{mib_text(moved)} of RAM instead of VRAM",
            )
        )
    if a.ncffn:
        moved = sum(b.dense for b in facts.blocks[: a.ncffn]) / MIB
        reason = f"the feed-forward weights of the first {a.ncffn} blocks stay in RAM, attention and cache on the GPU"
        rows.append(_decision(a, "ncffn", reason, f"{mib_text(moved)} of RAM instead of VRAM"))
    if a.nkvo:
        rows.append(
            _decision(
                a, "nkvo", "the cache stays in RAM, which leaves VRAM for weights", _change(search, chosen, nkvo=False)
            )
        )
    if sum(share > 0 for share in a.split) > 1 and a.ngl:
        shares = tuple(share for share in a.split if share > 0)
        rows.append(Decision("-ts", flag_of("split").kind.write(shares), _why_split(search, a)))
    rows.append(_decision(a, "devices", _why_devices(search, a)))
    return rows


def _why_devices(search: Search, a: Assignment) -> str:
    devices = search.hardware.devices
    if not a.ngl:
        return "no device is opened: everything runs on the CPU"
    used = " and ".join(device.name for device in devices if device.id in a.devices)
    left = [device.name for device in devices if device.id not in a.devices]
    if not left:
        return f"{used}: named, so that no other device is taken at a start"
    reason = "the pinned shares leave it out" if "split" in search.pinned else "it would hold every token up"
    return f"{used}; without {' and '.join(left)}: {reason}"


def _why_split(search: Search, a: Assignment) -> str:
    by_memory = search.estimator.ranges(replace(a, split=()))
    if search.estimator.ranges(a) == by_memory:
        return "the share of the layers that each GPU gets, by its free memory"
    return "fills each GPU to its own budget, the fastest first"


def _cache(search: Search, chosen: Candidate) -> list[Decision]:
    a, other = chosen.assignment, ""
    if a.type_k == DEFAULT_KV:
        reason = "a quarter of f16's size: a finer one would cost context or too much speed"
    elif not a.ngl and on_threads(a) is IN_TILES:
        change = _change(search, chosen, type_k=DEFAULT_KV, type_v=DEFAULT_KV)
        reason = f"threads read it in tiles, a {DEFAULT_KV} cache row by row"
        other = f"with {DEFAULT_KV}: {change}" if change else ""
    else:
        reason = f"finer than {DEFAULT_KV}, and worth its time: it fits anyway"
        change = _change(search, chosen, type_k=DEFAULT_KV, type_v=DEFAULT_KV)
        other = f"with {DEFAULT_KV}: {change}" if change else ""
    if not {a.type_k, a.type_v} <= WITH_KERNEL and a.ngl:
        reason += "; without a kernel of its own: each layer's cache is made f16 at every step"
    rows = [_decision(a, "type_k", reason, other)]
    rows.append(_decision(a, "type_v", "as -ctk: mixed pairs have no fast kernel"))
    if a.swa_full:
        change = _change(search, chosen, swa_full=False)
        mib = _window_history_mib(search, a)
        reason = f"{mib:,.0f} MiB more cache, so that a snapshot still answers warm after a restart"
        rows.append(_decision(a, "swa_full", reason, f"without it: {change}" if change else ""))
    return rows


def _batch(search: Search, chosen: Candidate) -> list[Decision]:
    a = chosen.assignment
    if a.ubatch == 512:
        reason = "llama.cpp's own; a larger one gains nothing here"
    else:
        other = search.score(replace(a, ubatch=512)).predicted.prefill_tps
        gain = chosen.predicted.prefill_tps / other - 1
        reason = f"weights in RAM cross to the GPU once per {a.ubatch} tokens instead of once per 512"
        if not (a.ncmoe or a.ncffn or a.ngl < search.top):
            reason = f"reads the prompt in pieces of {a.ubatch}"
        return [
            _decision(a, "ubatch", reason, f"prefill {gain:+.0%} against 512"),
            _decision(a, "batch", "at least -ub"),
        ]
    return [_decision(a, "ubatch", reason), _decision(a, "batch", "llama.cpp's own")]


def _ram(search: Search, chosen: Candidate) -> list[Decision]:
    a, memory = chosen.assignment, chosen.memory
    if a.load_mode == "none":
        lm = "weights in RAM are pinned: they cross to the GPU 1.8 times faster than from a memory map"
    else:
        lm = "a memory map: fast start, and the pages can be dropped"
    rows = [_decision(a, "load_mode", lm)]
    cram = "prompts of other conversations, kept to switch back without reading them again"
    rows.append(_decision(a, "cache_ram_mib", cram, f"{mib_text(memory.cache_ram)} of RAM at most"))
    if a.checkpoints:
        what = "recurrent state" if search.facts.recurrent else "window"
        reason = f"points to return to when a prompt changes: the {what} cannot be rolled back otherwise"
        cost = f"{mib_text(memory.checkpoints)} of RAM at most"
        if search.goal.keeps_checkpoints:
            reason += "; they are saved with it, so a restart goes on from them"
            cost += f", {mib_text(memory.checkpoints / a.parallel)} of each saved conversation"
        rows.append(_decision(a, "checkpoints", reason, cost))
    else:
        rows.append(_decision(a, "checkpoints", "a full cache can be rolled back by itself"))
    return rows


def _drafting(search: Search, chosen: Candidate, trades: Trades) -> list[Decision]:
    a, draft = chosen.assignment, search.goal.draft
    if a.model_guesses and draft is not None:
        return _draft_model(search, chosen, draft)
    if draft is not None and not a.draft_max:
        return [
            Decision("--spec-type", "none", f"{draft.name} does not guess ahead: {_why_alone(search, chosen, trades)}")
        ]
    if not search.facts.n_draft:
        return []
    if not a.draft_max:
        return [Decision("--spec-type", "none", "the file's prediction block would gain nothing here")]
    gain = chosen.predicted.decode_tps / search.score(replace(a, draft_max=0)).predicted.decode_tps - 1
    reason = "the file's own prediction block guesses tokens that one pass then checks; the answer is the same"
    return [
        Decision("--spec-type", "draft-mtp", reason, f"decode {gain:+.0%}, {_held(search.goal.accepts_block, search)}"),
        _decision(a, "draft_max", "more guesses would cost more than they bring"),
    ]


def _draft_model(search: Search, chosen: Candidate, draft: ModelFacts) -> list[Decision]:
    a = chosen.assignment
    alone = search.score(replace(a, draft_max=0, drafter=False)).predicted
    decode, prefill = (
        chosen.predicted.decode_tps / alone.decode_tps - 1,
        chosen.predicted.prefill_tps / alone.prefill_tps,
    )
    memory = search.estimator.estimate_draft_model(a)
    uses = memory.devices if a.ngl else (memory.host,)
    cost = f"{mib_text(sum(use.weights + use.context + use.compute for use in uses))} of {'VRAM' if a.ngl else 'RAM'}"
    reason = f"{draft.name} guesses tokens that one pass then checks: the answer is drawn as without it"
    what = draft.companion.called if draft.companion else "the smaller sibling with the same vocabulary"
    held = f"decode {decode:+.0%}, prefill {prefill - 1:+.0%}, {_held(search.goal.accepts_model, search, model=True)}"
    return [
        Decision("--spec-type", draft.companion.spec_type if draft.companion else "draft-simple", reason, held),
        Decision("-md", draft.path.rpartition("/")[2], what, cost),
        Decision("-ngld", str(draft_assignment(a, layers=draft.n_layer_all + 1).ngl), "whole, where the large one is"),
        Decision("-ctkd", DRAFT_KV, "its cache is small: guesses are better unrounded"),
        Decision("-ctvd", DRAFT_KV, "as -ctkd"),
        _decision(a, "draft_max", "more guesses would cost more than they bring"),
    ]


def _held(seen: float | None, search: Search, *, model: bool = False) -> str:
    """How many guesses the plan counts on, and whether that was seen with this model."""
    if seen is not None:
        return f"as {seen:.0%} of the first guesses held with this model so far"
    fitted = search.speed.fitted
    return f"if {(fitted.accept_drafter if model else fitted.accept) * 10:.0f} of 10 guesses hold"


def _why_alone(search: Search, chosen: Candidate, trades: Trades) -> str:
    """Why a draft model that is known is left out."""
    if search.no_draft_model:
        return search.no_draft_model
    if search.pinned.get("drafter") is False or search.pinned.get("draft_max") == 0:
        return "pinned by you"
    if not search.hardware.devices:
        return "on the processor alone the two models' threads wait for each other"
    if trades.with_draft_model is None:
        return "there is no room beside the model"
    part = trades.with_draft_model.cost / chosen.cost - 1
    if part > 0:
        return f"the same work would take {part:.0%} longer"
    if part > 1 / WORTH - 1:
        return f"the same work would be {-part:.0%} shorter, too little for an assumption about how many guesses hold"
    return f"parts of the model would make room for it and prompts be read slower, for {-part:.0%} less time in all"


def _slots(a: Assignment) -> str:
    if a.parallel == 1:
        return "one conversation at a time gets the whole context and all the speed"
    return f"{a.parallel} conversations at a time, {a.ctx // a.parallel} tokens each"


def _unified(search: Search, chosen: Candidate) -> list[Decision]:
    a = chosen.assignment
    if not a.kv_unified:
        return []
    apart = search.estimator.estimate(replace(a, kv_unified=False))
    less = sum(use.total for use in apart.devices) - sum(use.total for use in chosen.memory.devices)
    return [_decision(a, "kv_unified", "the slots' sliding windows share their spare cells", f"{less:.0f} MiB less")]


def _thinking(search: Search) -> Decision:
    if search.goal.reasoning != "off":
        return _decision(search.goal, "reasoning", "as you asked")
    if search.facts.template_ignores_switch:
        reason = "answers start at once; this template has no switch, so the thinking budget is 0 as well"
        return _decision(search.goal, "reasoning", reason)
    return _decision(search.goal, "reasoning", "answers start at once: tools matter more than thinking aloud")


def alternatives(search: Search, chosen: Candidate, trades: Trades) -> tuple[Alternative, ...]:
    """The trades worth knowing, with their command lines and speeds."""
    return tuple(
        Alternative(
            _trade(search, chosen.assignment, trade),
            flags(search.facts, other.assignment, search.goal),
            other.predicted,
        )
        for trade, other in trades.alternatives
    )


def _trade(search: Search, a: Assignment, trade: Trade) -> str:
    """What it gives up or gains against the assignment chosen."""
    if trade is Trade.TWICE_THE_CONTEXT:
        return f"twice the context ({2 * a.ctx})"
    if trade is Trade.FINER_CACHE:
        return "a finer cache (q8_0)"
    if trade is Trade.BLOCKS_AND_CACHE_IN_RAM:
        return "whole blocks and the cache in RAM (-ngl N -nkvo)"
    mib = f"{_window_history_mib(search, a):,.0f} MiB"
    if trade is Trade.WINDOW_ONLY:
        return f"without --swa-full ({mib} less cache): a restart reads the prompt again"
    return f"with --swa-full ({mib} more cache): no restart reads the prompt again"


def notes(search: Search, chosen: Candidate, n_ctx: int) -> tuple[str, ...]:
    facts, rows = search.facts, []
    if not facts.architecture.checked:
        rows.append(
            f"{facts.arch} is not an architecture whose figures were checked: it is planned from its tensors, "
            f"and its cache is an upper estimate"
        )
    for card, device in zip(search.speed.cards, search.hardware.devices, strict=True):
        if not card.known:
            rows.append(
                f"unknown card {device.name}: assumed {card.bandwidth_gbps:.0f} GB/s and "
                f"{card.compute_tflops:.0f} TFLOP/s; `{command_line('bench')}` measures the real ones"
            )
    pooled = search.pooled_mib(chosen.memory)
    if pooled:
        rows.append(
            "GPU and processor share one memory: together the plan takes "
            f"{mib_text(pooled + chosen.memory.host.total)} of the {mib_text(search.budget.ram)} that may be used"
        )
    measured = search.hardware.measured
    if measured is not None and measured.error is not None:
        rows.append(
            f"speeds rest on rates measured on this machine with {measured.engine}, within {measured.error:.0%}"
        )
    elif search.hardware.ram.bandwidth_gbps is not None:
        rows.append(
            f"RAM reads {search.speed.ram_gbps:.0f} GB/s, measured; "
            f"compute is assumed: {command_line('bench')} measures it"
        )
    else:
        rows.append(f"RAM bandwidth unknown: assumed {search.speed.ram_gbps:.0f} GB/s")
    if chosen.assignment.ctx < n_ctx:
        rows.append(f"the context was cut from {n_ctx} to {chosen.assignment.ctx} tokens to fit")
    rows += filter(None, (cut_sentence(search.goal, facts, chosen.assignment),))
    if not facts.has_template and not search.goal.chat_template_file:
        rows.append("the file has no chat template: tool calls need one (--set chat-template-file=FILE)")
    if chosen.assignment.model_guesses:
        rows.append(
            "the second model does not know a prompt that was restored from disk (llama.cpp#28619): its guesses are "
            "worse there"
        )
    if not search.speed.restores(chosen.assignment):
        rows.append("sliding window without --swa-full: the first answer after a restart reads its prompt again")
    return tuple(rows)
